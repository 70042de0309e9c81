import { expect, test } from "bun:test";
import { CLUSTER_KEY, joinStatus, parseShardKey, type StatusEntries, shardKey, splitStatus } from "./status-entries.ts";

const DOCUMENT = {
  instanceId: "one",
  later: [1, { x: null }],
  namespaces: {
    default: { replicationFactor: 3, other: true, shards: { 0: { term: "1" }, 7: { term: "2", more: [] } } },
    "a/b": { shards: { 3: {} } },
    none: { shards: {} },
  },
};

test("a document is cut into an entry a shard and one for the rest, and joined again", () => {
  const entries = splitStatus(DOCUMENT);
  expect([...entries.keys()].sort()).toEqual([CLUSTER_KEY, "shard/0/default", "shard/3/a/b", "shard/7/default"]);
  expect(entries.get("shard/7/default")).toBe('{"term":"2","more":[]}');
  expect(joinStatus(entries)).toEqual(DOCUMENT);
  expect(joinStatus(new Map())).toEqual({});
  expect(splitStatus({})).toEqual(new Map([[CLUSTER_KEY, '{"namespaces":{}}']]));
});

test("keys of shards are read as they are written", () => {
  for (const namespace of ["default", "a/b", "", "\n", "__proto__"]) {
    expect(parseShardKey(shardKey(namespace, 12))).toEqual({ namespace, shard: 12 });
  }
  for (const key of [CLUSTER_KEY, "shard/", "shard/01/x", "shard/-1/x", "shard/9999999999999999/x", "shard/1"]) {
    expect(parseShardKey(key)).toBeUndefined();
  }
});

test("what is no status document is refused with the path", () => {
  const wrong: [unknown, string][] = [
    ["text", "the document is not an object"],
    [{ namespaces: [] }, "namespaces is not an object"],
    [{ namespaces: { a: 1 } }, "namespaces.a is not an object"],
    [{ namespaces: { a: { shards: { 0: "x" } } } }, "namespaces.a.shards.0 is not an object"],
    [{ namespaces: { a: { shards: { x: {} } } } }, "namespaces.a.shards.x is not named by a shard id"],
    [
      { namespaces: { a: { shards: { 0: {} } }, b: { shards: { 0: {} } } } },
      "namespaces.b.shards.0 is a shard of a too",
    ],
  ];
  for (const [document, message] of wrong) expect(() => splitStatus(document as never)).toThrow(message);
  const entries: [StatusEntries, string][] = [
    [new Map([["other", "{}"]]), "other is no key"],
    [new Map([["shard/0/a", "{}"]]), "shard/0/a is a shard of a namespace that is not there"],
    [new Map([[CLUSTER_KEY, "{"]]), "cluster is not JSON"],
    [new Map([[CLUSTER_KEY, "[]"]]), "cluster is not an object"],
  ];
  for (const [map, message] of entries) expect(() => joinStatus(map)).toThrow(message);
});
