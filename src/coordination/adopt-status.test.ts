import { expect, test } from "bun:test";
import { type Json, type JsonObject, splitStatus } from "../model/status-entries.ts";
import { adoptStatus, isForeign } from "./adopt-status.ts";
import { decodeStatus, EMPTY_SLOT, type ShardMetadata } from "./status-document.ts";

const SERVER = { public: "h:1", internal: "h:2" };
const STEADY = { status: 1, term: 4, leader: SERVER, ensemble: [SERVER], int32HashRange: { min: 0, max: 9 } };

function adopt(...shards: JsonObject[]) {
  const listed = Object.fromEntries(shards.map((shard, id): [string, Json] => [String(id), shard]));
  const before = decodeStatus(
    splitStatus({
      shardIdGenerator: shards.length,
      namespaces: { default: { replicationFactor: 1, shards: listed }, other: { shards: {} } },
    }),
  );
  const { status, notAdopted } = adoptStatus(before);
  const after = (id: number): ShardMetadata => status.namespaces.get("default")!.shards.get(id)!;
  return { before, status, notAdopted, after };
}

test("a shard of Oxia's in SteadyState gets empty slots, and remembers the term", () => {
  const { status, notAdopted, after } = adopt({ ...STEADY, pendingDeleteShardNodes: [{ internal: "h:3" }], later: 1 });
  expect(notAdopted).toEqual([]);
  expect(after(0)).toMatchObject({
    status: "SteadyState",
    term: 4,
    adoptedTerm: 4,
    ensemble: [{ internal: "h:2", replicaId: EMPTY_SLOT, mintedTerm: -1, countedTerm: -1 }],
    pendingDeleteShardNodes: [{ internal: "h:3", replicaId: EMPTY_SLOT }],
    unknown: { later: 1 },
  });
  expect(isForeign(after(0))).toBe(false);
  expect(adoptStatus(status)).toEqual({ status, notAdopted: [] });
  expect(adoptStatus(status).status).toBe(status);
});

test("any other shard of Oxia's is left as it is, with the reason", () => {
  const { notAdopted, after } = adopt(
    { ...STEADY, status: 2 },
    { ...STEADY, status: 0, term: -1 },
    { ...STEADY, status: 3 },
    { ...STEADY, split: { phase: 0, childShardIds: [1, 2] } },
    { ...STEADY, removedNodes: [{ internal: "h:3" }] },
    STEADY,
  );
  expect(notAdopted).toEqual(
    [
      "its status is Election, not SteadyState",
      "its status is ShardStatusUnknown, not SteadyState",
      "its status is Deleting, not SteadyState",
      "it takes part in a split",
      "its ensemble is being changed",
    ].map((why, shard) => ({ namespace: "default", shard, why })),
  );
  for (let id = 0; id < 5; id++) expect(isForeign(after(id))).toBe(true);
  expect(after(5).adoptedTerm).toBe(4);
});

test("a shard of ours is none to adopt, whatever its status and however empty its slots", () => {
  const slot = { ...SERVER, replicaId: "0" };
  const { before, status, notAdopted } = adopt(
    { ...STEADY, ensemble: [{ ...SERVER, replicaId: "77", mintedTerm: "1", countedTerm: "4" }] },
    { ...STEADY, status: 2, leader: null, ensemble: [slot] },
  );
  expect(notAdopted).toEqual([]);
  expect(status).toBe(before);
});
