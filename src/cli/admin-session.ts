/** `varia admin session …`: clients that hold records which end with them. */
import { create } from "@bufbuild/protobuf";
import { type Command, InvalidArgumentError as InvalidFlag, Option } from "commander";
import { hexOf, type Route, readEphemerals, readSessions } from "../../web/sessions.ts";
import { partitionKeys } from "../../web/shard-routes.ts";
import { isBeingDeleted } from "../../web/view.ts";
import type { VariaClient } from "../client/client.ts";
import { connect } from "../client/connect.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { type AdminFlags, addDryRun, callAdmin, callOnce, isDryRun } from "./admin-connection.ts";
import { integerFlag } from "./client-connection.ts";
import { confirmed } from "./confirm.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { printObject, printObjects, standardOutput } from "./output.ts";

interface SessionFlags extends AdminFlags {
  readonly namespace: string;
}

interface CloseFlags extends SessionFlags {
  readonly shard: number;
  readonly session: bigint;
  readonly yes?: boolean;
}

/** A namespace as the cluster has it now, with a client of it. */
interface Opened {
  readonly client: VariaClient;
  readonly routes: readonly Route[];
  /** Public address of a shard's leader; undefined: it has none. */
  leaderOf(shard: bigint): string | undefined;
}

export function addSessionCommands(admin: Command): void {
  const session = admin.command("session").description("Sessions of clients, and the records that end with them.");
  addNamespaceFlag(session.command("list"))
    .description("List the sessions of a namespace.")
    .addHelpText("after", examples("varia admin session list", "varia admin session list -n orders -o json"))
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<SessionFlags>();
      await withNamespace(flags, async ({ client, routes }) => {
        const pages = (async function* () {
          for (const route of routes) yield (await readSessions(client, route)).sessions.map(rowOf);
        })();
        await printObjects(flags.output, pages, standardOutput());
      });
    });
  addDryRun(addNamespaceFlag(session.command("close")))
    .description("End a session, and the records with it; its client is told at its next heartbeat.")
    .addOption(new Option("--shard <id>", "its shard").argParser(integerFlag(0)).makeOptionMandatory())
    .addOption(new Option("--session <id>", "as it is listed").argParser(sessionFlag).makeOptionMandatory())
    .option("-y, --yes", "do not ask")
    .addHelpText("after", examples("varia admin session close --shard 3 --session 00000000000000a7"))
    .action(async (_, command: Command) => close(command.optsWithGlobals<CloseFlags>()));
}

async function close(flags: CloseFlags): Promise<void> {
  const { namespace, shard, session } = flags;
  await withNamespace(flags, async ({ client, routes, leaderOf }) => {
    const route = routes.find((one) => one.shard === BigInt(shard));
    const known = route === undefined ? [] : (await readSessions(client, route)).sessions;
    if (route === undefined || !known.some(({ id }) => id === session)) {
      throw new ExitError(EXIT.notFound, `there is no session ${hexOf(session)} in shard ${namespace}/${shard}`);
    }
    const { keys, more } = await readEphemerals(client, route, session);
    console.error(`${keys.length}${more ? " and more" : ""} records end with it.`);
    if (isDryRun(flags)) return;
    await confirmed(flags, `Close session ${hexOf(session)}?`, { withoutTerminal: "refuse" });
    const leader = leaderOf(BigInt(shard));
    if (leader === undefined) throw new ExitError(EXIT.unavailable, `shard ${namespace}/${shard} has no leader now`);
    const { closeSession } = OxiaClient.method;
    const request = create(closeSession.input, { shard: BigInt(shard), sessionId: session });
    await callOnce(leader, closeSession, request, { timeoutMs: flags.requestTimeout });
    const closed = { namespace, shard, session: hexOf(session), records: keys.length };
    await printObject(flags.output, closed, standardOutput());
  });
}

function addNamespaceFlag(command: Command): Command {
  return command.addOption(new Option("-n, --namespace <name>", "namespace").default("default"));
}

async function withNamespace(flags: SessionFlags, work: (opened: Opened) => Promise<void>): Promise<void> {
  const { shards, servers } = await callAdmin(flags, VariaAdmin.method.getClusterStatus, {});
  const own = shards.filter(({ namespace, change }) => namespace === flags.namespace && !isBeingDeleted(change));
  if (own.length === 0) throw new ExitError(EXIT.notFound, `there is no namespace ${flags.namespace}`);
  const serviceAddress = servers.find(({ available }) => available)?.publicAddress;
  if (serviceAddress === undefined) throw new ExitError(EXIT.unavailable, "no data server is available");
  const client = await connect({ serviceAddress, namespace: flags.namespace, requestTimeoutMs: flags.requestTimeout });
  const routes = partitionKeys(own).map((partitionKey, nth) => ({ shard: own[nth]!.shard, partitionKey }));
  const leaderOf = (shard: bigint) => {
    const leader = own.find((one) => one.shard === shard)?.leader;
    return servers.find(({ internalAddress }) => internalAddress === leader)?.publicAddress;
  };
  try {
    await work({ client, routes, leaderOf });
  } finally {
    await client.close();
  }
}

function rowOf({
  shard,
  id,
  identity,
  timeoutMs,
  createdMs,
}: Awaited<ReturnType<typeof readSessions>>["sessions"][number]) {
  const since = new Date(createdMs).toISOString();
  return { session: hexOf(id), shard, client: identity, since, timeout_ms: timeoutMs };
}

function sessionFlag(text: string): bigint {
  if (!/^[0-9a-f]{1,16}$/i.test(text))
    throw new InvalidFlag("Expected up to 16 hexadecimal digits, as they are listed.");
  return BigInt(`0x${text}`);
}
