/** `varia admin event …`: what has happened in the cluster, and why. */
import { type Command, Option } from "commander";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { EVENT_KINDS, EVENTS_MAX } from "../ops/events.ts";
import { type AdminFlags, callAdmin } from "./admin-connection.ts";
import { integerFlag } from "./client-connection.ts";
import { examples } from "./examples.ts";
import { onePage, printObjects, standardOutput } from "./output.ts";

interface EventFlags extends AdminFlags {
  readonly kind?: string;
  readonly namespace?: string;
  readonly shard?: number;
  readonly server?: string;
  readonly limit: number;
}

const LIMIT_DEFAULT = 50;

export function addEventCommands(admin: Command): void {
  const event = admin
    .command("event")
    .description("What has happened: elections, servers, replicas, the configuration.");
  event
    .command("list")
    .description("List events, the newest first.")
    .addOption(new Option("--kind <kind>", "only of this kind").choices(EVENT_KINDS))
    .option("-n, --namespace <name>", "only of this namespace")
    .addOption(new Option("--shard <id>", "only of this shard").argParser(integerFlag(0, Number.MAX_SAFE_INTEGER)))
    .option("--server <host:port>", "only of the data server with this internal address")
    .addOption(
      new Option("--limit <n>", "so many at most").default(LIMIT_DEFAULT).argParser(integerFlag(1, EVENTS_MAX)),
    )
    .addHelpText(
      "after",
      examples("varia admin event list --kind election", "varia admin event list --shard 3 -o json"),
    )
    .action(async (_, command: Command) => {
      const { kind = "", namespace = "", server = "", shard, limit, ...flags } = command.optsWithGlobals<EventFlags>();
      const of = shard === undefined ? {} : { shard: BigInt(shard) };
      const request = { kind, namespace, server, limit, ...of };
      const { events } = await callAdmin(flags, VariaAdmin.method.listEvents, request);
      const rows = events.map((event) => ({
        time: new Date(Number(event.timeMs)).toISOString(),
        kind: event.kind,
        level: event.level,
        what: event.message,
        why: event.why,
        shard: event.shard === undefined ? "" : `${event.namespace}/${event.shard}`,
        term: event.term < 0n ? "" : event.term,
        server: event.server,
      }));
      await printObjects(flags.output, onePage(rows), standardOutput());
    });
}
