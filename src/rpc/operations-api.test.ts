/** Replicas, leaders and shards as an admin moves them over the wire, and the operations that this is. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { type AdminWorld, refused, startAdminWorld } from "../../test/harness/admin-world.ts";
import { Unreachable } from "../model/refusal.ts";

const d = { identity: { name: "d", public: "d:100", internal: "d:1" } };

let world: AdminWorld;
let admin: AdminWorld["admin"];
let varia: AdminWorld["varia"];

beforeEach(async () => {
  world = await startAdminWorld();
  ({ admin, varia } = world);
});
afterEach(() => world.stop());

test("a replica is swapped by name; one that goes nowhere is given up with its caller", async () => {
  await world.healthy();
  await admin.createDataServer({ dataServer: d });
  await world.healthy();
  expect(await varia.swapReplica({ namespace: "default", shard: 0n, from: "a", to: "d:1" })).toMatchObject({
    reason: "",
  });
  await world.healthy();
  const [shard] = (await varia.getClusterStatus({})).shards;
  expect(shard!.replicas.map(({ server }) => server).sort()).toEqual(["b:1", "c:1", "d:1"]);
  world.dataServers.reaches = (server) => server !== "a:1";
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
  await world.healthy();
  world.dataServers.append(0, 5);
  for (const server of ["a:1", "b:1"]) world.dataServers.server(server).kill();
  while ((await varia.getClusterStatus({})).faultTolerance !== -1) await Bun.sleep(20);
  const request = { namespace: "default", shard: 0n, servers: ["c"] };
  const plan = await varia.planRecovery(request);
  expect(plan.loses).toBe(true);
  expect(plan.lines[0]).toContain("with what c:1 holds");
  expect(plan.lines.join("\n")).toContain("a:1 cannot be asked");
  const { term, pending } = await varia.recoverShard(request);
  expect(pending).toEqual([]);
  while (world.dataServers.leaderOf(0)?.address !== "c:1") await Bun.sleep(20);
  expect(world.dataServers.leaderOf(0)!.replica(0).promise).toBeGreaterThanOrEqual(Number(term));
  expect((await refused(varia.planRecovery({ ...request, servers: [] })))[0]).toBe("InvalidArgument");
}, 60_000);

test("a swap that goes on by itself is an operation: it can be looked at, waited for and cancelled", async () => {
  await admin.createDataServer({ dataServer: d });
  await world.healthy();
  const swap = { namespace: "default", shard: 0n, from: "a", to: "d", detach: true };
  const { operation } = await varia.swapReplica(swap);
  expect(operation).toMatchObject({ kind: "swap-replica", namespace: "default", shard: 0n, from: "a:1", to: "d:1" });
  expect(operation).toMatchObject({ state: "running", cancellable: true, endedAtMs: 0n });
  const { operation: ended } = await varia.getOperation({ id: operation!.id, waitMs: 20_000 });
  expect(ended).toMatchObject({ state: "succeeded", reason: "", progress: 1, cancellable: false, phase: "" });
  expect(ended!.endedAtMs).toBeGreaterThanOrEqual(ended!.startedAtMs);
  await world.healthy();
  // what makes no sense is refused at once, also then
  expect((await refused(varia.swapReplica(swap)))[0]).toBe("InvalidArgument");
  world.dataServers.reaches = (server) => server !== "a:1";
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
  await world.healthy();
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
  expect(world.dataServers.leaderOf(0)!.replica(0).status).toBe("frozen");
  expect((await shard()).change).toMatch(/^frozen for \d+ s more$/);
  expect((await refused(varia.freezeShard({ ...of, forMs: 1_000 })))[1]).toContain("frozen already");
  const other = ["a", "b", "c"].find((name) => name !== heir)!;
  expect((await varia.switchLeader({ ...of, to: other })).reason).toBe("the shard is frozen");
  expect((await varia.thawShard(of)).operation).toMatchObject({ id: operation!.id, state: "cancelled" });
  expect(world.dataServers.leaderOf(0)!.replica(0).status).toBe("leader");
  expect((await varia.thawShard(of)).operation).toBeUndefined();
  expect((await shard()).change).toBe("");
}, 60_000);

test("a freeze that the leader does not hear of is refused", async () => {
  await world.healthy();
  world.dataServers.before = ({ method }) => {
    if (method === "freezeShard") throw new Unreachable("cut off");
  };
  const freeze = { namespace: "default", shard: 0n, forMs: 60_000 };
  expect(await refused(varia.freezeShard(freeze))).toEqual(["Unavailable", expect.stringContaining("cut off")]);
  world.dataServers.before = () => {};
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
  await world.healthy();
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
  world.file.config = { ...world.file.config, servers: world.file.config.servers.map((one) => ({ ...one, labels })) };
  await world.healthy();
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
