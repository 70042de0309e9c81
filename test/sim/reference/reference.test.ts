/** Reference peers among themselves: they elect, replicate, and go on after a leader's end, as far as their rules allow. */
import { expect, test } from "bun:test";
import { simDataServers } from "../peer-calls.ts";
import { type Mix, MixedCluster } from "./mixed-cluster.ts";

const REFERENCE: Mix = {
  name: "reference peers alone",
  servers: ["reference", "reference", "reference"],
  coordinator: "reference",
  judged: "all",
};

test("three reference servers and a reference coordinator elect a leader, replicate, and survive its end", () => {
  const cluster = new MixedCluster(1, REFERENCE, { calm: true });
  const { scheduler } = cluster;
  cluster.start();
  const put = (value: string) =>
    scheduler.complete("put", () => cluster.insist({ kind: "put", key: "a", value }), 60_000);
  expect(put("one")).toMatchObject({ status: "OK" });
  const { term, leader } = cluster.parts.reference.document;
  cluster.servers.find(({ address }) => address === leader)!.machine.end("power", 30_000);
  const found = scheduler.complete("get", () => cluster.insist({ kind: "get", key: "a" }), 60_000);
  expect(found.status === "OK" && found.record?.value.startsWith("one")).toBe(true);
  expect(cluster.parts.reference.document.term).toBeGreaterThan(term);
  expect(put("two")).toMatchObject({ status: "OK" });
  cluster.calmDown();
  cluster.settle();
});

/** Four servers, of which the first three hold the shard. */
function withSpare(): MixedCluster {
  const mix: Mix = { ...REFERENCE, servers: ["reference", "reference", "reference", "reference"] };
  const cluster = new MixedCluster(2, mix, { calm: true });
  const { reference } = cluster.parts;
  reference.document = { ...reference.document, ensemble: reference.document.ensemble.slice(0, 3) };
  cluster.start();
  const put = () => cluster.insist({ kind: "put", key: "a", value: "one" });
  cluster.scheduler.complete("put", put, 60_000);
  return cluster;
}

test("a swap brings another server in and deletes the one that it replaces", () => {
  const cluster = withSpare();
  const { scheduler, parts } = cluster;
  const [s1, s2, s3, s4] = cluster.servers.map(({ address }) => address) as [string, string, string, string];
  expect(scheduler.complete("swap", () => parts.coordinator!.swap(s1, s4), 60_000)).toBe(true);
  expect(parts.reference.document).toMatchObject({ ensemble: [s4, s2, s3], removedNodes: [], pendingDelete: [s1] });
  scheduler.complete("a while", () => scheduler.sleep(5_000));
  expect(parts.reference.document.pendingDelete).toEqual([]);
  const status = (server: string) =>
    scheduler.complete(
      "status",
      () => simDataServers(cluster.channel()).getStatus(server, { shard: 0 }, { timeoutMs: 5_000 }),
      60_000,
    );
  expect(() => status(s1)).toThrow("not known here");
  expect(status(s4).headOffset).toBe(status(parts.reference.document.leader!).headOffset);
  cluster.settle();
});

test("a swap whose coordinator dies before the result is stored is forgotten, though its leader leads", () => {
  const cluster = withSpare();
  const { scheduler, parts } = cluster;
  const { document } = parts.reference;
  const [s1, , , s4] = cluster.servers.map(({ address }) => address);
  const led = () => scheduler.trace.lines().filter((line) => line.endsWith("call BecomeLeader")).length;
  const before = led();
  cluster.coordinator.node.life!.spawn("swap", () => parts.coordinator!.swap(s1!, s4!));
  scheduler.run({ untilMs: scheduler.nowMs + 60_000, until: () => led() > before });
  expect(parts.reference.document).toMatchObject({ status: "Election", ensemble: document.ensemble });
  cluster.coordinator.end("killed", 100);
  scheduler.complete("a while", () => scheduler.sleep(5_000));
  expect(parts.reference.document).toMatchObject({
    status: "SteadyState",
    ensemble: document.ensemble,
    removedNodes: [],
  });
});

test("they serve again after whatever has happened, as long as disks are kept", () => {
  for (let seed = 0; seed < 50; seed++) {
    new MixedCluster(seed, { ...REFERENCE, judged: "nothing" }).run();
  }
}, 120_000);
