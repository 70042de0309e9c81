/** OxiaAdmin over the wire: what it answers, what it refuses and how, and what becomes of the configuration. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { configOf, namespaceOf, SERVERS } from "../../test/harness/coordinator-world.ts";
import { FakeDataServers } from "../../test/harness/fake-data-servers.ts";
import { listenForTest, type TestListener } from "../../test/harness/rpc-server.ts";
import type { ConfigEdit, ConfigFile } from "../coordination/administer.ts";
import type { ClusterConfig } from "../coordination/cluster-config.ts";
import { Coordinator } from "../coordination/coordinator.ts";
import { OperationList } from "../coordination/operation-list.ts";
import { Operations } from "../coordination/operations.ts";
import { ConfigInvalid } from "../coordination/parse-config.ts";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import {
  type DataServerSchema,
  DataServerState,
  type NamespaceSchema,
  ShardStatus,
} from "../gen/io/oxia/proto/v1/metadata_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { GetLoadResponseSchema } from "../gen/varia/internal/v1/node_pb.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import { systemClock } from "../ops/clock.ts";
import { systemRandom } from "../ops/random.ts";
import { MemoryMetadata, openMemoryMetadata } from "../storage/metadata/memory.ts";
import { adminMethods } from "./admin-api.ts";
import { clusterMethods } from "./cluster-api.ts";
import { LoadWatch } from "./load-watch.ts";
import { operationMethods } from "./operations-api.ts";

/** The document as nothing but a configuration. */
class FakeFile implements ConfigFile {
  config: ClusterConfig = configOf(SERVERS.slice(0, 3), [namespaceOf("default", 2, 3)]);
  edits: ConfigEdit[] = [];
  /** What the next edit comes to, in place of success. */
  fails: Error | undefined;

  edit(decide: (config: ClusterConfig) => ConfigEdit): ClusterConfig {
    const edit = decide(this.config);
    if (this.fails !== undefined) throw this.fails;
    this.edits.push(edit);
    this.config = edited(this.config, edit);
    return this.config;
  }
}

function edited(config: ClusterConfig, edit: ConfigEdit): ClusterConfig {
  const { namespaces, servers } = config;
  switch (edit.kind) {
    case "add-namespace": {
      const added = { ...namespaceOf(edit.name, edit.initialShardCount, edit.replicationFactor) };
      return { ...config, namespaces: [...namespaces, added] };
    }
    case "set-namespace": {
      const set = (namespace: (typeof namespaces)[number]) =>
        namespace.name !== edit.name
          ? namespace
          : {
              ...namespace,
              replicationFactor: edit.replicationFactor ?? namespace.replicationFactor,
              notificationsEnabled: edit.notificationsEnabled ?? namespace.notificationsEnabled,
            };
      return { ...config, namespaces: namespaces.map(set) };
    }
    case "remove-namespace":
      return { ...config, namespaces: namespaces.filter(({ name }) => name !== edit.name) };
    case "add-server":
      return { ...config, servers: [...servers, { ...edit, labels: edit.labels ?? new Map() }] };
    case "set-server": {
      const set = (server: (typeof servers)[number]) =>
        server.name !== edit.name
          ? server
          : { ...server, public: edit.public ?? server.public, internal: edit.internal ?? server.internal };
      return { ...config, servers: servers.map(set) };
    }
    case "remove-server":
      return { ...config, servers: servers.filter(({ name }) => name !== edit.name) };
  }
}

let file: FakeFile;
let coordinator: Coordinator | undefined;
let running: Promise<void>;
let dataServers: FakeDataServers;
let listener: TestListener;
let admin: Client<typeof OxiaAdmin>;
let varia: Client<typeof VariaAdmin>;

beforeEach(async () => {
  file = new FakeFile();
  dataServers = new FakeDataServers(systemClock, SERVERS);
  const silent = () => {};
  const logger = { debug: silent, info: silent, warn: silent, error: silent };
  const store = openMemoryMetadata(new MemoryMetadata());
  const started = await Coordinator.open(
    { store, dataServers, clock: systemClock, random: systemRandom, logger },
    file.config,
  );
  coordinator = started;
  running = started.run();
  const nowMs = () => systemClock.now();
  const operations = new Operations({ list: new OperationList(nowMs), file, clock: systemClock, logger });
  operations.adopt(coordinator);
  const loads = new LoadWatch({ ask: async () => counters, servers: () => ["a:1", "b:1"], clock: systemClock });
  await loads.look();
  const ports = { file, coordinator: () => coordinator, operations, loads, nowMs };
  listener = await listenForTest([...adminMethods(ports), ...clusterMethods(ports), ...operationMethods(ports)]);
  const transport = createGrpcTransport({ baseUrl: `http://${listener.address}` });
  admin = createClient(OxiaAdmin, transport);
  varia = createClient(VariaAdmin, transport);
});
afterEach(async () => {
  await listener.close({ graceMs: 0 });
  coordinator?.stop();
  await running;
});

async function refused(call: Promise<unknown>): Promise<[string, string]> {
  try {
    await call;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return [Code[code]!, rawMessage];
  }
  throw new Error("it was not refused");
}

async function healthy(): Promise<void> {
  for (const sinceMs = performance.now(); performance.now() - sinceMs < 10_000; ) {
    if ((await varia.getClusterStatus({})).healthy) return;
    await Bun.sleep(10);
  }
  throw new Error("not healthy in 10 s");
}

type NamespaceInit = MessageInitShape<typeof NamespaceSchema>;
type DataServerInit = MessageInitShape<typeof DataServerSchema>;
/** What every server says that it bears. */
const counters = create(GetLoadResponseSchema, {
  ...{ version: "1.2.3", startedAtMs: 5n, residentBytes: 1_000n, diskFreeBytes: 70n, diskTotalBytes: 100n },
  shards: [{ shard: 0n, term: 0n, writes: 5n, reads: 6n, records: 7n, commitOffset: 3n, stateBytes: 8_192n }],
});

const d: DataServerInit = { identity: { name: "d", public: "d:100", internal: "d:1" } };

test("a namespace is created with its shards, shown, patched and deleted", async () => {
  await healthy();
  const asked: NamespaceInit = {
    name: "orders",
    initialShardCount: 2,
    replicationFactor: 3,
    keySorting: "hierarchical",
  };
  const { namespace } = await admin.createNamespace({ namespace: asked });
  expect(namespace).toMatchObject({ ...asked, notificationsEnabled: true } as object);
  await healthy();
  const { namespace: view } = await admin.getNamespace({ namespace: "orders" });
  expect(view!.namespaceStatus!.replicationFactor).toBe(3);
  const shards = Object.entries(view!.namespaceStatus!.shards);
  expect(shards.map(([id]) => id)).toEqual(["2", "3"]);
  for (const [, shard] of shards) {
    expect(shard.status).toBe(ShardStatus.SteadyState);
    expect(shard.ensemble.map(({ internal }) => internal).sort()).toEqual(["a:1", "b:1", "c:1"]);
    expect(shard.leader!.name).toBeOneOf(["a", "b", "c"]);
  }
  const patched = await admin.patchNamespace({
    namespace: { name: "orders", replicationFactor: 2, notificationsEnabled: false },
  });
  expect(patched.namespace).toMatchObject({ replicationFactor: 2, notificationsEnabled: false, initialShardCount: 2 });
  expect((await admin.listNamespaces({})).namespaces.map((each) => each.namespace!.name)).toEqual([
    "default",
    "orders",
  ]);
  expect((await admin.deleteNamespace({ namespace: "orders" })).namespace!.name).toBe("orders");
  expect(await refused(admin.getNamespace({ namespace: "orders" }))).toEqual([
    "NotFound",
    'namespace "orders" not found',
  ]);
  expect(coordinator!.stored.namespaces.get("orders")?.shards.get(2)?.status).toBeOneOf(["Deleting", undefined]);
});

test("a namespace that cannot be is refused, with the reference's codes and words", async () => {
  const namespace: NamespaceInit = { name: "n", initialShardCount: 1, replicationFactor: 1 };
  const cases: [NamespaceInit | undefined, string, string][] = [
    [undefined, "InvalidArgument", "namespace must not be nil"],
    [{ ...namespace, name: "" }, "InvalidArgument", "namespace must not be empty"],
    [{ ...namespace, name: "-n" }, "InvalidArgument", "is not made of letters"],
    [{ ...namespace, name: "a..b" }, "InvalidArgument", "is not made of letters"],
    [{ ...namespace, initialShardCount: 0 }, "InvalidArgument", "namespace initial shard count must be greater than 0"],
    [{ ...namespace, initialShardCount: 1_000_000 }, "InvalidArgument", "must not be greater than"],
    [{ ...namespace, replicationFactor: 0 }, "InvalidArgument", "namespace replication factor must be greater than 0"],
    [{ ...namespace, keySorting: "random" }, "InvalidArgument", "namespace key sorting is invalid: "],
    [
      { ...namespace, keySorting: "unknown" },
      "InvalidArgument",
      'namespace key sorting must be one of "natural" or "hierarchical"',
    ],
    [
      { ...namespace, antiAffinities: [{ labels: ["zone"], mode: "strict" }] },
      "InvalidArgument",
      "namespace anti-affinities cannot be set on create",
    ],
    [{ ...namespace, name: "default" }, "AlreadyExists", 'namespace "default" already exists'],
    [{ ...namespace, replicationFactor: 4 }, "FailedPrecondition", 'failed to create namespace "n": '],
  ];
  for (const [init, code, message] of cases) {
    const [gotCode, gotMessage] = await refused(admin.createNamespace(init === undefined ? {} : { namespace: init }));
    expect([init, gotCode]).toEqual([init, code]);
    expect(gotMessage).toContain(message);
  }
  expect(file.edits).toEqual([]);
});

test("a patch that cannot be is refused", async () => {
  const cases: [NamespaceInit | undefined, string, string][] = [
    [undefined, "InvalidArgument", "namespace must not be nil"],
    [{ name: "" }, "InvalidArgument", "namespace must not be empty"],
    [{ name: "default", initialShardCount: 3 }, "InvalidArgument", "namespace initial shard count cannot be patched"],
    [{ name: "default", keySorting: "natural" }, "InvalidArgument", "namespace key sorting cannot be patched"],
    [
      { name: "default", antiAffinities: [{ labels: ["zone"] }] },
      "InvalidArgument",
      "namespace anti-affinities cannot be patched",
    ],
    [{ name: "none", replicationFactor: 1 }, "NotFound", 'namespace "none" not found'],
    [{ name: "default", replicationFactor: 4 }, "FailedPrecondition", 'failed to patch namespace "default": '],
  ];
  for (const [init, code, message] of cases) {
    const [gotCode, gotMessage] = await refused(admin.patchNamespace(init === undefined ? {} : { namespace: init }));
    expect([init, gotCode]).toEqual([init, code]);
    expect(gotMessage).toContain(message);
  }
  expect(await refused(admin.deleteNamespace({ namespace: "" }))).toEqual([
    "InvalidArgument",
    "namespace must not be empty",
  ]);
  expect(await refused(admin.deleteNamespace({ namespace: "none" }))).toEqual([
    "NotFound",
    'namespace "none" not found',
  ]);
});

test("a data server is added, shown, changed and removed: it is emptied then", async () => {
  await healthy();
  expect((await admin.createDataServer({ dataServer: d })).dataServer!.identity).toMatchObject(d.identity!);
  const names = async () =>
    (await admin.listDataServers({})).dataServers.map(({ dataServer, dataServerStatus }) => [
      dataServer!.identity!.name,
      ["UNSPECIFIED", "RUNNING", "UNAVAILABLE", "DRAINING"][dataServerStatus!.state],
    ]);
  await healthy();
  expect(await names()).toEqual(["a", "b", "c", "d"].map((name) => [name, "RUNNING"]));
  const patched = await admin.patchDataServer({ dataServer: { identity: { name: "d", public: "d:200" } } });
  expect(patched.dataServer!.identity).toMatchObject({ name: "d", public: "d:200", internal: "d:1" });
  expect((await admin.deleteDataServer({ dataServer: "a" })).dataServer!.identity!.internal).toBe("a:1");
  expect(await names()).toEqual([...["b", "c", "d"].map((name) => [name, "RUNNING"]), ["a", "DRAINING"]]);
  const { dataServer } = await admin.getDataServer({ dataServer: "a" });
  expect(dataServer!.dataServerStatus!.state).toBe(DataServerState.DRAINING);
  for (let names_ = await names(); names_.length > 3; names_ = await names()) await Bun.sleep(50);
  await healthy();
  const { servers } = await varia.getClusterStatus({});
  expect(servers.map(({ name, replicas }) => [name, replicas]).sort()).toEqual([
    ["b", 2],
    ["c", 2],
    ["d", 2],
  ]);
  expect(await refused(admin.getDataServer({ dataServer: "a" }))).toEqual(["NotFound", 'data server "a" not found']);
}, 60_000);

test("a data server that cannot be is refused, and so is the removal of one that is needed", async () => {
  const create = (dataServer: DataServerInit | undefined) =>
    refused(admin.createDataServer(dataServer === undefined ? {} : { dataServer }));
  expect(await create(undefined)).toEqual(["InvalidArgument", "data server must not be nil"]);
  expect(await create({})).toEqual(["InvalidArgument", "data server identity must not be nil"]);
  const without = (field: object) => create({ identity: { ...d.identity!, ...field } as never });
  expect(await without({ name: "" })).toEqual(["InvalidArgument", "data server identity name must not be empty"]);
  expect(await without({ public: "" })).toEqual(["InvalidArgument", "data server public address must not be empty"]);
  expect(await without({ internal: "" })).toEqual([
    "InvalidArgument",
    "data server internal address must not be empty",
  ]);
  expect(await without({ name: "a" })).toEqual(["AlreadyExists", 'data server "a" already exists']);
  expect(await refused(admin.getDataServer({ dataServer: "d" }))).toEqual(["NotFound", 'data server "d" not found']);
  expect(await refused(admin.getDataServer({ dataServer: "" }))).toEqual([
    "InvalidArgument",
    "data server must not be empty",
  ]);
  const patch = (identity: object) => refused(admin.patchDataServer({ dataServer: { identity } as never }));
  expect(await patch({ name: "d" })).toEqual(["NotFound", 'data server "d" not found']);
  expect((await patch({ name: "a", internal: "e:1" }))[0]).toBe("FailedPrecondition");
  expect(await refused(admin.deleteDataServer({ dataServer: "d" }))).toEqual(["NotFound", 'data server "d" not found']);
  const [code, message] = await refused(admin.deleteDataServer({ dataServer: "a" }));
  expect([code, message]).toEqual([
    "FailedPrecondition",
    'failed to delete data server "a": namespace "default" has replication factor 3, and 2 data servers would be left',
  ]);
});

test("a namespace whose replication factor was lowered still needs the servers that hold its shards", async () => {
  await admin.patchNamespace({ namespace: { name: "default", replicationFactor: 2 } });
  const [code, message] = await refused(admin.deleteDataServer({ dataServer: "a" }));
  expect(code).toBe("FailedPrecondition");
  expect(message).toContain("replication factor 3");
});

test("what the document or the store does not take", async () => {
  const namespace: NamespaceInit = { name: "n", initialShardCount: 1, replicationFactor: 1 };
  file.fails = new Refusal("CONCURRENT_CHANGE", "changed");
  expect(await refused(admin.createNamespace({ namespace }))).toEqual([
    "Aborted",
    'failed to create namespace "n" due to concurrent config update',
  ]);
  file.fails = new ConfigInvalid("cluster configuration: namespaces.1.name is odd");
  expect(await refused(admin.createNamespace({ namespace }))).toEqual([
    "FailedPrecondition",
    'failed to create namespace "n": cluster configuration: namespaces.1.name is odd',
  ]);
  file.fails = new Error("EROFS: read-only file system");
  expect(await refused(admin.deleteNamespace({ namespace: "default" }))).toEqual([
    "Internal",
    'failed to delete namespace "default": EROFS: read-only file system',
  ]);
});

test("shards are not split, and a coordinator that is not ready says so", async () => {
  expect((await refused(admin.splitShard({ namespace: "default", shard: 0n })))[0]).toBe("Unimplemented");
  const stopped = coordinator!;
  coordinator = undefined;
  for (const call of [admin.listNamespaces({}), admin.splitShard({}), varia.getClusterStatus({})]) {
    const [code, message] = await refused(call);
    expect(code).toBe("Unavailable");
    expect(message).toContain("oxia: server not initialized yet");
  }
  coordinator = stopped;
});

test("a replica is swapped by name; one that goes nowhere is given up with its caller", async () => {
  await healthy();
  await admin.createDataServer({ dataServer: d });
  await healthy();
  expect(await varia.swapReplica({ namespace: "default", shard: 0n, from: "a", to: "d:1" })).toMatchObject({
    reason: "",
  });
  await healthy();
  const [shard] = (await varia.getClusterStatus({})).shards;
  expect(shard!.replicas.map(({ server }) => server).sort()).toEqual(["b:1", "c:1", "d:1"]);
  dataServers.reaches = (server) => server !== "a:1";
  const abort = new AbortController();
  const swap = refused(
    varia.swapReplica({ namespace: "default", shard: 0n, from: "b", to: "a" }, { signal: abort.signal }),
  );
  const changes = async () => (await varia.getClusterStatus({})).shards[0]!.change;
  while (!(await changes()).startsWith("moving b:1 to a:1: ")) await Bun.sleep(10);
  const again = await refused(varia.swapReplica({ namespace: "default", shard: 0n, from: "b", to: "a" }));
  expect(again[0]).toBe("FailedPrecondition");
  abort.abort();
  expect((await swap)[0]).toBe("Canceled");
  while ((await changes()).startsWith("moving")) await Bun.sleep(10);
  const unknown = await refused(varia.swapReplica({ namespace: "default", shard: 0n, from: "b", to: "x" }));
  expect(unknown).toEqual(["NotFound", 'data server "x" not found']);
  expect((await refused(varia.swapReplica({ namespace: "default", shard: 9n, from: "b", to: "a" })))[0]).toBe(
    "NotFound",
  );
}, 60_000);

test("a shard whose majority is lost goes on with what is left, once that is said", async () => {
  await healthy();
  dataServers.append(0, 5);
  for (const server of ["a:1", "b:1"]) dataServers.server(server).kill();
  while ((await varia.getClusterStatus({})).faultTolerance !== -1) await Bun.sleep(20);
  const request = { namespace: "default", shard: 0n, servers: ["c"] };
  const plan = await varia.planRecovery(request);
  expect(plan.loses).toBe(true);
  expect(plan.lines[0]).toContain("with what c:1 holds");
  expect(plan.lines.join("\n")).toContain("a:1 cannot be asked");
  const { term, pending } = await varia.recoverShard(request);
  expect(pending).toEqual([]);
  while (dataServers.leaderOf(0)?.address !== "c:1") await Bun.sleep(20);
  expect(dataServers.leaderOf(0)!.replica(0).promise).toBeGreaterThanOrEqual(Number(term));
  expect((await refused(varia.planRecovery({ ...request, servers: [] })))[0]).toBe("InvalidArgument");
}, 60_000);

test("a swap that goes on by itself is an operation: it can be looked at, waited for and cancelled", async () => {
  await admin.createDataServer({ dataServer: d });
  await healthy();
  const swap = { namespace: "default", shard: 0n, from: "a", to: "d", detach: true };
  const { operation } = await varia.swapReplica(swap);
  expect(operation).toMatchObject({ kind: "swap-replica", namespace: "default", shard: 0n, from: "a:1", to: "d:1" });
  expect(operation).toMatchObject({ state: "running", cancellable: true, endedAtMs: 0n });
  const { operation: ended } = await varia.getOperation({ id: operation!.id, waitMs: 20_000 });
  expect(ended).toMatchObject({ state: "succeeded", reason: "", progress: 1, cancellable: false, phase: "" });
  expect(ended!.endedAtMs).toBeGreaterThanOrEqual(ended!.startedAtMs);
  await healthy();
  // what makes no sense is refused at once, also then
  expect((await refused(varia.swapReplica(swap)))[0]).toBe("InvalidArgument");
  dataServers.reaches = (server) => server !== "a:1";
  const second = await varia.swapReplica({ ...swap, from: "b", to: "a" });
  const cancelled = await varia.cancelOperation({ id: second.operation!.id });
  expect(["running", "cancelled"]).toContain(cancelled.operation!.state);
  const { operation: given } = await varia.getOperation({ id: second.operation!.id, waitMs: 20_000 });
  expect(given).toMatchObject({ state: "cancelled", reason: "it is not wanted any more" });
  expect((await refused(varia.cancelOperation({ id: given!.id })))[0]).toBe("FailedPrecondition");
  const { operations, hasMore } = await varia.listOperations({ kind: "swap-replica", limit: 2 });
  expect([operations.map(({ state }) => state), hasMore]).toEqual([["cancelled", "failed"], true]);
  expect((await varia.listOperations({ state: "succeeded" })).operations.map(({ id }) => id)).toEqual([operation!.id]);
}, 60_000);

test("another leader, and a shard that takes no writes for a while", async () => {
  await healthy();
  const shard = async () => (await varia.getClusterStatus({})).shards[0]!;
  const { leader } = await shard();
  const heir = ["a", "b", "c"].find((name) => `${name}:1` !== leader)!;
  const of = { namespace: "default", shard: 0n };
  expect(await varia.switchLeader({ ...of, to: heir })).toMatchObject({
    reason: "",
    operation: { state: "succeeded" },
  });
  expect((await shard()).leader).toBe(`${heir}:1`);
  const { operation } = await varia.freezeShard({ ...of, forMs: 60_000 });
  expect(operation).toMatchObject({ kind: "freeze-shard", state: "running", cancellable: true });
  expect(dataServers.leaderOf(0)!.replica(0).status).toBe("frozen");
  expect((await shard()).change).toMatch(/^frozen for \d+ s more$/);
  expect((await refused(varia.freezeShard({ ...of, forMs: 1_000 })))[1]).toContain("frozen already");
  const other = ["a", "b", "c"].find((name) => name !== heir)!;
  expect((await varia.switchLeader({ ...of, to: other })).reason).toBe("the shard is frozen");
  expect((await varia.thawShard(of)).operation).toMatchObject({ id: operation!.id, state: "cancelled" });
  expect(dataServers.leaderOf(0)!.replica(0).status).toBe("leader");
  expect((await varia.thawShard(of)).operation).toBeUndefined();
  expect((await shard()).change).toBe("");
}, 60_000);

test("a freeze that the leader does not hear of is refused", async () => {
  await healthy();
  dataServers.before = ({ method }) => {
    if (method === "freezeShard") throw new Unreachable("cut off");
  };
  const freeze = { namespace: "default", shard: 0n, forMs: 60_000 };
  expect(await refused(varia.freezeShard(freeze))).toEqual(["Unavailable", expect.stringContaining("cut off")]);
  dataServers.before = () => {};
  expect((await varia.listOperations({})).operations[0]).toMatchObject({ kind: "freeze-shard", state: "failed" });
}, 30_000);

test("namespaces that are made and deleted, and servers that leave, are operations, whoever asks", async () => {
  await admin.createDataServer({ dataServer: d });
  await admin.createNamespace({ namespace: { name: "jobs", initialShardCount: 2, replicationFactor: 3 } });
  await admin.deleteNamespace({ namespace: "jobs" });
  const { operation: first } = await varia.drainServer({ server: "d" });
  expect(first).toMatchObject({ kind: "drain-server", from: "d:1" });
  await varia.getOperation({ id: first!.id, waitMs: 30_000 });
  await admin.createDataServer({ dataServer: d });
  await admin.deleteDataServer({ dataServer: "d" });
  for (const { id, state } of (await varia.listOperations({})).operations) {
    if (state === "running") await varia.getOperation({ id, waitMs: 30_000 });
  }
  const { operations } = await varia.listOperations({});
  expect(operations.map(({ kind, state }) => `${kind} ${state}`)).toEqual([
    "drain-server succeeded",
    "drain-server succeeded",
    "delete-namespace succeeded",
    expect.stringMatching(/^create-namespace (succeeded|failed)$/),
  ]);
}, 90_000);

test("what is asked of operations is checked", async () => {
  await healthy();
  const of = { namespace: "default", shard: 0n };
  for (const [call, code] of [
    [varia.getOperation({ id: 77n }), "NotFound"],
    [varia.getOperation({ id: 1n, waitMs: 60_001 }), "InvalidArgument"],
    [varia.cancelOperation({ id: 77n }), "NotFound"],
    [varia.listOperations({ kind: "odd" }), "InvalidArgument"],
    [varia.listOperations({ state: "odd" }), "InvalidArgument"],
    [varia.listOperations({ limit: 1_001 }), "InvalidArgument"],
    [varia.freezeShard({ ...of, forMs: 0 }), "InvalidArgument"],
    [varia.freezeShard({ ...of, forMs: 3_600_001 }), "InvalidArgument"],
    [varia.freezeShard({ ...of, shard: 9n, forMs: 1_000 }), "NotFound"],
    [varia.switchLeader({ ...of, to: "x" }), "NotFound"],
    [varia.switchLeader({ ...of, shard: 9n, to: "a" }), "NotFound"],
    [varia.drainServer({ server: "x" }), "NotFound"],
    [varia.drainServer({ server: "a" }), "FailedPrecondition"],
  ] as const) {
    expect((await refused(call))[0]).toBe(code);
  }
}, 30_000);

test("servers and shards come with what they bear, as far as they have said so", async () => {
  const labels = new Map([["zone", "z1"]]);
  file.config = { ...file.config, servers: file.config.servers.map((one) => ({ ...one, labels })) };
  await healthy();
  const { servers, shards } = await varia.getClusterStatus({});
  expect(servers[0]).toMatchObject({ name: "a", version: "1.2.3", labels: { zone: "z1" } });
  expect(servers[0]!.features).toContain("DB_CHECKSUM");
  const load = { startedAtMs: 5n, residentBytes: 1_000n, diskFreeBytes: 70n, diskTotalBytes: 100n, writesPerS: 0 };
  expect(servers[0]!.load).toMatchObject(load);
  expect([servers[2]!.name, servers[2]!.version, servers[2]!.load]).toEqual(["c", "", undefined]);
  expect(shards[0]!.load).toMatchObject({ records: 7n, stateBytes: 8_192n, writesPerS: 0 });
  expect(shards[1]!.load).toBeUndefined();
  // all hold what is committed
  expect(shards[0]!.replicas.map(({ lagSeconds }) => lagSeconds)).toEqual([0, 0, 0]);
});
