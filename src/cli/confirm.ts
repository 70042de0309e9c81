/**
 * Asks before a command does what cannot be taken back, or what clients notice:
 *
 *     destructive, or writes stop     asks on a terminal; without one it takes --yes
 *     the same, as Oxia spells it     asks on a terminal; without one it goes on, since Oxia's scripts say no --yes
 *     anything else                   does not ask; --yes is taken all the same, so that a script can always say it
 */
import { createInterface } from "node:readline/promises";
import { type Command, InvalidArgumentError as InvalidFlag } from "commander";
import { EXIT, ExitError } from "./exit.ts";

/**
 * Resolves when the user says yes, or has said so with `--yes`. `question` is worked out only where it is asked. Rejects with an ExitError when not, and where there is
 * no terminal to ask on unless the command then goes on.
 */
export async function confirmed(
  { yes = false }: { readonly yes?: boolean },
  question: string | (() => Promise<string>),
  { withoutTerminal }: { readonly withoutTerminal: "go on" | "refuse" },
): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    if (withoutTerminal === "go on") return;
    throw new ExitError(EXIT.usage, "there is no terminal to ask on: say --yes to go on without being asked");
  }
  const asked = typeof question === "string" ? question : await question();
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${asked} [y/N] `);
  terminal.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new ExitError(EXIT.failure, "nothing was changed");
}

/** `--yes`, of every command that changes something. */
export function addYes(command: Command): Command {
  return command.option("-y, --yes", "do not ask");
}

export function booleanFlag(text: string): boolean {
  if (/^(true|1|yes|on|t)$/i.test(text)) return true;
  if (/^(false|0|no|off|f)$/i.test(text)) return false;
  throw new InvalidFlag("Expected true or false.");
}
