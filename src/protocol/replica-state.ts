/**
 * What a replica is, what may be asked of it, and what an answer may be: the words of protocol/replica.ts.
 *
 *     not-member ──> fenced ──> follower ──> following          (first append of the term seen)
 *                      │
 *                      └──> becoming-leader ──> leader <──> frozen
 *
 * NewTerm leads back to fenced from anywhere, the end of an id to not-member, a process start to fenced or not-member.
 *
 * Source: semantics.md §8.1 (Oxia's four statuses), safety.md §1, §3-§6 (the sub-states).
 */
import {
  EMPTY_HEAD,
  type EntryId,
  type Head,
  NO_OFFSET,
  NO_TERM,
  type Offset,
  type ReplicaId,
  type Term,
} from "../model/ids.ts";
import type { Reason } from "../model/refusal.ts";

/** No replica: an empty slot of an ensemble, or nothing that lives at an address. */
export const NO_REPLICA: ReplicaId = 0n;

export const STATUSES = [
  "not-member",
  "fenced",
  "follower",
  "following",
  "becoming-leader",
  "leader",
  "frozen",
] as const;
export type ReplicaStatus = (typeof STATUSES)[number];

/** A replica at an address. */
export interface Member {
  /** Internal address of the data server. */
  readonly server: string;
  /** NO_REPLICA in a slot that no election has filled yet. */
  readonly replicaId: ReplicaId;
}

/** Whom a leader replicates to: a cursor is kept by server, and replaced by one for another id there. */
export interface CursorKey extends Member {
  readonly observer: boolean;
  /** Shard id of the copy there: another one in a split, else the shard's own. */
  readonly targetShard: number;
}

/**
 * One shard's copy on one data server, as far as decisions need it.
 * Invariants: applied <= head.offset; verified <= head.offset once synced; head.term <= promise; led <= promise.
 */
export interface Replica {
  readonly status: ReplicaStatus;
  /** The id that lives here, NO_REPLICA for none. */
  readonly id: ReplicaId;
  /** Why the id before has ended; empty: none has. */
  readonly ended: string;
  /** Term in which the living id was minted. */
  readonly mintedTerm: Term;
  /** Highest term answered, durable. It outlives the id. */
  readonly promise: Term;
  /** Last term marked as led here, durable. */
  readonly led: Term;
  /** Last entry durable here. */
  readonly head: Head;
  readonly applied: Offset;
  /** What the leader of `promise` has verified here; NO_OFFSET after each fence. */
  readonly verified: Offset;
  /** Whether a Replicate stream is open. */
  readonly streaming: boolean;
  /** Whether a Handshake or NewTerm has come since the process started, with our fields if the coordinator is Varia's. */
  readonly introduced: boolean;
  /** The ensemble that BecomeLeader named; empty unless leading. */
  readonly members: readonly Member[];
  readonly cursors: readonly CursorKey[];
  /** The last term in which NewTerm without ids was refused because of damage (safety.md §11). */
  readonly refusedTerm: Term;
  /** The last term whose reference leader was asked, by NODE_IS_NOT_MEMBER, to send its log from 0 on (safety.md §11). */
  readonly askedAgainTerm: Term;
}

/** What may be asked, by name. An `undefined` field of ours means that the sender is a reference peer. */
export interface Requests {
  readonly NewTerm: {
    readonly term: Term;
    /** The listed id; NO_REPLICA: an empty slot. */
    readonly replicaId: ReplicaId | undefined;
    /** Last term in which that id was counted. */
    readonly countedTerm: Term;
    readonly adopt: boolean;
    /** A random id, used if one is minted. */
    readonly freshId: ReplicaId;
  };
  readonly BecomeLeader: {
    readonly term: Term;
    readonly replicaId: ReplicaId | undefined;
    readonly expectedHead: EntryId | undefined;
    readonly replicationFactor: number;
    /** The stored (new) ensemble; undefined from a reference coordinator. */
    readonly members: readonly Member[] | undefined;
    readonly followers: readonly { readonly server: string; readonly head: EntryId }[];
  };
  readonly AddFollower: CursorKey & { readonly term: Term; readonly byId: boolean; readonly head: EntryId };
  readonly Truncate: {
    readonly term: Term;
    readonly replicaId: ReplicaId | undefined;
    readonly keep: EntryId;
    readonly expectedHead: Head | undefined;
    /** The entry at `keep.offset` as this log has it; undefined where it has none. */
    readonly held: Head | undefined;
  };
  readonly OpenReplicate: {
    /** -1: not stated. */
    readonly term: Term;
    readonly replicaId: ReplicaId | undefined;
    /** What the leader has seen acked by this id. */
    readonly ackedOffset: Offset;
  };
  readonly Append: {
    /** -1: not stated. */
    readonly term: Term;
    /** Undefined when only a commit offset or a read round is told. Its `crc` is what the chain comes to with it. */
    readonly entry: Head | undefined;
    /** The entry before, as the leader has it; undefined from a reference leader. */
    readonly previous: Head | undefined;
    /** What a reference leader says of the chain there: proves that the entries before agree, never that they do not. */
    readonly previousEntryCrc: number | undefined;
    readonly commitOffset: Offset;
    /** The entries at `entry.offset - 1` and `entry.offset`, as this log has them, also if they are not synced yet. */
    readonly heldBefore: Head | undefined;
    readonly held: Head | undefined;
  };
  readonly SendSnapshot: {
    readonly term: Term;
    readonly replicaId: ReplicaId | undefined;
    /** Undefined from a reference leader, whose files mean nothing here. */
    readonly last: Head | undefined;
  };
  readonly DeleteShard: { readonly term: Term; readonly replicaId: ReplicaId | undefined };
  readonly FreezeShard: { readonly term: Term; readonly frozen: boolean };
  readonly RemoveObserver: { readonly term: Term; readonly server: string; readonly targetShard: number };
  readonly GetStatus: Record<never, never>;
}
export type RequestName = keyof Requests;

/** What the flow has to do beside making the next status durable. */
export interface Answers {
  /** `erase`: delete all data first. `ended`: the answer's field; empty: the id asked for counts. */
  readonly NewTerm: { readonly erase: boolean; readonly ended: string };
  readonly BecomeLeader: { readonly acksNeeded: number };
  readonly AddFollower: { readonly cursor: "added" | "replaced" | "kept" };
  readonly Truncate: { readonly keep: Offset };
  readonly OpenReplicate: { readonly ackedOffset: Offset };
  /**
   * `write`: the entry is not held yet. `cut`: what is held from its offset on is to be cut off first. Ack only what is
   * both durable and verified; apply up to `applyUpTo`, inclusive.
   */
  readonly Append: { readonly write: boolean; readonly cut: boolean; readonly applyUpTo: Offset };
  readonly SendSnapshot: { readonly last: Head };
  readonly DeleteShard: { readonly erase: boolean };
  readonly FreezeShard: { readonly headOffset: Offset };
  readonly RemoveObserver: { readonly removed: boolean };
  readonly GetStatus: { readonly status: "NOT_MEMBER" | "FENCED" | "FOLLOWER" | "LEADER" };
}

export interface Accepted<Name extends RequestName> {
  readonly accepted: true;
  readonly next: Replica;
  readonly answer: Answers[Name];
}

/** Turned down. `next` is the replica as it was, unless what was learned ends its id. `alarm`: stop it and call the operator. */
export interface Refused {
  readonly accepted: false;
  readonly next: Replica;
  readonly reason: Reason;
  readonly message: string;
  readonly alarm: boolean;
}

export type Outcome<Name extends RequestName> = Accepted<Name> | Refused;
export type Rule<Name extends RequestName> = (replica: Replica, request: Requests[Name]) => Outcome<Name>;

export function accept<Name extends RequestName>(next: Replica, answer: Answers[Name]): Accepted<Name> {
  return { accepted: true, next, answer };
}

export function refuse(next: Replica, reason: Reason, message: string, alarm = false): Refused {
  return { accepted: false, next, reason, message, alarm };
}

/** A place where no replica has ever lived. */
export const NOTHING: Replica = {
  status: "not-member",
  id: NO_REPLICA,
  ended: "",
  mintedTerm: NO_TERM,
  promise: NO_TERM,
  led: NO_TERM,
  head: EMPTY_HEAD,
  applied: NO_OFFSET,
  verified: NO_OFFSET,
  streaming: false,
  introduced: false,
  members: [],
  cursors: [],
  refusedTerm: NO_TERM,
  askedAgainTerm: NO_TERM,
};

/** safety.md §1: deletion, a wipe or damage ends an id, durably and before anything is answered. The promise stays. */
export function endReplica(replica: Replica, why: string): Replica {
  const { promise, introduced, refusedTerm } = replica;
  return { ...NOTHING, ended: why, promise, introduced, refusedTerm };
}

/** What a process finds when it starts: it leads nothing, has verified nothing, and takes no stream before it is introduced. */
export function afterStart(replica: Replica): Replica {
  const { id, ended, mintedTerm, promise, led, head, applied } = replica;
  const status = id === NO_REPLICA || promise === NO_TERM ? "not-member" : "fenced";
  return { ...NOTHING, status, id, ended, mintedTerm, promise, led, head, applied };
}

/** Negative: `a` is the worse head. Only (term, offset) order heads. */
export function compareHeads(a: EntryId, b: EntryId): number {
  return a.term - b.term || a.offset - b.offset;
}

export function sameHead(a: Head, b: Head): boolean {
  return compareHeads(a, b) === 0 && a.crc === b.crc;
}
