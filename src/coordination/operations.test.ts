/** What operators ask for that takes time: carried out, followed, cancelled, and taken up by the next coordinator. */
import { expect, test } from "bun:test";
import { CoordinatorWorld, configOf, namespaceOf } from "../../test/harness/coordinator-world.ts";
import type { JournalRoom } from "../model/journal.ts";
import { Refusal } from "../model/refusal.ts";
import type { ConfigEdit, ConfigFile } from "./administer.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import {
  OPERATIONS_ENDED_MAX,
  OPERATIONS_RUNNING_MAX,
  type Operation,
  type OperationGoal,
  OperationList,
} from "./operation-list.ts";
import { Operations } from "./operations.ts";
import { StoreLost } from "./status-store.ts";
import { Interrupted } from "./wait.ts";

const SHARD = { namespace: "default", shard: 0, from: "", to: "" } as const;

class MemoryRoom implements JournalRoom {
  readonly rows = new Map<number, string>();
  isFull = false;

  read() {
    return [...this.rows].sort(([a], [b]) => a - b).map(([id, text]) => ({ id, text }));
  }

  write({ put, drop }: Parameters<JournalRoom["write"]>[0]): void {
    if (this.isFull) throw new Error("no space");
    for (const { id, text } of put) this.rows.set(id, text);
    for (const id of drop) this.rows.delete(id);
  }
}

/** A cluster with operations, and what is left when its coordinator goes. */
class Stage {
  readonly world: CoordinatorWorld;
  readonly room = new MemoryRoom();
  readonly file: ConfigFile;
  operations: Operations;

  constructor({ servers = 4, shards = 1 } = {}) {
    this.world = new CoordinatorWorld({ servers, shards });
    this.world.start();
    this.world.until("all well", () => this.world.isWell(), 10_000);
    const { world } = this;
    this.file = {
      get config() {
        return world.config;
      },
      edit: (decide) => {
        world.config = edited(world.config, decide(world.config));
        return world.config;
      },
    };
    this.operations = this.open();
  }

  /** As a process that starts: it knows what the journal holds. */
  open(): Operations {
    const { clock } = this.world;
    const list = new OperationList(() => clock.now(), this.room);
    const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    this.operations = new Operations({ list, file: this.file, clock, logger: quiet });
    this.operations.adopt(this.world.coordinator);
    return this.operations;
  }

  begin(goal: OperationGoal): Operation {
    return this.world.complete(async () => this.operations.begin(goal));
  }

  get(id: number): Operation {
    return this.operations.list.get(id)!;
  }

  untilEnded(id: number, withinMs = 30_000): Operation {
    this.world.until("ended", () => this.get(id).state !== "running", withinMs);
    return this.get(id);
  }

  reconfigure(config: ClusterConfig): void {
    this.world.config = config;
    this.world.complete(() => this.world.coordinator.reconfigure(config));
  }

  /** The coordinator's process is gone; another one takes its place. */
  restart(): void {
    this.operations.release();
    this.world.crash();
    this.world.start();
    this.open();
  }
}

function edited(config: ClusterConfig, edit: ConfigEdit): ClusterConfig {
  if (edit.kind !== "add-server") throw new Error(`not expected: ${edit.kind}`);
  const { name, public: shown, internal } = edit;
  return { ...config, servers: [...config.servers, { name, public: shown, internal }] };
}

function follower({ world }: Stage): string {
  const { ensemble, leader } = world.report();
  return ensemble.find(({ server }) => server !== leader)!.server;
}

function spare({ world }: Stage): string {
  const { ensemble } = world.report();
  return ["a:1", "b:1", "c:1", "d:1"].find((server) => !ensemble.some((member) => member.server === server))!;
}

function refusal({ world }: Stage, flow: () => Promise<unknown>): string | undefined {
  return world.complete(async () => {
    try {
      await flow();
      return "nothing";
    } catch (error) {
      return (error as Refusal).reason;
    }
  });
}

test("a swap runs until it is stored; what it waits for can be seen", () => {
  const stage = new Stage();
  const [from, to] = [follower(stage), spare(stage)];
  const { id } = stage.begin({ ...SHARD, kind: "swap-replica", from, to });
  expect(stage.get(id)).toMatchObject({ id: 1, state: "running", phase: "the new replica is being filled", from, to });
  const ended = stage.untilEnded(id);
  expect(ended).toMatchObject({ state: "succeeded", phase: "", reason: "", progress: 1 });
  expect(ended.endedMs).toBeGreaterThan(ended.startedMs);
  expect(stage.world.report().ensemble.map(({ server }) => server)).toContain(to);
});

test("a swap that is cancelled is given up; what cannot be is refused, and has failed", () => {
  const stage = new Stage();
  const [from, to] = [follower(stage), spare(stage)];
  stage.world.dataServers.reaches = (server) => server !== to;
  const { id } = stage.begin({ ...SHARD, kind: "swap-replica", from, to });
  stage.world.run(2_000);
  stage.world.complete(() => stage.operations.cancel(id));
  expect(stage.untilEnded(id)).toMatchObject({ state: "cancelled", reason: "it is not wanted any more" });
  expect(refusal(stage, () => stage.operations.cancel(id))).toBe("FAILED_PRECONDITION");
  expect(refusal(stage, () => stage.operations.cancel(77))).toBe("NOT_FOUND");
  const { id: wrong } = stage.begin({ ...SHARD, kind: "swap-replica", from: to, to: from });
  expect(stage.untilEnded(wrong)).toMatchObject({ state: "failed", reason: expect.stringContaining(to) });
});

test("a swap is taken up by the next coordinator, whichever step the one before had come to", () => {
  for (let ms = 0; ms < 3_000; ms += 150) {
    const stage = new Stage();
    const [from, to] = [follower(stage), spare(stage)];
    const { id } = stage.begin({ ...SHARD, kind: "swap-replica", from, to });
    stage.world.run(ms);
    stage.restart();
    expect([ms, stage.untilEnded(id).state]).toEqual([ms, "succeeded"]);
    stage.world.until("well", () => stage.world.isWell());
    const servers = stage.world.report().ensemble.map(({ server }) => server);
    expect([ms, servers.includes(to), servers.includes(from)]).toEqual([ms, true, false]);
  }
});

test("another leader: it leads, or the operation says why not", () => {
  const stage = new Stage();
  const heir = follower(stage);
  const { id } = stage.begin({ ...SHARD, kind: "switch-leader", to: heir });
  expect(stage.untilEnded(id).state).toBe("succeeded");
  expect(stage.world.report().leader).toBe(heir);
  const away = follower(stage);
  stage.world.dataServers.server(away).kill();
  const { id: second } = stage.begin({ ...SHARD, kind: "switch-leader", to: away });
  expect(stage.untilEnded(second)).toMatchObject({ state: "failed", reason: `${away} does not follow` });
  expect(refusal(stage, () => stage.operations.cancel(second))).toBe("FAILED_PRECONDITION");
});

test("a freeze lasts as long as it was asked for, also over coordinators, and ends when it is cancelled", () => {
  const stage = new Stage();
  const frozen = () => stage.world.dataServers.leaderOf(0)?.replica(0).status === "frozen";
  const freeze = (forMs: number) =>
    stage.begin({ ...SHARD, kind: "freeze-shard", untilMs: stage.world.clock.now() + forMs }).id;
  const first = freeze(10_000);
  stage.world.run(5_000);
  expect(frozen()).toBe(true);
  expect(stage.get(first).phase).toMatch(/^no write is taken behind offset /);
  expect(stage.get(first).progress).toBeCloseTo(0.5, 1);
  stage.restart();
  stage.world.until("frozen again", frozen, 2_000);
  expect(stage.untilEnded(first, 6_000).state).toBe("succeeded");
  stage.world.run(100);
  expect(frozen()).toBe(false);
  const second = freeze(600_000);
  stage.world.until("frozen", frozen, 2_000);
  stage.world.complete(() => stage.operations.cancel(second));
  expect(stage.get(second).state).toBe("cancelled");
  expect(frozen()).toBe(false);
});

test("a server that leaves is empty in the end; put back, it stays", () => {
  const stage = new Stage({ shards: 12 });
  const { world } = stage;
  const leaving = world.config.servers[0]!;
  const held = () =>
    world.coordinator.status().shards.filter(({ identities }) => identities.some(({ internal }) => internal === "a:1"));
  const drain = () => {
    const parts = held().length;
    const { namespaces } = world.config;
    stage.reconfigure(configOf(["b:1", "c:1", "d:1"], namespaces));
    return stage.begin({
      ...{
        kind: "drain-server",
        namespace: "",
        from: "a:1",
        to: "",
        parts,
        server: { name: leaving.name!, public: leaving.public, internal: leaving.internal, labels: [] },
      },
    }).id;
  };
  const first = drain();
  world.until("under way", () => (stage.get(first).progress ?? 0) > 0, 30_000);
  world.complete(() => stage.operations.cancel(first));
  expect(stage.get(first)).toMatchObject({
    state: "cancelled",
    reason: "the server was put back into the configuration",
  });
  expect(world.config.servers.map(({ internal }) => internal)).toContain("a:1");
  world.until("well", () => world.isWell(), 120_000);
  const second = drain();
  stage.restart();
  expect(stage.untilEnded(second, 120_000).state).toBe("succeeded");
  expect(held()).toEqual([]);
});

test("a namespace is made once all of its shards have leaders, and deleted once none is left", () => {
  const stage = new Stage();
  const { world } = stage;
  const servers = ["a:1", "b:1", "c:1", "d:1"];
  stage.reconfigure(configOf(servers, [namespaceOf("default", 1, 3), namespaceOf("jobs", 3, 3)]));
  const { id: made } = stage.begin({ ...SHARD, kind: "create-namespace", namespace: "jobs", shard: undefined });
  expect(stage.get(made).state).toBe("running");
  expect(stage.untilEnded(made).state).toBe("succeeded");
  stage.reconfigure(configOf(servers, [namespaceOf("default", 1, 3)]));
  const goal = { ...SHARD, kind: "delete-namespace", namespace: "jobs", shard: undefined, parts: 3 } as const;
  const { id: deleted } = stage.begin(goal);
  expect(stage.untilEnded(deleted).state).toBe("succeeded");
  expect(world.coordinator.stored.namespaces.has("jobs")).toBe(false);
  const { id: never } = stage.begin({ ...goal, kind: "create-namespace" });
  expect(stage.untilEnded(never)).toMatchObject({ state: "failed", reason: "it was deleted meanwhile" });
});

test("work of one's own ends with what it comes to, and is not taken up by another coordinator", () => {
  const stage = new Stage();
  const { world } = stage;
  const goal = { ...SHARD, kind: "recover-shard" } as const;
  expect(world.complete(() => stage.operations.perform(goal, async () => 7))).toBe(7);
  const fails = () => stage.operations.perform(goal, () => Promise.reject(new Refusal("NOT_FOUND", "nothing")));
  expect(refusal(stage, fails)).toBe("NOT_FOUND");
  void stage.operations.perform(goal, () => new Promise(() => {}));
  stage.restart();
  world.until("looked at", () => stage.get(3).state !== "running", 5_000);
  const { operations } = stage.operations.list.list({}, { beforeId: 0, limit: 10 });
  expect(operations.map(({ id, state, reason }) => [id, state, reason])).toEqual([
    [3, "failed", "the coordinator ended meanwhile: look at the shard"],
    [2, "failed", "NOT_FOUND: nothing"],
    [1, "succeeded", ""],
  ]);
});

test("who waits for one hears of its end, as does who comes later", () => {
  const stage = new Stage();
  const { id } = stage.begin({ ...SHARD, kind: "switch-leader", to: follower(stage) });
  const seen: string[] = [];
  for (let nth = 0; nth < 2; nth++) void stage.operations.ended(id).then(({ state }) => seen.push(state));
  stage.untilEnded(id);
  stage.world.run(1);
  void stage.operations.ended(id).then(({ state }) => seen.push(state));
  stage.world.run(1);
  expect(seen).toEqual(["succeeded", "succeeded", "succeeded"]);
});

test("so many run at a time, so many that have ended are kept, and none is begun that cannot be kept", () => {
  const room = new MemoryRoom();
  let nowMs = 1;
  const list = new OperationList(() => nowMs++, room);
  const goal = { ...SHARD, kind: "switch-leader" } as const;
  for (let nth = 0; nth < OPERATIONS_RUNNING_MAX; nth++) list.begin(goal, "");
  expect(() => list.begin(goal, "")).toThrow("100 operations run already");
  list.end(1, "succeeded", "");
  for (let nth = 0; nth < 2 * OPERATIONS_ENDED_MAX; nth++) list.end(list.begin(goal, "").id, "failed", "why");
  expect([list.running.length, room.rows.size]).toEqual([
    OPERATIONS_RUNNING_MAX - 1,
    OPERATIONS_RUNNING_MAX - 1 + OPERATIONS_ENDED_MAX,
  ]);
  room.isFull = true;
  expect(() => list.begin(goal, "")).toThrow("could not be stored: nothing was begun");
  expect(list.running).toHaveLength(OPERATIONS_RUNNING_MAX - 1);
  list.end(2, "cancelled", "no more");
  room.isFull = false;
  list.advance(3, "further", 0.5);
  const next = new OperationList(() => 2, room);
  expect([next.get(2)!.state, next.get(3)!.phase]).toEqual(["cancelled", "further"]);
  expect(next.begin(goal, "").id).toBe(list.list({}, { beforeId: 0, limit: 1 }).operations[0]!.id + 1);
  const page = next.list({ state: "failed" }, { beforeId: 900, limit: 2 });
  expect([page.operations.map(({ id }) => id), page.hasMore]).toEqual([[899, 898], true]);
});

test("a swap that is cancelled before the next coordinator has asked for it is not asked for", () => {
  const stage = new Stage();
  const [from, to] = [follower(stage), spare(stage)];
  stage.world.dataServers.reaches = (server) => server !== to;
  const { id } = stage.begin({ ...SHARD, kind: "swap-replica", from, to });
  stage.world.run(2_000);
  stage.restart();
  stage.world.complete(() => stage.operations.cancel(id));
  stage.world.dataServers.reaches = () => true;
  expect(stage.untilEnded(id)).toMatchObject({ state: "cancelled", reason: "it is not wanted any more" });
  stage.world.until("well", () => stage.world.isWell(), 120_000);
  expect(stage.world.report().ensemble.map(({ server }) => server)).not.toContain(to);
});

test("what runs outlives a coordinator that ends slowly", () => {
  const stage = new Stage();
  const { world } = stage;
  const { id } = stage.begin({ ...SHARD, kind: "freeze-shard", untilMs: world.clock.now() + 60_000 });
  world.run(1_000);
  world.coordinator.stop();
  world.run(2_000);
  expect(world.coordinator.status().shards).toEqual([]);
  expect(stage.get(id).state).toBe("running");
  stage.restart();
  world.until("frozen again", () => world.dataServers.leaderOf(0)?.replica(0).status === "frozen", 5_000);
});

test("a freeze that no leader could be told of has failed", () => {
  const stage = new Stage();
  const { id } = stage.begin({ ...SHARD, kind: "freeze-shard", untilMs: stage.world.clock.now() + 10_000 });
  stage.world.run(1_000);
  for (const server of ["a:1", "b:1", "c:1", "d:1"]) stage.world.dataServers.server(server).kill();
  stage.restart();
  expect(stage.untilEnded(id)).toMatchObject({ state: "failed", reason: "its leader could not be told" });
});

test("a refill that was stored just before its coordinator ended has succeeded", () => {
  const stage = new Stage();
  const { world } = stage;
  const server = follower(stage);
  world.dataServers.server(server).end(0, "its disk was emptied");
  const { id } = stage.begin({ ...SHARD, kind: "swap-replica", from: server, to: server });
  const before = world.stored().ensemble.find(({ internal }) => internal === server)!.replicaId;
  stage.operations.release(); // nobody sees it come to its end
  const isIn = () => world.stored().ensemble.some((one) => one.internal === server && one.replicaId !== before);
  world.until("stored", () => isIn() && world.stored().formerEnsemble === undefined);
  expect(stage.get(id).state).toBe("running");
  stage.restart();
  expect(stage.untilEnded(id)).toMatchObject({ state: "succeeded", reason: "" });
});

test("a switch is not broken off by another request for the shard", () => {
  const stage = new Stage();
  const { world } = stage;
  const heir = follower(stage);
  world.dataServers.reaches = () => false;
  world.dataServers.append(0, 5);
  const { id } = stage.begin({ ...SHARD, kind: "switch-leader", to: heir });
  world.run(20);
  const frozen = world.coordinator.freeze(SHARD, 10);
  world.run(20);
  world.dataServers.reaches = () => true;
  world.dataServers.replicate(0);
  expect(stage.untilEnded(id)).toMatchObject({ state: "succeeded", reason: "" });
  world.complete(() => frozen);
  expect(world.report().leader).toBe(heir);
});

test("a server that is put back is cancelled, also where storing that takes a while", () => {
  const stage = new Stage();
  const { world } = stage;
  stage.reconfigure(configOf(["b:1", "c:1", "d:1"], world.config.namespaces));
  const server = { name: "a", public: "a:100", internal: "a:1", labels: [] };
  const goal = { kind: "drain-server", namespace: "", from: "a:1", to: "", parts: 1, server } as const;
  world.dataServers.reaches = () => false;
  const { id } = stage.begin(goal);
  const { coordinator } = world;
  const reconfigure = coordinator.reconfigure.bind(coordinator);
  coordinator.reconfigure = async (config) => {
    await new Promise<void>((resolve) => world.clock.after(1_000, resolve));
    return reconfigure(config);
  };
  world.complete(() => stage.operations.cancel(id));
  expect(stage.get(id)).toMatchObject({
    state: "cancelled",
    reason: "the server was put back into the configuration",
  });
});

test("who looks at one for a while is told what it has come to, also where that is a refusal", () => {
  const stage = new Stage();
  const goal = { ...SHARD, kind: "switch-leader", to: spare(stage) } as const;
  const looked = stage.world.complete(async () => stage.operations.look(stage.operations.begin(goal).id, 5_000));
  expect(looked).toMatchObject({ state: "failed", reason: expect.stringContaining("is not in the shard's ensemble") });
  const freeze = { ...SHARD, kind: "freeze-shard", untilMs: stage.world.clock.now() + 60_000 } as const;
  const { id } = stage.begin(freeze);
  const sinceMs = stage.world.clock.now();
  expect(stage.world.complete(() => stage.operations.look(id, 5_000)).state).toBe("running");
  expect(stage.world.clock.now() - sinceMs).toBe(5_000);
});

test("where nothing can be recorded a shard is recovered all the same, and no server begins to leave", () => {
  const stage = new Stage();
  stage.room.isFull = true;
  const recover = { ...SHARD, kind: "recover-shard" } as const;
  expect(stage.world.complete(() => stage.operations.perform(recover, async () => 7))).toBe(7);
  let isChanged = false;
  const change = async () => {
    isChanged = true;
  };
  const drain = { kind: "drain-server", namespace: "", from: "a:1", to: "" } as const;
  expect(refusal(stage, () => stage.operations.beginWith(drain, change))).toBe("STORE_FAILED");
  expect(isChanged).toBe(false);
  stage.room.isFull = false;
  const fails = () => Promise.reject(new Refusal("FAILED_PRECONDITION", "too few would be left"));
  expect(refusal(stage, () => stage.operations.beginWith(drain, fails))).toBe("FAILED_PRECONDITION");
  expect(stage.operations.list.running).toEqual([]);
});

test("whatever is thrown, it has failed; but a coordinator that ends leaves it to the next one", () => {
  const stage = new Stage();
  const { world } = stage;
  const goal = { ...SHARD, kind: "switch-leader", to: follower(stage) } as const;
  const begin = (error: Error) => {
    world.coordinator.moveLeader = () => Promise.reject(error);
    return stage.begin(goal).id;
  };
  expect(stage.untilEnded(begin(new Error("odd")))).toMatchObject({ state: "failed", reason: "odd" });
  const recover = { ...SHARD, kind: "recover-shard" } as const;
  const fails = () => stage.operations.perform(recover, () => Promise.reject(new Interrupted()));
  expect(refusal(stage, fails)).toBeUndefined();
  expect(stage.operations.list.running).toEqual([]);
  for (const end of [new StoreLost(new Error("the disk is gone")), new Interrupted()]) {
    const left = begin(end);
    world.run(1_000);
    expect(stage.get(left).state).toBe("running");
    stage.restart();
    expect(stage.untilEnded(left).state).toBe("succeeded");
  }
});

test("a namespace that cannot be made or deleted now is let go by who follows it: it does not stand in the way for ever", () => {
  const stage = new Stage();
  const servers = ["a:1", "b:1", "c:1", "d:1"];
  for (const server of servers) stage.world.dataServers.server(server).kill();
  stage.reconfigure(configOf(servers, [namespaceOf("jobs", 3, 3)]));
  for (const [kind, namespace] of [
    ["create-namespace", "jobs"],
    ["delete-namespace", "default"],
  ] as const) {
    const { id } = stage.begin({ kind, namespace, from: "", to: "", parts: 1 });
    stage.world.run(30_000);
    expect([kind, stage.get(id).state]).toEqual([kind, "running"]);
    stage.world.complete(() => stage.operations.cancel(id));
    expect(stage.get(id)).toMatchObject({ state: "cancelled", reason: expect.stringContaining("goes on by itself") });
  }
});

test("that a swap is to end is kept: the next coordinator gives it up, and does not begin it again", () => {
  const stage = new Stage();
  const { world } = stage;
  const [from, to] = [follower(stage), spare(stage)];
  world.dataServers.reaches = (server) => server !== to;
  const { id } = stage.begin({ ...SHARD, kind: "swap-replica", from, to });
  world.until("under way", () => world.report().swap !== undefined);
  // the process ends before anything comes of it
  world.coordinator.giveUpSwap = () => {};
  world.complete(() => stage.operations.cancel(id));
  stage.restart();
  world.dataServers.reaches = () => true;
  expect(stage.untilEnded(id)).toMatchObject({ state: "cancelled", reason: "it is not wanted any more" });
  world.until("its copy is gone", () => world.isWell(), 120_000);
  expect(world.report().ensemble.map(({ server }) => server)).toContain(from);
});

test("that one is to end, and cannot be kept, is refused: it goes on", () => {
  const stage = new Stage();
  const { world } = stage;
  const { id } = stage.begin({ ...SHARD, kind: "freeze-shard", untilMs: world.clock.now() + 3_000 });
  world.run(1_000);
  stage.room.isFull = true;
  expect(refusal(stage, () => stage.operations.cancel(id))).toBe("STORE_FAILED");
  stage.room.isFull = false;
  expect(stage.untilEnded(id).state).toBe("succeeded");
});
