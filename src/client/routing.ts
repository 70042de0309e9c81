/**
 * Operations that concern several shards, or whose shard is no more: a split hands a shard's hashes to its children, and
 * what waited for the parent goes on to them.
 */
import type { Bytes } from "../lib/bytes.ts";
import { compareAcrossShards, equalKeys, type WireKey } from "./keys.ts";
import type { GetOperation, Operation, Route } from "./operation.ts";
import { GetResult } from "./records.ts";
import { Comparison } from "./requests.ts";
import { type HashRange, hashesOf, type Shard, type ShardTable } from "./shard-table.ts";

export interface Router {
  table(): ShardTable;
  shardOf(key: WireKey): Shard;
}

interface Owner<O extends Operation> {
  adopt(operations: readonly O[], frame: Bytes): void;
}

/** Hands operations to the shards that now own what they are for; those for all of several shards are done when all are. */
export function reroute<O extends Operation>(
  operations: readonly O[],
  frame: Bytes,
  router: Router,
  ownerOf: (shard: Shard) => Owner<O>,
): void {
  const moved = new Map<Shard, O[]>();
  const move = (shard: Shard, operation: O) => {
    const others = moved.get(shard);
    if (others === undefined) moved.set(shard, [operation]);
    else others.push(operation);
  };
  for (const operation of operations) {
    const { route } = operation;
    if (isKey(route)) move(router.shardOf(route), operation);
    else for (const [shard, part] of partsOf(operation, router.table().within(route))) move(shard, part);
  }
  for (const [shard, its] of moved) ownerOf(shard).adopt(its, frame);
}

function isKey(route: Route): route is WireKey {
  return typeof route === "string" || route instanceof Uint8Array;
}

/** The operation once for each shard; the whole resolves when all parts have. */
function partsOf<O extends Operation>(operation: O, shards: readonly Shard[]): [Shard, O][] {
  const results: unknown[] = [];
  const whole = operation as Operation;
  const resolve = (value: unknown) => {
    results.push(value);
    if (results.length < shards.length) return;
    if (whole.kind === "get") whole.resolve(nearest(results as GetResult[], whole));
    else (whole.resolve as (value: unknown) => void)(value);
  };
  return shards.map((shard) => {
    const route: HashRange = hashesOf(shard);
    return [shard, { ...operation, route, resolve }];
  });
}

/** What decides among the records that several shards found. */
export type Search = Pick<GetOperation, "key" | "comparison" | "byIndex">;

/**
 * The best of the records that several shards found: the highest one for floor and lower, else the lowest. By an index
 * the records are compared by its keys, and those with one such key by their own, as a shard picks among its records:
 * the first of those that have the key asked for, else the one next to it.
 */
export function nearest(found: readonly (GetResult | undefined)[], search: Search): GetResult | undefined {
  const wantsHighest = search.comparison === Comparison.floor || search.comparison === Comparison.lower;
  let best: GetResult | undefined;
  for (const record of found) {
    if (record === undefined) continue;
    if (best === undefined) {
      best = record;
      continue;
    }
    const order = compareAcrossShards(sortKey(record), sortKey(best));
    if (order !== 0) {
      if (wantsHighest ? order > 0 : order < 0) best = record;
      continue;
    }
    const exact = search.comparison === Comparison.floor && equalKeys(sortKey(best), search.key);
    const tie = compareAcrossShards(GetResult.wireKeyOf(record), GetResult.wireKeyOf(best));
    if (wantsHighest && !exact ? tie > 0 : tie < 0) best = record;
  }
  return best;
}

function sortKey(record: GetResult): WireKey {
  return GetResult.secondaryKeyOf(record) ?? GetResult.wireKeyOf(record);
}

/** All results, or the first error, once every promise is settled: nothing goes on behind the caller's back. */
export async function allOf<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(promises);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<T>).value);
}
