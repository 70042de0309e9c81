/** Reference peers among themselves: they elect, replicate, and go on after a leader's end, as far as their rules allow. */
import { expect, test } from "bun:test";
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

test("they serve again after whatever has happened, as long as disks are kept", () => {
  for (let seed = 0; seed < 100; seed++) {
    new MixedCluster(seed, { ...REFERENCE, judged: "nothing" }).run();
  }
});
