import { expect, test } from "bun:test";
import fc from "fast-check";
import { assignments } from "../../test/harness/fake-transport.ts";
import { loadKeyHash, loadWasmHash } from "./platform.ts";
import { decodeAssignments, type Shard, ShardTable } from "./shard-table.ts";

function shard(id: number, minHashInclusive: number, maxHashInclusive: number, leader = `server-${id}:1`): Shard {
  return { id, leader, minHashInclusive, maxHashInclusive };
}

/** As servers lay them out at first. */
function initial(count: number): Shard[] {
  const bucket = Math.floor(0xffff_ffff / count) + 1;
  return Array.from({ length: count }, (_, i) =>
    shard(i, i * bucket, i === count - 1 ? 0xffff_ffff : (i + 1) * bucket - 1),
  );
}

const VECTORS: [string, number][] = [
  ["foo", 125730186],
  ["bar", 2687685474],
  ["baz", 862947621],
  ["", 953390274],
  ["/a/b", 973649257],
  ["key-0", 1886323064],
];

test.each([
  ["the platform", loadKeyHash],
  ["hash-wasm", loadWasmHash],
])("%s hashes keys as Oxia does", async (_name, load) => {
  const hash = await load();
  for (const [key, expected] of VECTORS) expect(hash(key)).toBe(expected);
  expect(hash(new TextEncoder().encode("é"))).toBe(1827736755);
  fc.assert(
    fc.property(fc.string({ unit: "binary-ascii", maxLength: 300 }), (key) => hash(key) === hash(Buffer.from(key))),
  );
});

test("both hashes agree on any bytes", async () => {
  const [platform, wasm] = [await loadKeyHash(), await loadWasmHash()];
  fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (key) => platform(key) === wasm(key)));
});

test("a hash belongs to the shard whose range holds it, both ends included", () => {
  const table = ShardTable.of(initial(3))!;
  expect([0, 1431655765, 1431655766, 2863311531, 2863311532, 0xffff_ffff].map((hash) => table.byHash(hash).id)).toEqual(
    [0, 0, 1, 1, 2, 2],
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 0, max: 0xffff_ffff }), (count, hash) => {
      const shards = initial(count);
      const slow = shards.find((it) => it.minHashInclusive <= hash && hash <= it.maxHashInclusive)!;
      expect(ShardTable.of(shards)!.byHash(hash).id).toBe(slow.id);
    }),
  );
});

test("shards that do not cover every hash exactly once are no table", () => {
  expect(ShardTable.of([])).toBeUndefined();
  expect(ShardTable.of([shard(0, 0, 0xffff_fffe)])).toBeUndefined();
  expect(ShardTable.of([shard(0, 1, 0xffff_ffff)])).toBeUndefined();
  expect(ShardTable.of([shard(0, 0, 10), shard(1, 12, 0xffff_ffff)])).toBeUndefined();
  expect(ShardTable.of([shard(0, 0, 10), shard(1, 10, 0xffff_ffff)])).toBeUndefined();
  expect(ShardTable.of([shard(0, 0, 10), shard(0, 11, 0xffff_ffff)])).toBeUndefined();
  expect(ShardTable.of([shard(2 ** 60, 0, 0xffff_ffff)])).toBeUndefined();
  expect(ShardTable.of([shard(1, 11, 0xffff_ffff), shard(0, 0, 10)])?.shards.map(({ id }) => id)).toEqual([0, 1]);
});

test("the heirs of a range are the shards that own a part of it", () => {
  const table = ShardTable.of([shard(4, 0, 9), shard(5, 10, 19), shard(6, 20, 0xffff_ffff)])!;
  const within = (minHashInclusive: number, maxHashInclusive: number) =>
    table.within({ minHashInclusive, maxHashInclusive }).map(({ id }) => id);
  expect(within(0, 19)).toEqual([4, 5]);
  expect(within(9, 10)).toEqual([4, 5]);
  expect(within(12, 13)).toEqual([5]);
});

test("another leader makes another table, and the same one does not", () => {
  const table = ShardTable.of(initial(2))!;
  expect(table.withLeader(1, "other:1").byId(1)?.leader).toBe("other:1");
  expect(table.withLeader(1, "server-1:1")).toBe(table);
  expect(table.withLeader(9, "other:1")).toBe(table);
});

test("assignments are read as the generated code writes them", () => {
  const message = assignments([
    { id: 3, leader: "a:1", min: 0, max: 10 },
    { id: 900719925474, leader: "", min: 11, max: 0xffff_ffff },
  ]);
  const read = decodeAssignments(message, "default");
  expect(read.kind === "table" && read.table.shards).toEqual([
    shard(3, 0, 10, "a:1"),
    shard(900719925474, 11, 0xffff_ffff, ""),
  ]);
});

test("assignments without the namespace, of another hash or with gaps say so", () => {
  const whole = [{ id: 0, leader: "a:1", min: 0, max: 0xffff_ffff }];
  expect(decodeAssignments(assignments(whole, "other"), "default").kind).toBe("absent");
  expect(decodeAssignments(assignments(whole, "default", 0), "default").kind).toBe("unusable");
  expect(decodeAssignments(assignments([{ ...whole[0]!, min: 5 }]), "default").kind).toBe("unusable");
  expect(() => decodeAssignments(Uint8Array.of(0x0a, 0xff), "default")).toThrow("malformed");
});
