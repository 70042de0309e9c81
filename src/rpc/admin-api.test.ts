/** OxiaAdmin over the wire: what it answers, what it refuses and how, and what becomes of the configuration. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type AdminWorld, refused, startAdminWorld } from "../../test/harness/admin-world.ts";
import { ConfigInvalid } from "../coordination/parse-config.ts";
import {
  type DataServerSchema,
  DataServerState,
  type NamespaceSchema,
  ShardStatus,
} from "../gen/io/oxia/proto/v1/metadata_pb.ts";
import { Refusal } from "../model/refusal.ts";

type NamespaceInit = MessageInitShape<typeof NamespaceSchema>;
type DataServerInit = MessageInitShape<typeof DataServerSchema>;

const d: DataServerInit = { identity: { name: "d", public: "d:100", internal: "d:1" } };

let world: AdminWorld;
let admin: AdminWorld["admin"];
let varia: AdminWorld["varia"];

beforeEach(async () => {
  world = await startAdminWorld();
  ({ admin, varia } = world);
});
afterEach(() => world.stop());

test("a namespace is created with its shards, shown, patched and deleted", async () => {
  await world.healthy();
  const asked: NamespaceInit = {
    name: "orders",
    initialShardCount: 2,
    replicationFactor: 3,
    keySorting: "hierarchical",
  };
  const { namespace } = await admin.createNamespace({ namespace: asked });
  expect(namespace).toMatchObject({ ...asked, notificationsEnabled: true } as object);
  await world.healthy();
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
  expect(world.coordinator!.stored.namespaces.get("orders")?.shards.get(2)?.status).toBeOneOf(["Deleting", undefined]);
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
  expect(world.file.edits).toEqual([]);
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
  await world.healthy();
  expect((await admin.createDataServer({ dataServer: d })).dataServer!.identity).toMatchObject(d.identity!);
  const names = async () =>
    (await admin.listDataServers({})).dataServers.map(({ dataServer, dataServerStatus }) => [
      dataServer!.identity!.name,
      ["UNSPECIFIED", "RUNNING", "UNAVAILABLE", "DRAINING"][dataServerStatus!.state],
    ]);
  await world.healthy();
  expect(await names()).toEqual(["a", "b", "c", "d"].map((name) => [name, "RUNNING"]));
  const patched = await admin.patchDataServer({ dataServer: { identity: { name: "d", public: "d:200" } } });
  expect(patched.dataServer!.identity).toMatchObject({ name: "d", public: "d:200", internal: "d:1" });
  expect((await admin.deleteDataServer({ dataServer: "a" })).dataServer!.identity!.internal).toBe("a:1");
  expect(await names()).toEqual([...["b", "c", "d"].map((name) => [name, "RUNNING"]), ["a", "DRAINING"]]);
  const { dataServer } = await admin.getDataServer({ dataServer: "a" });
  expect(dataServer!.dataServerStatus!.state).toBe(DataServerState.DRAINING);
  for (let names_ = await names(); names_.length > 3; names_ = await names()) await Bun.sleep(50);
  await world.healthy();
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
  world.file.fails = new Refusal("CONCURRENT_CHANGE", "changed");
  expect(await refused(admin.createNamespace({ namespace }))).toEqual([
    "Aborted",
    'failed to create namespace "n" due to concurrent config update',
  ]);
  world.file.fails = new ConfigInvalid("cluster configuration: namespaces.1.name is odd");
  expect(await refused(admin.createNamespace({ namespace }))).toEqual([
    "FailedPrecondition",
    'failed to create namespace "n": cluster configuration: namespaces.1.name is odd',
  ]);
  world.file.fails = new Error("EROFS: read-only file system");
  expect(await refused(admin.deleteNamespace({ namespace: "default" }))).toEqual([
    "Internal",
    'failed to delete namespace "default": EROFS: read-only file system',
  ]);
});

test("shards are not split, and a coordinator that is not ready says so", async () => {
  expect((await refused(admin.splitShard({ namespace: "default", shard: 0n })))[0]).toBe("Unimplemented");
  const stopped = world.coordinator!;
  world.coordinator = undefined;
  for (const call of [admin.listNamespaces({}), admin.splitShard({}), varia.getClusterStatus({})]) {
    const [code, message] = await refused(call);
    expect(code).toBe("Unavailable");
    expect(message).toContain("oxia: server not initialized yet");
  }
  world.coordinator = stopped;
});
