/**
 * What a coordinator says to data servers, and a leader to followers: plain data, named as on the wire (protocol.md §5).
 *
 * A field that may be `undefined` is one of ours (numbers from 1000 up): its absence means that the sender is a reference
 * peer. A Varia sender always sets all of them. Answers carry ours only to those whose request did.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { EntryId, Head, LogEntry, Offset, ReplicaId, ShardId, Term } from "./ids.ts";
import type { KeySorting } from "./keys.ts";

/** "linearizable": by quorum rounds (safety.md §8). "leader": what the leader believes, as the reference does. */
export type ReadConsistency = "linearizable" | "leader";

/** What every leader of a shard has to know beside its log: the namespace's configuration. */
export interface TermOptions {
  readonly notificationsEnabled: boolean;
  readonly keySorting: KeySorting;
  readonly readConsistency: ReadConsistency;
}

export const FEATURES = ["DB_CHECKSUM", "VARIA_SAFETY"] as const;
export type Feature = (typeof FEATURES)[number];

/** A shard of a namespace, in one term. */
export interface ShardTerm {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly term: Term;
}

/** A replica at the internal address of its data server. */
export interface PeerReplica {
  readonly server: string;
  readonly replicaId: ReplicaId;
}

/** (term, offset) as the reference tells it, and the chain there from our own peers. */
export interface PeerHead extends EntryId {
  readonly crc: number | undefined;
}

// --- coordinator to data server -------------------------------------------------------------------------------

export interface HandshakeRequest {
  readonly instanceId: string;
  /** To be held from now on, durable before the answer; and the last one that this server has confirmed. */
  readonly stamp: number | undefined;
  readonly confirmedStamp: number | undefined;
}

export interface HandshakeResponse {
  readonly status: "BOUND" | "ALREADY_BOUND" | "MISMATCH";
  readonly features: readonly Feature[];
  /** What it held before this call. */
  readonly stamp: number | undefined;
}

export interface NewTermRequest extends ShardTerm {
  readonly options: TermOptions;
  /** The listed id; NO_REPLICA: an empty slot, mint one if none lives there. */
  readonly replicaId: ReplicaId | undefined;
  /** Last term in which that id was counted; NO_TERM: never. */
  readonly countedTerm: Term | undefined;
  readonly confirmedStamp: number | undefined;
  /** Give the data that stands there a new id (`recover` alone). */
  readonly adopt: boolean | undefined;
}

export interface NewTermResponse {
  readonly head: PeerHead;
  readonly replicaId: ReplicaId | undefined;
  /** Why the id that was asked for has ended; empty: it counts. */
  readonly ended: string | undefined;
  readonly mintedTerm: Term | undefined;
}

export interface BecomeLeaderRequest extends ShardTerm {
  readonly replicationFactor: number;
  /** Other members that answered, each with its head. Their ids stand in `members`. */
  readonly followers: readonly { readonly server: string; readonly head: EntryId }[];
  /** The features that all of the ensemble have. */
  readonly features: readonly Feature[];
  readonly replicaId: ReplicaId | undefined;
  readonly expectedHead: EntryId | undefined;
  /** The stored (new) ensemble, empty slots (NO_REPLICA) included: acks count over these. */
  readonly members: readonly PeerReplica[] | undefined;
  /** The old one while a change is in doubt: informs only. */
  readonly formerMembers: readonly PeerReplica[] | undefined;
}

export interface AddFollowerRequest extends ShardTerm {
  readonly server: string;
  readonly head: PeerHead;
  readonly observer: boolean;
  readonly replicaId: ReplicaId | undefined;
}

export interface GetStatusRequest {
  readonly shard: ShardId;
}

export interface GetStatusResponse {
  readonly term: Term;
  readonly status: "NOT_MEMBER" | "FENCED" | "FOLLOWER" | "LEADER";
  readonly headOffset: Offset;
  readonly commitOffset: Offset;
  readonly replicaId: ReplicaId | undefined;
  readonly ended: string | undefined;
  readonly promise: Term | undefined;
  readonly appliedOffset: Offset | undefined;
  /** Acked to this term's leader up to here. */
  readonly verifiedOffset: Offset | undefined;
  readonly headTerm: Term | undefined;
  readonly headCrc: number | undefined;
  /** Whether the scan of the key-value state is done. */
  readonly scanned: boolean | undefined;
  /** Whether the leader is frozen. */
  readonly frozen: boolean | undefined;
}

export interface FreezeShardRequest extends ShardTerm {
  readonly frozen: boolean;
}

export interface FreezeShardResponse {
  readonly headOffset: Offset;
}

export interface RemoveObserverRequest extends ShardTerm {
  readonly server: string;
  readonly targetShard: ShardId;
}

export interface DeleteShardRequest extends ShardTerm {
  readonly replicaId: ReplicaId | undefined;
}

/** Which shard owns which hashes and who leads it, for clients; a full set, replaced as a whole. */
export interface ShardAssignments {
  /** By namespace. */
  readonly namespaces: ReadonlyMap<string, readonly ShardAssignment[]>;
  /** Authorities that clients may call servers by. */
  readonly allowedAuthorities: readonly string[];
}

export interface ShardAssignment {
  readonly shard: ShardId;
  /** Public `host:port`; empty: the shard has no leader now. */
  readonly leader: string;
  readonly minHashInclusive: number;
  readonly maxHashInclusive: number;
}

// --- leader to follower ---------------------------------------------------------------------------------------

export interface TruncateRequest extends ShardTerm {
  /** Keep up to and including. */
  readonly keep: EntryId;
  readonly expectedHead: Head | undefined;
  readonly replicaId: ReplicaId | undefined;
}

export interface TruncateResponse {
  /** The follower's new head. From the reference its term is the request's, whatever the entry's. */
  readonly head: EntryId;
  /** Of the entry now at the head. */
  readonly entryTerm: Term | undefined;
  readonly headCrc: number | undefined;
}

/** One message of a Replicate stream. */
export interface Append {
  /** NO_TERM: not stated. */
  readonly term: Term;
  /** Absent: only a commit offset or a read round is told. */
  readonly entry: LogEntry | undefined;
  readonly commitOffset: Offset;
  /** The reference's field: chain value of the entry before. */
  readonly previousEntryCrc: number | undefined;
  readonly cumulativeAcksSupported: boolean;
  /** The entry before, as the leader has it. */
  readonly previousTerm: Term | undefined;
  readonly previousCrc: number | undefined;
  /** To be echoed. */
  readonly readRound: number | undefined;
  /** First message of a stream alone: whom it is for, and what the leader has seen acked by that id. */
  readonly ackedOffset: Offset | undefined;
  readonly replicaId: ReplicaId | undefined;
}

export interface Ack {
  /** Durable up to here, and verified by this term's leader. */
  readonly offset: Offset;
  /** Highest round seen. */
  readonly readRound: number | undefined;
  /** The follower's durable promise. */
  readonly promise: Term | undefined;
}

/** One message of a SendSnapshot stream: a "file" of its own each. The last one is empty and ends the snapshot. */
export interface SnapshotChunk {
  readonly term: Term;
  readonly name: string;
  readonly content: Bytes;
  readonly chunkIndex: number;
  readonly chunkCount: number;
  /** First chunk: the entry that the snapshot ends with, and whom it is for. */
  readonly last: Head | undefined;
  readonly replicaId: ReplicaId | undefined;
  /** End mark: what the state holds, to be compared. */
  readonly rowCount: number | undefined;
  readonly stateHash: bigint | undefined;
}

export interface SnapshotResponse {
  /** The snapshot's last offset. */
  readonly ackOffset: Offset;
}
