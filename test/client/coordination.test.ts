/** Sessions, notifications, sequences and indexes against a server. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type ClientOptions, connect, type Notifications, type VariaClient } from "../../src/client/index.ts";
import { errorOf } from "../harness/fake-client.ts";
import { startServer, type TestServer } from "./server.ts";

let server: TestServer;
let client: VariaClient;
/** Keys of one run are its own: a server that was given may hold others. */
const RUN = `t${Date.now().toString(36)}`;

beforeAll(async () => {
  server = await startServer(4);
  client = await open();
});

afterAll(async () => {
  await client.close();
  await server.stop();
});

const open = (options: ClientOptions = {}) =>
  connect({ serviceAddress: server.address, batchLingerMs: 0, sessionTimeoutMs: 2000, ...options });

async function all<T>(range: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of range) items.push(item);
  return items;
}

/** Takes items of this run's keys until `count` have come. */
async function take(reader: Notifications, prefix: string, count: number) {
  const taken: { type: string; key: string; versionId?: number | bigint | undefined }[] = [];
  while (taken.length < count) {
    const { value, done } = await reader.next();
    if (done === true) throw new Error("the notifications ended");
    if (value.type === "missed") throw new Error("some were missed");
    if (value.key.startsWith(prefix)) taken.push({ type: value.type, key: value.key, versionId: value.versionId });
  }
  return taken;
}

// --- sessions -------------------------------------------------------------------------------------------------

test("ephemeral records are there while their client is, and go with it, each with its notification", async () => {
  const prefix = `${RUN}-ephemeral-`;
  const keys = Array.from({ length: 20 }, (_, i) => `${prefix}${i}`);
  await using reader = await client.notifications();
  const owner = await open({ clientIdentity: "owner" });
  const results = await Promise.all(keys.map((key) => owner.put(key, "x", { ephemeral: true })));
  for (const { version } of results) {
    expect(version.clientIdentity).toBe("owner");
    expect(version.sessionId).toBeDefined();
  }
  expect((await client.get(keys[0]!))?.version).toEqual(results[0]!.version);
  // one that is put again without a session stays
  await client.put(keys[0]!, "stays");
  await owner.close();
  expect(await all(client.list({ startInclusive: prefix, endExclusive: `${RUN}-ephemeral.` }))).toEqual([keys[0]!]);
  const heard = await take(reader, prefix, 2 * keys.length);
  expect(heard.filter(({ type }) => type === "deleted").map(({ key }) => key)).toEqual(
    expect.arrayContaining(keys.slice(1)),
  );
}, 20_000);

test("a session outlives its timeout by heartbeats", async () => {
  const key = `${RUN}-kept`;
  const owner = await open();
  const lost: unknown[] = [];
  owner.onSessionLost((it) => lost.push(it));
  const { version } = await owner.put(key, "x", { ephemeral: true });
  // another session, made later and not kept, ends before we look
  await using reader = await client.notifications();
  const watch = await abandonedSession(`${RUN}-abandoned`);
  expect((await take(reader, watch, 2)).map(({ type }) => type)).toEqual(["created", "deleted"]);
  expect(lost).toEqual([]);
  expect((await client.get(key))?.version.sessionId).toBe(version.sessionId!);
  await owner.close();
}, 20_000);

/** A record of a client that vanishes without a word: a process that is killed. */
async function abandonedSession(key: string): Promise<string> {
  const program = `
    import { connect } from ${JSON.stringify(`${import.meta.dir}/../../src/client/index.ts`)};
    const client = await connect({ serviceAddress: ${JSON.stringify(server.address)}, sessionTimeoutMs: 2000 });
    await client.put(${JSON.stringify(key)}, "x", { ephemeral: true });
    process.kill(process.pid, "SIGKILL");`;
  await Bun.spawn([process.execPath, "-e", program], { stdout: "ignore", stderr: "ignore" }).exited;
  return key;
}

test("an ephemeral put and what follows it on the key take effect in order", async () => {
  const key = `${RUN}-order`;
  const owner = await open({ batchLingerMs: 5 });
  const results = await Promise.all([
    owner.put(key, "1", { ephemeral: true }),
    owner.put(key, "2"),
    owner.put(key, "3", { ephemeral: true }),
  ]);
  expect(results.map(({ version }) => version.modificationsCount)).toEqual([0, 1, 2]);
  expect(results.map(({ version }) => version.sessionId !== undefined)).toEqual([true, false, true]);
  await owner.close();
  expect(await client.get(key)).toBeUndefined();
});

// --- notifications --------------------------------------------------------------------------------------------

test("a reader hears of every write that follows its subscription, in order for each shard", async () => {
  const prefix = `${RUN}-heard-`;
  await using reader = await client.notifications();
  const keys = Array.from({ length: 500 }, (_, i) => `${prefix}${i}`);
  const puts = await Promise.all(keys.map((key) => client.put(key, "x")));
  const again = await client.put(keys[0]!, "y");
  await client.delete(keys[1]!);
  const heard = await take(reader, prefix, keys.length + 2);
  const of = (key: string) => heard.filter((item) => item.key === key);
  expect(of(keys[0]!).map(({ type }) => type)).toEqual(["created", "modified"]);
  expect(of(keys[0]!)[1]!.versionId).toBe(again.version.versionId);
  expect(of(keys[1]!).map(({ type }) => type)).toEqual(["created", "deleted"]);
  for (const [i, { version }] of puts.entries()) expect(of(keys[i]!)[0]!.versionId).toBe(version.versionId);
});

test("a deleted range is told of with both ends, by every shard", async () => {
  await using reader = await client.notifications();
  await client.deleteRange(`${RUN}-range-a`, `${RUN}-range-b`);
  const ranges = [];
  while (ranges.length < client.shardCount) {
    const { value } = await reader.next();
    if (value?.type === "rangeDeleted" && value.key === `${RUN}-range-a`) ranges.push(value.keyRangeLast);
  }
  expect(new Set(ranges)).toEqual(new Set([`${RUN}-range-b`]));
});

test.skipIf(process.env.VARIA_TEST_ADDRESS !== undefined)(
  "a restart loses no notification and repeats none",
  async () => {
    const prefix = `${RUN}-restart-`;
    await using reader = await client.notifications();
    const key = (i: number) => `${prefix}${String(i).padStart(3, "0")}`;
    await Promise.all(Array.from({ length: 50 }, (_, i) => client.put(key(i), "x")));
    await server.restart();
    await Promise.all(Array.from({ length: 50 }, (_, i) => client.put(key(50 + i), "x")));
    await client.put(`${prefix}end`, "x");
    const heard = await take(reader, prefix, 101);
    expect(heard.map((item) => item.key).sort()).toEqual(
      [...Array.from({ length: 100 }, (_, i) => key(i)), `${prefix}end`].sort(),
    );
  },
  60_000,
);

// --- sequences ------------------------------------------------------------------------------------------------

test("the server numbers the keys of a sequence", async () => {
  const partitionKey = `${RUN}-sequence`;
  const put = async (...sequenceKeysDeltas: (number | bigint)[]) =>
    (await client.put(partitionKey, "x", { partitionKey, sequenceKeysDeltas })).key;
  const part = (n: number) => `-${String(n).padStart(20, "0")}`;
  expect(await put(5)).toBe(`${partitionKey}${part(5)}`);
  expect(await put(3n)).toBe(`${partitionKey}${part(8)}`);
  expect(await put(6, 9)).toBe(`${partitionKey}${part(14)}${part(9)}`);
  const range = { startInclusive: `${partitionKey}-`, endExclusive: `${partitionKey}.`, partitionKey };
  expect(await all(client.list(range))).toHaveLength(3);
});

test("updates of a sequence start with its highest key and go on with each higher one", async () => {
  const partitionKey = `${RUN}-updates`;
  const put = async () => (await client.put(partitionKey, "x", { partitionKey, sequenceKeysDeltas: [1] })).key;
  await using early = client.sequenceUpdates(partitionKey, { partitionKey });
  const first = early.next();
  const one = await put();
  expect((await first).value).toBe(one);
  await using late = client.sequenceUpdates(partitionKey, { partitionKey });
  expect((await late.next()).value).toBe(one);
  const [nextEarly, nextLate] = [early.next(), late.next()];
  const two = await put();
  expect([(await nextEarly).value, (await nextLate).value]).toEqual([two, two]);
});

// --- indexes --------------------------------------------------------------------------------------------------

test("records are found, listed and scanned by an index, over all shards", async () => {
  const index = `${RUN}-index`;
  const key = (i: number) => `${RUN}-indexed-${i}`;
  const secondary = (i: number) => `s${String(i).padStart(2, "0")}`;
  const count = 30;
  // the keys' order is not the index's
  for (let i = 0; i < count; i++) {
    await client.put(key(i * 7), `value ${i}`, { secondaryIndexes: [{ name: index, key: secondary(i) }] });
  }
  const by = { useIndex: index };
  const get = async (at: string, comparison: "equal" | "floor" | "ceiling" | "lower" | "higher") => {
    const record = await client.get(at, { ...by, comparison });
    return record === undefined ? undefined : [record.key, record.secondaryIndexKey];
  };
  const expected = (i: number) => [key(i * 7), secondary(i)];
  expect(await get(secondary(5), "equal")).toEqual(expected(5));
  expect(await get("s05x", "equal")).toBeUndefined();
  expect([await get("s05", "floor"), await get("s05x", "floor")]).toEqual([expected(5), expected(5)]);
  expect([await get("s05", "ceiling"), await get("s05x", "ceiling")]).toEqual([expected(5), expected(6)]);
  expect([await get("s05", "lower"), await get("s05x", "lower")]).toEqual([expected(4), expected(5)]);
  expect([await get("s05", "higher"), await get("s05x", "higher")]).toEqual([expected(6), expected(6)]);

  const range = { ...by, startInclusive: secondary(3), endExclusive: secondary(23) };
  const keys = Array.from({ length: 20 }, (_, i) => key((i + 3) * 7));
  expect((await all(client.list(range))).sort()).toEqual([...keys].sort());
  const scanned = await all(client.rangeScan(range));
  expect(scanned.map((record) => record.key).sort()).toEqual([...keys].sort());
  if (scanned[0]!.secondaryIndexKey !== undefined) expect(scanned.map((record) => record.key)).toEqual(keys);

  // a put without entries takes them away
  await client.put(key(0), "x");
  expect(await get(secondary(0), "equal")).toBeUndefined();
});

test("what is not a sequence is refused", async () => {
  expect((await errorOf(client.put("a", "x", { sequenceKeysDeltas: [1] }))).name).toBe("InvalidArgumentError");
});
