/**
 * From a follower's head and the leader's log: attach, truncate, or send a snapshot.
 *
 * The leader compares (term, offset, chain CRC) with its own log, and again after each truncation, until they agree: a
 * truncation that is trusted unread leaves a foreign tail under the leader's entries. It never asks a follower to keep
 * an entry above its head, and never to clear its log: then the follower gets a snapshot.
 *
 * Source: safety.md §6; semantics.md §8.2 step 2, §8.6; TLA+ LeaderTruncateFollower.
 */
import { assert } from "../lib/assert.ts";
import { type EntryId, type Head, NO_OFFSET, type Offset } from "../model/ids.ts";

/** The shape of the leader's log. */
export interface LogShape {
  /** The entry before the first one that can still be read; offset NO_OFFSET while nothing is trimmed. */
  readonly base: EntryId;
  /** The last entry of each term that the log holds after `base`, ascending. */
  readonly termEnds: readonly EntryId[];
}

export type CatchUp =
  /** Send from the entry after `after` on. */
  | { readonly way: "attach"; readonly after: Offset }
  /** Truncate to `keep`, expecting the follower's head, then compare the head that it answers. */
  | { readonly way: "truncate"; readonly keep: EntryId }
  | { readonly way: "snapshot" };

/** A follower's head as it was told. BecomeLeader, and reference followers, leave the chain out: Append checks it then. */
export interface FollowerHead extends EntryId {
  readonly crc: number | undefined;
}

/** `own`: the leader's entry at the follower's head offset, undefined where it has none (or only above `base`). */
export function catchUp(log: LogShape, follower: FollowerHead, own: Head | undefined): CatchUp {
  if (follower.offset === NO_OFFSET) {
    return log.base.offset === NO_OFFSET ? { way: "attach", after: NO_OFFSET } : { way: "snapshot" };
  }
  assert(own === undefined || own.offset === follower.offset, "the leader's own entry at the follower's head");
  if (own?.term === follower.term && (follower.crc ?? own.crc) === own.crc) {
    return { way: "attach", after: follower.offset };
  }
  const highest = log.termEnds.findLast((end) => end.term <= follower.term);
  if (highest === undefined) return { way: "snapshot" };
  const offset = Math.min(highest.offset, follower.offset - 1);
  if (offset <= log.base.offset) return { way: "snapshot" };
  const { term } = log.termEnds.find((end) => end.offset >= offset)!;
  return { way: "truncate", keep: { term, offset } };
}
