/** `varia admin event …`: what has happened in the cluster, and why. */
import { type Command, Option } from "commander";
import { type Event, VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { EVENT_KINDS, EVENTS_MAX } from "../ops/events.ts";
import { type AdminFlags, callAdmin } from "./admin-connection.ts";
import { addPageFlags, type PageFlags, pageRequest, printPage } from "./admin-page.ts";
import { integerFlag } from "./client-connection.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";

interface EventFlags extends PageFlags {
  readonly kind?: string;
  readonly namespace?: string;
  readonly shard?: number;
  readonly server?: string;
}

export function addEventCommands(admin: Command): void {
  const event = admin
    .command("event")
    .description("What has happened: elections, servers, replicas, the configuration.")
    .addHelpText("after", examples("varia admin event list --kind election"));
  addPageFlags(event.command("list"), EVENTS_MAX)
    .description("List events, the newest first.")
    .addOption(new Option("--kind <kind>", "only of this kind").choices(EVENT_KINDS))
    .option("-n, --namespace <name>", "only of this namespace")
    .addOption(new Option("--shard <id>", "only of this shard").argParser(integerFlag(0, Number.MAX_SAFE_INTEGER)))
    .option("--server <server>", "only of this data server, by name or internal address")
    .addHelpText(
      "after",
      examples("varia admin event list --kind election", "varia admin event list --shard 3 -o json"),
    )
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<EventFlags>();
      const { kind = "", namespace = "", shard } = flags;
      const server = await addressOf(flags, flags.server ?? "");
      const of = shard === undefined ? {} : { shard: BigInt(shard) };
      const request = { kind, namespace, server, ...of, ...pageRequest(flags) };
      const { events, hasMore } = await callAdmin(flags, VariaAdmin.method.listEvents, request);
      await printPage(flags, "events", { rows: events.map(eventRow), hasMore });
    });
}

/** What is no address is a name in the configuration. */
async function addressOf(flags: AdminFlags, server: string): Promise<string> {
  if (server === "" || server.includes(":")) return server;
  const { servers } = await callAdmin(flags, VariaAdmin.method.getClusterStatus, {});
  const found = servers.find(({ name }) => name === server);
  if (found === undefined) throw new ExitError(EXIT.notFound, `data server "${server}" not found`);
  return found.internalAddress;
}

export function eventRow({ id, timeMs, kind, level, message, why, namespace, shard, term, server }: Event) {
  return {
    ...{ id, time: new Date(Number(timeMs)).toISOString(), kind, level, what: message, why },
    ...{ shard: shard === undefined ? "" : `${namespace}/${shard}`, term: term < 0n ? "" : term, server },
  };
}
