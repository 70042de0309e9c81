import { expect, test } from "bun:test";
import fc from "fast-check";
import { drainMoves, evenMove, fnv1a, type HeldShard, leaderMove, placeShard } from "./placement.ts";

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

function held(shard: number, servers: readonly string[], more: Partial<HeldShard> = {}): HeldShard {
  return { namespace: "default", shard, servers, leader: servers[0], movable: true, ...more };
}

function counts(shards: readonly HeldShard[], servers: readonly string[]): Map<string, number> {
  return new Map(
    servers.map((server) => [server, shards.filter((shard) => shard.servers.includes(server)).length] as const),
  );
}

test("replicas leave a server that is to be emptied, for those that hold least, so many at once", () => {
  const shards = [
    held(0, ["a", "b", "x"]),
    held(1, ["x", "a", "b"]),
    held(2, ["b", "x", "c"]),
    held(3, ["a", "b", "c"]),
  ];
  const stays = (server: string) => server !== "x";
  const replicas = counts(shards, ["a", "b", "c", "d"]);
  const moves = drainMoves(shards, replicas, { stays, movesMax: 2 });
  expect(moves).toEqual([
    { namespace: "default", shard: 0, from: "x", to: "d" },
    { namespace: "default", shard: 1, from: "x", to: "d" },
  ]);
  expect(replicas.get("d")).toBe(2);
  const all = drainMoves(shards, counts(shards, ["a", "b", "c", "d"]), { stays, movesMax: 10 });
  expect(all.map(({ shard, to }) => [shard, to])).toEqual([
    [0, "d"],
    [1, "d"],
    [2, "d"],
  ]);
});

test("a replica that no other server may take stays, and so does one of a shard that is not to be moved now", () => {
  const zone = new Map([
    ["a", 1],
    ["b", 2],
    ["x", 3],
    ["d", 1],
  ]);
  const apart = (server: string, other: string) => zone.get(server) !== zone.get(other);
  const replicas = new Map([
    ["a", 1],
    ["b", 1],
    ["d", 0],
  ]);
  const options = { stays: (server: string) => server !== "x", movesMax: 10 };
  expect(drainMoves([held(0, ["a", "b", "x"], { apart })], replicas, options)).toEqual([]);
  expect(drainMoves([held(0, ["a", "b", "x"], { movable: false })], replicas, options)).toEqual([]);
  expect(drainMoves([held(0, ["a", "b", "x"])], replicas, options)).toHaveLength(1);
});

test("replicas move from where most are to where least are until no server holds more than one above another", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 5 }), fc.integer({ min: 1, max: 30 }), (factor, count) => {
      const servers = Array.from({ length: factor + 2 }, (_, index) => `s${index}`);
      const few = servers.slice(0, factor);
      let shards = Array.from({ length: count }, (_, shard) => held(shard, few));
      for (let moved = 0; ; moved++) {
        expect(moved).toBeLessThanOrEqual(count * factor);
        const replicas = counts(shards, servers);
        const move = evenMove(shards, replicas);
        if (move === undefined) break;
        expect(replicas.get(move.from)! - replicas.get(move.to)!).toBeGreaterThan(1);
        shards = shards.map((shard) =>
          shard.shard === move.shard
            ? { ...shard, servers: shard.servers.map((server) => (server === move.from ? move.to : server)) }
            : shard,
        );
        expect(shards.every((shard) => new Set(shard.servers).size === factor)).toBe(true);
      }
      const numbers = [...counts(shards, servers).values()];
      expect(Math.max(...numbers) - Math.min(...numbers)).toBeLessThanOrEqual(1);
    }),
  );
});

test("a shard with one replica is not moved to even out, and a follower is moved rather than a leader", () => {
  const replicas = new Map([
    ["a", 3],
    ["b", 1],
    ["c", 0],
  ]);
  expect(
    evenMove(
      [0, 1, 2].map((shard) => held(shard, ["a"])),
      replicas,
    ),
  ).toBeUndefined();
  const shards = [held(0, ["a", "b"]), held(1, ["b", "a"]), held(2, ["a", "b"])];
  expect(evenMove(shards, replicas)).toEqual({ namespace: "default", shard: 1, from: "a", to: "c" });
});

test("a leader moves from where most lead to a member where at least two fewer do", () => {
  const servers = new Set(["a", "b", "c"]);
  const lead = (leaders: readonly string[]) => leaders.map((leader, shard) => held(shard, ["a", "b", "c"], { leader }));
  expect(leaderMove(lead(["a", "a", "b"]), servers)).toEqual({ namespace: "default", shard: 0, from: "a", to: "c" });
  expect(leaderMove(lead(["a", "a", "b", "c"]), servers)).toBeUndefined();
  expect(leaderMove(lead(["a", "a", "a", "b", "c"]), servers)).toMatchObject({ from: "a", to: "b" });
});

test("no leader moves while a quarter of the shards have none, to a server that is away, or of a shard left alone", () => {
  const servers = new Set(["a", "b", "c"]);
  const led = (shard: number, more: Partial<HeldShard> = {}) => held(shard, ["a", "b", "c"], { leader: "a", ...more });
  const none = (shard: number) => led(shard, { leader: undefined });
  expect(leaderMove([led(0), led(1), led(2), none(3)], servers)).toBeDefined();
  expect(leaderMove([led(0), led(1), none(2), none(3)], servers)).toBeUndefined();
  expect(leaderMove([led(0), led(1), led(2)], new Set(["a"]))).toBeUndefined();
  expect(leaderMove([led(0, { movable: false }), led(1), led(2)], servers)).toMatchObject({ shard: 1 });
});

test("leaders are spread as evenly as their ensembles allow", () => {
  const servers = ["a", "b", "c", "d"];
  fc.assert(
    fc.property(fc.array(fc.shuffledSubarray(servers, { minLength: 3, maxLength: 3 }), { minLength: 1 }), (all) => {
      let shards = all.map((ensemble, shard) => held(shard, ensemble));
      for (let moved = 0; ; moved++) {
        expect(moved).toBeLessThanOrEqual(all.length * 4);
        const move = leaderMove(shards, new Set(servers));
        if (move === undefined) break;
        shards = shards.map((shard) => (shard.shard === move.shard ? { ...shard, leader: move.to } : shard));
      }
      const led = (server: string) => shards.filter(({ leader }) => leader === server).length;
      for (const { leader, servers: members } of shards) {
        for (const member of members) expect(led(leader!) - led(member)).toBeLessThan(2);
      }
    }),
  );
});
