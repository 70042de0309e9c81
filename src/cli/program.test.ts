/** The whole tree of commands: what its help says, read as a newcomer reads it. */
import { expect, test } from "bun:test";
import type { Command } from "commander";
import { whyNoCommand } from "../../test/harness/command-line.ts";
import { buildProgram } from "./program.ts";
import { splitWords } from "./split-words.ts";

const COLUMNS_MAX = 80;

interface Place {
  readonly path: string;
  readonly command: Command;
  readonly help: string;
}

function places(): Place[] {
  const found: Place[] = [];
  const visit = (command: Command, path: string): void => {
    let help = "";
    command.configureOutput({ writeOut: (text) => (help += text) });
    command.outputHelp();
    found.push({ path, command, help });
    for (const child of command.commands) visit(child, `${path} ${child.name()}`);
  };
  visit(buildProgram(), "varia");
  return found;
}

test("every command says what it does, in a sentence", () => {
  const odd = places().filter(({ command }) => !/^[A-Z].*\.$|^[A-Z].*: .*\.?$/s.test(command.description()));
  expect(odd.map(({ path, command }) => `${path}: ${command.description()}`)).toEqual([]);
});

/** The command lines of ours in the examples of a help. */
function examplesIn(help: string): string[] {
  const [, block = ""] = help.split("Examples:\n");
  const [lines = ""] = block.split("\n\n");
  return lines.split("\n").flatMap((line) => {
    const [example = ""] = line.trim().split(/ {2,}/); // what it does stands behind it
    const words = example.replace(/^source <\((.*)\)$/, "$1").replace(/ [<>] .*$/, "");
    return words.split(" | ").filter((one) => /^varia( |$)/.test(one));
  });
}

test("every command has an example of itself, a group one of its commands", () => {
  const without = places().filter(
    ({ path, help }) => !examplesIn(help).some((one) => `${one} `.startsWith(`${path} `)),
  );
  expect(without.map(({ path }) => path)).toEqual([]);
});

test("every example is a command line that would be run", () => {
  const program = buildProgram();
  const odd = places().flatMap(({ path, help }) =>
    examplesIn(help).flatMap((example) => {
      const why = whyNoCommand(program, splitWords(example).words.slice(1));
      return why === undefined ? [] : [`${path}: ${example}: ${why}`];
    }),
  );
  expect(odd).toEqual([]);
});

test("what is no command line is found: its command, its flag, what it lacks, what it has too much", () => {
  const program = buildProgram();
  for (const [line, why] of [
    ["stats", "unknown command 'stats'"],
    ["admin namespace lst", "unknown command 'lst'"],
    ["admin namespace", ""],
    ["client get key --odd", "unknown option '--odd'"],
    ["client get key -q", "unknown option '-q'"],
    ["client get", "missing required argument 'KEY'"],
    ["client get key other", "too many arguments"],
    ["admin namespace create orders", "required option '--replication-factor <n>'"],
    ["client get key -t near", "is invalid"],
  ] as const) {
    expect([line, whyNoCommand(program, line.split(" "))]).toEqual([line, expect.stringContaining(why)]);
  }
});

test("no line of any help is longer than a terminal is wide", () => {
  const long = places().flatMap(({ path, help }) =>
    help
      .split("\n")
      .filter((line) => Bun.stringWidth(line) > COLUMNS_MAX)
      .map((line) => `${path}: ${line}`),
  );
  expect(long).toEqual([]);
});

test("the first help has examples, groups of commands, exit codes", () => {
  const [{ help }] = places() as [Place];
  for (const part of ["Examples:", "Run:", "Data:", "Admin:", "Inspect:", "Exit codes:"]) expect(help).toContain(part);
});
