/**
 * What clients are told: which shard owns which key hashes, and who leads it. The hash of a key is the low 32 bits of XXH3-64 (seed 0) of its partition key, or of
 * the key; ranges are inclusive at both ends and cover 0…0xFFFFFFFF without gap or overlap.
 *
 * Source: semantics.md §6.
 */
import { assert } from "../lib/assert.ts";
import type { ShardId } from "../model/ids.ts";
import type { ShardAssignment, ShardAssignments } from "../model/peer-messages.ts";

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

/** A shard as the coordinator's store has it, as far as clients are told of it. */
export interface PublishableShard {
  readonly shard: ShardId;
  /** Public address; empty while nobody leads it. */
  readonly leader: string;
  readonly range: HashRange;
  /** It is being deleted, or is the child of a split that is not done: clients do not hear of it. */
  readonly hidden: boolean;
}

/** The full set. A namespace without a shard that may be told is not in it: what is told covers every hash, or nothing. */
export function shardAssignments(
  namespaces: Iterable<readonly [namespace: string, shards: Iterable<PublishableShard>]>,
  authorities: Iterable<string>,
): ShardAssignments {
  const told = new Map<string, readonly ShardAssignment[]>();
  for (const [namespace, shards] of namespaces) {
    const visible = [...shards].filter(({ hidden }) => !hidden);
    if (visible.length === 0) continue;
    const assignments = visible.map(({ shard, leader, range }) => ({
      shard,
      leader,
      minHashInclusive: range.minInclusive,
      maxHashInclusive: range.maxInclusive,
    }));
    told.set(namespace, assignments);
  }
  return { namespaces: told, allowedAuthorities: [...new Set(authorities)].sort() };
}

/** Whether both say the same: a set that is sent twice costs every client a look at it, and Python's its last. */
export function sameAssignments(a: ShardAssignments, b: ShardAssignments): boolean {
  if (a.namespaces.size !== b.namespaces.size || !sameTexts(a.allowedAuthorities, b.allowedAuthorities)) return false;
  return [...a.namespaces].every(([namespace, shards]) => {
    const others = b.namespaces.get(namespace);
    return others?.length === shards.length && shards.every((shard, index) => sameAssignment(shard, others[index]!));
  });
}

function sameAssignment(a: ShardAssignment, b: ShardAssignment): boolean {
  return (
    a.shard === b.shard &&
    a.leader === b.leader &&
    a.minHashInclusive === b.minHashInclusive &&
    a.maxHashInclusive === b.maxHashInclusive
  );
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, index) => text === b[index]);
}
