/** `varia admin event …`: what has happened in the cluster, and why. */
import { type Command, Option } from "commander";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { EVENT_KINDS, EVENTS_MAX } from "../ops/events.ts";
import { callAdmin } from "./admin-connection.ts";
import { addPageFlags, type PageFlags, pageRequest, printPage } from "./admin-page.ts";
import { integerFlag } from "./client-connection.ts";
import { examples } from "./examples.ts";

interface EventFlags extends PageFlags {
  readonly kind?: string;
  readonly namespace?: string;
  readonly shard?: number;
  readonly server?: string;
}

export function addEventCommands(admin: Command): void {
  const event = admin
    .command("event")
    .description("What has happened: elections, servers, replicas, the configuration.");
  addPageFlags(event.command("list"), EVENTS_MAX)
    .description("List events, the newest first.")
    .addOption(new Option("--kind <kind>", "only of this kind").choices(EVENT_KINDS))
    .option("-n, --namespace <name>", "only of this namespace")
    .addOption(new Option("--shard <id>", "only of this shard").argParser(integerFlag(0, Number.MAX_SAFE_INTEGER)))
    .option("--server <host:port>", "only of the data server with this internal address")
    .addHelpText(
      "after",
      examples("varia admin event list --kind election", "varia admin event list --shard 3 -o json"),
    )
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<EventFlags>();
      const { kind = "", namespace = "", server = "", shard } = flags;
      const of = shard === undefined ? {} : { shard: BigInt(shard) };
      const request = { kind, namespace, server, ...of, ...pageRequest(flags) };
      const { events, hasMore } = await callAdmin(flags, VariaAdmin.method.listEvents, request);
      const rows = events.map((event) => ({
        id: event.id,
        time: new Date(Number(event.timeMs)).toISOString(),
        kind: event.kind,
        level: event.level,
        what: event.message,
        why: event.why,
        shard: event.shard === undefined ? "" : `${event.namespace}/${event.shard}`,
        term: event.term < 0n ? "" : event.term,
        server: event.server,
      }));
      await printPage(flags, "events", { rows, hasMore });
    });
}
