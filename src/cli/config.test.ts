/** `varia config`: settings with what gave them, and whether a server could be started with them. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { variaCommand } from "../../test/client/server.ts";
import { buildProgram } from "./program.ts";

const directory = mkdtempSync(join(tmpdir(), "varia-config-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

async function varia(words: readonly string[], environment: Record<string, string> = {}) {
  const child = Bun.spawn([...variaCommand(), ...words], {
    env: { ...process.env, ...environment },
    cwd: directory,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

test("each value is shown with what gave it: a flag beats the environment, which beats the file", async () => {
  const sconfig = file(
    "server.yaml",
    "storage:\n  wal: {dir: /from/file, retention: 2h}\n  database: {dir: /from/file}\n",
  );
  const words = [
    "config",
    "show",
    "standalone",
    "--origin",
    "-o",
    "json",
    "--sconfig",
    sconfig,
    "--wal-dir",
    "/from/flag",
  ];
  const { code, out } = await varia(words, { VARIA_DATA_DIR: "/from/environment", VARIA_WAL_DIR: "/not/this" });
  expect(code).toBe(0);
  const rows = new Map((JSON.parse(out) as { setting: string }[]).map((row) => [row.setting, row]));
  expect(rows.get("wal-dir")).toEqual({
    setting: "wal-dir",
    value: "/from/flag",
    origin: "flag --wal-dir",
    default: "./data/wal",
  } as never);
  expect(rows.get("data-dir")).toMatchObject({ value: "/from/environment", origin: "environment VARIA_DATA_DIR" });
  expect(rows.get("wal-retention-time")).toMatchObject({
    value: "2h",
    origin: "file storage.wal.retention",
    default: "1h",
  });
  expect(rows.get("shards")).toMatchObject({ value: "1", origin: "default" });
});

test("every kind of server shows its settings, as a table too", async () => {
  for (const [kind, setting] of [
    ["standalone", "shards"],
    ["storage", "internal-addr"],
    ["coordinator", "cconfig"],
  ]) {
    const { code, out } = await varia(["config", "show", kind!]);
    expect([kind, code]).toEqual([kind, 0]);
    expect(out).toMatch(new RegExp(`^${setting} +\\S`, "m"));
    expect(out.split("\n")[0]).toMatch(/^SETTING +VALUE$/);
  }
});

test("a server's flags, all of them, are those of what shows and checks its settings", () => {
  const flagsOf = (...names: string[]) =>
    names
      .reduce<Command>((above, name) => above.commands.find((command) => command.name() === name)!, buildProgram())
      .options.map(({ flags, hidden, variadic, defaultValue }) =>
        JSON.stringify({ flags, hidden, variadic, defaultValue }),
      );
  for (const server of ["standalone", "storage", "coordinator"]) {
    const own = flagsOf(server);
    expect(own.length).toBeGreaterThan(10);
    expect([server, flagsOf("config", "check", server)]).toEqual([server, own]);
    expect([server, flagsOf("config", "show", server).filter((flag) => own.includes(flag))]).toEqual([server, own]);
  }
});

test("shards whose damage is accepted are checked too", async () => {
  const check = ["config", "check", "standalone", "--accept-loss", "default/1"];
  expect(await varia([...check, "-s", "2"])).toMatchObject({ code: 0, out: expect.stringContaining("default/1: if") });
  const { code, err } = await varia(check);
  expect([code, err]).toEqual([2, expect.stringContaining('--accept-loss: "default/1" names no shard here')]);
});

test("what could be started is counted; a cluster's configuration that is named is looked into", async () => {
  const cluster = file(
    "cluster.yaml",
    "servers:\n  - {public: 'a:1', internal: 'a:2'}\nnamespaces:\n  - {name: n, initialShardCount: 1, replicationFactor: 1}\nodd: 1\n",
  );
  const { code, out } = await varia(["config", "check", "coordinator", "--cconfig", cluster]);
  expect(code).toBe(0);
  expect(out).toContain("1 of them given");
  expect(out).toContain("1 data servers, 1 namespaces");
  expect(out).toContain("nobody knows odd");
  expect((await varia(["config", "check", "standalone"])).out).toMatch(/^standalone: \d+ settings, 0 of them given\n$/);
});

test("what could not be started is refused with exit code 2, and says what and where", async () => {
  const broken = file("broken.yaml", "servers: [\n");
  const invalid = file(
    "invalid.yaml",
    "servers: []\nnamespaces:\n  - {name: n, initialShardCount: 0, replicationFactor: 1}\n",
  );
  const tokens = file("tokens", "admin short\n");
  const sconfig = file("bad.yaml", "storage: {wal: {retention: soon}}\n");
  for (const [words, text] of [
    [["coordinator", "--cconfig", broken], "broken.yaml"],
    [["coordinator", "--cconfig", invalid], "initialShardCount"],
    [["coordinator", "--cconfig", join(directory, "missing.yaml")], "missing.yaml"],
    [["coordinator", "--metadata", "odd"], "--metadata"],
    [["storage", "--sconfig", sconfig], "storage.wal.retention"],
    [["standalone", "--shards", "0"], "--shards"],
    [["standalone", "--admin-token-file", tokens], "line 1: a token has"],
    [["storage", "--admin-token-file", tokens], "line 1: a token has"],
    [["coordinator", "--admin-token-file", tokens], "line 1: a token has"],
  ] as const) {
    const { code, err } = await varia(["config", "check", ...words]);
    expect([words, code]).toEqual([words, 2]);
    expect(err).toContain(text);
    expect(err.split(directory).length).toBeLessThanOrEqual(2); // a file is named once
  }
}, 30_000);

test("a file that cannot be used is named, with the place in it, by the check and by the server", async () => {
  const broken = file("broken-settings.yaml", "storage:\n  wal: {dir: /a\n");
  const soon = file("soon.yaml", "# ours\nserver:\n  public:\n    bindAddress: nowhere\n");
  const scalar = file("scalar.yaml", "server:\n  public: 7\n");
  const tls = file("tls.yaml", "server:\n  public:\n    tls: {certFile: c}\n");
  const unread = file("unread.yaml", "servers: []\nnamespaces:\n  - name: n\n    initialShardCount: 0\n");
  const root = file("root.yaml", "- servers\n");
  for (const [server, flag, path, complaint] of [
    ["standalone", "--sconfig", broken, "line 3, column 1: "],
    ["storage", "--sconfig", soon, 'line 4: server.public.bindAddress: "nowhere" is not host:port'],
    ["standalone", "--sconfig", scalar, "line 2: server.public: expected fields"],
    ["storage", "--sconfig", tls, "line 3: server.public.tls: Varia does not support TLS yet"],
    ["coordinator", "--sconfig", soon, 'line 4: server.public.bindAddress: "nowhere" is not host:port'],
    ["coordinator", "--cconfig", broken, "line 3, column 1: "],
    ["coordinator", "--cconfig", unread, "line 4: namespaces.0.initialShardCount is not a whole number from 1 to 4096"],
    ["coordinator", "--cconfig", root, "the document is not an object"],
  ] as const) {
    for (const words of [["config", "check", server], [server]]) {
      const { code, out, err } = await varia([...words, flag, path]);
      expect([words, path, code === 0, out, err]).toEqual([
        words,
        path,
        false,
        "",
        expect.stringContaining(`Error: ${path}: ${complaint}`),
      ]);
    }
  }
}, 60_000);

test("schemas are printed as JSON", async () => {
  for (const name of ["cluster", "standalone", "storage", "coordinator"]) {
    const { code, out } = await varia(["config", "schema", name]);
    expect([name, code, JSON.parse(out).type]).toEqual([name, 0, ["object", "null"]]);
  }
});
