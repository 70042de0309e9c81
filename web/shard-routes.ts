/**
 * A partition key for each shard, so that one shard can be asked by the client API: results of several shards are merged
 * in an order that is not the one in which they lie (semantics.md §2.3), and leaps need that one. It is also how a record
 * is found whose partition key is not known: servers store it, and tell nobody (protocol.md §3).
 */
export interface HashRange {
  readonly minHashInclusive: number;
  readonly maxHashInclusive: number;
}

/** A shard, and a partition key that leads to it. */
export interface ShardRoute extends HashRange {
  readonly shard: bigint;
  readonly partitionKey: string;
}

/** Tries for each shard; the smallest of 10,000 shards is missed with a chance of e⁻²⁰. */
const TRIES_PER_SHARD = 20;

/** In the order of the shards. Throws as partitionKeys does. */
export function shardRoutes(shards: readonly (HashRange & { readonly shard: bigint })[]): ShardRoute[] {
  const keys = partitionKeys(shards);
  return shards.map(({ shard, minHashInclusive, maxHashInclusive }, nth) => {
    return { shard, partitionKey: keys[nth]!, minHashInclusive, maxHashInclusive };
  });
}

/** Whether a key, or a partition key, is one of the shard's. */
export function leadsTo({ minHashInclusive, maxHashInclusive }: HashRange, key: string): boolean {
  const hash = hashOf(key);
  return minHashInclusive <= hash && hash <= maxHashInclusive;
}

/** A text for each range whose hash lies in it. Throws when there is none to be found: the ranges are no namespace's. */
export function partitionKeys(ranges: readonly HashRange[]): string[] {
  const keys = new Map<HashRange, string>();
  const sorted = [...ranges].sort((a, b) => a.minHashInclusive - b.minHashInclusive);
  const triesMax = 1_000 + TRIES_PER_SHARD * ranges.length * Math.ceil(Math.log2(ranges.length + 1));
  for (let nth = 0; keys.size < ranges.length && nth < triesMax; nth++) {
    const key = `p${nth}`;
    const hash = hashOf(key);
    const at = sorted.findLastIndex(({ minHashInclusive }) => minHashInclusive <= hash);
    const range = sorted[at];
    if (range !== undefined && hash <= range.maxHashInclusive && !keys.has(range)) keys.set(range, key);
  }
  if (keys.size < ranges.length) throw new Error("a shard has too few hashes to be asked by itself");
  return ranges.map((range) => keys.get(range)!);
}

function hashOf(key: string): number {
  return Number(BigInt.asUintN(32, Bun.hash.xxHash3(key)));
}
