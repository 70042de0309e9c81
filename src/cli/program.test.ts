/** The whole tree of commands: what its help says, read as a newcomer reads it. */
import { expect, test } from "bun:test";
import type { Command } from "commander";
import { whyNoCommand } from "../../test/harness/command-line.ts";
import { buildProgram } from "./program.ts";

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

test("every command that does something has an example, which is a command that exists", () => {
  const all = places();
  const leaves = all.filter(({ command }) => command.commands.length === 0);
  expect(leaves.filter(({ help }) => !help.includes("Examples:")).map(({ path }) => path)).toEqual([]);
  const root = all[0]!.command;
  const odd = all.flatMap(({ path, help }) =>
    (help.split("Examples:")[1]?.split("\n\n")[0]?.split("\n") ?? []).flatMap((line) => {
      const words = /(?:^|[ (])(varia .*)$/.exec(line)?.[1]?.split(/\s+/) ?? [];
      const why = words.length < 2 ? undefined : whyNoCommand(root, words.slice(1));
      return why === undefined ? [] : [`${path}: ${line.trim()}: ${why}`];
    }),
  );
  expect(odd).toEqual([]);
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
