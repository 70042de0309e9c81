/**
 * Which key hashes a shard owns. The hash of a key is the low 32 bits of XXH3-64 (seed 0) of its partition key, or of
 * the key; ranges are inclusive at both ends and cover 0…0xFFFFFFFF without gap or overlap.
 *
 * Source: semantics.md §6.
 */
import { assert } from "../lib/assert.ts";

export interface HashRange {
  readonly minInclusive: number;
  readonly maxInclusive: number;
}

const HASH_MAX = 0xffff_ffff;

/** The ranges of `count` new shards, at least 1: equal buckets, the last one takes what is left. */
export function initialRanges(count: number): HashRange[] {
  assert(Number.isInteger(count) && count >= 1, "shard count", count);
  const bucket = Math.floor(HASH_MAX / count) + 1;
  return Array.from({ length: count }, (_, index) => ({
    minInclusive: index * bucket,
    maxInclusive: index === count - 1 ? HASH_MAX : (index + 1) * bucket - 1,
  }));
}
