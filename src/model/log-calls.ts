/** What a node's log is asked and answers, as plain data: see Log in ports.ts. */
import type { EntryId, Head, Offset, Term } from "./ids.ts";

/** What a leader has to know of its log to find where a follower's agrees with it (protocol/catch-up.ts). */
export interface LogShape {
  /** See ReplicaLog.base. */
  readonly base: Head;
  /** The last entry of each term that the log holds behind `base`, ascending: the head is the last one. */
  readonly termEnds: readonly EntryId[];
}

export interface StampRequest {
  /** The one to hold from now on; 0 = only what is held is checked. */
  readonly stamp: number;
  /** The last one that this node is known to hold. */
  readonly confirmedStamp: number;
}

export interface StampAnswer {
  /** The stamp held before. */
  readonly before: number;
  /** Whether all ids have ended. */
  readonly rolledBack: boolean;
}

/** What a leader asks of a follower whose log is not its own (safety.md §6). */
export interface Truncation {
  /** The term of the leader that asks. */
  readonly acceptedUnder: Term;
  readonly expectedHead: EntryId;
  /** The last entry that stays. */
  readonly to: Offset;
}

export interface LogStats {
  readonly bytes: number;
  readonly segments: number;
  readonly entriesAppended: number;
  readonly bytesAppended: number;
  readonly commits: number;
  /** Time that commits have taken, their syncs with them, in milliseconds. */
  readonly commitMs: number;
  /** The longest that commits have waited for upkeep in one go: a checkpoint, a roll, a trim, the watermark. */
  readonly upkeepMsMax: number;
}
