/**
 * All that lies outside the pure core. A port says what its caller may rely on; what crosses one is plain data, so
 * that a shard can move to another thread without a change above storage/. Adapters live in storage/, ops/ and rpc/; cli/
 * alone builds them. Each port has a contract suite in test/contract/, run on each adapter.
 */
import type { Bytes } from "./lib/bytes.ts";
import type { EntryId, Head, LogEntry, Offset, ReplicaId, ShardId, Term, Timestamp } from "./model/ids.ts";
import type { KeySorting } from "./model/keys.ts";
import type { LogShape, LogStats, StampAnswer, StampRequest, Truncation } from "./model/log-calls.ts";
import type {
  Ack,
  AddFollowerRequest,
  Append,
  BecomeLeaderRequest,
  DeleteShardRequest,
  FreezeShardRequest,
  FreezeShardResponse,
  GetStatusRequest,
  GetStatusResponse,
  HandshakeRequest,
  HandshakeResponse,
  NewTermRequest,
  NewTermResponse,
  RemoveObserverRequest,
  ShardAssignments,
  ShardTerm,
  SnapshotChunk,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "./model/peer-messages.ts";
import type { Writer } from "./wire/writer.ts";

// --- time -----------------------------------------------------------------------------------------------------

export interface Clock {
  /** Wall-clock milliseconds; may jump. For what is stored, never for durations. */
  now(): Timestamp;
  /** Milliseconds that never go back. For durations. */
  monotonicMs(): number;
  /** Calls `callback` once, after at least `ms`. The returned function cancels it. */
  after(ms: number, callback: () => void): () => void;
  /** Calls `callback` once, in a later turn of the event loop: what has come in by then goes first. */
  soon(callback: () => void): void;
}

/** Chance. */
export interface Random {
  /** A number from 0 inclusive to 1 exclusive. */
  fraction(): number;
  /** 63 bits, never 0: a replica id that no other has. */
  replicaId(): ReplicaId;
}

// --- the log --------------------------------------------------------------------------------------------------

/** How one replica's log stands: see Log.replicas. */
export interface ReplicaLog {
  readonly shard: ShardId;
  readonly replicaId: ReplicaId;
  /** Term in which this id was minted; NO_TERM for a standalone shard's first one. */
  readonly mintedTerm: Term;
  /** Highest term that this replica has answered. Invariant: head.term <= promise. */
  readonly promise: Term;
  /** The last term that this replica has marked as led by itself; -1 = never. */
  readonly led: Term;
  /** The entry before the first one that may still be read: {-1, -1, 0} until the log is trimmed. */
  readonly base: Head;
  /** A synced checkpoint of the state had all up to here at the last start: what lies below may go at any time. */
  readonly released: Offset;
  readonly head: Head;
  /** Set when this replica's files are damaged: it must not serve, vote or be written (safety.md §7). */
  readonly damage: Damage | undefined;
  /**
   * Why this id has ended, durably: it must not serve, vote or be written either (safety.md §1). Empty: it has not. With
   * `damage` it never is.
   */
  readonly ended: string;
}

/** What is wrong with stored data, in words an operator can act on. */
export interface Damage {
  /** Path of the file, as configured. */
  readonly file: string;
  /** Where: `offset 17`, `row 42`, `byte 4096`. */
  readonly where: string;
  readonly what: string;
}

/**
 * The node's one log: shared by all its shards, written by one writer that commits whatever arrived from any shard
 * while the last fsync ran. The first I/O error ends the process (`onFault` of the adapter); a full disk refuses
 * appends with RESOURCE_EXHAUSTED and recovers by itself.
 */
export interface Log {
  /**
   * All replicas that live here, damaged and ended ones included, until they are removed; by shard, ascending.
   *
   *     id, minted term, promise, lead mark, damage, end     as of the last call that was answered
   *     head, base     as found on opening, or as of the last create, adopt, promise, truncate, install or end that was
   *                    answered: appends move the head on, trimming the base, and neither shows here before the next of these
   *
   * Damage that a read finds later ends ids too, durably before the read is refused: that of the shard whose state needs
   * the entry, or every one on the node when it lies in what is still written to (safety.md §7).
   */
  replicas(): readonly ReplicaLog[];
  replica(shard: ShardId): ReplicaLog | undefined;
  /**
   * Mints a replica from nothing: durable once it resolves. Refused RESOURCE_CONFLICT when one is there, damaged and
   * ended ones included. Where one was removed its promise goes on.
   */
  create(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog>;
  /**
   * Gives the entries that stand here a new id, whether the old one lives or has ended (`recover` alone): durable once it
   * resolves, with the old id gone for ever; after a crash before that, one or the other stands. Appends that wait are
   * settled before. Promise and lead mark stay. Refused DATA_LOSS when the files are damaged, or were when the id ended;
   * NODE_IS_NOT_MEMBER where nothing stands.
   */
  adopt(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog>;
  /**
   * Raises the promise: a barrier between two group commits. Appends accepted under a lower term, also those that
   * wait, are dropped (their promise rejects RESOURCE_UNAVAILABLE). Answers the head as it then stands, durable.
   * Refused INVALID_TERM when `term` is below the promise.
   */
  promise(shard: ShardId, term: Term): Promise<Head>;
  /** Marks durably that this replica leads `term`, once: refused INVALID_STATUS when led already, INVALID_TERM when `term` is not the promise. */
  markLed(shard: ShardId, term: Term): Promise<void>;
  /**
   * Appends the entry that follows the head, accepted under a term: that of the leader who sent it, default the entry's
   * own (safety.md §4). Resolves once it is durable; resolutions of one shard come in offset order. Rejects
   * RESOURCE_EXHAUSTED (disk full: nothing was written), RESOURCE_UNAVAILABLE (another term is promised), INVALID_TERM
   * (its term is below that of the entry before, or above the one under which it was accepted).
   * `entry.value` must not change any more.
   */
  append(shard: ShardId, entry: LogEntry, acceptedUnder?: Term): Promise<void>;
  /**
   * Cuts off the entries behind `to`, once the appends that wait are settled: durable once it resolves with the new head.
   * Refused INVALID_TERM when `acceptedUnder` is not the promise, INVALID_STATUS when this replica has led that term
   * itself, RESOURCE_CONFLICT when the head is not the expected one, INVALID_ARGUMENT when `to` is above it,
   * FAILED_PRECONDITION below the base or what was released. What was applied and not released only the caller knows.
   */
  truncate(shard: ShardId, truncation: Truncation): Promise<Head>;
  /**
   * Begins the log anew behind an installed snapshot that ends with `base`, once the appends that wait are settled:
   * durable once it resolves. Refused INVALID_TERM when `acceptedUnder` is not the promise or the base is of a term above
   * it, INVALID_STATUS when this replica has led that term itself, FAILED_PRECONDITION when the base lies below what was
   * released. `base` counts as released.
   */
  install(shard: ShardId, acceptedUnder: Term, base: Head): Promise<void>;
  /**
   * Ends the replica's id, once the appends that wait are settled: durable once it resolves. The promise and the entries
   * stay until `remove`. An id that has ended keeps its first reason, except that damage found on opening takes its place.
   */
  end(shard: ShardId, reason: string): Promise<ReplicaLog>;
  /**
   * Forgets a damaged or ended replica, entries and all: a new one may be created. Nothing there is success. Refused
   * RESOURCE_CONFLICT while the replica lives.
   */
  remove(shard: ShardId): Promise<void>;
  /** The stamp that this node holds (safety.md §1, check (c)); 0 = none yet. */
  stamp(): number;
  /**
   * Takes a stamp: the higher one of held and sent is held from then on. A node that holds less than the confirmed one has
   * gone back in time: in the same step all ids on it end. Durable once it resolves.
   */
  takeStamp(request: StampRequest): Promise<StampAnswer>;
  /** Id and chain CRC of a durable entry, or of the base; undefined where there is neither. The entry is checked: throws DATA_LOSS on damage. */
  at(shard: ShardId, offset: Offset): Promise<Head | undefined>;
  /** Where the log begins and its terms end, of one moment and durable. Costs no reading. */
  shape(shard: ShardId): Promise<LogShape>;
  /** Entries from `fromInclusive` on, dense, up to LOG_READ_BYTES_MAX (at least one if there is one); every CRC checked. Throws DATA_LOSS on damage. */
  read(shard: ShardId, fromInclusive: Offset): Promise<readonly LogEntry[]>;
  /** Up to where the shard's KV is in a synced checkpoint: entries up to there may be trimmed once they are older than the retention. */
  release(shard: ShardId, upToInclusive: Offset): void;
  /** Bytes on disk, commits and fsync times since start, for metrics. */
  stats(): LogStats;
  /** Refuses new appends, commits what waits, syncs the watermark, closes. */
  close(): Promise<void>;
}

/** One life of a shard's copy. */
export interface ReplicaLife {
  readonly replicaId: ReplicaId;
  readonly mintedTerm: Term;
}

// --- the key-value state of a shard ---------------------------------------------------------------------------

/** What one entry leaves behind, stored with its changes. */
export interface AppliedState {
  /** Offset of the last applied entry; -1 = none. */
  readonly offset: Offset;
  /** Term of that entry. */
  readonly term: Term;
  /** Last version id given out; -1 = none. */
  readonly versionId: number;
}

/** What one entry told subscribers. */
export interface NotificationEntries {
  readonly offset: Offset;
  readonly timestamp: Timestamp;
  readonly entries: Bytes;
}

/** A range of keys in the shard's key order. An absent bound is open. */
export interface KeyRange {
  readonly from?: Bytes;
  /** Default true. */
  readonly fromInclusive?: boolean;
  readonly to?: Bytes;
  /** Default false. */
  readonly toInclusive?: boolean;
  readonly reverse?: boolean;
}

/**
 * A place in a range. `key` and `row` are borrowed: they are valid until the next call of `next` and no longer than
 * the current synchronous run.
 */
export interface Cursor {
  /** Moves to the next record; false at the end. */
  next(): boolean;
  /** The raw key, as it was put. */
  readonly key: Bytes;
  readonly row: Bytes;
  /**
   * Moves over the next records and appends each as a field of RangeScanResponse (wire/stored-record.ts): at most
   * `recordsMax`, and until `target` holds `bytesMax` or somewhat more. False at the end.
   */
  appendRecords(target: Writer, recordsMax: number, bytesMax: number): boolean;
}

/** One applied offset, readable over several ticks. Release it, or it is cut after SNAPSHOT_PIN_MS_MAX: `next` then throws ABORTED. */
export interface KeyValueSnapshot {
  readonly applied: AppliedState;
  cursor(range: KeyRange): Cursor;
  /** The row, borrowed until the next read. */
  get(key: Bytes): Bytes | undefined;
  release(): void;
}

/**
 * The replicated state of one shard: raw keys in a key order, each with a row of bytes. Synchronous, so that apply
 * runs to completion. All changes between two `commit`s become visible to a flush together, or not at all.
 */
export interface KeyValue {
  readonly applied: AppliedState;
  /** Records and the additive hash of all of them (the checksum feature), uncommitted changes included. */
  readonly rowCount: number;
  readonly stateHash: bigint;
  /** The row, borrowed until the current synchronous run ends; a put or delete of the same key right after costs no second look-up. */
  get(key: Bytes): Bytes | undefined;
  /** Copies `key` and `row`. */
  put(key: Bytes, row: Bytes): void;
  /** `put` of a key that the caller knows to be absent: saves the look-up, which past the caches is most of a put. */
  putNew(key: Bytes, row: Bytes): void;
  /** Whether the key was there. */
  delete(key: Bytes): boolean;
  /**
   * Ends one entry. Invariant: state.offset > applied.offset. May start a flush in the background. `notifications` is
   * what the entry tells subscribers, in the form of database/notification.ts: kept with the state, in bytes of its own.
   */
  commit(state: AppliedState, notifications?: Pick<NotificationEntries, "timestamp" | "entries">): void;
  /** Undoes all puts and deletes since the last commit. */
  rollback(): void;
  /**
   * Undefined while the tables have room; else a promise that resolves once a flush has made some. Await it before
   * the next commit: one that comes anyway is taken, and memory grows.
   */
  room(): Promise<void> | undefined;
  /** Set when the files turn out damaged while they are in use: nothing of the state may be served any more. */
  readonly damage: Damage | undefined;
  /** False while stored records are still scanned for damage, behind an opening that did not wait for it (safety.md §7). */
  readonly scanned: boolean;
  /** True while the disk has no space for what is applied: propose nothing more. What is committed may be applied still. */
  readonly full: boolean;
  /** Sorts, in slices that leave the event loop free, what is not yet in order: cursors opened in the tick in which it resolves are cheap. */
  ordered(): Promise<void>;
  /** Over the current state, uncommitted changes included; invalid after the next put, delete or await. */
  cursor(range: KeyRange): Cursor;
  snapshot(): Promise<KeyValueSnapshot>;
  /**
   * What entries behind `after` told subscribers, in order, none left out: up to NOTIFICATION_BATCHES_PER_READ_MAX and
   * NOTIFICATION_BYTES_PER_READ_MAX, at least one if there is one. Throws DATA_LOSS on damage.
   */
  notifications(after: Offset): readonly NotificationEntries[];
  /** What was told up to this offset may be gone; NO_OFFSET when nothing is. */
  readonly notificationsTrimmed: Offset;
  /** Removes what entries proposed before `before` told subscribers. Resolves when it is gone, or the disk is full. */
  trimNotifications(before: Timestamp): Promise<void>;
  /** Resolves once everything applied when it was called is in a synced checkpoint. */
  flush(): Promise<void>;
  /** The whole state as of now or later (as of the last flush while the disk is full), notifications in their retention included. */
  send(): Promise<StateSender>;
  /** Flushes, then closes. */
  close(): Promise<void>;
}

/** A shard's state on this data server. */
export interface KeyValuePlace {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly sorting: KeySorting;
}

/** The key-value states that a data server keeps, one a shard. */
export interface KeyValues {
  /**
   * Opens the state of a shard, or makes an empty one. `base` is where the shard's log begins: a state that was received
   * whole and not switched to before the process ended is taken up here if it ends there, and dropped otherwise.
   */
  open(place: KeyValuePlace, base: EntryId): Promise<{ readonly keyValue: KeyValue } | { readonly damage: Damage }>;
  /** Begins to receive a state beside the one that stands; one begun before is dropped. Rejects RESOURCE_EXHAUSTED with no space, or past STATES_RECEIVED_MAX. */
  receive(place: KeyValuePlace): Promise<StateReceiver>;
  /** Removes the state and all that belongs to it, open or not. Nothing there is success. Durable once it resolves. */
  remove(place: Pick<KeyValuePlace, "namespace" | "shard">): Promise<void>;
}

/** A state as it is sent: one applied offset, in pieces. Release it in the end. Cut when the receiver is too slow, and when the state is closed or replaced. */
export interface StateSender {
  readonly applied: AppliedState;
  readonly rowCount: number;
  readonly stateHash: bigint;
  /** The next piece, one call at a time, at most SNAPSHOT_CHUNK_BYTES_MAX with a CRC of its own; undefined at the end. Throws DATA_LOSS on damage, ABORTED when it was cut. */
  next(): Promise<Bytes | undefined>;
  release(): void;
}

/** Another server's state on its way in. Nothing of what stands changes before `switchTo`. One step at a time; a step that rejects drops it all: then, and once a later one was begun, steps reject ABORTED. */
export interface StateReceiver {
  /** Takes the next piece. Rejects INVALID_ARGUMENT when it is not one, or out of order, RESOURCE_EXHAUSTED with no space. */
  add(piece: Bytes): Promise<void>;
  /** All pieces have come: durable beside the state that stands once it resolves. Rejects INVALID_ARGUMENT when it does not come to this. */
  complete(applied: EntryId, rowCount: number, stateHash: bigint): Promise<void>;
  /** After `complete`, and after the log has been installed to begin there: the state that stood is gone (who reads it is told ABORTED), this one stands. */
  switchTo(): Promise<KeyValue>;
  /** Gives up; also after `complete`. */
  drop(): Promise<void>;
}

// --- what a data server was told ------------------------------------------------------------------------------

/**
 * Small texts that a data server keeps beside its log: which cluster it belongs to, what it was last told of each shard.
 * No vote rests on them: a replica whose text is missing waits for the next NewTerm, which says all of it again.
 */
export interface Documents {
  /** All that are stored, by name. */
  all(): Promise<ReadonlyMap<string, string>>;
  /** Stores a text, undefined deletes it: durable once it resolves, in order. Rejects RESOURCE_EXHAUSTED with no space: nothing was changed. */
  put(name: string, text: string | undefined): Promise<void>;
}

// --- the coordinator's metadata -------------------------------------------------------------------------------

/** Raised by each change of a store, by one or more; never given out twice. NO_METADATA_VERSION before the first one. */
export type MetadataVersion = number;
export const NO_METADATA_VERSION: MetadataVersion = -1;

/** Everything that a store holds, under one version. */
export interface MetadataState {
  readonly version: MetadataVersion;
  /** Key -> text of a JSON object (model/status-entries.ts). Empty: nothing has been stored, or all of it was deleted. */
  readonly entries: ReadonlyMap<string, string>;
}

/** Key -> its new text; undefined deletes it. */
export type MetadataChanges = ReadonlyMap<string, string | undefined>;

/** What became of a change. */
export type SwapAnswer =
  /** Durable, and by this very call: the only answer that licenses an election (safety.md §3). */
  | { readonly outcome: "stored"; readonly version: MetadataVersion }
  /** Nothing was changed: the store stands at `version`. */
  | { readonly outcome: "conflict"; readonly version: MetadataVersion }
  /**
   * It may have been stored, now or later, or never (safety.md §3, "lost CAS reply"): read back, it is somebody else's.
   * The store refuses everything from then on; open it again to see what stands.
   */
  | { readonly outcome: "unknown"; readonly cause: unknown };

/**
 * Where the coordinator keeps the cluster's status: linearizable, and touched by coordinators alone. Whoever has opened
 * it holds it alone until it is closed or the process ends; an adapter's `open` refuses a store that is held.
 *
 * The status is kept as entries, one a shard and one for the rest, and a change names those that differ: with a
 * thousand shards a whole document is half a megabyte, written at each step of each election. All entries have one
 * version together, since a decision about one shard rests on others too (leaders a server has, ids given out).
 *
 * Versions rise with each change, also across restarts, deletions of all entries and takeovers by another program.
 * Text, not bytes: every adapter's format (SQLite, Oxia's file, ConfigMap, etcd) holds JSON.
 */
export interface MetadataStore {
  /** What stands. */
  get(): Promise<MetadataState>;
  /**
   * Stores all of `changes`, or nothing, if the store stands at `expected`. Calls take effect in the order in which
   * they are made. Rejects RESOURCE_EXHAUSTED past METADATA_BYTES_MAX or with no space on the disk: nothing was
   * changed, the store goes on. Any other rejection is a fault: nothing was changed, and the store refuses what follows.
   */
  compareAndSwap(expected: MetadataVersion, changes: MetadataChanges): Promise<SwapAnswer>;
  /** Ends the exclusive hold. */
  close(): Promise<void>;
}

// --- other servers --------------------------------------------------------------------------------------------

export interface CallLimits {
  /** The caller gives up after this long. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Data servers as a coordinator calls them, by internal address. A call rejects with the Refusal that was answered, or
 * with Unreachable: then it may or may not have been carried out, or still be.
 */
export interface DataServers {
  handshake(server: string, request: HandshakeRequest, limits: CallLimits): Promise<HandshakeResponse>;
  newTerm(server: string, request: NewTermRequest, limits: CallLimits): Promise<NewTermResponse>;
  becomeLeader(server: string, request: BecomeLeaderRequest, limits: CallLimits): Promise<void>;
  addFollower(server: string, request: AddFollowerRequest, limits: CallLimits): Promise<void>;
  getStatus(server: string, request: GetStatusRequest, limits: CallLimits): Promise<GetStatusResponse>;
  freezeShard(server: string, request: FreezeShardRequest, limits: CallLimits): Promise<FreezeShardResponse>;
  removeObserver(server: string, request: RemoveObserverRequest, limits: CallLimits): Promise<void>;
  deleteShard(server: string, request: DeleteShardRequest, limits: CallLimits): Promise<void>;
  /** Whether it serves, as its health service says. */
  checkHealth(server: string, limits: CallLimits): Promise<boolean>;
  /** A stream of assignments, held open. */
  pushAssignments(server: string): AssignmentStream;
}

export interface AssignmentStream {
  send(assignments: ShardAssignments): void;
  /** Resolves when the stream has ended, whoever ended it. */
  readonly ended: Promise<void>;
  cancel(): void;
}

/** Followers as a leader calls them, by internal address; errors as in DataServers. */
export interface Followers {
  truncate(server: string, request: TruncateRequest, limits: CallLimits): Promise<TruncateResponse>;
  /** Opens a stream at once; whether it reaches anybody is heard on it. */
  replicate(server: string, shard: ShardTerm): AppendStream;
  sendSnapshot(server: string, shard: ShardTerm): SnapshotStream;
  /** To learn the true head of a reference follower after Truncate, whose answer does not tell it (safety.md §11): the leader's own term again. */
  newTerm(server: string, request: NewTermRequest, limits: CallLimits): Promise<NewTermResponse>;
  /** To confirm reads with reference followers (safety.md §11). */
  getStatus(server: string, request: GetStatusRequest, limits: CallLimits): Promise<GetStatusResponse>;
}

/** The leader's end of a Replicate stream. */
export interface AppendStream {
  /** False: the follower reads slower than we write; the message is kept, and the next one should wait for `drained`. */
  send(append: Append): boolean;
  drained(): Promise<void>;
  /** The next ack; undefined when the stream has ended. Rejects with a Refusal or Unreachable. One reader at a time. */
  next(): Promise<Ack | undefined>;
  cancel(): void;
}

/** The leader's end of a SendSnapshot stream. */
export interface SnapshotStream {
  send(chunk: SnapshotChunk): boolean;
  drained(): Promise<void>;
  /** No more chunks come: the answer. Rejects with a Refusal or Unreachable; so it does when the follower refuses before the end. */
  finish(): Promise<SnapshotResponse>;
  /** Resolves when the follower has ended the stream before `finish` was called. */
  readonly ended: Promise<void>;
  cancel(): void;
}

/** The follower's end of a Replicate stream: what replication/ is given for each one that comes in. */
export interface AppendReceiver {
  /** The next message; undefined when the leader sends no more. Rejects with Unreachable when the stream breaks. */
  next(): Promise<Append | undefined>;
  /** Does nothing once the stream has ended. */
  send(ack: Ack): void;
}

/** The follower's end of a SendSnapshot stream. */
export interface SnapshotReceiver {
  next(): Promise<SnapshotChunk | undefined>;
}

// --- telling the outside --------------------------------------------------------------------------------------

/** Stable keys: component, namespace, shard, term, server, err. Never a key, a value or a token. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}
