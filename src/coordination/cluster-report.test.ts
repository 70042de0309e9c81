/** What people are told of a cluster: whether it is well, what is not, how many servers may still fail. */
import { expect, test } from "bun:test";
import { CoordinatorWorld, configOf, namespaceOf, type WorldOptions } from "../../test/harness/coordinator-world.ts";
import { STATUS_CALL_MS_MAX } from "../model/limits.ts";
import type { ClusterReport } from "./cluster-report.ts";

function started(options: WorldOptions = {}): CoordinatorWorld {
  const world = new CoordinatorWorld(options);
  world.start();
  world.until("all well", () => world.isWell(), 10_000);
  return world;
}

function inspect(world: CoordinatorWorld): ClusterReport {
  return world.complete(() => world.coordinator.inspect());
}

test("a cluster that is well: who leads, who follows, how far they are", () => {
  const world = started({ shards: 2 });
  world.dataServers.append(0, 5);
  const report = inspect(world);
  expect(report).toMatchObject({ healthy: true, problems: [], faultTolerance: 1 });
  expect(report.instanceId).toBe(world.coordinator.instanceId);
  expect(
    report.servers.map(({ name, available, replicas, draining }) => ({ name, available, replicas, draining })),
  ).toEqual(["a", "b", "c"].map((name) => ({ name, available: true, replicas: 2, draining: false })));
  expect(report.servers.reduce((sum, { leaders }) => sum + leaders, 0)).toBe(2);
  const [shard] = report.shards;
  expect(shard).toMatchObject({ namespace: "default", shard: 0, term: 0, problems: [], faultTolerance: 1, change: "" });
  expect(shard!.range).toEqual({ minInclusive: 0, maxInclusive: 0x7fff_ffff });
  for (const replica of shard!.replicas) {
    const status = replica.server === shard!.leader ? "leader" : "follower";
    expect(replica).toMatchObject({ part: "member", status, why: "", promise: 0, lag: 0, scanned: true });
    if (status === "follower") expect(replica.acked).toBe(replica.head);
    expect(replica.replicaId).not.toBe(0n);
  }
});

test("a follower that is away: not healthy, serving on, nothing may fail any more", () => {
  const world = started();
  const { leader, ensemble } = world.report();
  const away = ensemble.find(({ server }) => server !== leader)!.server;
  world.dataServers.server(away).kill();
  world.run(3_000);
  const report = inspect(world);
  expect(report.healthy).toBe(false);
  expect(report.faultTolerance).toBe(0);
  expect(report.problems).toHaveLength(1);
  expect(report.problems[0]).toStartWith(`data server ${away[0]} (${away}) is not available, with its 1 replica: `);
  expect(report.shards[0]!.problems).toEqual([`${away} is not available`]);
  const replica = report.shards[0]!.replicas.find(({ server }) => server === away);
  expect(replica).toMatchObject({ status: "", lag: undefined, acked: -1 });
  expect(replica!.why).toContain("not available");
});

test("two of three away: the shard has stopped", () => {
  const world = started();
  for (const server of ["a:1", "b:1"]) world.dataServers.server(server).kill();
  world.run(5_000);
  const report = inspect(world);
  expect(report).toMatchObject({ healthy: false, faultTolerance: -1 });
  expect(report.problems.join("\n")).toContain("too few servers of its ensemble");
});

test("a follower that the leader's entries do not reach lags", () => {
  const world = started();
  const { leader, ensemble } = world.report();
  const slow = ensemble.find(({ server }) => server !== leader)!.server;
  world.dataServers.reaches = (server) => server !== slow;
  world.dataServers.append(0, 7);
  const report = inspect(world);
  expect(report.healthy).toBe(true);
  const lags = report.shards[0]!.replicas.map(({ server, lag }) => [server, lag]);
  expect(lags.filter(([, lag]) => lag !== 0)).toEqual([[slow, 7]]);
});

test("a replica that has ended, with its reason, and its refilling", () => {
  const world = started();
  const { leader, ensemble } = world.report();
  const ended = ensemble.find(({ server }) => server !== leader)!.server;
  world.dataServers.server(ended).end(0, "a flipped bit");
  const report = inspect(world);
  expect(report.problems).toEqual([`shard default/0: ${ended}: its replica has ended: a flipped bit`]);
  expect(report.faultTolerance).toBe(0);
  world.dataServers.reaches = (server) => server !== ended;
  world.until("a swap", () => world.report().swap?.why !== undefined && world.report().observers.length > 0, 60_000);
  world.run(2_000);
  const refilling = inspect(world).shards[0]!;
  expect(refilling.change).toStartWith(`refilling ${ended}: `);
  expect(refilling.replicas.map(({ part }) => part)).toEqual(["member", "member", "member", "observer"]);
});

test("a leader that is not what is stored: the shard does not serve", () => {
  const world = started();
  const leader = world.report().leader!;
  world.dataServers.server(leader).end(0, "an older disk");
  const report = inspect(world);
  expect(report.faultTolerance).toBe(-1);
  expect(report.problems).toEqual([`shard default/0: ${leader}: its replica has ended: an older disk`]);
  expect(report.shards[0]!.replicas.every(({ lag }) => lag === undefined)).toBe(true);
});

test("a server that is leaving, a namespace that cannot be, a shard that is being deleted", () => {
  const world = started({ servers: 4, shards: 4 });
  const wanted = configOf(["b:1", "c:1", "d:1"], [namespaceOf("default", 4, 3), namespaceOf("wide", 1, 4)]);
  world.complete(() => world.coordinator.reconfigure(wanted));
  const report = inspect(world);
  expect(report.servers.find(({ internal }) => internal === "a:1")).toMatchObject({ name: "a", draining: true });
  expect(report.problems).toHaveLength(1);
  expect(report.problems[0]).toContain("wide");
  world.dataServers.server("b:1").kill();
  world.complete(() => world.coordinator.reconfigure(configOf(["b:1", "c:1", "d:1"], [])));
  world.run(3_000);
  const deleted = inspect(world);
  expect(
    deleted.shards.every(({ change, problems }) => change.startsWith("it is being deleted") && problems.length === 0),
  ).toBe(true);
  expect(deleted.faultTolerance).toBe(0);
});

test("servers that stand still are not waited for longer than one call, however many shards there are", () => {
  const world = started({ shards: 40 });
  world.dataServers.server("a:1").standsStill = true;
  const sinceMs = world.scheduler.nowMs;
  inspect(world);
  expect(world.scheduler.nowMs - sinceMs).toBeLessThan(STATUS_CALL_MS_MAX + 100);
});
