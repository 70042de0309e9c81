/**
 * Runs a command for as long as something is held: it gets this program's input, output and signals, and is told to end,
 * and after a while killed, when what is held is lost.
 */
import { LOCKED_COMMAND_GRACE_MS } from "../model/limits.ts";
import { EXIT, ExitError } from "./exit.ts";

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGKILL: 9, SIGTERM: 15 };

/**
 * Resolves with the command's exit code: 128 and the signal's number when a signal ended it. `held` is aborted when what
 * is held is lost, `interruption` when the user has had enough.
 */
export async function runWhileHeld(
  words: readonly string[],
  env: Readonly<Record<string, string>>,
  held: AbortSignal,
  interruption: AbortSignal,
): Promise<number> {
  const child = start(words, env);
  let killing: NodeJS.Timeout | undefined;
  const end = () => {
    child.kill("SIGTERM");
    killing ??= setTimeout(() => child.kill("SIGKILL"), LOCKED_COMMAND_GRACE_MS);
  };
  // on a terminal the command gets the same Ctrl+C; it may take its time with it
  const pass = () => {
    if (process.exitCode !== EXIT.interrupted) child.kill("SIGTERM");
    else if (!process.stdin.isTTY) child.kill("SIGINT");
  };
  held.addEventListener("abort", end);
  interruption.addEventListener("abort", pass);
  if (held.aborted) end();
  if (interruption.aborted) pass();
  try {
    const code = await child.exited;
    const signal = child.signalCode;
    return signal === null ? code : 128 + (SIGNAL_NUMBERS[signal] ?? 0);
  } finally {
    clearTimeout(killing);
    held.removeEventListener("abort", end);
    interruption.removeEventListener("abort", pass);
  }
}

function start(words: readonly string[], env: Readonly<Record<string, string>>) {
  try {
    return Bun.spawn([...words], { stdio: ["inherit", "inherit", "inherit"], env: { ...process.env, ...env } });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ExitError(EXIT.usage, `cannot run ${words[0]}: ${why}`, { cause });
  }
}
