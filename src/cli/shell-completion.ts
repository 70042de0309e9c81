/**
 * What Tab offers in the shell: commands for the first word, flags for a word that starts with `-`, else keys, one part
 * of the path at a time.
 *
 * Keys with a prefix are not one range in the hierarchical order, which has those with fewer `/` first: they are looked
 * for once for each number of `/`, up to SHELL_COMPLETION_DEPTH_MAX more than the prefix has.
 */
import type { Command } from "commander";
import type { VariaClient } from "../client/client.ts";
import { concatBytes, utf8 } from "../lib/bytes.ts";
import { SHELL_COMPLETION_DEPTH_MAX, SHELL_COMPLETION_KEYS_MAX } from "../model/limits.ts";
import { splitWords } from "./split-words.ts";

export interface Completion {
  /** Whole words to put in place of `word`. */
  readonly offers: readonly string[];
  /** The part of the line that they replace. */
  readonly word: string;
}

/** Commands of the shell that are not in the tree. */
export const SHELL_WORDS = ["help", "exit", "quit"] as const;

export async function complete(line: string, tree: Command, client: VariaClient): Promise<Completion> {
  const { words, lastStart, open } = splitWords(line);
  const word = line.slice(lastStart);
  // within quotes a completion would have to be quoted in turn
  if (open || /['"\\]/.test(word)) return { offers: [], word };
  const first = lastStart === 0 || words.length === 0 || (words.length === 1 && word !== "");
  if (first) return { offers: offersOf(commandsOf(tree), word), word };
  if (words[0] === "help") return { offers: offersOf(commandsOf(tree), word), word };
  const command = tree.commands.find((it) => it.name() === words[0]);
  if (command === undefined) return { offers: [], word };
  if (word.startsWith("-")) return { offers: offersOf(flagsOf(command), word), word };
  return { offers: await keysFrom(client, word), word };
}

function commandsOf(tree: Command): string[] {
  return [...tree.commands.map((it) => it.name()), ...SHELL_WORDS];
}

function flagsOf(command: Command): string[] {
  return command.options.filter((option) => !option.hidden).map((option) => option.long ?? option.flags);
}

function offersOf(all: readonly string[], word: string): string[] {
  return [...new Set(all)].filter((name) => name.startsWith(word)).map((name) => `${name} `);
}

/** Keys that go on from `prefix`, up to the next `/`. */
async function keysFrom(client: VariaClient, prefix: string): Promise<string[]> {
  const found = await Promise.all(
    Array.from({ length: SHELL_COMPLETION_DEPTH_MAX + 1 }, (_, depth) => someKeys(client, prefix, depth)),
  );
  const offers = found.flat().map((key) => {
    const slash = key.indexOf("/", prefix.length);
    return slash < 0 ? key : key.slice(0, slash + 1);
  });
  // what would need quotes is left to be typed
  return [...new Set(offers)].filter((offer) => !/[\s'"\\\ufffd]/.test(offer) && !offer.includes("\0")).sort();
}

/** Some keys that start with `prefix` and have `depth` more `/`. (A `/` sorts behind all other characters; two at the end count as one.) */
async function someKeys(client: VariaClient, prefix: string, depth: number): Promise<string[]> {
  const slashes = "/".repeat(depth);
  const range =
    depth === 0
      ? { startInclusive: prefix, endExclusive: concatBytes(utf8(prefix), Uint8Array.of(0xff)) }
      : { startInclusive: `${prefix}\u0000${slashes}\u0000`, endExclusive: `${prefix}${slashes}/` };
  const keys: string[] = [];
  for await (const key of client.list(range)) {
    if (key.startsWith(prefix)) keys.push(key);
    if (keys.length >= SHELL_COMPLETION_KEYS_MAX) break;
  }
  return keys;
}
