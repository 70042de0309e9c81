import { expect, test } from "bun:test";
import { CoordinatorWorld, configOf } from "../../test/harness/coordinator-world.ts";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import type { MetadataStore } from "../ports.ts";
import { CoordinatorStats, timedStore } from "./stats.ts";

test("elections are counted by why they were held, and timed", () => {
  const world = new CoordinatorWorld({ servers: 3, shards: 2 });
  world.start();
  world.until("all well", () => world.isWell());
  const { stats } = world;
  expect([...stats.elections]).toEqual([["first", 2]]);
  expect(stats.timesOf("default").election.count).toBe(2);
  const leader = world.report(0).leader!;
  const led = world.coordinator.status().shards.filter((shard) => shard.leader === leader).length;
  world.dataServers.server(leader).kill();
  world.until("led again", () => world.report(0).leader !== undefined && world.report(0).leader !== leader);
  world.run(3_000);
  expect(stats.elections.get("leader-unavailable")).toBe(led);
  expect(stats.healthChecksFailed.get(leader)).toBeGreaterThan(1);
  world.dataServers.server(leader).start();
  world.until("all well", () => world.isWell());
  const server = world.report(0).leader!;
  world.dataServers.server(server).end(0, "damage");
  world.until("led again", () => world.report(0).leader !== undefined && world.report(0).leader !== server, 30_000);
  expect(stats.elections.get("leader-lost")).toBeGreaterThan(0);
});

test("an election that names nobody is counted with its shard, until that is gone", () => {
  const world = new CoordinatorWorld({ servers: 3, shards: 1 });
  world.dataServers.before = async ({ method }) => {
    if (method === "becomeLeader") await world.scheduler.sleep(10_000);
  };
  world.start();
  world.until("a failure", () => (world.stats.failedElections.get(0)?.count ?? 0) > 0, 60_000);
  world.dataServers.before = () => {};
  world.until("all well", () => world.isWell(), 120_000);
  expect(world.stats.elections.get("retry")).toBeGreaterThan(0);
  world.complete(() => world.coordinator.reconfigure(configOf(["a:1", "b:1", "c:1"], [])));
  world.until("gone", () => world.coordinator.status().shards.length === 0);
  expect([world.stats.failedElections.size, world.stats.times.size]).toEqual([0, 0]);
});

test("a store's calls are timed, those that fail too", async () => {
  const clock = new ManualClock();
  const stats = new CoordinatorStats();
  const store: MetadataStore = {
    get: async () => {
      clock.advance(7);
      throw new Error("no answer");
    },
    compareAndSwap: async () => {
      clock.advance(3);
      return { outcome: "conflict", version: 5 };
    },
    close: async () => {},
  };
  const timed = timedStore(store, clock, stats);
  await expect(timed.get()).rejects.toThrow("no answer");
  expect(await timed.compareAndSwap(4, new Map())).toEqual({ outcome: "conflict", version: 5 });
  expect([stats.storeReads.sum, stats.storeWrites.sum]).toEqual([7, 3]);
});
