/** Replicas and leaders that move without being asked: off servers that leave, and for evenness. */
import { expect, test } from "bun:test";
import {
  CoordinatorWorld,
  configOf,
  namespaceOf,
  SERVERS,
  type WorldOptions,
} from "../../test/harness/coordinator-world.ts";
import { HAND_OVER_MS_MAX, REPLICA_MOVES_AT_ONCE_MAX } from "../model/limits.ts";
import type { FreezeShardRequest } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";

const DAY_MS = 86_400_000;

function started(options: WorldOptions): CoordinatorWorld {
  const world = new CoordinatorWorld(options);
  world.start();
  world.until("all well", () => world.isWell(), 10_000);
  return world;
}

function reconfigure(world: CoordinatorWorld, servers: readonly string[], shards: number, factor = 3): void {
  world.config = configOf(servers, [namespaceOf("default", shards, factor)]);
  world.complete(() => world.coordinator.reconfigure(world.config));
}

function holders(world: CoordinatorWorld): Map<string, number> {
  const counts = new Map(SERVERS.map((server) => [server, 0]));
  for (const { ensemble } of world.coordinator.status().shards) {
    for (const { server } of ensemble) counts.set(server, counts.get(server)! + 1);
  }
  return counts;
}

function led(world: CoordinatorWorld, server: string): number {
  return world.coordinator.status().shards.filter(({ leader }) => leader === server).length;
}

test("a server that is taken from the configuration is emptied, leaders too, and then let go", () => {
  const world = started({ servers: 4, shards: 8 });
  expect(holders(world).get("a:1")).toBe(6);
  let atOnceMax = 0;
  world.dataServers.before = () => {
    const swaps = world.coordinator.status().shards.filter(({ swap }) => swap !== undefined).length;
    atOnceMax = Math.max(atOnceMax, swaps);
  };
  reconfigure(world, ["b:1", "c:1", "d:1"], 8);
  world.until("emptied", () => holders(world).get("a:1") === 0 && world.isWell(), 120_000);
  expect(atOnceMax).toBeGreaterThan(1);
  expect(atOnceMax).toBeLessThanOrEqual(REPLICA_MOVES_AT_ONCE_MAX);
  expect(led(world, "a:1")).toBe(0);
  expect([...world.dataServers.server("a:1").replicas.values()].every(({ id }) => id === 0n)).toBe(true);
  world.run(2_000);
  expect(
    world.coordinator
      .status()
      .servers.map(({ server }) => server)
      .sort(),
  ).toEqual(["b:1", "c:1", "d:1"]);
});

test("a shard with one replica moves too, with what it holds", () => {
  const world = started({ servers: 2, shards: 2, replicationFactor: 1 });
  world.dataServers.append(0, 5);
  const from = world.report(0).leader!;
  const to = ["a:1", "b:1"].find((server) => server !== from)!;
  reconfigure(world, [to], 2, 1);
  world.until("moved", () => world.report(0).leader === to && world.isWell(), 60_000);
  expect(world.dataServers.server(to).replica(0).head.offset).toBeGreaterThanOrEqual(6);
});

test("a server that died is emptied as well", () => {
  const world = started({ servers: 4, shards: 4 });
  world.dataServers.server("a:1").kill();
  reconfigure(world, ["b:1", "c:1", "d:1"], 4);
  const isSteady = () => world.coordinator.status().shards.every(({ status }) => status === "SteadyState");
  world.until("emptied", () => holders(world).get("a:1") === 0 && isSteady(), 120_000);
  world.dataServers.server("a:1").start();
  world.until("its copies deleted", () => world.isWell(), 120_000);
});

test("a move whose new server goes away is given up, and another one takes the replica", () => {
  const world = new CoordinatorWorld({ servers: 4, shards: 1, replicationFactor: 2 });
  world.start();
  world.until("all well", () => world.isWell());
  const [leaving, staying] = [...world.report().ensemble.map(({ server }) => server)] as [string, string];
  const others = SERVERS.filter((server) => server !== leaving && server !== staying);
  world.dataServers.reaches = (server) => server === staying || server === leaving;
  reconfigure(world, [staying, ...others], 1, 2);
  world.until("a move", () => world.report().swap !== undefined);
  const { added } = world.report().swap!;
  world.dataServers.server(added).kill();
  const heir = others.find((server) => server !== added)!;
  world.dataServers.reaches = (server) => server !== added;
  world.until("another move", () => world.report().swap?.added === heir, 30_000);
  world.dataServers.server(added).start();
  world.until("emptied", () => holders(world).get(leaving) === 0, 60_000);
  expect(
    world
      .report()
      .ensemble.map(({ server }) => server)
      .sort(),
  ).toEqual([staying, heir].sort());
});

test("where there is no server to take them, replicas stay and serve", () => {
  const world = started({ servers: 3, shards: 2 });
  reconfigure(world, ["a:1", "b:1"], 2, 2);
  world.run(60_000);
  expect(holders(world).get("c:1")).toBe(2);
  expect(world.isWell()).toBe(true);
});

test("a server that is added gets its share of the replicas, after a while", () => {
  const world = started({ servers: 3, shards: 8 });
  reconfigure(world, SERVERS, 8);
  world.run(20_000);
  expect(holders(world).get("d:1")).toBe(0);
  world.until("even", () => [...holders(world).values()].every((count) => count === 6) && world.isWell(), 300_000);
  const { term } = world.report(0);
  world.run(300_000);
  expect([...holders(world).values()]).toEqual([6, 6, 6, 6]);
  expect(world.report(0).term).toBeLessThanOrEqual(term + 1);
});

test("the interval is the configured one", () => {
  const world = started({ servers: 3, shards: 4 });
  const loadBalancer = { scheduleIntervalMs: 2_000, quarantineTimeMs: 10_000 };
  world.config = { ...configOf(SERVERS, [namespaceOf("default", 4, 3)]), loadBalancer };
  world.crash();
  world.start();
  world.until("a move", () => (holders(world).get("d:1") ?? 0) > 0, 10_000);
});

test("a server that was just lost gets nothing for evenness", () => {
  const world = started({ servers: 3, shards: 8 });
  reconfigure(world, SERVERS, 8);
  world.run(5_000);
  world.dataServers.server("d:1").kill();
  world.run(10_000);
  world.dataServers.server("d:1").start();
  world.run(200_000);
  expect(holders(world).get("d:1")).toBe(0);
  world.until("even", () => holders(world).get("d:1") === 6, 500_000);
});

test("leaders are spread again once the servers have been there for five minutes, and then left alone", () => {
  const world = started({ servers: 3, shards: 9 });
  world.dataServers.server("a:1").kill();
  world.until(
    "led by others",
    () => led(world, "a:1") === 0 && world.coordinator.status().shards.every(({ leader }) => leader !== undefined),
  );
  world.dataServers.server("a:1").start();
  world.until("all well", () => world.isWell(), 60_000);
  world.run(290_000);
  expect(led(world, "a:1")).toBe(0);
  world.until("even", () => ["a:1", "b:1", "c:1"].every((server) => led(world, server) === 3), 60_000);
  world.until("all well", () => world.isWell());
  const terms = world.coordinator.status().shards.map(({ term }) => term);
  world.run(600_000);
  expect(world.coordinator.status().shards.map(({ term }) => term)).toEqual(terms);
});

test("writes are held back until the heir holds them all, and go on when it does not in time", () => {
  const world = started({ servers: 3, shards: 2 });
  const [from] = ["a:1", "b:1", "c:1"].filter((server) => led(world, server) === 1) as [string];
  const shard = world.coordinator.status().shards.find(({ leader }) => leader === from)!;
  const heir = shard.ensemble.find(({ server }) => led(world, server) === 0)!.server;
  const freezes: boolean[] = [];
  world.dataServers.before = ({ method, request }) => {
    if (method === "freezeShard") freezes.push((request as FreezeShardRequest).frozen);
  };
  world.dataServers.reaches = (server) => server !== heir;
  world.dataServers.append(shard.shard, 5);
  const keeper = () => world.coordinator.moveLeader({ namespace: "default", shard: shard.shard }, heir);
  expect(world.complete(keeper)).toEqual({
    leader: from,
    why: `${heir} did not hold all entries in ${HAND_OVER_MS_MAX} ms`,
  });
  expect(freezes).toEqual([true, false]);
  expect(world.report(shard.shard).term).toBe(shard.term);
  world.dataServers.reaches = () => true;
  world.dataServers.replicate(shard.shard);
  expect(world.complete(keeper)).toEqual({ leader: heir, why: "" });
  expect(freezes).toEqual([true, false, true]);
  expect(world.report(shard.shard).term).toBe(shard.term + 1);
});

test("an heir that is far behind holds nothing back, nor does one that does not follow", () => {
  const world = started({ servers: 3, shards: 1 });
  const { leader, ensemble } = world.report();
  const heir = ensemble.find(({ server }) => server !== leader)!.server;
  world.dataServers.reaches = (server) => server !== heir;
  world.dataServers.append(0, 2_000);
  const move = () => world.coordinator.moveLeader({ namespace: "default", shard: 0 }, heir);
  expect(world.complete(move)).toMatchObject({ leader, why: expect.stringContaining(heir) });
  world.dataServers.server(heir).kill();
  expect(world.complete(move)).toMatchObject({ leader, why: expect.stringContaining(heir) });
  expect(world.dataServers.callsOf("freezeShard")).toEqual([]);
});

test("a shard whose leader did not move is left alone for the quarantine", () => {
  const world = started({ servers: 3, shards: 3 });
  world.dataServers.server("a:1").kill();
  world.until(
    "led by others",
    () => led(world, "a:1") === 0 && world.coordinator.status().shards.every(({ leader }) => leader !== undefined),
  );
  world.dataServers.server("a:1").start();
  world.until("all well", () => world.isWell(), 60_000);
  world.dataServers.before = ({ method }) => {
    if (method === "freezeShard") throw new Refusal("RESOURCE_UNAVAILABLE", "not now");
  };
  world.until("a try", () => world.dataServers.callsOf("freezeShard").length > 0, 400_000);
  world.run(280_000);
  const shards = world.dataServers.callsOf("freezeShard").map(({ request }) => (request as FreezeShardRequest).shard);
  expect(new Set(shards).size).toBe(shards.length);
  world.dataServers.before = () => {};
  world.until("even", () => SERVERS.slice(0, 3).every((server) => led(world, server) === 1), DAY_MS);
});

test("a leader that is wanted leads, also where it leads more than the others", () => {
  const world = started({ servers: 3, shards: 3 });
  for (const { shard } of world.coordinator.status().shards) {
    const move = () => world.coordinator.moveLeader({ namespace: "default", shard }, "b:1");
    expect(world.complete(move)).toEqual({ leader: "b:1", why: "" });
  }
  expect(led(world, "b:1")).toBe(3);
  const strange = () => world.coordinator.moveLeader({ namespace: "default", shard: 0 }, "nowhere:1");
  expect(() => world.complete(strange)).toThrow("nowhere:1 is not in the shard's ensemble");
});

/** A move of a shard's leader that is held up: its heir does not come to hold what the leader does. */
function movingLeader(): { world: CoordinatorWorld; leader: string; heir: string } {
  const world = started({ servers: 3, shards: 1 });
  const leader = world.report().leader!;
  const heir = world.report().ensemble.find(({ server }) => server !== leader)!.server;
  world.dataServers.reaches = (server) => server !== heir;
  world.dataServers.append(0, 5);
  return { world, leader, heir };
}

test("another request waits until a leader's move has come to its end: it does not break it off", () => {
  const { world, leader, heir } = movingLeader();
  const ref = { namespace: "default", shard: 0 };
  const moved = world.coordinator.moveLeader(ref, heir);
  world.until("held back", () => world.dataServers.leaderOf(0)!.replica(0).status === "frozen");
  const head = world.complete(() => world.coordinator.freeze(ref, 10_000));
  expect(world.complete(() => moved)).toEqual({
    leader,
    why: `${heir} did not hold all entries in ${HAND_OVER_MS_MAX} ms`,
  });
  expect(head).toBe(world.dataServers.leaderOf(0)!.replica(0).head.offset);
  expect(world.dataServers.leaderOf(0)!.replica(0).status).toBe("frozen");
});

test("a leader that goes while it is moved is replaced at once", () => {
  const { world, leader, heir } = movingLeader();
  const moved = world.coordinator.moveLeader({ namespace: "default", shard: 0 }, heir);
  world.until("held back", () => world.dataServers.leaderOf(0)!.replica(0).status === "frozen");
  world.dataServers.server(leader).kill();
  world.dataServers.reaches = () => true;
  expect(world.complete(() => moved)).toEqual({ leader, why: "the connection broke" });
  world.until("another leads", () => ![undefined, leader].includes(world.report().leader), HAND_OVER_MS_MAX);
});

test("a leader that is moved for evenness while its coordinator stops ends nothing but the move", () => {
  const world = started({ servers: 3, shards: 3 });
  world.dataServers.server("a:1").kill();
  const isLed = () => world.coordinator.status().shards.every(({ leader }) => leader !== undefined && leader !== "a:1");
  world.until("led by others", isLed);
  world.dataServers.server("a:1").start();
  world.until("all well", () => world.isWell(), 60_000);
  world.dataServers.before = ({ method }) => (method === "freezeShard" ? world.scheduler.sleep(500) : undefined);
  world.until("a move", () => world.dataServers.callsOf("freezeShard").length > 0, 400_000);
  world.coordinator.stop();
  world.until("it has ended", () => world.ended !== "no");
  expect(world.ended).toBe("stopped");
});
