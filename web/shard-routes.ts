/**
 * A partition key for each shard, so that one shard can be asked by the client API: results of several shards are merged
 * in an order that is not the one in which they lie (semantics.md §2.3), and leaps need that one.
 */
export interface HashRange {
  readonly minHashInclusive: number;
  readonly maxHashInclusive: number;
}

/** Tries for each shard; the smallest of 10,000 shards is missed with a chance of e⁻²⁰. */
const TRIES_PER_SHARD = 20;

/** A text for each range whose hash lies in it. Throws when there is none to be found: the ranges are no namespace's. */
export function partitionKeys(ranges: readonly HashRange[]): string[] {
  const keys = new Map<HashRange, string>();
  const sorted = [...ranges].sort((a, b) => a.minHashInclusive - b.minHashInclusive);
  const triesMax = 1_000 + TRIES_PER_SHARD * ranges.length * Math.ceil(Math.log2(ranges.length + 1));
  for (let nth = 0; keys.size < ranges.length && nth < triesMax; nth++) {
    const key = `p${nth}`;
    const hash = Number(BigInt.asUintN(32, Bun.hash.xxHash3(key)));
    const at = sorted.findLastIndex(({ minHashInclusive }) => minHashInclusive <= hash);
    const range = sorted[at];
    if (range !== undefined && hash <= range.maxHashInclusive && !keys.has(range)) keys.set(range, key);
  }
  if (keys.size < ranges.length) throw new Error("a shard has too few hashes to be asked by itself");
  return ranges.map((range) => keys.get(range)!);
}

/** Shards that are asked at a time. */
const SHARDS_AT_ONCE = 16;

/** Visits all shards, some at a time; `routes`: a partition key of each. */
export async function eachShard(
  routes: readonly string[],
  visit: (partitionKey: string) => Promise<void>,
): Promise<void> {
  const left = [...routes];
  const work = async () => {
    for (let route = left.pop(); route !== undefined; route = left.pop()) await visit(route);
  };
  await Promise.all(Array.from({ length: Math.min(SHARDS_AT_ONCE, routes.length) }, work));
}
