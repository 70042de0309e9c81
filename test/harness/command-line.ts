/** Whether words are a command line of a program, without running it: examples and what pages offer to copy. */
import type { Command } from "commander";

/** Why these words are no command line of the program; undefined: they are one. */
export function whyNoCommand(root: Command, words: readonly string[]): string | undefined {
  let command = root;
  const options = [...root.options];
  for (const word of words) {
    const child = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (child !== undefined) {
      command = child;
      options.push(...child.options);
    } else if (command === root && !word.startsWith("-")) return `no command "${word}"`;
    const flag = /^(--[a-z-]+)/.exec(word)?.[1];
    if (word === "--" || word === "|") return undefined;
    const isKnown = flag === undefined || flag === "--help" || options.some(({ long }) => long === flag);
    if (!isKnown) return `no flag ${flag}`;
  }
  return undefined;
}
