/**
 * The cluster's status document, cut into entries, so that a change of one shard writes that shard's entry alone:
 *
 *     cluster                     the document without its shards: {"namespaces": {"default": {…}}, …}
 *     shard/<id>/<namespace>      one shard: {"status": …, "term": …, …}
 *
 * A value is the text of one JSON object. Joined again they are Oxia's document, with shards under
 * `namespaces.<namespace>.shards.<id>`. Nothing here looks into a shard: fields that we do not know stay as they are.
 *
 * Invariants: a namespace stands in `cluster` before a shard of it does; a shard id stands in one namespace.
 *
 * Source: Oxia's ClusterStatus (protocol.md §3) in its JSON form.
 */
import type { ShardId } from "./ids.ts";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

export type StatusEntries = ReadonlyMap<string, string>;

export const CLUSTER_KEY = "cluster";

export function shardKey(namespace: string, shard: ShardId): string {
  return `shard/${shard}/${namespace}`;
}

/** Undefined for a key that is none of a shard. */
export function parseShardKey(key: string): { readonly namespace: string; readonly shard: ShardId } | undefined {
  const match = /^shard\/(0|[1-9]\d{0,15})\/(.*)$/s.exec(key);
  if (match === null || !Number.isSafeInteger(Number(match[1]))) return undefined;
  return { shard: Number(match[1]), namespace: match[2]! };
}

/** The document is not one of a cluster's status. `path` says where: `namespaces.default.shards.0.term`. */
export class StatusInvalid extends Error {
  override readonly name = "StatusInvalid";
  readonly path: string;
  readonly what: string;

  constructor(path: string, what: string) {
    super(`cluster status: ${path === "" ? "the document" : path} ${what}`);
    this.path = path;
    this.what = what;
  }
}

/** Cuts a document. Throws StatusInvalid when it is not of the form above. */
export function splitStatus(document: Json): Map<string, string> {
  const { namespaces = {}, ...rest } = objectAt("", document);
  const entries = new Map<string, string>();
  const seen = new Map<ShardId, string>();
  const bare: [string, Json][] = [];
  for (const [namespace, value] of Object.entries(objectAt("namespaces", namespaces))) {
    const at = `namespaces.${namespace}`;
    const { shards, ...others } = objectAt(at, value);
    bare.push([namespace, others]);
    for (const [id, shard] of Object.entries(objectAt(`${at}.shards`, shards ?? null))) {
      const path = `${at}.shards.${id}`;
      const key = parseShardKey(`shard/${id}/${namespace}`);
      if (key === undefined) throw new StatusInvalid(path, "is not named by a shard id");
      const other = seen.get(key.shard);
      if (other !== undefined) throw new StatusInvalid(path, `is a shard of ${other} too`);
      seen.set(key.shard, namespace);
      entries.set(shardKey(namespace, key.shard), JSON.stringify(objectAt(path, shard)));
    }
  }
  return new Map([[CLUSTER_KEY, JSON.stringify({ ...rest, namespaces: Object.fromEntries(bare) })], ...entries]);
}

/** Joins entries to a document; none at all are `{}`. Throws StatusInvalid when they are no such entries. */
export function joinStatus(entries: StatusEntries): JsonObject {
  const cluster = parseEntry(CLUSTER_KEY, entries.get(CLUSTER_KEY) ?? "{}");
  const shards = new Map<string, [string, Json][]>();
  const namespaces = objectAt("namespaces", cluster.namespaces ?? {});
  for (const namespace of Object.keys(namespaces)) shards.set(namespace, []);
  for (const [key, text] of entries) {
    if (key === CLUSTER_KEY) continue;
    const parsed = parseShardKey(key);
    if (parsed === undefined) throw new StatusInvalid(key, "is no key of an entry");
    const siblings = shards.get(parsed.namespace);
    if (siblings === undefined) throw new StatusInvalid(key, "is a shard of a namespace that is not there");
    siblings.push([String(parsed.shard), parseEntry(key, text)]);
  }
  if (entries.size === 0) return {};
  const whole = [...shards].map(([namespace, list]): [string, Json] => [
    namespace,
    { ...objectAt(`namespaces.${namespace}`, namespaces[namespace]!), shards: Object.fromEntries(list) },
  ]);
  return { ...cluster, namespaces: Object.fromEntries(whole) };
}

/** The object that an entry holds. */
export function parseEntry(key: string, text: string): JsonObject {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch (error) {
    throw new StatusInvalid(key, `is not JSON: ${(error as Error).message}`);
  }
  return objectAt(key, value);
}

/** Null counts as an empty object: that is how YAML writes one. */
export function objectAt(path: string, value: Json): JsonObject {
  if (value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new StatusInvalid(path, "is not an object");
  return value as JsonObject;
}
