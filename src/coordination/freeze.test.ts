/** Shards whose leader takes no writes, by request. */
import { expect, test } from "bun:test";
import { CoordinatorWorld } from "../../test/harness/coordinator-world.ts";
import { SHARD_FREEZE_MS_MAX } from "../model/limits.ts";
import type { Refusal } from "../model/refusal.ts";

const SHARD = { namespace: "default", shard: 0 };

function started(): CoordinatorWorld {
  const world = new CoordinatorWorld({ servers: 4 });
  world.start();
  world.until("all well", () => world.isWell(), 5_000);
  world.dataServers.append(0, 5);
  return world;
}

function isFrozen(world: CoordinatorWorld): boolean {
  return world.dataServers.leaderOf(0)?.replica(0).status === "frozen";
}

function refusal(world: CoordinatorWorld, flow: () => Promise<unknown>): Refusal {
  return world.complete(() =>
    flow().then(
      () => expect.unreachable(),
      (error) => error as Refusal,
    ),
  );
}

test("a frozen shard takes no writes for as long as was asked, although a leader's freeze lapses after three seconds", () => {
  const world = started();
  const head = world.dataServers.leaderOf(0)!.replica(0).head.offset;
  expect(world.complete(() => world.coordinator.freeze(SHARD, 20_000))).toBe(head);
  for (let second = 0; second < 19; second++) {
    world.run(1_000);
    expect(isFrozen(world)).toBe(true);
  }
  expect(world.report().frozen!.leftMs).toBeLessThanOrEqual(1_000);
  world.until("thawed", () => !isFrozen(world), 2_000);
  expect(world.report().frozen).toBeUndefined();
  expect(world.isWell()).toBe(true);
});

test("it is thawed at once, and thawing what is not frozen changes nothing", () => {
  const world = started();
  world.complete(() => world.coordinator.freeze(SHARD, SHARD_FREEZE_MS_MAX));
  world.run(5_000);
  world.complete(() => world.coordinator.thaw(SHARD));
  expect(isFrozen(world)).toBe(false);
  const calls = world.dataServers.callsOf("freezeShard").length;
  world.complete(() => world.coordinator.thaw(SHARD));
  world.run(5_000);
  expect(world.dataServers.callsOf("freezeShard")).toHaveLength(calls);
});

test("the next leader is told too, as soon as it leads", () => {
  const world = started();
  world.complete(() => world.coordinator.freeze(SHARD, 60_000));
  const { leader } = world.report();
  world.dataServers.server(leader!).kill();
  world.until("another leads", () => ![undefined, leader].includes(world.report().leader), 10_000);
  world.until("it is told", () => isFrozen(world), 100);
});

test("a leader that is about to stop stays frozen, whether or not another one can take over", () => {
  const world = started();
  const { leader, ensemble } = world.report();
  const others = ensemble.map(({ server }) => server).filter((server) => server !== leader);
  world.dataServers.reaches = (server) => !others.includes(server);
  world.dataServers.append(0, 5);
  world.complete(() => world.coordinator.freeze(SHARD, 60_000));
  world.dataServers.server(leader!).serving = false;
  for (let step = 0; step < 60; step++) {
    world.run(100);
    expect([step, isFrozen(world)]).toEqual([step, true]);
  }
  expect(world.report().problems.join()).toContain(`its leader ${leader} is about to stop`);
  world.dataServers.reaches = () => true;
  world.dataServers.replicate(0);
  world.until("another leads", () => ![undefined, leader].includes(world.report().leader), 3_000);
  world.until("it is told", () => isFrozen(world), 100);
});

test("an heir that does not follow a leader that is about to stop is attached, and takes over", () => {
  const world = started();
  const { leader, ensemble } = world.report();
  for (const { server } of ensemble) if (server !== leader) world.dataServers.server(server).restart();
  world.dataServers.server(leader!).serving = false;
  world.until("another leads", () => ![undefined, leader].includes(world.report().leader), 5_000);
});

test("a freeze that has passed is not shown, nobody need lead for that", () => {
  const world = started();
  world.complete(() => world.coordinator.freeze(SHARD, 20_000));
  const { leader } = world.report();
  for (const server of ["a:1", "b:1", "c:1", "d:1"]) world.dataServers.server(server).kill();
  world.run(10_000);
  expect(world.report().frozen!.leftMs).toBeGreaterThan(0);
  world.run(11_000);
  expect(world.report().frozen).toBeUndefined();
  expect(world.dataServers.leaderOf(0)).toBeUndefined();
  for (const server of ["a:1", "b:1", "c:1", "d:1"]) world.dataServers.server(server).start();
  world.until("all well", () => world.isWell() && !isFrozen(world), 30_000);
  expect(leader).toBeDefined();
});

test("no replica and no leader is moved meanwhile, and none is frozen while it moves", () => {
  const world = started();
  const { ensemble, leader } = world.report();
  const from = ensemble.find(({ server }) => server !== leader)!.server;
  const to = ["a:1", "b:1", "c:1", "d:1"].find((server) => !ensemble.some((member) => member.server === server))!;
  world.complete(() => world.coordinator.freeze(SHARD, 60_000));
  expect(refusal(world, () => world.coordinator.swap(SHARD, from, to)).message).toBe("the shard is frozen");
  expect(world.complete(() => world.coordinator.moveLeader(SHARD, from))).toEqual({
    leader,
    why: "the shard is frozen",
  });
  world.complete(() => world.coordinator.thaw(SHARD));
  void world.coordinator.swap(SHARD, from, to);
  world.until("under way", () => world.report().swap !== undefined);
  expect(refusal(world, () => world.coordinator.freeze(SHARD, 1_000)).reason).toBe("RESOURCE_CONFLICT");
});

test("what makes no sense is refused: no time, too long a time, a shard without a leader, none at all", () => {
  const world = started();
  for (const ms of [0, -1, Number.NaN, SHARD_FREEZE_MS_MAX + 1]) {
    expect(refusal(world, () => world.coordinator.freeze(SHARD, ms)).reason).toBe("INVALID_ARGUMENT");
  }
  const strange = { namespace: "default", shard: 9 };
  expect(refusal(world, () => world.coordinator.freeze(strange, 1_000)).reason).toBe("SHARD_NOT_FOUND");
  for (const server of ["a:1", "b:1", "c:1", "d:1"]) world.dataServers.server(server).kill();
  world.until("no leader", () => world.report().problems.length > 0, 10_000);
  expect(refusal(world, () => world.coordinator.freeze(SHARD, 1_000))).toBeInstanceOf(Error);
  expect(isFrozen(world)).toBe(false);
});
