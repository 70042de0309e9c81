/** `varia admin operation …`: what was asked for that takes time, and how far it is. */
import { type Command, Option } from "commander";
import { OPERATION_KINDS, OPERATION_STATES } from "../coordination/operation-list.ts";
import { type Operation, VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { type AdminFlags, addDryRun, callAdmin, isDryRun } from "./admin-connection.ts";
import { addPageFlags, type PageFlags, pageRequest, printPage } from "./admin-page.ts";
import { integerFlag } from "./client-connection.ts";
import { addYes } from "./confirm.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { printObject, standardOutput } from "./output.ts";

interface ListFlags extends PageFlags {
  readonly kind?: string;
  readonly state?: string;
}

const LIMIT_MAX = 1_000;
/** How long one question waits for an end; in between, how far it is can be shown. */
const LOOK_MS = 500;

export function addOperationCommands(admin: Command): void {
  const operation = admin
    .command("operation")
    .alias("operations")
    .description("What was asked for that takes time: swaps, freezes, servers that leave.")
    .addHelpText("after", examples("varia admin operation list --state running", "varia admin operation watch 17"));
  addPageFlags(operation.command("list"), LIMIT_MAX)
    .description("List operations, the newest first.")
    .addOption(new Option("--kind <kind>", "only of this kind").choices(OPERATION_KINDS))
    .addOption(new Option("--state <state>", "only in this state").choices(OPERATION_STATES))
    .addHelpText(
      "after",
      examples("varia admin operation list --state running", "varia admin operation list --kind drain-server -o json"),
    )
    .action(async (_, command: Command) => {
      const flags = command.optsWithGlobals<ListFlags>();
      const { kind = "", state = "" } = flags;
      const request = { kind, state, ...pageRequest(flags) };
      const { operations, hasMore } = await callAdmin(flags, VariaAdmin.method.listOperations, request);
      await printPage(flags, "operations", { rows: operations.map(operationRow), hasMore });
    });
  operation
    .command("get")
    .description("Show one operation.")
    .addHelpText("after", examples("varia admin operation get 17"))
    .argument("<ID>", "as it is listed", integerFlag(1))
    .action(async (id: number, _, command: Command) => {
      const flags = command.optsWithGlobals<AdminFlags>();
      const { operation: found } = await callAdmin(flags, VariaAdmin.method.getOperation, { id: BigInt(id) });
      await printObject(flags.output, operationRow(found!), standardOutput());
    });
  operation
    .command("watch")
    .description("Wait until an operation has ended, showing how far it is.")
    .addHelpText("after", examples("varia admin operation watch 17"))
    .argument("<ID>", "as it is listed", integerFlag(1))
    .action(async (id: number, _, command: Command) => {
      const flags = command.optsWithGlobals<AdminFlags>();
      const ended = await watchOperation(flags, BigInt(id));
      await printObject(flags.output, operationRow(ended), standardOutput());
      requireSuccess(ended);
    });
  addDryRun(addYes(operation.command("cancel")))
    .description("Have an operation end: a swap is given up, a freeze thawed, a server that leaves stays.")
    .addHelpText("after", examples("varia admin operation cancel 17"))
    .argument("<ID>", "as it is listed", integerFlag(1))
    .action(async (id: number, _, command: Command) => {
      const flags = command.optsWithGlobals<AdminFlags>();
      if (flags.dryRun === true) {
        const { operation: now } = await callAdmin(flags, VariaAdmin.method.getOperation, { id: BigInt(id) });
        const { kind, state, cancellable } = now!;
        if (!cancellable) throw new ExitError(EXIT.failure, `operation ${id}, ${kind}, has ${verb(state)} already`);
        isDryRun(flags, `Operation ${id}, ${kind}, would end.`);
        return;
      }
      const { operation: found } = await callAdmin(flags, VariaAdmin.method.cancelOperation, { id: BigInt(id) });
      await printObject(flags.output, operationRow(found!), standardOutput());
    });
}

/**
 * Follows an operation to its end; each new word of how far it is goes to standard error. One that has not ended in
 * `timeoutMs` is cancelled, and followed further: it may be decided already.
 */
export async function watchOperation(flags: AdminFlags, id: bigint, timeoutMs = Infinity): Promise<Operation> {
  let told = "";
  let cancelAtMs = performance.now() + timeoutMs;
  for (;;) {
    if (performance.now() > cancelAtMs) {
      cancelAtMs = Infinity;
      await callAdmin(flags, VariaAdmin.method.cancelOperation, { id }).catch(() => {}); // it may have ended
    }
    const request = { id, waitMs: Math.min(LOOK_MS, Math.floor(flags.requestTimeout / 2)) };
    const { operation } = await callAdmin(flags, VariaAdmin.method.getOperation, request);
    if (operation!.state !== "running") {
      if (process.stderr.isTTY && told !== "") process.stderr.write("\n");
      return operation!;
    }
    const words = wordsOf(operation!);
    if (words !== told) process.stderr.write(process.stderr.isTTY ? `\r${words}\x1b[K` : `${words}\n`);
    told = words;
  }
}

/** Throws an ExitError unless it has come to what was asked for. */
export function requireSuccess({ id, state, reason }: Operation): void {
  if (state !== "succeeded") throw new ExitError(EXIT.failure, `operation ${id} has ${verb(state)}: ${reason}`);
}

function verb(state: string): string {
  return state === "cancelled" ? "been cancelled" : state;
}

function wordsOf({ phase, progress }: Operation): string {
  return progress === undefined ? phase : `${Math.floor(progress * 100)} %  ${phase}`;
}

export function operationRow(operation: Operation) {
  const { id, kind, state, namespace, shard, from, to, phase, progress, reason, startedAtMs, endedAtMs } = operation;
  const about = shard === undefined ? namespace : `${namespace}/${shard}`;
  return {
    ...{ id, kind, state, about, from, to },
    progress: progress === undefined ? "" : `${Math.floor(progress * 100)} %`,
    what: state === "running" ? phase : reason,
    started: new Date(Number(startedAtMs)).toISOString(),
    ended: endedAtMs === 0n ? "" : new Date(Number(endedAtMs)).toISOString(),
  };
}
