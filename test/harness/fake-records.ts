/** Records of a fake cluster's shards, and a client of them: each put is where its partition key, or its key, leads. */
import type { VariaClient } from "../../src/client/client.ts";
import { compareBytes, utf8 } from "../../src/lib/bytes.ts";
import { initialRanges } from "../../src/protocol/assignment.ts";
import { leadsTo, shardRoutes } from "../../web/shard-routes.ts";

export interface FakeRecord {
  readonly key: string;
  readonly value: string | Uint8Array;
  readonly partitionKey?: string;
  readonly secondaryIndexKey?: string;
}

interface Asked {
  readonly partitionKey?: string;
  readonly startInclusive?: string | Uint8Array;
  readonly endExclusive?: string | Uint8Array;
  readonly useIndex?: string;
}

/** As many shards as fake-inspect.ts has. */
const ROUTES = shardRoutes(
  initialRanges(4).map(({ minInclusive, maxInclusive }, nth) => {
    return { shard: BigInt(nth), minHashInclusive: minInclusive, maxHashInclusive: maxInclusive };
  }),
);

export function shardIdOf(key: string): bigint {
  return ROUTES.find((route) => leadsTo(route, key))!.shard;
}

/** `calls`: what was written or deleted. */
export function fakeRecords(records: readonly FakeRecord[]) {
  const calls: unknown[] = [];
  const version = { versionId: 7, modificationsCount: 0, createdTimestamp: 1, modifiedTimestamp: 1 };
  const shards = Map.groupBy(records, ({ key, partitionKey }) => shardIdOf(partitionKey ?? key));
  const result = ({ key, value, secondaryIndexKey }: FakeRecord) => {
    return { key, value: typeof value === "string" ? utf8(value) : value, version, secondaryIndexKey };
  };
  const asBytes = (key: string | Uint8Array) => (typeof key === "string" ? utf8(key) : key);
  const client = {
    async get(key: string | Uint8Array, { partitionKey }: Asked = {}) {
      if (typeof key !== "string") return undefined;
      const found = shards.get(shardIdOf(partitionKey ?? key))?.find((record) => record.key === key);
      return found === undefined ? undefined : result(found);
    },
    async *rangeScan({ partitionKey, startInclusive = "", endExclusive = "", useIndex }: Asked) {
      const sortKey = ({ key, secondaryIndexKey }: FakeRecord) =>
        utf8(useIndex === undefined ? key : (secondaryIndexKey ?? ""));
      const own = (shards.get(shardIdOf(partitionKey ?? "")) ?? [])
        .filter((record) => useIndex === undefined || record.secondaryIndexKey !== undefined)
        .filter((record) => compareBytes(sortKey(record), asBytes(startInclusive)) >= 0)
        .filter((record) => endExclusive.length === 0 || compareBytes(sortKey(record), asBytes(endExclusive)) < 0)
        .sort((a, b) => compareBytes(sortKey(a), sortKey(b)) || compareBytes(utf8(a.key), utf8(b.key)));
      yield* own.map(result);
    },
    put: async (...call: unknown[]) => void calls.push(["put", ...call]),
    delete: async (...call: unknown[]) => void calls.push(["delete", ...call]),
  };
  return { client: async () => client as unknown as VariaClient, calls };
}
