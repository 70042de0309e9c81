/** What pages of records need of a namespace: which there are, a client of it, and its shards. */
import { ListNamespaces } from "./admin.ts";
import { type Asked, PageError } from "./page.ts";
import { query } from "./parts/format.ts";
import { type ShardRoute, shardRoutes } from "./shard-routes.ts";
import { clusterStatus, shardState } from "./view.ts";

/** Ranges of shards change when a shard is split, and never otherwise. */
const RANGES_AGE_MS_MAX = 10_000;

export async function namespacesOf({ inspect }: Pick<Asked, "inspect">) {
  const { namespaces } = await inspect.calls.call(ListNamespaces, {});
  return namespaces.flatMap(({ namespace }) => (namespace === undefined ? [] : [namespace]));
}

/** One of each shard; none where there is no such namespace. */
export async function routesOf({ inspect }: Pick<Asked, "inspect">, namespace: string): Promise<ShardRoute[]> {
  const { shards } = await clusterStatus({ inspect, maxAgeMs: RANGES_AGE_MS_MAX });
  return shardRoutes(shards.filter((shard) => shard.namespace === namespace && shardState(shard) !== "deleting"));
}

/** Where a record is: by its key alone, by the partition key that it was written with, or by the shard that holds it. */
export interface RecordPlace {
  readonly namespace: string;
  readonly key: string;
  readonly partitionKey?: string;
  readonly shard?: bigint | string;
}

type More = Readonly<Record<string, string | number | undefined>>;

/** `more`: further fields of the address. */
export function recordAddress(place: RecordPlace, more: More = {}): string {
  return `/keys/record${recordQuery(place, more)}`;
}

/** Of its value, as a file. */
export const VALUE_PATH = "/keys/value";

export function valueAddress(place: RecordPlace, more: More = {}): string {
  return `${VALUE_PATH}${recordQuery(place, more)}`;
}

function recordQuery({ namespace, key, partitionKey, shard }: RecordPlace, more: More): string {
  return query({ namespace, key, partitionKey, shard, ...more });
}

/** Values of keys with some prefixes are shown to admins alone, who ask for them. */
export function isMasked({ inspect }: Pick<Asked, "inspect">, key: string): boolean {
  return inspect.masked.some((prefix) => key.startsWith(prefix));
}

/** A shard's id out of an address; undefined: none is given. */
export function shardIdOf(text: string): bigint | undefined {
  if (text === "") return undefined;
  if (!/^\d{1,18}$/.test(text)) throw new PageError(400, `"${text}" is not the id of a shard.`);
  return BigInt(text);
}
