import { expect, test } from "bun:test";
import fc from "fast-check";
import { fnv1a, placeShard } from "./placement.ts";

test("FNV-1a, 32 bits, has the published values", () => {
  expect(fnv1a("")).toBe(0x811c9dc5);
  expect(fnv1a("a")).toBe(0xe40c292c);
  expect(fnv1a("foobar")).toBe(0xbf9cf968);
});

test("an ensemble is of different servers, and no server gets ahead of another by more than one replica", () => {
  const sizes = fc.tuple(
    fc.integer({ min: 1, max: 7 }),
    fc.integer({ min: 1, max: 7 }),
    fc.integer({ min: 1, max: 50 }),
  );
  fc.assert(
    fc.property(sizes, ([servers, factor, shards]) => {
      const replicas = new Map(Array.from({ length: servers }, (_, index) => [`s${index}:1`, 0]));
      for (let shard = 0; shard < shards; shard++) {
        const ensemble = placeShard(replicas, { namespace: "default", shard }, factor);
        if (factor > servers) {
          expect(ensemble).toBeUndefined();
          continue;
        }
        expect(new Set(ensemble).size).toBe(factor);
        const counts = [...replicas.values()];
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }
    }),
  );
});

test("a server that holds less gets the next shards first", () => {
  const replicas = new Map([
    ["a:1", 5],
    ["b:1", 0],
    ["c:1", 5],
  ]);
  for (let shard = 0; shard < 5; shard++) expect(placeShard(replicas, { namespace: "n", shard }, 1)).toEqual(["b:1"]);
});

test("among equals not the same one always comes first", () => {
  const first = Array.from({ length: 60 }, (_, shard) => {
    const replicas = new Map(["a:1", "b:1", "c:1"].map((server) => [server, 0]));
    return placeShard(replicas, { namespace: "default", shard }, 3)![0]!;
  });
  const counts = [...Map.groupBy(first, (server) => server).values()].map(({ length }) => length);
  expect(counts).toHaveLength(3);
  expect(Math.min(...counts)).toBeGreaterThan(8);
});

test("what must be apart is never placed together, and nothing is given out where it cannot be", () => {
  const rack = (server: string) => server[0];
  const apart = (server: string, other: string) => rack(server) !== rack(other);
  const servers = ["a1", "a2", "b1", "b2", "c1"];
  const replicas = new Map(servers.map((server) => [server, 0]));
  for (let shard = 0; shard < 20; shard++) {
    const chosen = placeShard(replicas, { namespace: "default", shard }, 3, apart)!;
    expect(new Set(chosen.map(rack)).size).toBe(3);
  }
  const before = new Map(replicas);
  expect(placeShard(replicas, { namespace: "default", shard: 20 }, 4, apart)).toBeUndefined();
  expect(replicas).toEqual(before);
});
