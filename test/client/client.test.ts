/** The client library against a server. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  connect,
  type GetOptions,
  InvalidArgumentError,
  NamespaceNotFoundError,
  RequestTimeoutError,
  UnexpectedVersionIdError,
  type VariaClient,
} from "../../src/client/index.ts";
import { errorOf } from "../harness/fake-client.ts";
import { startServer, type TestServer } from "./server.ts";

let server: TestServer;
let client: VariaClient;
/** Keys of one run are its own: a server that was given may hold others. */
const RUN = `t${Date.now().toString(36)}`;

beforeAll(async () => {
  server = await startServer(4);
  client = await connect({ serviceAddress: server.address });
});

afterAll(async () => {
  await client.close();
  await server.stop();
});

const text = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : new TextDecoder().decode(bytes));

async function all<T>(range: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of range) items.push(item);
  return items;
}

test("a record is put, found, replaced and deleted", async () => {
  const key = `${RUN}-record`;
  expect(await client.get(key)).toBeUndefined();
  const created = await client.put(key, "one");
  expect(created.version.modificationsCount).toBe(0);
  const replaced = await client.put(key, "two", { expectedVersionId: created.version.versionId });
  expect(replaced.version).toEqual({
    ...created.version,
    versionId: replaced.version.versionId,
    modificationsCount: 1,
    modifiedTimestamp: replaced.version.modifiedTimestamp,
  });
  const found = await client.get(key);
  expect([found?.key, text(found?.value), found?.version]).toEqual([key, "two", replaced.version]);
  expect((await client.get(key, { includeValue: false }))?.value).toEqual(new Uint8Array(0));
  expect(await client.delete(key)).toBe(true);
  expect(await client.delete(key)).toBe(false);
});

test("conditions hold or are refused", async () => {
  const key = `${RUN}-conditions`;
  const { version } = await client.put(key, "x", { mustNotExist: true });
  expect(await errorOf(client.put(key, "y", { mustNotExist: true }))).toBeInstanceOf(UnexpectedVersionIdError);
  expect(await errorOf(client.put(key, "y", { expectedVersionId: 999_999 }))).toBeInstanceOf(UnexpectedVersionIdError);
  expect(await errorOf(client.delete(key, { expectedVersionId: 999_999 }))).toBeInstanceOf(UnexpectedVersionIdError);
  expect(text((await client.get(key))?.value)).toBe("x");
  expect(await client.delete(key, { expectedVersionId: version.versionId })).toBe(true);
});

test("overrides are stored as they are given, also past what a number holds", async () => {
  const key = `${RUN}-override`;
  const versionId = 2n ** 62n + 1n;
  const put = await client.put(key, "x", { overrideVersionId: versionId, overrideModificationsCount: 41 });
  expect([put.version.versionId, put.version.modificationsCount]).toEqual([versionId, 41]);
  expect((await client.put(key, "y", { expectedVersionId: versionId })).version.modificationsCount).toBe(42);
});

test("many puts and gets over all shards", async () => {
  const keys = Array.from({ length: 5000 }, (_, i) => `${RUN}-many/${i}`);
  await Promise.all(keys.map((key, i) => client.put(key, `value ${i}`)));
  const found = await Promise.all(keys.map((key) => client.get(key)));
  expect(found.map((record) => text(record?.value))).toEqual(keys.map((_, i) => `value ${i}`));
  const range = { startInclusive: `${RUN}-many/`, endExclusive: `${RUN}-many//` };
  expect(await all(client.list(range))).toEqual([...keys].sort());
  const scanned = await all(client.rangeScan(range));
  expect(scanned.map(({ key }) => key)).toEqual([...keys].sort());
  expect(new Map(scanned.map(({ key, value }) => [key, text(value)])).get(keys[77]!)).toBe("value 77");
  await client.deleteRange(range.startInclusive, range.endExclusive);
  expect(await all(client.list(range))).toEqual([]);
});

test("a scan of more than a message, read page by page", async () => {
  const value = new Uint8Array(50_000).fill(7);
  const keys = Array.from({ length: 150 }, (_, i) => `${RUN}-big-${String(i).padStart(3, "0")}`);
  await Promise.all(keys.map((key) => client.put(key, value)));
  const found: string[] = [];
  for await (const page of client.rangeScan({ startInclusive: `${RUN}-big-`, endExclusive: `${RUN}-big.` }).pages()) {
    for (const record of page) {
      expect(record.value.length).toBe(value.length);
      found.push(record.key);
    }
  }
  expect(found).toEqual(keys);
});

test("a value far larger than a batch travels alone", async () => {
  const key = `${RUN}-large`;
  const value = new Uint8Array(5 * 1024 * 1024).map((_, i) => i);
  const [, small] = await Promise.all([client.put(key, value), client.put(`${RUN}-small`, "x")]);
  expect(small.version.modificationsCount).toBe(0);
  expect((await client.get(key))?.value).toEqual(value);
});

test("the nearest record is found in every direction", async () => {
  for (const key of ["b", "d", "f"]) await client.put(`${RUN}-near-${key}`, key);
  const near = async (key: string, comparison: NonNullable<GetOptions["comparison"]>) =>
    text((await client.get(`${RUN}-near-${key}`, { comparison }))?.value);
  expect(await near("d", "equal")).toBe("d");
  expect(await near("c", "equal")).toBeUndefined();
  expect([await near("d", "floor"), await near("e", "floor")]).toEqual(["d", "d"]);
  expect([await near("d", "ceiling"), await near("c", "ceiling")]).toEqual(["d", "d"]);
  expect([await near("d", "lower"), await near("c", "lower")]).toEqual(["b", "b"]);
  expect([await near("d", "higher"), await near("e", "higher")]).toEqual(["f", "f"]);
  expect((await client.get(`${RUN}-near-c`, { comparison: "ceiling" }))?.key).toBe(`${RUN}-near-d`);
});

test("a partition key keeps records together", async () => {
  const partitionKey = `${RUN}-partition`;
  const keys = Array.from({ length: 20 }, (_, i) => `${RUN}-p-${String(i).padStart(2, "0")}`);
  for (const key of keys) await client.put(key, key, { partitionKey });
  const range = { startInclusive: `${RUN}-p-`, endExclusive: `${RUN}-p.`, partitionKey };
  expect(await all(client.list(range))).toEqual(keys);
  expect((await client.get(`${RUN}-p-05a`, { partitionKey, comparison: "floor" }))?.key).toBe(`${RUN}-p-05`);
  expect(await client.delete(keys[0]!, { partitionKey })).toBe(true);
  await client.deleteRange(range.startInclusive, range.endExclusive, { partitionKey });
  expect(await all(client.list(range))).toEqual([]);
});

test("keys may be any bytes", async () => {
  const prefix = new TextEncoder().encode(`${RUN}-bytes-`);
  const keys = [[0xff, 0xfe], [0xc3, 0x28], [0x00]].map((tail) => Uint8Array.of(...prefix, ...tail));
  for (const key of keys) await client.put(key, "x");
  for (const key of keys) expect((await client.get(key))?.keyBytes).toEqual(key);
  const listed = await all(client.listBytes({ startInclusive: prefix, endExclusive: `${RUN}-bytes.` }));
  const hex = (key: Uint8Array) => Buffer.from(key).toString("hex");
  expect(listed.map(hex).sort()).toEqual(keys.map(hex).sort());
  for (const key of keys) expect(await client.delete(key)).toBe(true);
});

test("text beyond ASCII goes to the shard that its bytes say", async () => {
  const key = `${RUN}-é-\u{1f600}`;
  await client.put(key, "\u{1f600}");
  const found = await client.get(key);
  expect([found?.key, text(found?.value)]).toEqual([key, "\u{1f600}"]);
  expect(await client.get(new TextEncoder().encode(key))).toEqual(found);
});

test("the server's own keys are not written, and listed only when asked for", async () => {
  expect(await errorOf(client.put("__oxia/mine", "x"))).toBeInstanceOf(InvalidArgumentError);
  expect((await all(client.list())).some((key) => key.startsWith("__oxia/"))).toBe(false);
});

test("an unknown namespace and an address where nobody listens say what is wrong", async () => {
  const unknown = connect({ serviceAddress: server.address, namespace: "no-such-namespace" });
  expect(await errorOf(unknown)).toBeInstanceOf(NamespaceNotFoundError);
  const nobody = connect({ serviceAddress: "127.0.0.1:1", requestTimeoutMs: 200 });
  expect(await errorOf(nobody)).toBeInstanceOf(RequestTimeoutError);
});

test("closing answers what was given before it", async () => {
  const own = await connect({ serviceAddress: server.address, batchLingerMs: 10_000 });
  const puts = Array.from({ length: 100 }, (_, i) => own.put(`${RUN}-closing-${i}`, "x"));
  await own.close();
  expect(await Promise.all(puts)).toHaveLength(100);
});

test.skipIf(process.env.VARIA_TEST_ADDRESS !== undefined)(
  "a restart is ridden out",
  async () => {
    await client.put(`${RUN}-restart`, "before");
    const restarting = server.restart();
    const during = client.put(`${RUN}-restart`, "during");
    await restarting;
    await during;
    expect(text((await client.get(`${RUN}-restart`))?.value)).toBe("during");
  },
  60_000,
);
