/** Completion scripts in the shells that they are for: what they offer is what the tree has. */
import { expect, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildProgram } from "./program.ts";

const directory = mkdtempSync(join(tmpdir(), "varia-completion-"));

async function scriptFor(shell: string): Promise<string> {
  const program = buildProgram();
  const written: string[] = [];
  const write = process.stdout.write;
  process.stdout.write = ((text: string) => written.push(text) > 0) as typeof write;
  try {
    await program.parseAsync(["completion", shell], { from: "user" });
  } finally {
    process.stdout.write = write;
  }
  const path = join(directory, `completion.${shell}`);
  writeFileSync(path, written.join(""));
  return path;
}

function run(...words: string[]): string[] {
  const { stdout, stderr, exitCode } = Bun.spawnSync(words, { env: { PATH: process.env.PATH ?? "", HOME: directory } });
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
  return stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "");
}

/** What bash offers for the last of these words. */
async function inBash(...words: string[]): Promise<string[]> {
  const script = await scriptFor("bash");
  const quoted = words.map((word) => `'${word}'`).join(" ");
  const code = `source ${script}; COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _varia; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return run("bash", "-c", code);
}

test("bash: commands, then commands below, then flags, then a flag's choices", async () => {
  const top = buildProgram().commands.map((command) => command.name());
  expect(await inBash("varia", "")).toEqual(expect.arrayContaining([...top, "--version"]));
  expect(await inBash("varia", "adm")).toEqual(["admin"]);
  expect(await inBash("varia", "admin", "shard", "s")).toEqual(expect.arrayContaining(["swap"]));
  expect(await inBash("varia", "server", "--wal-d")).toEqual(["--wal-dir"]);
  expect(await inBash("varia", "perf", "--puts", "in")).toEqual(["indexed"]);
  expect(await inBash("varia", "perf", "--rate", "5", "--puts", "")).toContain("sequence");
  expect(await inBash("varia", "status", "nothing-like-it")).toEqual([]);
});

for (const shell of ["zsh", "fish"] as const) {
  // both are installed where the whole suite has to run
  test.if(Bun.which(shell) !== null || process.env.CI === "true")(`${shell}: the same`, async () => {
    const offers = shell === "zsh" ? inZsh : inFish;
    expect(await offers("varia", "adm")).toContain("admin");
    expect(await offers("varia", "admin", "shard", "sw")).toContain("swap");
    expect(await offers("varia", "server", "--wal-d")).toContain("--wal-dir");
    expect(await offers("varia", "perf", "--puts", "ind")).toContain("indexed");
  });
}

/** With what completes in place of the line editor's: all that is offered, whatever the last word begins with. */
async function inZsh(...words: string[]): Promise<string[]> {
  const stubs = 'compdef() { : }; compadd() { shift; print -l -- "$@" }';
  const line = `words=(${words.map((word) => `'${word}'`).join(" ")}); CURRENT=${words.length}`;
  return run("zsh", "-f", "-c", `${stubs}; source ${await scriptFor("zsh")}; ${line}; _varia`);
}

async function inFish(...words: string[]): Promise<string[]> {
  const offers = run(
    "fish",
    "--no-config",
    "-c",
    `source ${await scriptFor("fish")}; complete -C "${words.join(" ")}"`,
  );
  return offers.map((offer) => offer.split("\t")[0]!);
}

test("every visible flag of every command is offered", async () => {
  const script = await Bun.file(await scriptFor("bash")).text();
  const visit = (path: string, command: ReturnType<typeof buildProgram>): void => {
    const line = script.split("\n").find((one) => one.includes(`"${path}") words="`));
    for (const { long, hidden } of command.options) if (!hidden && long != null) expect(line).toContain(long);
    for (const child of command.commands) visit(`${path} ${child.name()}`, child);
  };
  visit("varia", buildProgram());
});
