/** Whether words are a command line of a program, without running it: examples and what pages offer to copy. */
import { type Command, CommanderError } from "commander";

/** Why these words are no command line of the program; undefined: they are one. Takes what it would do from it. */
export function whyNoCommand(program: Command, words: readonly string[]): string | undefined {
  disarm(program);
  try {
    program.parse(words, { from: "user" });
    return undefined;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.message;
  }
}

/** A group that is called without one of its commands stays as it is: it prints its help, and that is none. */
function disarm(command: Command): void {
  command.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} });
  if (command.commands.length === 0) command.action(() => {});
  for (const child of command.commands) disarm(child);
}
