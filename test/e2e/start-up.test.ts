/**
 * Starting and stopping the executable: what it refuses to start on, and with which words; where it starts all the
 * same; how it ends when told to.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { read, shardIds, write } from "../harness/client.ts";
import type { Outcome } from "../harness/grpc.ts";
import { checkAll, Load } from "./load.ts";
import { batch, put } from "./model.ts";
import { dataDirectory, logDirectory, REPOSITORY, Server, type StartOptions, scratch, serverCommand } from "./varia.ts";

setDefaultTimeout(60_000);
const directory = scratch("start-up");
afterAll(() => directory.remove());

let nth = 0;
/** A new directory, and options for a server in it. */
function fresh(more: Partial<StartOptions> = {}): StartOptions {
  const path = join(directory.path, String(nth++));
  mkdirSync(path);
  return { directory: path, shards: 2, ...more };
}

/** A directory with one record in each shard, whose server has ended. */
async function used(): Promise<StartOptions> {
  const options = fresh();
  const server = await Server.start(options);
  const connection = await server.connect();
  for (const shard of [0, 1]) expect((await write(connection, shard, batch(put("k", "v")))).answer).toBeDefined();
  expect(await server.stop()).toEqual({ code: 0, signal: null });
  return options;
}

/** Starts a server that must not start, and returns its last words. */
async function refused(options: StartOptions): Promise<string> {
  const server = Server.launch(options);
  const exit = await server.ends(20_000);
  expect(exit.signal).toBeNull();
  expect(exit.code, server.log()).not.toBe(0);
  const words = server.errors.trim();
  expect(words, "a message on standard error").not.toBe("");
  expect(words, "a message for people, not a stack trace").not.toMatch(/^\s+at .*:\d+:\d+/m);
  return words;
}

async function stillServes(options: StartOptions): Promise<void> {
  const server = await Server.start(options);
  const connection = await server.connect();
  for (const shard of [0, 1]) expect((await read(connection, shard, ["k"]))[0]?.value.toString()).toBeDefined();
  await server.kill();
}

// --- refused --------------------------------------------------------------------------------------------------

test("a second process on the same directory is refused, and the first goes on", async () => {
  const options = fresh();
  const first = await Server.start(options);
  const connection = await first.connect();
  expect(await refused(options)).toMatch(/in use|another process|locked/i);
  expect((await write(connection, 0, batch(put("k", "v")))).answer).toBeDefined();
  await first.kill();
  const next = await Server.start(options); // a kill leaves no lock behind
  await next.kill();
});

test("a second process that shares only the log directory is refused", async () => {
  const options = fresh();
  const first = await Server.start(options);
  const other = fresh({ flags: ["--wal-dir", logDirectory(options.directory)] });
  expect(await refused(other)).toMatch(/in use|another process|locked|belongs/i);
  await first.kill();
});

test("another number of shards, or another key order, is refused", async () => {
  const options = await used();
  expect(await refused({ ...options, shards: 3 })).toMatch(/2 shards.*3|3.*2 shards/s);
  expect(await refused({ ...options, flags: ["--key-sorting", "natural"] })).toMatch(
    /hierarchical.*natural|natural.*hierarchical/s,
  );
  await stillServes(options);
});

test("a directory of a newer format is refused and left as it is", async () => {
  const options = await used();
  const changed = raiseFormat(options.directory);
  const words = await refused(options);
  expect(words).toMatch(/format/i);
  expect(words).toMatch(/newer/i);
  expect(readFileSync(changed.file, "utf8")).toBe(changed.text);
});

/** Raises the format version, wherever it stands: the first file whose name or text says so. Its checksum goes with it. */
function raiseFormat(path: string): { file: string; text: string } {
  for (const name of readdirSync(path, { recursive: true }) as string[]) {
    const file = join(path, name);
    if (!statSync(file).isFile() || statSync(file).size > 4096) continue;
    const text = readFileSync(file, "utf8");
    const raised = text
      .replace(/,\s*"checksum": "\w+"/, "")
      .replace(
        /("?(?:format|version)"?\s*[:=]\s*)(\d+)/i,
        (_: string, before: string, version: string) => `${before}${Number(version) + 1}`,
      );
    if (!/format|version/i.test(text)) continue;
    writeFileSync(file, raised);
    return { file, text: raised };
  }
  throw new Error(`no file in ${path} says its format`);
}

test("directories of others are refused and left as they are", async () => {
  const foreign: Record<string, Record<string, string>> = {
    "somebody's files": { "data/notes.txt": "mine" },
    "a PostgreSQL cluster": { "data/PG_VERSION": "16\n", "data/base/1/1259": "x" },
    "an Oxia server's database": {
      "data/default/shard-0/CURRENT": "MANIFEST-000001\n",
      "data/default/shard-0/MANIFEST-000001": "x",
      "data/default/shard-0/oxia-key-encoding-format": "hierarchical",
    },
    "an Oxia server's log": { "log/default/shard-0/0.txnx": "x", "log/default/shard-0/0.idxx": "x" },
  };
  for (const [what, files] of Object.entries(foreign)) {
    const options = fresh();
    for (const [name, text] of Object.entries(files)) {
      const file = join(options.directory, name);
      mkdirSync(join(file, ".."), { recursive: true });
      writeFileSync(file, text);
    }
    const before = (readdirSync(options.directory, { recursive: true }) as string[])
      .filter((name) => name.includes("/"))
      .sort();
    expect(await refused(options), what).toMatch(/not a Varia|not Varia|Oxia|foreign|unexpected/i);
    const after = (readdirSync(options.directory, { recursive: true }) as string[])
      .filter((name) => name.includes("/"))
      .sort();
    expect(after, what).toEqual(before);
  }
});

test("a log directory that is not the data directory's own is refused", async () => {
  const options = await used();
  const other = await used();
  const swapped = { ...options, flags: ["--wal-dir", logDirectory(other.directory)] };
  expect(await refused(swapped)).toMatch(/log/i);
  const empty = join(directory.path, `empty-${nth++}`);
  expect(await refused({ ...options, flags: ["--wal-dir", empty] })).toMatch(/log/i);
  await stillServes(options);
});

test("flags that cannot be used end with exit code 2 and say which", async () => {
  for (const [flags, word] of [
    [["--no-such-flag"], "--no-such-flag"],
    [["-s", "0"], "--shards"],
    [["--memory", "1KiB"], "--memory"],
    [["--key-sorting", "random"], "--key-sorting"],
    [["--accept-loss", "default/99"], "default/99"],
    [["--accept-loss", "nonsense"], "--accept-loss"],
  ] as const) {
    const { directory } = fresh();
    const server = Server.launch({ directory, flags });
    const exit = await server.ends(20_000);
    expect(exit, `${flags}: ${server.log()}`).toEqual({ code: 2, signal: null });
    expect(server.errors).toContain(word);
  }
});

test("an address that is taken is refused", async () => {
  const options = fresh();
  const first = await Server.start(options);
  const other = fresh({ flags: ["-p", await first.ready] });
  expect(await refused(other)).toMatch(/in use|EADDRINUSE/i);
  await first.kill();
});

// --- started all the same -------------------------------------------------------------------------------------

test("it starts in an empty directory, and beside a stray .env and bunfig.toml", async () => {
  const options = fresh();
  const server = await Server.start(options);
  expect(await shardIds(await server.connect())).toEqual([0, 1]);
  await server.kill();
  writeFileSync(
    join(options.directory, ".env"),
    "VARIA_SHARDS=nonsense\nVARIA_DATA_DIR=/nowhere\nNODE_OPTIONS=--nonsense\n",
  );
  writeFileSync(join(options.directory, "bunfig.toml"), 'preload = ["./missing.ts"]\n');
  writeFileSync(join(options.directory, "package.json"), "{ not JSON");
  writeFileSync(join(options.directory, "tsconfig.json"), "{ not JSON");
  const again = await Server.start({ directory: options.directory, shards: 2 });
  expect(await shardIds(await again.connect())).toEqual([0, 1]);
  await again.kill();
});

test("it starts as a user without rights, who owns nothing but the data", async () => {
  if (process.getuid?.() !== 0) return console.log("skipped: becoming another user needs root"); // it ran as one, then
  const options = fresh();
  for (const path of [dataDirectory(options.directory), logDirectory(options.directory)]) {
    mkdirSync(path);
    Bun.spawnSync(["chown", "65534:65534", path]);
  }
  const executable = join(options.directory, "varia");
  const [command, ...rest] = serverCommand();
  if (rest.length > 0) return console.log("skipped: not an executable");
  cpSync(command!, executable);
  for (const path of [directory.path, options.directory, executable]) chmodSync(path, 0o755);
  const prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
  const server = await Server.start({ ...options, prefix, executable, environment: { HOME: "/nonexistent" } });
  expect((await write(await server.connect(), 0, batch(put("k", "v")))).answer).toBeDefined();
  expect(await server.stop()).toEqual({ code: 0, signal: null });
});

test("a directory that cannot be written is refused", async () => {
  const options = await used();
  rmSync(dataDirectory(options.directory), { recursive: true });
  writeFileSync(dataDirectory(options.directory), "a file where the directory should be");
  expect(await refused(options)).toContain(dataDirectory(options.directory));
});

test("the build for the other processor is there, and is what it says", () => {
  const machines: Record<string, number> = { x64: 0x3e, arm64: 0xb7 };
  for (const [name, machine] of Object.entries(machines)) {
    const file = join(REPOSITORY, `dist/varia-linux-${name}`);
    if (!existsSync(file)) continue;
    const head = readFileSync(file).subarray(0, 20);
    expect(head.subarray(0, 4).toString("latin1")).toBe("\x7fELF");
    expect(head.readUInt16LE(18), name).toBe(machine);
  }
});

// --- the end --------------------------------------------------------------------------------------------------

test("SIGTERM under load drains: what was taken is answered, nothing is lost, and the exit code is 0", async () => {
  const options = fresh();
  const load = new Load({ seed: 1, shards: [0, 1], ownersPerShard: 4, bigValueBytesMax: 100_000 });
  for (let round = 0; round < 3; round++) {
    const server = await Server.start(options);
    const connections = [await server.connect(), await server.connect()];
    await checkAll(connections[0]!, load.histories);
    const stop = new AbortController();
    const failures: Outcome[] = [];
    const before = load.acknowledged;
    const running = load.run(connections, stop.signal, (outcome) => failures.push(outcome));
    while (load.acknowledged < before + 300) await new Promise((resolve) => setTimeout(resolve, 5));
    server.signal("SIGTERM");
    expect(await server.ends(20_000)).toEqual({ code: 0, signal: null });
    await running;
    stop.abort();
    expect(failures.length).toBeGreaterThan(0); // every client was told, one way or the other
  }
  const server = await Server.start(options);
  await checkAll(await server.connect(), load.histories);
  await server.kill();
});

test("SIGTERM ends an idle server, one that starts, and one whose clients hold streams open", async () => {
  const options = fresh();
  const idle = await Server.start(options);
  expect(await idle.stop()).toEqual({ code: 0, signal: null });
  const holding = await Server.start(options);
  const connection = await holding.connect();
  const stream = connection.open("/io.oxia.proto.v1.OxiaClient/GetShardAssignments", () => {});
  stream.send(new Uint8Array());
  stream.halfClose();
  holding.signal("SIGTERM");
  expect(await holding.ends(20_000)).toEqual({ code: 0, signal: null });
  await stream.ended;
});
