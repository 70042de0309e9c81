/** Each rule of the diagnosis passes where all is well, and finds what it is there to find. */
import { expect, test } from "bun:test";
import { clusterOf, eventOf, internalOf } from "../test/harness/fake-inspect.ts";
import { diagnose, type Evidence, type Outcome, RULE_NAMES } from "./diagnosis.ts";
import type { ClusterStatus, ReplicaStatus, ShardStatus } from "./view.ts";

const NOW_MS = 1_790_000_000_000;

function evidence(differs: Partial<Evidence> = {}): Evidence {
  return { status: clusterOf(4), events: [eventOf(1)], nowMs: NOW_MS, ...differs };
}

const changed = (change: (shard: ShardStatus, nth: number) => Partial<ShardStatus>): ClusterStatus => {
  const { shards } = clusterOf(4);
  return clusterOf(4, { shards: shards.map((shard, nth) => ({ ...shard, ...change(shard, nth) })) });
};
const replica = (differs: Partial<ReplicaStatus>) =>
  changed(({ replicas }, nth) =>
    nth > 0 ? {} : { replicas: replicas.map((one, at) => (at === 2 ? { ...one, ...differs } : one)) },
  );

/** For each rule, what makes it warn or fail, and words of what it says then. */
const WRONG: Readonly<Record<string, readonly [Outcome, Partial<Evidence>, string]>> = {
  "every shard has a leader": [
    "fail",
    { status: changed((_, nth) => (nth === 1 ? { leader: "" } : {})) },
    "no leader: default/1",
  ],
  "every server answers": [
    "fail",
    {
      status: clusterOf(4, {
        servers: clusterOf(4).servers.map((one) => ({ ...one, available: one.name !== "s2", reason: "refused" })),
      }),
    },
    "away: s2 (refused)",
  ],
  "a server may fail": ["fail", { status: clusterOf(4, { faultTolerance: 0 }) }, "none may"],
  "every replica lives": [
    "warn",
    { status: replica({ status: "not-member", reason: "its disk was wiped" }) },
    `default/0 at ${internalOf("s3")} (its disk was wiped)`,
  ],
  "every replica keeps up": ["warn", { status: replica({ lagEntries: 10_001n }) }, "10001 entries"],
  "stored files have been scanned": ["warn", { status: replica({ scanned: false }) }, "1 replicas serve"],
  "no change hangs": [
    "warn",
    { status: changed(() => ({ change: "moving a to b: b is not available" })) },
    "b is not available",
  ],
  "leaders are spread": [
    "warn",
    {
      status: clusterOf(4, {
        servers: clusterOf(4).servers.map((one) => ({ ...one, leaders: one.name === "s1" ? 4 : 0 })),
      }),
    },
    "0 to 4 a server",
  ],
  "hashes are covered": ["fail", { status: clusterOf(4, { shards: clusterOf(4).shards.slice(1) }) }, "not in default"],
  "leaders stay": [
    "warn",
    { events: Array.from({ length: 6 }, (_, nth) => eventOf(nth + 1)) },
    "default/0: 6 elections in ten minutes",
  ],
};

test("where all is well every rule passes, and asks for nothing", () => {
  for (const { rule, outcome, next } of diagnose(evidence())) expect([rule, outcome, next]).toEqual([rule, "pass", ""]);
});

test("each rule finds what it is there to find, says what to do, and comes first", () => {
  expect(Object.keys(WRONG).sort()).toEqual([...RULE_NAMES].sort());
  for (const [rule, [outcome, differs, words]] of Object.entries(WRONG)) {
    const findings = diagnose(evidence(differs));
    const found = findings.find((finding) => finding.rule === rule)!;
    expect([rule, found.outcome, found.what]).toEqual([
      rule,
      outcome,
      expect.stringContaining(words) as unknown as string,
    ]);
    expect(found.next).not.toBe("");
    expect(findings[0]!.outcome).not.toBe("pass");
  }
});

test("shards that are being deleted, elections of long ago and a cluster of nothing are no findings", () => {
  const deleting = changed(() => ({ leader: "", change: "it is being deleted: s1 is not available" }));
  const rules = diagnose(evidence({ status: deleting })).filter(({ outcome }) => outcome !== "pass");
  expect(rules.map(({ rule }) => rule)).toEqual(["no change hangs"]);
  const old = Array.from({ length: 9 }, (_, nth) => eventOf(nth + 1));
  expect(
    diagnose(evidence({ events: old, nowMs: NOW_MS + 3_600_000 })).every(({ outcome }) => outcome === "pass"),
  ).toBe(true);
  const empty = clusterOf(0, { servers: [], faultTolerance: 0 });
  expect(diagnose(evidence({ status: empty, events: [] })).every(({ outcome }) => outcome === "pass")).toBe(true);
});

test("many places are counted, not named", () => {
  const { shards } = clusterOf(100);
  const status = clusterOf(100, { shards: shards.map((shard) => ({ ...shard, leader: "" })) });
  expect(diagnose(evidence({ status }))[0]!.what).toEndWith("; and 95 more");
});
