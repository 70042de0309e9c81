/** The tree of keys, on a server with several shards, against all keys taken apart one by one. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { connect } from "../../src/client/index.ts";
import type { KeySorting } from "../../src/model/keys.ts";
import { initialRanges } from "../../src/protocol/assignment.ts";
import { findRecords } from "../../web/find-record.ts";
import { type IndexPosition, type IndexRequest, readIndex } from "../../web/index-lookup.ts";
import { KEYS_PER_PAGE, type Position, readLevel, type TreeRequest, VALUE_BYTES_PER_PAGE } from "../../web/key-tree.ts";
import { leadsTo, partitionKeys, shardRoutes } from "../../web/shard-routes.ts";
import { startServer } from "./server.ts";

const SHARDS = 4;
const ranges = initialRanges(SHARDS).map(({ minInclusive, maxInclusive }, nth) => {
  return { shard: BigInt(nth), minHashInclusive: minInclusive, maxHashInclusive: maxInclusive };
});
const routes = shardRoutes(ranges);
const part = fc.string({ unit: fc.constantFrom("a", "b", "-", "0", "é", "~", "\u{1f600}"), maxLength: 3 });
// more than three parts behind a place are deeper than a place is searched
const keys = fc
  .uniqueArray(fc.array(part, { minLength: 1, maxLength: 4 }), { maxLength: 60, selector: (parts) => parts.join("/") })
  .map((all) => all.map((parts) => parts.join("/")).filter((key) => key !== "" && !key.endsWith("//")));

for (const sorting of ["hierarchical", "natural"]) {
  test(`each place has its records and its places, in the order ${sorting}`, async () => {
    const server = await startServer(SHARDS, ["--key-sorting", sorting]);
    const client = await connect({ serviceAddress: server.address, batchLingerMs: 0 });
    const level = (place: string) => {
      const request: TreeRequest = { place, after: undefined, natural: sorting === "natural", routes };
      return readLevel(client, request);
    };
    try {
      await fc.assert(
        fc.asyncProperty(keys, async (given) => {
          // what a run before has left, also one that failed
          for (const key of await Array.fromAsync(client.list({}))) await client.delete(key);
          await Promise.all(given.map((key) => client.put(key, key)));
          for (const place of placesOf(given)) {
            const { records, places, after, cut } = await level(place);
            const found = {
              records: records.map(({ record }) => record.key).sort(),
              places: [...places].sort(),
              after,
              cut,
            };
            expect({ place, ...found }).toEqual({ place, ...apart(given, place), after: undefined, cut: false });
          }
        }),
        { numRuns: 25 },
      );
      await pages(client, { place: "/jobs/", after: undefined, natural: sorting === "natural", routes });
      await indexed(client, sorting === "natural" ? "natural" : "hierarchical");
      await partitioned(client, { place: "", after: undefined, natural: sorting === "natural", routes });
    } finally {
      await client.close();
      await server.stop();
    }
  }, 120_000);
}

/** All places that have something in them, the root too. */
function placesOf(keys: readonly string[]): string[] {
  const places = new Set([""]);
  for (const key of keys) {
    for (let at = key.indexOf("/"); at >= 0; at = key.indexOf("/", at + 1)) places.add(key.slice(0, at + 1));
  }
  return [...places];
}

function apart(keys: readonly string[], place: string) {
  const below = keys.filter((key) => key.startsWith(place)).map((key) => key.slice(place.length));
  const records = below.filter((rest) => !rest.includes("/")).map((rest) => place + rest);
  const places = new Set(below.filter((rest) => rest.includes("/")).map((rest) => rest.slice(0, rest.indexOf("/"))));
  return { records: records.sort(), places: [...places].sort() };
}

/** Pages of a large place hold each key once, in order, and none of the places between them. */
async function pages(client: Awaited<ReturnType<typeof connect>>, request: TreeRequest): Promise<void> {
  for (const key of await Array.fromAsync(client.list({}))) await client.delete(key);
  const names = Array.from({ length: 2 * KEYS_PER_PAGE + 50 }, (_, nth) => `/jobs/${String(nth).padStart(5, "0")}`);
  await Promise.all(names.flatMap((name) => [client.put(name, ""), client.put(`${name}/state`, "")]));
  const seen: string[] = [];
  let after: Position | undefined;
  do {
    const page = await readLevel(client, { ...request, after });
    expect(page.records.length).toBeLessThanOrEqual(KEYS_PER_PAGE);
    seen.push(...page.records.map(({ record }) => record.key));
    after = page.after;
  } while (after !== undefined);
  expect(seen).toEqual(names);
  // large values end a page early, and none is left out
  const large = Array.from({ length: 20 }, (_, nth) => `/large/${String(nth).padStart(2, "0")}`);
  for (const name of large) await client.put(name, new Uint8Array(VALUE_BYTES_PER_PAGE / 4));
  const found: string[] = [];
  after = undefined;
  do {
    const page = await readLevel(client, { ...request, place: "/large/", after });
    expect(page.records.length).toBeLessThan(large.length);
    found.push(...page.records.map(({ record }) => record.key));
    after = page.after;
  } while (after !== undefined);
  expect(found).toEqual(large);
}

/** Deletes all records, wherever they are. */
async function clear(client: Awaited<ReturnType<typeof connect>>): Promise<void> {
  for (const { partitionKey } of routes) {
    for (const key of await Array.fromAsync(client.list({ partitionKey }))) await client.delete(key, { partitionKey });
  }
}

/** Pages of an index hold each of its entries once, in one order, however many records have one of its keys. */
async function indexed(client: Awaited<ReturnType<typeof connect>>, sorting: KeySorting): Promise<void> {
  await clear(client);
  const indexKeys = ["a", "a/b", "a/b/c", "a//", "a0", "\u00e9", "same"];
  const put = (key: string, indexKey: string) => {
    return client.put(key, "", { partitionKey: `p${key}`, secondaryIndexes: [{ name: "i", key: indexKey }] });
  };
  await Promise.all(indexKeys.map((indexKey, nth) => put(`one-${nth}`, indexKey)));
  const names = Array.from({ length: 2 * KEYS_PER_PAGE }, (_, nth) => `n/${nth % 7}-${nth}`);
  await Promise.all(names.map((name) => put(name, "same")));
  const read = async (range: IndexRequest["range"]) => {
    const seen: string[] = [];
    let after: IndexPosition | undefined;
    do {
      const page = await readIndex(client, { index: "i", range, after, sorting, routes });
      expect([page.cut, page.records.length <= KEYS_PER_PAGE]).toEqual([false, true]);
      seen.push(...page.records.map(({ record }) => `${record.secondaryIndexKey} ${record.key}`));
      after = page.after;
    } while (after !== undefined);
    return seen;
  };
  const all = await read({ from: "", before: "" });
  const expected = [
    ...indexKeys.map((indexKey, nth) => `${indexKey} one-${nth}`),
    ...names.map((name) => `same ${name}`),
  ];
  expect([...all].sort()).toEqual(expected.sort());
  expect((await read({ exactly: "same" })).sort()).toEqual([...names, "one-6"].map((name) => `same ${name}`).sort());
  expect(await read({ exactly: "a/b" })).toEqual(["a/b one-1"]);
  expect(await read({ exactly: "b" })).toEqual([]);
  const entries = all.filter((entry) => entry.startsWith("a"));
  expect(await read({ from: "a/b", before: entries.at(-1)!.split(" ")[0]! })).toEqual(
    entries.slice(entries.indexOf("a/b one-1"), -1),
  );
}

/** Records that are where their partition keys lead, and several with one key: each is listed with its shard, and found there. */
async function partitioned(client: Awaited<ReturnType<typeof connect>>, request: TreeRequest): Promise<void> {
  await clear(client);
  for (const { shard, partitionKey } of routes) await client.put("everywhere", `on ${shard}`, { partitionKey });
  const names = Array.from({ length: KEYS_PER_PAGE }, (_, nth) => `pk-${String(nth).padStart(3, "0")}`);
  await Promise.all(names.map((name) => client.put(name, name, { partitionKey: `part ${name}` })));
  const listed: [string, bigint][] = [];
  let after: Position | undefined;
  do {
    const page = await readLevel(client, { ...request, after });
    expect(page.records.length).toBeLessThanOrEqual(KEYS_PER_PAGE);
    listed.push(...page.records.map(({ record, route }): [string, bigint] => [record.key, route.shard]));
    after = page.after;
  } while (after !== undefined);
  const ownerOf = (partitionKey: string) => routes.find((route) => leadsTo(route, partitionKey))!.shard;
  expect(listed).toEqual([
    ...routes.map(({ shard }): [string, bigint] => ["everywhere", shard]),
    ...names.map((name): [string, bigint] => [name, ownerOf(`part ${name}`)]),
  ]);
  // a page may end between two records with one key
  const behind = await readLevel(client, { ...request, after: { key: "everywhere", shard: 1n } });
  expect(behind.records.slice(0, 3).map(({ record, route }) => [record.key, route.shard])).toEqual([
    ["everywhere", 2n],
    ["everywhere", 3n],
    ["pk-000", ownerOf("part pk-000")],
  ]);
  const find = async (key: string, more: Partial<Parameters<typeof findRecords>[1]> = {}) => {
    const asked = { key, comparison: "equal", partitionKey: "", shard: undefined, routes, ...more } as const;
    const found = await findRecords(client, asked);
    return found.map(({ record, route }) => `${record.key} ${new TextDecoder().decode(record.value)} ${route.shard}`);
  };
  for (const name of names.slice(0, 10)) {
    const owner = ownerOf(`part ${name}`);
    const one = [`${name} ${name} ${owner}`];
    expect(await find(name)).toEqual(one);
    expect(await find(name, { shard: owner })).toEqual(one);
    expect(await find(name, { partitionKey: `part ${name}` })).toEqual(one);
    // it was seen where it is not any more
    expect(await find(name, { shard: (owner + 1n) % 4n })).toEqual(one);
  }
  expect(await find("pk-000", { comparison: "lower" })).toHaveLength(1);
  expect(await find("pk-000", { comparison: "higher" })).toEqual([`pk-001 pk-001 ${ownerOf("part pk-001")}`]);
  expect(await find("everywhere", { shard: 2n })).toEqual(["everywhere on 2 2"]);
  const own = routes.find((route) => leadsTo(route, "everywhere"))!.shard;
  expect(await find("everywhere")).toEqual([`everywhere on ${own} ${own}`]);
  await client.delete("everywhere");
  expect(await find("everywhere")).toEqual(
    routes.filter(({ shard }) => shard !== own).map(({ shard }) => `everywhere on ${shard} ${shard}`),
  );
  expect(await find("nowhere")).toEqual([]);
}

test("each range of a namespace has a partition key, and what is none has not", () => {
  const many = initialRanges(1_000).map(({ minInclusive, maxInclusive }) => {
    return { minHashInclusive: minInclusive, maxHashInclusive: maxInclusive };
  });
  const routes = partitionKeys(many);
  for (const [nth, route] of routes.entries()) {
    const hash = Number(BigInt.asUintN(32, Bun.hash.xxHash3(route)));
    expect(hash >= many[nth]!.minHashInclusive && hash <= many[nth]!.maxHashInclusive).toBe(true);
  }
  expect(() => partitionKeys([{ minHashInclusive: 5, maxHashInclusive: 4 }])).toThrow("too few hashes");
});
