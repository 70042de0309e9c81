/** What servers bear, from the counters that they tell now and then. */
import { expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { GetLoadResponseSchema, type ShardLoadSchema } from "../gen/varia/internal/v1/node_pb.ts";
import { COMMITS_KEPT_MAX, LOAD_AGE_MS_MAX, LOAD_INTERVAL_MS, LoadWatch } from "./load-watch.ts";

type Counters = MessageInitShape<typeof GetLoadResponseSchema>;

function watching() {
  const clock = new ManualClock();
  const says = new Map<string, Counters | Error>();
  const asked: string[] = [];
  const watch = new LoadWatch({
    clock,
    servers: () => [...says.keys()],
    ask: async (server) => {
      asked.push(server);
      const answer = says.get(server)!;
      if (answer instanceof Error) throw answer;
      return create(GetLoadResponseSchema, answer);
    },
  });
  const lookAfter = (ms: number) => {
    clock.advance(ms);
    return watch.look();
  };
  return { clock, says, asked, watch, lookAfter };
}

function led(shard: number, differs: Partial<MessageInitShape<typeof ShardLoadSchema>> = {}) {
  return {
    shard: BigInt(shard),
    term: 1n,
    writes: 0n,
    reads: 0n,
    records: 0n,
    commitOffset: -1n,
    stateBytes: 0n,
    ...differs,
  };
}

test("rates are what grew between two looks, by the time that has passed", async () => {
  const { says, watch, lookAfter } = watching();
  says.set("a", { startedAtMs: 9n, cpuMs: 1_000n, shards: [led(0, { writes: 100n, reads: 10n }), led(1)] });
  await lookAfter(0);
  expect(watch.server("a")).toMatchObject({ writesPerS: 0, cpuCores: 0, startedAtMs: 9 });
  says.set("a", {
    ...{ startedAtMs: 9n, cpuMs: 3_000n, version: "1.0" },
    shards: [led(0, { writes: 600n, reads: 60n, records: 8n, stateBytes: 4_096n }), led(1, { writes: 100n })],
  });
  await lookAfter(4_000);
  expect(watch.server("a")).toMatchObject({ version: "1.0", writesPerS: 150, readsPerS: 12.5, cpuCores: 0.5 });
  expect(watch.shard(0)).toEqual({ writesPerS: 125, readsPerS: 12.5, records: 8, stateBytes: 4_096 });
  expect([watch.totals().writesPerS, watch.totals().readsPerS]).toEqual([150, 12.5]);
});

test("another process, and another leadership, begin anew: nothing falls, and nothing leaps", async () => {
  const { says, watch, lookAfter } = watching();
  says.set("a", { startedAtMs: 9n, cpuMs: 9_000n, shards: [led(0, { writes: 100n })] });
  await lookAfter(0);
  says.set("a", { startedAtMs: 9n, cpuMs: 9_000n, shards: [led(0, { term: 2n, writes: 5_000n })] });
  await lookAfter(1_000);
  expect(watch.shard(0)!.writesPerS).toBe(0);
  says.set("a", { startedAtMs: 10n, cpuMs: 100n, shards: [led(0, { term: 2n, writes: 9_000n })] });
  await lookAfter(1_000);
  expect(watch.server("a")).toMatchObject({ cpuCores: 0, writesPerS: 0, startedAtMs: 10 });
});

test("a leader that was cut off does not speak for its shard, as long as the next one does", async () => {
  const { says, watch, lookAfter } = watching();
  says.set("b", { startedAtMs: 1n, shards: [led(0, { term: 2n, records: 9n })] });
  says.set("a", { startedAtMs: 1n, shards: [led(0, { term: 1n, records: 4n })] });
  await lookAfter(0);
  await lookAfter(1_000);
  expect(watch.shard(0)!.records).toBe(9);
  says.delete("b");
  await lookAfter(LOAD_AGE_MS_MAX + 1);
  expect(watch.shard(0)!.records).toBe(4);
});

test("what has not been said lately is not known; who does not answer, or is gone, is passed over", async () => {
  const { clock, says, asked, watch, lookAfter } = watching();
  says.set("a", { startedAtMs: 1n, shards: [led(0)] });
  says.set("b", new Error("unimplemented"));
  await lookAfter(0);
  expect([watch.server("a") === undefined, watch.server("b"), watch.server("c")]).toEqual([
    false,
    undefined,
    undefined,
  ]);
  says.set("a", new Error("unreachable"));
  await lookAfter(LOAD_AGE_MS_MAX);
  expect(watch.server("a")).toBeDefined();
  clock.advance(1);
  expect([watch.server("a"), watch.shard(0), watch.totals().writesPerS]).toEqual([undefined, undefined, 0]);
  says.clear();
  await watch.look();
  expect(asked).toEqual(["a", "b", "a", "b"]);
});

test("a replica lags since the first commit was seen that it does not hold", async () => {
  const { clock, says, watch, lookAfter } = watching();
  expect(watch.lagSeconds(0, 5)).toBeUndefined();
  for (const offset of [10n, 20n, 30n, 30n, 25n]) {
    says.set("a", { startedAtMs: 1n, shards: [led(0, { commitOffset: offset })] });
    await lookAfter(1_000);
  }
  clock.advance(500);
  expect([5, 10, 19, 20, 29].map((holds) => watch.lagSeconds(0, holds))).toEqual([4.5, 3.5, 3.5, 2.5, 2.5]);
  // what it lacks was committed since the last look that has told anything
  expect(watch.lagSeconds(0, 30)).toBe(1.5);
  for (let nth = 0; nth < 2 * COMMITS_KEPT_MAX; nth++) {
    says.set("a", { startedAtMs: 1n, shards: [led(0, { commitOffset: BigInt(100 + nth) })] });
    await lookAfter(1_000);
  }
  // no further back than is remembered
  expect(watch.lagSeconds(0, 5)).toBe(COMMITS_KEPT_MAX - 1);
  says.set("a", { startedAtMs: 1n, shards: [] });
  await lookAfter(COMMITS_KEPT_MAX * LOAD_INTERVAL_MS + 1);
  expect(watch.lagSeconds(0, 5)).toBeUndefined();
});

test("of the writes of all servers over the last interval, the slowest hundredth", async () => {
  const { says, watch, lookAfter } = watching();
  const latencies = (...counts: number[]): Counters => {
    return { startedAtMs: 1n, writeLatencyBoundsMs: [1, 10, 100], writeLatencyCounts: counts.map(BigInt), shards: [] };
  };
  says.set("a", latencies(1_000, 0, 0, 50));
  says.set("b", latencies(0, 0, 0, 0));
  await lookAfter(0);
  expect(watch.totals().writeP99Ms).toBe(0);
  says.set("a", latencies(1_090, 0, 0, 50));
  says.set("b", latencies(5, 4, 1, 0));
  await lookAfter(1_000);
  expect(watch.totals().writeP99Ms).toBe(10);
  says.set("b", latencies(5, 4, 1, 9));
  await lookAfter(1_000);
  expect(watch.totals().writeP99Ms).toBe(100);
  // of another version, with more buckets
  says.set("b", latencies(5, 4, 1, 9, 0));
  says.set("a", latencies(1_190, 0, 0, 50));
  await lookAfter(1_000);
  expect(watch.totals().writeP99Ms).toBe(1);
});

test("it looks every few seconds, until it is stopped", async () => {
  const { clock, says, asked, watch } = watching();
  says.set("a", { startedAtMs: 1n, shards: [] });
  watch.start();
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  await settle();
  clock.advance(LOAD_INTERVAL_MS);
  await settle();
  expect(asked).toHaveLength(2);
  watch.stop();
  await settle();
  clock.advance(10 * LOAD_INTERVAL_MS);
  await settle();
  expect(asked).toHaveLength(2);
});
