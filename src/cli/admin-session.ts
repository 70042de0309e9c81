/** `varia admin session …`: clients that hold records which end with them. */
import { type Command, InvalidArgumentError as InvalidFlag, Option } from "commander";
import { sessionId } from "../../web/parts/format.ts";
import { type Session, VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { type AdminFlags, addDryRun, callAdmin, isDryRun } from "./admin-connection.ts";
import { integerFlag } from "./client-connection.ts";
import { confirmed } from "./confirm.ts";
import { examples } from "./examples.ts";
import { onePage, printObject, printObjects, standardOutput } from "./output.ts";

interface SessionFlags extends AdminFlags {
  readonly namespace: string;
}

interface CloseFlags extends SessionFlags {
  readonly shard: number;
  readonly session: bigint;
  readonly yes?: boolean;
}

export function addSessionCommands(admin: Command): void {
  const session = admin
    .command("session")
    .description("Sessions of clients, and the records that end with them.")
    .addHelpText("after", examples("varia admin session list"));
  addNamespaceFlag(session.command("list"))
    .description("List the sessions of a namespace.")
    .addHelpText("after", examples("varia admin session list", "varia admin session list -n orders -o json"))
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<SessionFlags>();
      const { namespace } = flags;
      const { sessions, hasMore } = await callAdmin(flags, VariaAdmin.method.listSessions, { namespace });
      await printObjects(flags.output, onePage(sessions.map(rowOf)), standardOutput());
      if (hasMore) console.error("A shard has more sessions than are told.");
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
  const of = { namespace, shard: BigInt(shard), session };
  const { keys, hasMore } = await callAdmin(flags, VariaAdmin.method.getSession, of);
  console.error(`${keys.length}${hasMore ? " and more" : ""} records end with it.`);
  if (isDryRun(flags)) return;
  await confirmed(flags, `Close session ${sessionId(session)}?`, { withoutTerminal: "refuse" });
  await callAdmin(flags, VariaAdmin.method.closeSession, of);
  const closed = { namespace, shard, session: sessionId(session), records: keys.length };
  await printObject(flags.output, closed, standardOutput());
}

function addNamespaceFlag(command: Command): Command {
  return command.addOption(new Option("-n, --namespace <name>", "namespace").default("default"));
}

function rowOf({ shard, session, clientIdentity, timeoutMs, createdAtMs, ephemerals }: Session) {
  const since = new Date(Number(createdAtMs)).toISOString();
  const records = ephemerals < 0n ? "" : ephemerals;
  return { session: sessionId(session), shard, client: clientIdentity, records, since, timeout_ms: timeoutMs };
}

function sessionFlag(text: string): bigint {
  if (!/^[0-9a-f]{1,16}$/i.test(text))
    throw new InvalidFlag("Expected up to 16 hexadecimal digits, as they are listed.");
  return BigInt(`0x${text}`);
}
