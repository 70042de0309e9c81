/** The cluster as it is wanted, stored and told: namespaces that come and go, restarts, two coordinators at once. */
import { expect, test } from "bun:test";
import { CoordinatorWorld, configOf, namespaceOf } from "../../test/harness/coordinator-world.ts";
import { SimNode } from "../../test/sim/node.ts";
import { randomPort, SimRandom } from "../../test/sim/random.ts";
import { Refusal } from "../model/refusal.ts";
import { type Json, joinStatus, splitStatus } from "../model/status-entries.ts";
import type { MetadataStore } from "../ports.ts";
import { sameAssignments } from "../protocol/assignment.ts";
import { openMemoryMetadata } from "../storage/metadata/memory.ts";
import { Coordinator } from "./coordinator.ts";
import { decodeStatus, statusChanges } from "./status-document.ts";
import { StoreLost, withShard } from "./status-store.ts";
import { identityOf } from "./stored-shard.ts";

function status(world: CoordinatorWorld) {
  return decodeStatus(world.memory.entries.copy());
}

test("a new cluster: shards are placed, each server is greeted, leaders are elected, and told to all", () => {
  const world = new CoordinatorWorld({ shards: 6 });
  world.start();
  world.until("all well", () => world.isWell(), 3_000);
  const { shards } = world.coordinator.status();
  expect(shards.map(({ shard }) => shard)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(shards.every(({ term }) => term === 0)).toBe(true);
  const leaders = Map.groupBy(shards, ({ leader }) => leader);
  expect([...leaders.values()].map(({ length }) => length)).toEqual([2, 2, 2]);
  world.run(100);
  for (const server of ["a:1", "b:1", "c:1"]) {
    const told = world.dataServers.server(server).assignments.at(-1)!;
    expect(told.namespaces.get("default")!.every(({ leader }) => leader !== "")).toBe(true);
    expect(told.allowedAuthorities).toEqual(["a:1", "a:100", "b:1", "b:100", "c:1", "c:100"]);
  }
});

test("a server that is not there at the start does not keep the others from beginning", () => {
  const world = new CoordinatorWorld();
  world.dataServers.server("b:1").standsStill = true;
  world.start();
  expect(world.until("a leader", () => world.dataServers.leaderOf(0) !== undefined)).toBeLessThan(2_200);
  world.dataServers.server("b:1").standsStill = false;
  world.until("all well", () => world.isWell());
});

test("a coordinator that starts anew leaves a cluster that is well as it is", () => {
  const world = new CoordinatorWorld({ shards: 3 });
  world.start();
  world.until("all well", () => world.isWell());
  const { instanceId } = world.coordinator.status();
  expect(instanceId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  world.crash();
  world.dataServers.calls.length = 0;
  world.start();
  world.run(30_000);
  expect(world.isWell()).toBe(true);
  expect(world.coordinator.status().instanceId).toBe(instanceId);
  expect(world.coordinator.status().shards.every(({ term }) => term === 0)).toBe(true);
  const methods = new Set(world.dataServers.calls.map(({ method }) => method));
  expect([...methods].sort()).toEqual(["getStatus", "handshake"]);
});

test("assignments are told at each change, and again every ten seconds; while a shard elects it has no leader", () => {
  const world = new CoordinatorWorld();
  world.start();
  world.until("all well", () => world.isWell());
  const watcher = world.report().ensemble.find(({ server }) => server !== world.report().leader)!.server;
  const told = world.dataServers.server(watcher).assignments;
  world.run(2_500); // the first time after a second
  const before = told.length;
  world.run(60_000);
  expect(told.length - before).toBeOneOf([5, 6]);
  expect(told.slice(before).every((set) => sameAssignments(set, told[before - 1]!))).toBe(true);
  const settled = told.length;
  world.dataServers.before = ({ method }) => (method === "newTerm" ? world.scheduler.sleep(50) : undefined);
  world.dataServers.server(world.report().leader!).kill();
  world.until("another leader", () => world.report().status === "SteadyState" && world.report().term === 1);
  world.run(100);
  const leaders = told.slice(settled).map(({ namespaces }) => namespaces.get("default")![0]!.leader);
  expect(leaders).toEqual(["", `${world.report().leader}00`]);
});

test("what another coordinator has stored is told too, by one that has nothing to do", () => {
  const world = new CoordinatorWorld();
  world.start();
  world.until("all well", () => world.isWell());
  const { leader } = world.report();
  const heir = world.report().ensemble.find(({ server }) => server !== leader)!.server;
  const before = status(world);
  const shard = world.stored();
  const identity = shard.ensemble.find(({ internal }) => internal === heir)!;
  const after = withShard(before, { namespace: "default", shard: 0 }, { ...shard, leader: identityOf(identity) });
  world.memory.entries.apply(statusChanges(before, after));
  world.memory.version += 1;
  const told = world.dataServers.server(leader!).assignments;
  world.until("told", () => told.at(-1)!.namespaces.get("default")![0]!.leader === `${heir}00`, 12_000);
});

test("a leader is told only once it is stored", () => {
  const world = new CoordinatorWorld({ shards: 4 });
  for (const server of world.dataServers.servers.values()) {
    server.assignments.push = (...told) => {
      for (const { leader, shard } of told.at(-1)?.namespaces.get("default") ?? []) {
        if (leader !== "") expect(world.stored(shard).leader!.public).toBe(leader);
      }
      return Array.prototype.push.apply(server.assignments, told);
    };
  }
  world.start();
  world.until("all well", () => world.isWell());
  world.dataServers.server("a:1").kill();
  world.run(10_000);
  expect(world.dataServers.server("b:1").assignments.length).toBeGreaterThan(2);
});

test("a namespace that goes is deleted everywhere, and not told from then on; a new one gets new ids", () => {
  const world = new CoordinatorWorld({ shards: 2 });
  world.start();
  world.until("all well", () => world.isWell());
  world.complete(() => world.coordinator.reconfigure(configOf(["a:1", "b:1", "c:1"], [namespaceOf("other", 1, 2)])));
  world.run(50);
  expect([...world.dataServers.server("a:1").assignments.at(-1)!.namespaces.keys()]).not.toContain("default");
  world.until("gone", () => !status(world).namespaces.has("default"));
  for (const server of ["a:1", "b:1", "c:1"]) {
    expect(world.dataServers.server(server).replica(0).id).toBe(0n);
    expect(world.dataServers.server(server).replica(1).id).toBe(0n);
  }
  world.until("all well", () => world.isWell());
  expect([...status(world).namespaces.get("other")!.shards.keys()]).toEqual([2]);
  expect(status(world).shardIdGenerator).toBe(3);
});

test("a deletion waits for a server that is away, also over a restart; the name can be used again after it", () => {
  const world = new CoordinatorWorld();
  world.start();
  world.until("all well", () => world.isWell());
  const wanted = world.config;
  world.dataServers.server("b:1").kill();
  world.config = configOf(["a:1", "b:1", "c:1"], []);
  world.complete(() => world.coordinator.reconfigure(world.config));
  world.run(10_000);
  expect(status(world).namespaces.get("default")!.shards.get(0)!.status).toBe("Deleting");
  world.crash();
  world.config = wanted;
  world.start();
  world.run(10_000);
  expect([...status(world).namespaces.get("default")!.shards.keys()]).toEqual([0]);
  world.dataServers.server("b:1").start();
  world.until("made again", () => status(world).namespaces.get("default")?.shards.has(1) === true, 120_000);
  world.until("all well", () => world.isWell());
  expect(world.dataServers.server("b:1").replica(0).id).toBe(0n);
});

test("what cannot be done is told: more copies than servers, no shards", () => {
  const world = new CoordinatorWorld();
  const namespaces = [namespaceOf("wide", 1, 4), namespaceOf("none", 0, 1), namespaceOf("good", 1, 3)];
  world.config = configOf(["a:1", "b:1", "c:1"], namespaces);
  world.start();
  world.until("all well", () => world.isWell());
  const { problems, shards } = world.coordinator.status();
  expect(problems).toHaveLength(2);
  expect(problems[0]).toContain("wide: replication factor 4");
  expect(shards.map(({ namespace }) => namespace)).toEqual(["good"]);
});

test("stop ends all of it", () => {
  const world = new CoordinatorWorld({ shards: 3 });
  const coordinator = world.start();
  world.run(3);
  coordinator.stop();
  world.until("ended", () => world.ended === "stopped", 5_000);
  const before = world.dataServers.calls.length;
  world.run(60_000);
  expect(world.dataServers.calls.length).toBe(before);
});

test("when the store does not say what became of a change, the coordinator ends; its successor goes on", () => {
  for (const wasStored of [false, true]) {
    for (let at = 2; at <= 5; at++) {
      const world = new CoordinatorWorld();
      let swaps = 0;
      const losing = (store: MetadataStore): MetadataStore => ({
        get: () => store.get(),
        compareAndSwap: async (expected, changes) => {
          swaps += 1;
          if (swaps !== at) return store.compareAndSwap(expected, changes);
          if (wasStored) await store.compareAndSwap(expected, changes);
          return { outcome: "unknown", cause: new Error("no answer") };
        },
        close: () => store.close(),
      });
      world.start(losing);
      world.until("ended", () => world.ended !== "no");
      expect((world.ended as { error: unknown }).error).toBeInstanceOf(StoreLost);
      world.crash();
      world.start();
      world.until("all well", () => world.isWell());
      const asked = world.dataServers.callsOf("becomeLeader").map(({ request }) => (request as { term: number }).term);
      expect(new Set(asked).size).toBe(asked.length);
    }
  }
});

test("a store without room for more holds elections up, and ends nothing", () => {
  const world = new CoordinatorWorld();
  let full = false;
  world.start((store) => ({
    get: () => store.get(),
    compareAndSwap: async (expected, changes) => {
      if (full) throw new Refusal("RESOURCE_EXHAUSTED", "no space left");
      return store.compareAndSwap(expected, changes);
    },
    close: () => store.close(),
  }));
  world.until("all well", () => world.isWell());
  full = true;
  const before = world.report().leader!;
  world.dataServers.server(before).kill();
  world.run(70_000);
  world.dataServers.server(before).start();
  world.run(20_000);
  expect(world.ended).toBe("no");
  expect(world.report().problems.join()).toContain("no space left");
  full = false;
  world.until("all well", () => world.isWell(), 60_000);
});

test("a status that Oxia has written is taken over: ids are learned at the first election, wiped servers do not vote", () => {
  const world = new CoordinatorWorld();
  const server = (name: string) => ({ name, public: `${name}:100`, internal: `${name}:1` });
  const ensemble = ["a", "b", "c"].map(server);
  const steady = { status: 1, term: 4, leader: ensemble[0]!, ensemble, int32HashRange: { min: 0, max: 4294967295 } };
  const document = {
    instanceId: "of oxia",
    shardIdGenerator: 1,
    namespaces: { default: { replicationFactor: 3, shards: { "0": steady } } },
  };
  world.memory.entries.apply(new Map(splitStatus(document as unknown as Json)));
  world.memory.version = 7;
  for (const name of ["a", "b"]) {
    const at = world.dataServers.server(`${name}:1`);
    at.instanceId = "of oxia";
    at.replicas.set(0, {
      ...at.replica(0),
      status: "fenced",
      id: BigInt(name.charCodeAt(0)),
      mintedTerm: 2,
      promise: 4,
    });
    at.write(0, { term: 4, offset: 20, crc: 420 });
  }
  world.start();
  world.until("all well", () => world.isWell(), 60_000);
  const { ensemble: after, term } = world.report();
  expect(term).toBeGreaterThan(4);
  expect(after.find(({ server: at }) => at === "a:1")!.replicaId).toBe(97n);
  expect(after.find(({ server: at }) => at === "b:1")!.replicaId).toBe(98n);
  // c has lost its disk: what it mints comes in by a change of the ensemble, and never as a vote for its address.
  expect(
    world.dataServers.callsOf("addFollower").some(({ request }) => (request as { observer: boolean }).observer),
  ).toBe(true);
  expect(world.dataServers.server("c:1").replica(0).head.offset).toBeGreaterThan(20);
  expect(joinStatus(world.memory.entries.copy())).toHaveProperty("instanceId", "of oxia");
});

test("a shard of Oxia's that is not at rest is left alone, and told", () => {
  const world = new CoordinatorWorld();
  const ensemble = [{ public: "a:100", internal: "a:1" }];
  const shard = { status: 2, term: 4, ensemble, int32HashRange: { min: 0, max: 4294967295 } };
  const document = { shardIdGenerator: 1, namespaces: { default: { replicationFactor: 1, shards: { "0": shard } } } };
  world.memory.entries.apply(new Map(splitStatus(document as unknown as Json)));
  world.start();
  world.run(10_000);
  expect(world.coordinator.status().notAdopted).toHaveLength(1);
  expect(world.report().problems.join()).toContain("not adopted");
  expect(world.dataServers.callsOf("newTerm")).toHaveLength(0);
});

/** A second coordinator on the same store and servers, as after a lost lease. */
function rival(world: CoordinatorWorld): Coordinator {
  const node = new SimNode(world.scheduler, "rival");
  const life = node.start();
  world.memory.held = false;
  const store = openMemoryMetadata(world.memory);
  const logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const ports = {
    store,
    dataServers: world.dataServers,
    clock: life.clock,
    random: randomPort(new SimRandom(9)),
    logger,
  };
  const coordinator = world.scheduler.complete("open", () => Coordinator.open(ports, world.config));
  life.spawn("rival", () => coordinator.run());
  return coordinator;
}

test("two coordinators on one store: each term is led once, and both come to agree", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const world = new CoordinatorWorld({ shards: 4, seed });
    world.start();
    const other = rival(world);
    world.until("all well", () => world.isWell(), 60_000);
    const random = new SimRandom(seed);
    for (let round = 0; round < 10; round++) {
      const server = world.dataServers.server(random.pick(["a:1", "b:1", "c:1"]));
      server.restart();
      world.run(random.int(10, 3_000));
    }
    world.until("all well again", () => world.isWell(), 60_000);
    world.run(15_000);
    expect(world.isWell()).toBe(true);
    const led = world.dataServers.callsOf("becomeLeader").map(({ request }) => {
      const { shard, term } = request as { shard: number; term: number };
      return `${shard} ${term}`;
    });
    expect(new Set(led).size).toBe(led.length);
    const told = (coordinator: Coordinator) =>
      coordinator.status().shards.map(({ shard, term, leader }) => ({ shard, term, leader }));
    expect(told(other)).toEqual(told(world.coordinator));
  }
});

test("a thousand shards: every status that is written names the shards that have changed, not all", () => {
  const world = new CoordinatorWorld({ shards: 1_000 });
  const sizes: number[] = [];
  world.start((store) => ({
    get: () => store.get(),
    compareAndSwap: (expected, changes) => {
      sizes.push(changes.size);
      return store.compareAndSwap(expected, changes);
    },
    close: () => store.close(),
  }));
  world.run(5_000);
  expect(world.isWell()).toBe(true);
  const entries = sizes.slice(1).reduce((sum, size) => sum + size, 0);
  // Three changes of each shard: the term, the ids, the leader. Beside them stamps, and members that came late.
  expect(entries).toBeLessThan(3_500);
});
