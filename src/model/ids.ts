/**
 * The words of the replicated log. All are plain numbers: checked to be safe integers at the edge (wire/reader.ts),
 * since bigint arithmetic costs some twenty times as much.
 */
import type { Bytes } from "../lib/bytes.ts";

/** Leadership number of a shard: raised only by who elects. -1 = none yet. */
export type Term = number;
/** Position in a shard's log, dense from 0. -1 = none yet. */
export type Offset = number;
/** Shard id, unique in a cluster, at least 0. */
export type ShardId = number;
/** Log offset of the entry that created the session. */
export type SessionId = number;
/** Wall-clock milliseconds since the Unix epoch, unsigned. */
export type Timestamp = number;
/** Random, 63 bits, never 0: one life of one shard's copy on one data server (safety.md §1). */
export type ReplicaId = bigint;

export const NO_TERM: Term = -1;
export const NO_OFFSET: Offset = -1;

export interface EntryId {
  readonly term: Term;
  readonly offset: Offset;
}

/** The last durable entry of a log: its id and the value of the CRC chain there. */
export interface Head extends EntryId {
  /** Masked CRC-32C chained over all entries up to this one; 0 on an empty log that starts at offset 0. */
  readonly crc: number;
}

export const EMPTY_HEAD: Head = { term: NO_TERM, offset: NO_OFFSET, crc: 0 };

export interface LogEntry extends EntryId {
  /** When the leader proposed it; every replica applies with this time. */
  readonly timestamp: Timestamp;
  /** A serialised `proto.LogEntryValue`, kept verbatim. */
  readonly value: Bytes;
}
