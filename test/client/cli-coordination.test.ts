/** The commands that stay: notifications, sequence updates, ephemeral puts, locks, elections, the shell. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { addRecordCommands } from "../../src/cli/client.ts";
import { PROCESS_HOST } from "../../src/cli/client-host.ts";
import { complete } from "../../src/cli/shell-completion.ts";
import { connect, Lock, type VariaClient } from "../../src/client/index.ts";
import { startServer, type TestServer, variaCommand } from "./server.ts";

let server: TestServer;
let client: VariaClient;
const RUN = `k${Date.now().toString(36)}`;
const state = mkdtempSync(join(tmpdir(), "varia-state-"));

beforeAll(async () => {
  server = await startServer(2);
  client = await connect({ serviceAddress: server.address, batchLingerMs: 0 });
});

afterAll(async () => {
  await client.close();
  await server.stop();
  rmSync(state, { recursive: true, force: true });
});

/** A command under way: its output line by line. */
function start(words: readonly string[], input: "ignore" | "pipe" = "ignore") {
  const child = Bun.spawn([...variaCommand(), ...words], {
    stdin: input,
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, VARIA_SERVICE_ADDRESS: server.address, XDG_STATE_HOME: state },
  });
  const reader = (stream: ReadableStream<Uint8Array>) => {
    const lines = (async function* () {
      let rest = "";
      const decoder = new TextDecoder();
      for await (const chunk of stream) {
        const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = parts.pop()!;
        yield* parts;
      }
      if (rest !== "") yield rest;
    })();
    return {
      line: async () => (await lines.next()).value as string,
      rest: () => Array.fromAsync(lines),
    };
  };
  const end = async (signal?: NodeJS.Signals) => {
    if (signal !== undefined) child.kill(signal);
    return child.exited;
  };
  return { child, out: reader(child.stdout), err: reader(child.stderr), end };
}

async function run(...words: string[]) {
  const { out, err, end } = start(words);
  const [lines, errors, code] = await Promise.all([out.rest(), err.rest(), end()]);
  return { code, out: lines, err: errors.join("\n") };
}

test("notifications are printed as they come, until interrupted", async () => {
  const { out, err, end } = start(["client", "notifications"]);
  expect(await err.line()).toContain(`${client.shardCount} shards`);
  const key = `${RUN}-notified`;
  const { version } = await client.put(key, "x");
  await client.delete(key);
  expect(JSON.parse(await out.line())).toEqual({ type: "created", key, version_id: version.versionId });
  expect(JSON.parse(await out.line())).toEqual({ type: "deleted", key });
  await client.deleteRange(`${key}/a`, `${key}/b`);
  expect(JSON.parse(await out.line())).toEqual({
    type: "rangeDeleted",
    key: `${key}/a`,
    key_range_last: `${key}/b`,
  });
  expect(await end("SIGINT")).toBe(130);
});

test("a sequence is put, followed and listed", async () => {
  const partition = `${RUN}-sequence`;
  const put = async () =>
    JSON.parse((await run("client", "put", partition, "x", "-p", partition, "-d", "1,5")).out[0]!).key as string;
  const one = await put();
  expect(one).toBe(`${partition}-${"1".padStart(20, "0")}-${"5".padStart(20, "0")}`);
  const { out, end } = start(["client", "sequence-updates", partition, "-p", partition]);
  expect(await out.line()).toBe(one);
  const two = await put();
  expect(await out.line()).toBe(two);
  expect(await end("SIGTERM")).toBe(0);
  expect((await run("client", "put", "seq", "x", "-d", "1")).code).toBe(2);
  expect((await run("client", "put", "seq", "x", "-p", "p", "-d", "one")).code).toBe(2);
});

test("records are found by an index", async () => {
  const [name, key] = [`${RUN}-index`, `${RUN}-indexed`];
  await run("client", "put", key, "Ada", "--index", `${name}=ada`, "--index", `${name}-2=1`);
  expect((await run("client", "get", "ada", "--index", name)).out).toEqual(["Ada"]);
  expect((await run("client", "get", "1", "--index", `${name}-2`)).out).toEqual(["Ada"]);
  const range = ["--index", name, "-s", "a", "-e", "b"];
  expect((await run("client", "list", ...range)).out).toEqual([key]);
  expect((await run("client", "list", ...range, "-o", "json")).out.join("")).toBe(`[{"key":"${key}"}]`);
  expect((await run("client", "range-scan", ...range)).out).toEqual(["Ada"]);
  expect((await run("client", "put", key, "x", "--index", "name")).code).toBe(2);
});

test("an ephemeral record is there until the command is interrupted", async () => {
  const key = `${RUN}-ephemeral`;
  const { out, end } = start(["client", "put", key, "x", "--ephemeral"]);
  expect(JSON.parse(await out.line())).toMatchObject({ key, ephemeral: true });
  expect(await client.get(key)).toBeDefined();
  expect(await end("SIGINT")).toBe(130);
  expect(await client.get(key)).toBeUndefined();
});

test("lock runs its command while it holds the lock, and exits as it does", async () => {
  const key = `${RUN}-lock`;
  const first = start(
    ["lock", key, "--", "sh", "-c", "echo $VARIA_LOCK_KEY $VARIA_LOCK_TOKEN; read line; exit 7"],
    "pipe",
  );
  const [name, token] = (await first.out.line()).split(" ");
  expect([name, Number(token) >= 0]).toEqual([key, true]);
  const taken = await run("lock", key, "--wait", "0s", "--", "echo", "never");
  expect([taken.code, taken.out]).toEqual([5, []]);
  expect(taken.err).toContain("held by somebody else");
  (first.child.stdin as unknown as { write(text: string): void; end(): void }).write("go\n");
  expect(await first.end()).toBe(7);
  expect(await new Lock(client, key).line()).toEqual([]);
  expect((await run("lock", key, "--", "/no/such/command")).code).toBe(2);
  expect((await run("lock", key)).code).toBe(2);
}, 20_000);

test("lock ends its command when the lock is lost, or when it is told to end itself", async () => {
  const key = `${RUN}-lost`;
  const lost = start(["lock", key, "--identity", "me", "--", "sh", "-c", "echo up; exec sleep 60"]);
  expect(await lost.out.line()).toBe("up");
  expect(await new Lock(client, key).line()).toEqual(["me"]);
  await client.deleteRange(`${key}/`, `${key}//`, { partitionKey: key });
  expect(await lost.end()).toBe(1);
  expect((await lost.err.rest()).join()).toContain("the lock was lost");

  const holder = new Lock(client, key);
  const held = await holder.acquire();
  const waiting = start(["lock", key, "--", "echo", "never"]);
  while ((await holder.line()).length < 2);
  expect(await waiting.end("SIGTERM")).toBe(143);
  expect([await waiting.out.rest(), (await holder.line()).length]).toEqual([[], 1]);
  await held.release();

  const told = start(["lock", key, "--", "sh", "-c", "echo up; exec sleep 60"]);
  expect(await told.out.line()).toBe("up");
  expect(await told.end("SIGTERM")).toBe(143);
  expect(await new Lock(client, key).line()).toEqual([]);
}, 20_000);

test("elect tells who leads, and the next one leads when it ends", async () => {
  const key = `${RUN}-elect`;
  const one = start(["elect", key, "--identity", "one"]);
  const leads = async (it: typeof one, leader: string) => {
    while (JSON.parse(await it.out.line()).leader !== leader);
  };
  await leads(one, "one");
  const two = start(["elect", key, "--identity", "two"]);
  await leads(two, "one");
  expect(await one.end("SIGINT")).toBe(130);
  await leads(two, "two");
  const running = start(["elect", key, "--identity", "three", "--", "sh", "-c", "echo leading; exit 3"]);
  expect(await two.end("SIGTERM")).toBe(0);
  expect(await running.out.line()).toBe("leading");
  expect(await running.end()).toBe(3);
}, 20_000);

test("the shell runs a line at a time on one connection", async () => {
  const shell = start(["shell"], "pipe");
  const stdin = shell.child.stdin as unknown as { write(text: string): void; end(): void };
  const key = `${RUN} in a shell`;
  stdin.write(`# a note\n\nput "${key}" 'hello  world' --ephemeral\nget "${key}"\n`);
  expect(JSON.parse(await shell.out.line())).toMatchObject({ key, ephemeral: true });
  expect(await shell.out.line()).toBe("hello  world");
  stdin.write(`list -o json -s "${key}" -e "${key}!"\nhelp\nexit\nget nothing\n`);
  expect(JSON.parse((await shell.out.line()) + (await shell.out.line()) + (await shell.out.line()))).toEqual([{ key }]);
  expect((await shell.out.rest()).join("\n")).toContain("sequence-updates");
  expect(await shell.end()).toBe(0);
  expect(await client.get(key)).toBeUndefined();

  const failing = start(["shell"], "pipe");
  const input = failing.child.stdin as unknown as { write(text: string): void; end(): void };
  input.write(`get nothing-of-that-name\nlst\nput "a\nput a --std-in\n`);
  input.end();
  expect(await failing.end()).toBe(1);
  const errors = (await failing.err.rest()).join("\n");
  for (const what of ["key not found", "list", "quote", "no input"]) expect(errors).toContain(what);
}, 20_000);

test("Tab offers commands, flags, and keys part by part", async () => {
  const root = `${RUN}/tab`;
  for (const key of ["a", "ab/c", "ab/d/e", "x/1/2/3", "with blank"]) await client.put(`${root}/${key}`, "x");
  const tree = new Command("");
  addRecordCommands(tree, PROCESS_HOST);
  const offers = async (line: string) => (await complete(line, tree, client)).offers;
  expect(await offers("")).toEqual(expect.arrayContaining(["get ", "put ", "exit "]));
  expect(await offers("ge")).toEqual(["get "]);
  expect(await offers("help delete-")).toEqual(["delete-range "]);
  expect(await offers("list --key")).toEqual(["--key-min ", "--key-max "]);
  expect(await offers(`get ${root}/`)).toEqual([`${root}/a`, `${root}/ab/`, `${root}/x/`]);
  expect(await offers(`get ${root}/ab/`)).toEqual([`${root}/ab/c`, `${root}/ab/d/`]);
  expect(await offers(`get ${root}/x`)).toEqual([`${root}/x/`]);
  expect(await complete(`get -v ${root}/ab/d`, tree, client)).toEqual({
    offers: [`${root}/ab/d/`],
    word: `${root}/ab/d`,
  });
  expect([await offers('get "a'), await offers("no-command a"), await offers("get\\ ")]).toEqual([[], [], []]);
});

test("help has examples and fits a terminal", async () => {
  for (const words of [["lock"], ["elect"], ["shell"], ["client", "notifications"], ["client", "sequence-updates"]]) {
    const { code, out } = await run(...words, "--help");
    expect([words, code]).toEqual([words, 0]);
    expect(out).toContain("Examples:");
    expect(out.filter((line) => line.length > 80)).toEqual([]);
  }
});
