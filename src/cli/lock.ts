/** `varia lock` and `varia elect`: a command that runs in one place at a time. */
import { hostname } from "node:os";
import { type Command, Option } from "commander";
import { LeaderElection } from "../client/election.ts";
import { RequestTimeoutError } from "../client/errors.ts";
import { Lock } from "../client/lock.ts";
import type { ClientOptions } from "../client/options.ts";
import {
  CLIENT_SESSION_TIMEOUT_MS,
  CLIENT_SESSION_TIMEOUT_MS_MAX,
  CLIENT_SESSION_TIMEOUT_MS_MIN,
} from "../model/limits.ts";
import { addConnectionFlags, type ConnectionFlags, durationFlag, withClient } from "./client-connection.ts";
import { processInterruption } from "./client-host.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { runWhileHeld } from "./locked-command.ts";
import { json, standardOutput } from "./output.ts";

interface LockFlags extends ConnectionFlags {
  readonly identity: string;
  readonly sessionTimeout: number;
  readonly wait?: number;
}

/** Adds `lock` and `elect`. */
export function addLockCommands(program: Command): void {
  addFlags(program.command("lock").description("Run a command while holding a lock."))
    .argument("<KEY>", "what is locked; records are kept as KEY/ticket-…")
    .argument("<COMMAND...>", "what to run, behind --")
    .option("--wait <duration>", "give up after this long; 0s: unless it is free. Default: never", durationFlag)
    .addHelpText(
      "after",
      `
Who waits gets the lock in the order in which they came. The command is told to
end (SIGTERM) when the lock is lost, and killed five seconds after. It finds
VARIA_LOCK_KEY and VARIA_LOCK_TOKEN in its environment; the token grows from
holder to holder. Exits as the command does; 1 when the lock was lost, 5 when
it could not be had in time.`,
    )
    .addHelpText(
      "after",
      examples(
        "varia lock nightly -- ./backup.sh --all",
        "varia lock nightly --wait 0s -- ./backup.sh   only if nobody else runs it",
      ),
    )
    .action((key: string, words: string[], _flags, command: Command) =>
      lock(key, words, command.optsWithGlobals<LockFlags>()),
    );
  addFlags(program.command("elect").description("Campaign for being the leader, and tell who is."))
    .argument("<KEY>", "what is elected for; records are kept as KEY/ticket-…")
    .argument("[COMMAND...]", "what to run while leading, behind --")
    .addHelpText(
      "after",
      `
Without a command it prints a line of JSON for each leader, until interrupted.
With one it runs it while it leads, ends it (SIGTERM) when the leadership is
lost, and campaigns again. It exits when the command ends by itself.`,
    )
    .addHelpText(
      "after",
      examples("varia elect scheduler --identity node-1", "varia elect scheduler --identity node-1 -- ./scheduler"),
    )
    .action((key: string, words: string[], _flags, command: Command) =>
      elect(key, words, command.optsWithGlobals<LockFlags>()),
    );
}

function addFlags(command: Command): Command {
  return addConnectionFlags(command)
    .option("--identity <name>", "who this is, for others to see", `${hostname()}-${process.pid}`)
    .addOption(
      new Option("--session-timeout <duration>", "it is lost when this is not heard of for as long")
        .default(CLIENT_SESSION_TIMEOUT_MS, `${CLIENT_SESSION_TIMEOUT_MS / 1000}s`)
        .argParser(sessionTimeoutFlag),
    );
}

function sessionTimeoutFlag(text: string): number {
  const ms = durationFlag(text);
  if (ms >= CLIENT_SESSION_TIMEOUT_MS_MIN && ms <= CLIENT_SESSION_TIMEOUT_MS_MAX) return ms;
  const seconds = [CLIENT_SESSION_TIMEOUT_MS_MIN, CLIENT_SESSION_TIMEOUT_MS_MAX].map((bound) => `${bound / 1000}s`);
  throw new ExitError(EXIT.usage, `--session-timeout is from ${seconds.join(" to ")}`);
}

function optionsOf({ identity, sessionTimeout }: LockFlags): ClientOptions {
  return { batchLingerMs: 0, sessionTimeoutMs: sessionTimeout, clientIdentity: identity };
}

function environment(key: string, token: number | bigint): Record<string, string> {
  return { VARIA_LOCK_KEY: key, VARIA_LOCK_TOKEN: String(token) };
}

async function lock(key: string, words: readonly string[], flags: LockFlags): Promise<void> {
  const interruption = processInterruption();
  await withClient(flags, optionsOf(flags), async (client) => {
    const waiting = flags.wait === undefined ? {} : { waitMs: flags.wait };
    const held = await new Lock(client, key, flags).acquire({ ...waiting, signal: interruption }).catch((error) => {
      if (interruption.aborted) return undefined;
      if (!(error instanceof RequestTimeoutError) || flags.wait === undefined) throw error;
      throw new ExitError(EXIT.unavailable, `the lock ${key} is held by somebody else`, { cause: error });
    });
    if (held === undefined) {
      // the command has not run: that is no success
      process.exitCode ??= EXIT.terminated;
      return;
    }
    try {
      const code = await runWhileHeld(words, environment(key, held.token), held.signal, interruption);
      if (held.signal.aborted) throw new ExitError(EXIT.failure, `the lock was lost: ${held.signal.reason.message}`);
      process.exitCode = code;
    } finally {
      await held.release();
    }
  });
}

async function elect(key: string, words: readonly string[], flags: LockFlags): Promise<void> {
  const interruption = processInterruption();
  await withClient(flags, optionsOf(flags), async (client) => {
    const election = new LeaderElection(client, key, flags);
    if (words.length > 0) await runAsLeader(election, key, words, interruption);
    else await Promise.all([campaign(election, interruption), tellLeaders(election, interruption)]);
  });
}

async function tellLeaders(election: LeaderElection, interruption: AbortSignal): Promise<void> {
  const write = standardOutput();
  for await (const leader of election.observe({ signal: interruption })) {
    await write(`${json({ leader: leader?.identity ?? null, token: leader?.token ?? null })}\n`);
  }
}

/** Leads whenever it may, until interrupted. */
async function campaign(election: LeaderElection, interruption: AbortSignal): Promise<void> {
  while (!interruption.aborted) {
    const leadership = await leadershipOf(election, interruption);
    if (leadership === undefined) return;
    await new Promise<void>((resolve) => {
      const over = AbortSignal.any([leadership.signal, interruption]);
      if (over.aborted) resolve();
      over.addEventListener("abort", () => resolve(), { once: true });
    });
    await leadership.resign();
  }
}

async function runAsLeader(
  election: LeaderElection,
  key: string,
  words: readonly string[],
  interruption: AbortSignal,
): Promise<void> {
  while (!interruption.aborted) {
    const leadership = await leadershipOf(election, interruption);
    if (leadership === undefined) return;
    try {
      const code = await runWhileHeld(words, environment(key, leadership.token), leadership.signal, interruption);
      if (!leadership.signal.aborted) {
        process.exitCode = code;
        return;
      }
      console.error(`no longer the leader: ${leadership.signal.reason.message}`);
    } finally {
      await leadership.resign();
    }
  }
}

/** Undefined when interrupted before. */
async function leadershipOf(election: LeaderElection, interruption: AbortSignal) {
  try {
    return await election.campaign({ signal: interruption });
  } catch (error) {
    if (interruption.aborted) return undefined;
    throw error;
  }
}
