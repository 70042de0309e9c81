import { expect, test } from "bun:test";
import fc from "fast-check";
import { CLUSTER_KEY, type JsonObject, joinStatus, splitStatus } from "../model/status-entries.ts";
import type { MetadataChanges } from "../ports.ts";
import {
  type ClusterStatus,
  type DataServerIdentity,
  decodeStatus,
  type Member,
  type NamespaceStatus,
  SHARD_STATUSES,
  type ShardMetadata,
  SPLIT_PHASES,
  type SplitMetadata,
  statusChanges,
} from "./status-document.ts";

const RUNS = { numRuns: 200 };

/** As JSON has it: there is no -0. */
const unknown = fc
  .dictionary(fc.constantFrom("later", "zone", "x y"), fc.jsonValue({ maxDepth: 1 }))
  .map((object) => JSON.parse(JSON.stringify(object)) as JsonObject);
const integer = fc.oneof(fc.nat(9), fc.maxSafeNat());
const term = fc.oneof(fc.constant(-1), integer);
const uint32 = fc.nat(0xffff_ffff);

function identity(port: number): fc.Arbitrary<DataServerIdentity> {
  return fc.record({
    name: fc.option(fc.constant(`server-${port}`), { nil: undefined }),
    public: fc.constant(`host:${port + 1000}`),
    internal: fc.constant(`host:${port}`),
    unknown,
  });
}

function members(listed: boolean): fc.Arbitrary<Member[]> {
  const ids = fc.record({
    replicaId: fc.oneof(fc.constant(0n), fc.bigInt(1n, (1n << 63n) - 1n)),
    mintedTerm: term,
    countedTerm: term,
  });
  const own = listed ? ids : fc.constant({ replicaId: undefined, mintedTerm: -1, countedTerm: -1 });
  const ports = fc.uniqueArray(fc.nat(9), { maxLength: 4 });
  return ports.chain((list) =>
    fc.tuple(...list.map((port) => fc.tuple(identity(port), own).map(([server, ours]) => ({ ...server, ...ours })))),
  );
}

const split: fc.Arbitrary<SplitMetadata> = fc.record({
  phase: fc.constantFrom(...SPLIT_PHASES),
  parentShardId: integer,
  childShardIds: fc.array(integer, { maxLength: 2 }),
  splitPoint: uint32,
  snapshotOffset: term,
  parentTermAtBootstrap: term,
  childLeadersAtBootstrap: fc
    .uniqueArray(integer, { maxLength: 2 })
    .map((ids) => new Map(ids.map((id) => [id, "h:1"]))),
  unknown,
});

const shard: fc.Arbitrary<ShardMetadata> = fc.boolean().chain((listed) =>
  fc
    .record({
      status: fc.constantFrom(...SHARD_STATUSES),
      term,
      leader: fc.option(identity(0), { nil: undefined }),
      ensemble: members(listed),
      formerEnsemble: fc.option(members(listed), { nil: undefined }),
      observers: members(listed),
      removedNodes: fc.array(identity(3), { maxLength: 1 }),
      pendingDeleteShardNodes: members(true),
      int32HashRange: fc
        .tuple(uint32, uint32)
        .map(([a, b]) => ({ minInclusive: Math.min(a, b), maxInclusive: Math.max(a, b) })),
      split: fc.option(split, { nil: undefined }),
      adoptedTerm: fc.option(term, { nil: undefined }),
      unknown,
    })
    .map((made) => {
      const [first] = made.ensemble;
      const steady = made.status === "SteadyState" && first !== undefined;
      if (!steady) return { ...made, status: made.status === "SteadyState" ? "Election" : made.status };
      const { name, public: address, internal, unknown: rest } = first;
      return { ...made, leader: { name, public: address, internal, unknown: rest }, formerEnsemble: undefined };
    }),
);

const status: fc.Arbitrary<ClusterStatus> = fc
  .record({
    spaces: fc.uniqueArray(
      fc.tuple(fc.constantFrom("default", "a/b", "é", "__proto__"), uint32, unknown, fc.array(shard, { maxLength: 3 })),
      { selector: ([name]) => name, maxLength: 3 },
    ),
    serverIdx: uint32,
    instanceId: fc.string(),
    stampsReserved: integer,
    stamps: fc.dictionary(fc.constantFrom("host:1", "host:2"), integer),
    unknown,
  })
  .map(({ spaces, stamps, ...rest }) => {
    let id = 0;
    const namespaces = spaces.map(([name, replicationFactor, others, shards]): [string, NamespaceStatus] => [
      name,
      { replicationFactor, unknown: others, shards: new Map(shards.map((one) => [id++, one])) },
    ]);
    const confirmedStamps = new Map(Object.entries(stamps));
    return { ...rest, confirmedStamps, shardIdGenerator: id, namespaces: new Map(namespaces) };
  });

function applied(entries: ReadonlyMap<string, string>, changes: MetadataChanges): Map<string, string> {
  const next = new Map(entries);
  for (const [key, text] of changes) {
    if (text === undefined) next.delete(key);
    else next.set(key, text);
  }
  return next;
}

test("any status is read as it was written, also from Oxia's one document", () => {
  fc.assert(
    fc.property(status, (cluster) => {
      const entries = applied(new Map(), statusChanges(undefined, cluster));
      expect(decodeStatus(entries)).toEqual(cluster);
      expect(decodeStatus(splitStatus(joinStatus(entries)))).toEqual(cluster);
    }),
    RUNS,
  );
}, 30_000);

test("changes lead from any status to any other, and name nothing that stays", () => {
  fc.assert(
    fc.property(status, status, (before, after) => {
      const entries = applied(new Map(), statusChanges(undefined, before));
      expect(decodeStatus(applied(entries, statusChanges(before, after)))).toEqual(after);
      expect(statusChanges(before, before).size).toBe(0);
    }),
    RUNS,
  );
}, 30_000);

/** A cluster of one namespace with a shard 0 of these fields. */
function withShard(fields: JsonObject, cluster: JsonObject = {}): ClusterStatus {
  const document = {
    shardIdGenerator: 1,
    ...cluster,
    namespaces: { default: { replicationFactor: 3, shards: { 0: { int32HashRange: { max: 9 }, ...fields } } } },
  };
  return decodeStatus(splitStatus(document));
}

test("one shard's change is one entry", () => {
  const before = withShard({ status: 2, term: 3 });
  const space = before.namespaces.get("default")!;
  const after = {
    ...before,
    namespaces: new Map([["default", { ...space, shards: new Map([[0, { ...space.shards.get(0)!, term: 4 }]]) }]]),
  };
  expect([...statusChanges(before, after).keys()]).toEqual(["shard/0/default"]);
  expect([...statusChanges(before, { ...before, serverIdx: 1 }).keys()]).toEqual([CLUSTER_KEY]);
});

test("an empty store is an empty cluster", () => {
  expect(decodeStatus(new Map())).toEqual({
    namespaces: new Map(),
    shardIdGenerator: 0,
    serverIdx: 0,
    instanceId: "",
    stampsReserved: 0,
    confirmedStamps: new Map(),
    unknown: {},
  });
});

test("numbers may be text and enum values numbers, as in Oxia's YAML and in ProtoJSON", () => {
  const server = { public: "h:1", internal: "h:2" };
  const common = { leader: server, ensemble: [server] };
  const expected = withShard({ ...common, status: 1, term: 4, split: { phase: 2 } });
  expect(withShard({ ...common, status: "SteadyState", term: "4", split: { phase: "Cutover" } })).toEqual(expected);
  expect(expected.namespaces.get("default")?.shards.get(0)?.status).toBe("SteadyState");
});

test("what is no status is refused with the path of what is wrong", () => {
  const server = { internal: "h:2" };
  const ours = { ...server, replicaId: "5" };
  const wrong: [JsonObject, string][] = [
    [{ status: "Steady" }, "status is not one of ShardStatusUnknown, SteadyState"],
    [{ status: 4 }, "status is not one of"],
    [{ term: "x" }, "term is not a whole number from -1"],
    [{ term: -2 }, "term is not a whole number from -1"],
    [{ term: 1.5 }, "term is not a whole number"],
    [{ term: "9007199254740993" }, "term is not a whole number"],
    [{ ensemble: {} }, "ensemble is not a list"],
    [{ ensemble: [server, 5] }, "ensemble.1 is not an object"],
    [{ ensemble: [{ public: "h:1" }] }, "ensemble.0.internal is missing"],
    [{ ensemble: [{ ...server, name: 5 }] }, "ensemble.0.name is not text"],
    [{ ensemble: [{ ...server, replicaId: 5 }] }, "ensemble.0.replicaId is not a decimal number"],
    [{ ensemble: [{ ...server, replicaId: "9223372036854775808" }] }, "ensemble.0.replicaId is not a decimal number"],
    [{ ensemble: [ours, ours] }, "ensemble names one twice"],
    [{ ensemble: [ours, { internal: "h:3" }] }, "ensemble has members with a replicaId and members without one"],
    [{ formerEnsemble: [ours], ensemble: [server] }, "ensemble has members with a replicaId and"],
    [{ status: 1, ensemble: [server] }, "leader is missing from a shard in SteadyState"],
    [{ status: 1, leader: server, ensemble: [{ internal: "h:3" }] }, "leader is not in the ensemble"],
    [{ status: 1, leader: server, ensemble: [ours], formerEnsemble: [ours] }, "formerEnsemble stands on a shard"],
    [{ int32HashRange: { min: 10, max: 9 } }, "int32HashRange.max is not a whole number from 10"],
    [{ int32HashRange: { max: 4294967296 } }, "int32HashRange.max is not a whole number from 0 to 4294967295"],
    [{ split: { childLeadersAtBootstrap: { x: "h:1" } } }, "split.childLeadersAtBootstrap.x is not a whole number"],
  ];
  for (const [fields, message] of wrong) {
    expect(() => withShard(fields)).toThrow(`cluster status: namespaces.default.shards.0.${message}`);
  }
  expect(() => withShard({}, { shardIdGenerator: 0 })).toThrow("shards.0 is not below shardIdGenerator");
  expect(() => withShard({}, { confirmedStamps: { "h:1": -1 } })).toThrow("confirmedStamps.h:1 is not a whole number");
  expect(() => withShard({}, { instanceId: 5 })).toThrow("instanceId is not text");
});
