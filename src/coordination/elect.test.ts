/** Elections, story by story: what is stored before what, who counts, and what comes of each thing that may go wrong. */
import { expect, test } from "bun:test";
import { CoordinatorWorld } from "../../test/harness/coordinator-world.ts";
import { entry } from "../../test/harness/fake-data-servers.ts";
import type { BecomeLeaderRequest, NewTermRequest } from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import { decodeStatus, type ShardMetadata, statusChanges } from "./status-document.ts";
import { withShard } from "./status-store.ts";

function started(options: ConstructorParameters<typeof CoordinatorWorld>[0] = {}): CoordinatorWorld {
  const world = new CoordinatorWorld(options);
  world.start();
  world.until("all well", () => world.isWell(), 5_000);
  return world;
}

/** Another coordinator's change of the store, behind this one's back. */
function storeBehind(world: CoordinatorWorld, change: (shard: ShardMetadata) => ShardMetadata): void {
  const before = decodeStatus(world.memory.entries.copy());
  const after = withShard(before, { namespace: "default", shard: 0 }, change(world.stored()));
  world.memory.entries.apply(statusChanges(before, after));
  world.memory.version += 1;
}

test("the term is stored before NewTerm, the counted ids before BecomeLeader, the leader after it", () => {
  const world = new CoordinatorWorld();
  const story: string[] = [];
  world.dataServers.before = ({ method, request }) => {
    if (method !== "newTerm" && method !== "becomeLeader") return;
    const stored = world.stored();
    const ids = stored.ensemble.filter(({ replicaId }) => replicaId !== 0n).length;
    const { term } = request as NewTermRequest;
    story.push(`${method} ${term}: stored ${stored.status} ${stored.term}, ${ids} ids`);
  };
  world.start();
  world.until("all well", () => world.isWell());
  expect(story).toEqual([
    ...Array(3).fill("newTerm 0: stored Election 0, 0 ids"),
    "becomeLeader 0: stored Election 0, 3 ids",
  ]);
  const { ensemble, leader, status, term } = world.stored();
  expect({ status, term }).toEqual({ status: "SteadyState", term: 0 });
  expect(ensemble.every(({ mintedTerm, countedTerm }) => mintedTerm === 0 && countedTerm === 0)).toBe(true);
  expect(leader!.internal).toBe(world.dataServers.leaderOf(0)!.address);
});

test("BecomeLeader names the ensemble, the heads of the others, and the head that it was decided on", () => {
  const world = started();
  world.dataServers.append(0, 5);
  const before = world.report().leader!;
  world.dataServers.server(before).kill();
  world.until("another leader", () => world.report().leader !== before && world.dataServers.leaderOf(0) !== undefined);
  const request = world.dataServers.callsOf("becomeLeader").at(-1)!.request as BecomeLeaderRequest;
  const ids = world.stored().ensemble.map(({ internal, replicaId }) => ({ server: internal, replicaId }));
  expect(request.members).toEqual(ids as never);
  expect(request.replicationFactor).toBe(3);
  expect(request.formerMembers).toEqual([]);
  expect(request.expectedHead).toEqual({ term: 0, offset: 5 });
  expect(request.followers.map(({ head }) => head)).toEqual([{ term: 0, offset: 5 }]);
  expect(request.features).toEqual(["DB_CHECKSUM", "VARIA_SAFETY"]);
});

test("the best head leads", () => {
  const world = started();
  const before = world.report().leader!;
  const [one, other] = ["a:1", "b:1", "c:1"].filter((server) => server !== before);
  world.dataServers.reaches = (server) => server !== one;
  world.dataServers.append(0, 3);
  world.dataServers.reaches = () => true;
  world.dataServers.server(before).kill();
  world.until("another leader", () => world.dataServers.leaderOf(0) !== undefined);
  expect(world.dataServers.leaderOf(0)!.address).toBe(other!);
});

test("a straggler has a tenth of a second: who answers in it is named, who does not is attached later", () => {
  for (const [delayMs, attached] of [
    [60, 0],
    [500, 1],
  ] as const) {
    const world = new CoordinatorWorld();
    world.start();
    world.until("all well", () => world.isWell());
    const before = world.report().leader!;
    const late = world.report().ensemble.find(({ server }) => server !== before)!.server;
    world.dataServers.before = async ({ method, server }) => {
      if (method === "newTerm" && server === late) await world.scheduler.sleep(delayMs);
    };
    world.dataServers.server(before).restart();
    const tookMs = world.until("a leader", () => world.report().term === 1 && world.report().leader !== undefined);
    expect(tookMs).toBeLessThan(250);
    world.until("all well", () => world.isWell());
    expect(world.report().term).toBe(1);
    expect(world.dataServers.callsOf("addFollower").length).toBe(attached);
  }
});

test("a slot that nobody has filled is waited for while its server is there: it would cost another election", () => {
  const world = new CoordinatorWorld();
  world.dataServers.before = async ({ method, server }) => {
    if (method === "newTerm" && server === "c:1") await world.scheduler.sleep(500);
  };
  world.start();
  const tookMs = world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined);
  expect(tookMs).toBeWithin(500, 650);
  world.until("all well", () => world.isWell());
  expect(world.report().term).toBe(0);
});

test("a BecomeLeader that is refused, or whose outcome is not known, is not repeated: the next term elects another", () => {
  for (const error of [new Refusal("INVALID_STATUS", "no"), new Unreachable("the connection broke")]) {
    const world = new CoordinatorWorld();
    let failed: string | undefined;
    world.dataServers.after = ({ method, server }) => {
      if (method !== "becomeLeader" || failed !== undefined) return;
      failed = server;
      throw error;
    };
    world.start();
    world.until("all well", () => world.isWell());
    const asked = world.dataServers.callsOf("becomeLeader");
    expect(asked.map(({ request }) => (request as BecomeLeaderRequest).term)).toEqual([0, 1]);
    expect(asked[1]!.server).not.toBe(failed!);
    expect(world.report().leader).toBe(asked[1]!.server);
  }
});

test("a BecomeLeader that does not answer is given up, with twice the time for each that follows", () => {
  const world = new CoordinatorWorld();
  const atMs: number[] = [];
  world.dataServers.before = ({ method }) => {
    if (method === "becomeLeader") atMs.push(world.scheduler.nowMs);
    if (method === "becomeLeader" && atMs.length < 4) return new Promise<void>(() => {});
  };
  world.start();
  world.until("all well", () => world.isWell(), 60_000);
  const gaps = atMs.slice(1).map((ms, index) => Math.floor((ms - atMs[index]!) / 1_000));
  expect(gaps).toEqual([5, 10, 20]);
});

test("a candidate whose server is lost while it becomes the leader is not waited for", () => {
  const world = new CoordinatorWorld();
  let first: string | undefined;
  world.dataServers.before = ({ method, server }) => {
    if (method !== "becomeLeader" || first !== undefined) return;
    first = server;
    world.dataServers.server(server).standsStill = true;
    return new Promise<void>(() => {});
  };
  world.start();
  const tookMs = world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined);
  expect(tookMs).toBeLessThan(3_500);
  expect(world.dataServers.leaderOf(0)!.address).not.toBe(first!);
});

test("no term is spent while too few servers are there; the first that comes back is used at once", () => {
  const world = started();
  const before = world.report().leader!;
  const others = ["a:1", "b:1", "c:1"].filter((server) => server !== before);
  for (const server of ["a:1", "b:1", "c:1"]) world.dataServers.server(server).kill();
  world.run(120_000);
  expect(world.stored().term).toBe(0);
  expect(world.report().problems.join()).toContain("too few servers");
  for (const server of others) world.dataServers.server(server).start();
  expect(world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined)).toBeLessThan(1_500);
  expect(world.stored().term).toBe(1);
});

test("elections that fail come at growing distances", () => {
  const world = new CoordinatorWorld();
  const atMs: number[] = [];
  world.dataServers.before = ({ method, server }) => {
    if (method !== "newTerm") return;
    if (server === "a:1") atMs.push(world.scheduler.nowMs);
    throw new Refusal("RESOURCE_UNAVAILABLE", "not now");
  };
  world.start();
  world.run(30_000);
  expect(atMs.length).toBeGreaterThan(8);
  expect(atMs.length).toBeLessThan(20);
  expect(atMs.at(-1)! - atMs.at(-2)!).toBeGreaterThan(1_000);
  world.dataServers.before = () => {};
  world.until("all well", () => world.isWell());
});

test("a replica that lost its disk does not vote by its address, and is refilled under a new id", () => {
  const world = started();
  world.dataServers.append(0, 4);
  const before = world.report().leader!;
  const [wiped, honest] = ["a:1", "b:1", "c:1"].filter((server) => server !== before) as [string, string];
  const id = world.dataServers.server(wiped).replica(0).id;
  world.dataServers.server(wiped).kill();
  world.dataServers.server(wiped).wipe();
  world.dataServers.server(before).kill();
  world.dataServers.server(wiped).start();
  world.run(5_000);
  // Two servers answer, one of them for an id that is not listed: no majority.
  expect(world.dataServers.leaderOf(0)).toBeUndefined();
  expect(world.report().problems.join()).toContain("no majority");
  world.dataServers.server(before).start();
  world.until("all well", () => world.isWell(), 120_000);
  const { replicaId } = world.report().ensemble.find(({ server }) => server === wiped)!;
  expect(replicaId).not.toBe(id);
  expect(world.report().leader).toBeOneOf([before, honest, wiped]);
  expect(world.dataServers.server(honest).replica(0).head.offset).toBeGreaterThan(4);
});

test("a promise above the store's term means that the store went back: no election, both terms are told", () => {
  const world = started();
  const before = world.report().leader!;
  const other = world.dataServers.server(["a:1", "b:1", "c:1"].find((server) => server !== before)!);
  other.replicas.set(0, { ...other.replica(0), promise: 9 });
  world.dataServers.server(before).kill();
  world.run(20_000);
  expect(world.dataServers.leaderOf(0)).toBeUndefined();
  expect(world.report().problems.join()).toContain(`${other.address} has promised term 9, the store has term 1`);
  expect(world.stored().term).toBe(1);
  expect(world.dataServers.callsOf("becomeLeader")).toHaveLength(1);
});

test("a promise above the store's term does not end a leader that serves: it is told, and waits for the operator", () => {
  const world = started();
  const { leader } = world.report();
  const other = world.dataServers.server(["a:1", "b:1", "c:1"].find((server) => server !== leader)!);
  other.replicas.set(0, { ...other.replica(0), status: "fenced", promise: 9 });
  world.run(20_000);
  expect(world.report()).toMatchObject({ leader, term: 0 });
  expect(world.report().problems.join()).toContain(`${other.address} has promised term 9, the store has term 0`);
});

test("two logs that differ at one entry: no election", () => {
  const world = started();
  const before = world.report().leader!;
  const [one, other] = ["a:1", "b:1", "c:1"].filter((server) => server !== before);
  world.dataServers.server(one!).write(0, entry(0, 3));
  world.dataServers.server(other!).write(0, { ...entry(0, 3), crc: 7 });
  world.dataServers.server(before).kill();
  world.run(5_000);
  expect(world.dataServers.leaderOf(0)).toBeUndefined();
  expect(world.report().problems.join()).toContain("differ at term 0, offset 3");
});

test("a shard that another coordinator takes up in the middle of an election is left to it", () => {
  const world = started();
  const before = world.report().leader!;
  let taken = false;
  world.dataServers.before = ({ method, request }) => {
    if (method !== "newTerm" || taken || (request as NewTermRequest).term !== 1) return;
    taken = true;
    storeBehind(world, (shard) => ({ ...shard, term: 2 }));
  };
  world.dataServers.server(before).kill();
  world.until("a leader again", () => world.dataServers.leaderOf(0) !== undefined);
  expect(taken).toBe(true);
  const terms = world.dataServers.callsOf("becomeLeader").map(({ request }) => (request as BecomeLeaderRequest).term);
  // In term 1 nobody was made leader, term 2 was the other coordinator's: its own begins at 3.
  expect(terms).toEqual([0, 3]);
});

test("a coordinator that takes a shard whose leader another one has changed finds out, and takes that one for it", () => {
  const world = started();
  const { leader } = world.report();
  const heir = ["a:1", "b:1", "c:1"].find((server) => server !== leader)!;
  storeBehind(world, (shard) => {
    const {
      replicaId: _,
      mintedTerm: __,
      countedTerm: ___,
      ...identity
    } = shard.ensemble.find(({ internal }) => internal === heir)!;
    return { ...shard, term: 4, leader: identity };
  });
  for (const server of ["a:1", "b:1", "c:1"]) {
    const at = world.dataServers.server(server);
    const status = server === heir ? ("leader" as const) : ("following" as const);
    at.replicas.set(0, { ...at.replica(0), promise: 4, status });
  }
  world.run(15_000);
  expect(world.report()).toMatchObject({ leader: heir, term: 4 });
  expect(world.dataServers.callsOf("becomeLeader")).toHaveLength(1);
});

test("leaders spread over the servers, also where many elections run at once", () => {
  const world = started({ shards: 90 });
  const leaders = Map.groupBy(world.coordinator.status().shards, ({ leader }) => leader);
  expect([...leaders.values()].map(({ length }) => length)).toEqual([30, 30, 30]);
});
