/** `varia admin event …`: what has happened in the cluster, and why. */
import { type Command, Option } from "commander";
import { type Event, VariaAdmin, type WatchEventsResponse } from "../gen/varia/admin/v1/admin_pb.ts";
import { EVENT_KINDS, EVENTS_MAX } from "../ops/events.ts";
import { type AdminFlags, callAdmin, streamAdmin } from "./admin-connection.ts";
import { addPageFlags, type PageFlags, pageRequest, printPage } from "./admin-page.ts";
import { integerFlag } from "./client-connection.ts";
import { processInterruption } from "./client-host.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { printObjects, standardOutput } from "./output.ts";

interface FilterFlags extends AdminFlags {
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
  addFilters(addPageFlags(event.command("list"), EVENTS_MAX))
    .description("List events, the newest first.")
    .addHelpText(
      "after",
      examples("varia admin event list --kind election", "varia admin event list --shard 3 -o json"),
    )
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<FilterFlags & PageFlags>();
      const { kind = "", namespace = "", shard } = flags;
      const server = await addressOf(flags, flags.server ?? "");
      const of = shard === undefined ? {} : { shard: BigInt(shard) };
      const request = { kind, namespace, server, ...of, ...pageRequest(flags) };
      const { events, hasMore } = await callAdmin(flags, VariaAdmin.method.listEvents, request);
      await printPage(flags, "events", { rows: events.map(eventRow), hasMore });
    });
  addFilters(event.command("watch"))
    .description("Print events as they happen, until it is interrupted.")
    .addOption(new Option("--after <id>", "first those behind this one").default(0).argParser(integerFlag(1)))
    .addHelpText("after", examples("varia admin event watch", "varia admin event watch --kind election -o json"))
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<FilterFlags & { readonly after: number }>();
      const isWanted = await filterOf(flags);
      const request = { afterId: BigInt(flags.after) };
      const events = streamAdmin(flags, VariaAdmin.method.watchEvents, request, processInterruption());
      await printObjects(flags.output, wanted(events, isWanted), standardOutput());
    });
}

/** A page each, so that it is written at once. */
async function* wanted(
  events: AsyncIterable<WatchEventsResponse>,
  isWanted: (event: Event) => boolean,
): AsyncGenerator<readonly ReturnType<typeof eventRow>[]> {
  for await (const { event } of events) if (event !== undefined && isWanted(event)) yield [eventRow(event)];
}

function addFilters(command: Command): Command {
  return command
    .addOption(new Option("--kind <kind>", "only of this kind").choices(EVENT_KINDS))
    .option("-n, --namespace <name>", "only of this namespace")
    .addOption(new Option("--shard <id>", "only of this shard").argParser(integerFlag(0, Number.MAX_SAFE_INTEGER)))
    .option("--server <server>", "only of this data server, by name or internal address");
}

async function filterOf(flags: FilterFlags): Promise<(event: Event) => boolean> {
  const { kind, namespace, shard } = flags;
  const server = await addressOf(flags, flags.server ?? "");
  return (event) =>
    (kind === undefined || event.kind === kind) &&
    (namespace === undefined || event.namespace === namespace) &&
    (shard === undefined || event.shard === BigInt(shard)) &&
    (server === "" || event.server === server);
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
