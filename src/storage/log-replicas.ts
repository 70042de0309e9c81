/**
 * What a node's log promises about its replicas, and how it changes: each change is durable, in the promises database
 * and in the watermark, before it is answered.
 *
 *     change        promise, lead mark, end          promises synced, then the watermark
 *     generation    truncate, install, adopt,        a new segment, then the watermark with generation + 1, then the
 *                   remove, create anew              promises: the last of these makes the cut, or opening finishes it
 *                                                    when the watermark has it (safety.md §7)
 *
 * No row is removed by a cut: rows of earlier generations behind it are dead wherever they lie, and go with their
 * segment. What remains of a removed replica is a record without an id, which keeps the generation and the promise.
 */
import type { Head, LogEntry, Offset, ShardId, Term } from "../model/ids.ts";
import type { LogShape, StampAnswer, StampRequest, Truncation } from "../model/log-calls.ts";
import { Refusal } from "../model/refusal.ts";
import type { Damage, ReplicaLife, ReplicaLog } from "../ports.ts";
import { takeStamp } from "../protocol/fencing.ts";
import type { Ballast } from "./ballast.ts";
import type { OpenedLog } from "./log-opening.ts";
import { EntryDamage } from "./log-reader.ts";
import {
  changeTo,
  endedByWord,
  isFileDamage,
  type LogReplica,
  moveHead,
  newLogReplica,
  refusalOf,
  replicaLog,
  shapeOf,
} from "./log-replica.ts";
import type { LogSegments } from "./log-segments.ts";
import {
  adopted,
  checkTruncation,
  created,
  ended,
  goneBack,
  installed,
  isRemoved,
  led,
  promised,
  removed,
  truncated,
} from "./replica-changes.ts";
import type { ReplicaRecord } from "./replica-record.ts";
import { isDiskFull } from "./sqlite.ts";

export class LogReplicas {
  readonly #files: OpenedLog;
  readonly #segments: LogSegments;
  readonly #ballast: Ballast;
  /** Replicas whose heads the watermark does not have yet. */
  readonly #behind = new Set<ShardId>();
  /** Damage was found, and no replica has been minted since: the segment that is open may hold it. */
  #isDamaged: boolean;
  #stamp: number;

  constructor(files: OpenedLog, segments: LogSegments, ballast: Ballast) {
    this.#files = files;
    this.#segments = segments;
    this.#ballast = ballast;
    this.#isDamaged = files.isDamaged;
    this.#stamp = files.stamp;
  }

  list(): ReplicaLog[] {
    return [...this.#files.replicas.values()].filter(({ record }) => !isRemoved(record)).map(replicaLog);
  }

  /** The replica that lives here. Refused when its files are damaged, or its id has ended. */
  live(shard: ShardId): LogReplica {
    const replica = this.#here(shard);
    if (replica.damage !== undefined) throw refusalOf(shard, replica.damage);
    return replica;
  }

  #here(shard: ShardId): LogReplica {
    const replica = this.#files.replicas.get(shard);
    if (replica !== undefined && !isRemoved(replica.record)) return replica;
    throw new Refusal("NODE_IS_NOT_MEMBER", `no replica of shard ${shard} lives here`);
  }

  // --- changes --------------------------------------------------------------------------------------------------

  /** See Log.promise. */
  promise(shard: ShardId, term: Term): Head {
    const replica = this.live(shard);
    this.#change(replica, promised(replica, term));
    return replica.head;
  }

  /** See Log.markLed. */
  markLed(shard: ShardId, term: Term): void {
    const replica = this.live(shard);
    this.#change(replica, led(replica, term));
  }

  /** See Log.end. */
  end(shard: ShardId, reason: string): ReplicaLog {
    const replica = this.#here(shard);
    this.#change(replica, ended(replica, endedByWord(reason)));
    replica.damage ??= replica.record.ended;
    return replicaLog(replica);
  }

  get stamp(): number {
    return this.#stamp;
  }

  /** See Log.takeStamp. */
  takeStamp(request: StampRequest): StampAnswer {
    const before = this.#stamp;
    const { held, rolledBack } = takeStamp(before, request);
    const here = [...this.#files.replicas.values()].filter(({ record }) => !isRemoved(record));
    const ending = rolledBack ? here : [];
    if (held === before && ending.length === 0) return { before, rolledBack };
    const records = ending.map((replica) => ended(replica, endedByWord(goneBack(before, request))));
    this.#ballast.use(() => this.#files.promises.save({ replicas: records, stamp: held }));
    this.#stamp = held;
    for (const [nth, replica] of ending.entries()) {
      replica.record = records[nth]!;
      replica.damage ??= replica.record.ended;
    }
    if (ending.length > 0) this.#syncWatermark(ending);
    return { before, rolledBack };
  }

  #change(replica: LogReplica, record: ReplicaRecord): void {
    this.#save(record);
    replica.record = record;
    this.#syncWatermark([replica]);
  }

  // --- generations ----------------------------------------------------------------------------------------------

  /** See Log.create. */
  create(shard: ShardId, life: ReplicaLife): ReplicaLog {
    const former = this.#files.replicas.get(shard);
    const record = created(shard, life, { former: former?.record, segment: this.#segments.next });
    const replica = former ?? newLogReplica(record);
    this.#leaveDamageBehind();
    if (former === undefined) {
      this.#change(replica, record);
      this.#files.replicas.set(shard, replica);
    } else {
      this.#beginGeneration(replica, record);
    }
    return replicaLog(replica);
  }

  /** See Log.adopt. */
  adopt(shard: ShardId, life: ReplicaLife): ReplicaLog {
    const replica = this.#here(shard);
    const record = adopted(replica, life, this.#segments.next);
    this.#leaveDamageBehind();
    this.#beginGeneration(replica, record);
    return replicaLog(replica);
  }

  /**
   * Before a replica is minted on a node with damage: the segment that may hold it is no longer written to, or the next
   * start would find it and end the new replica too.
   */
  #leaveDamageBehind(): void {
    if (!this.#isDamaged) return;
    refuseWhenFull(() => this.#ballast.use(() => this.#segments.leaveOpenOne()));
    this.#isDamaged = false;
  }

  /** See Log.remove. */
  remove(shard: ShardId): void {
    const replica = this.#files.replicas.get(shard);
    if (replica !== undefined && !isRemoved(replica.record))
      this.#beginGeneration(replica, removed(replica, this.#segments.next));
  }

  /** See Log.truncate. */
  truncate(shard: ShardId, truncation: Truncation): Head {
    const replica = this.live(shard);
    checkTruncation(replica, truncation);
    if (truncation.to === replica.head.offset) return replica.head;
    const kept = this.#at(replica, truncation.to)!;
    this.#beginGeneration(replica, truncated(replica, kept, this.#segments.next));
    return kept;
  }

  /** See Log.install. */
  install(shard: ShardId, acceptedUnder: Term, base: Head): void {
    const replica = this.live(shard);
    const { next: segment } = this.#segments;
    this.#beginGeneration(replica, installed(replica, { acceptedUnder, base, segment }));
  }

  /** See Log.shape. */
  shape(shard: ShardId): LogShape {
    return shapeOf(this.live(shard));
  }

  /** See Log.at. */
  at(shard: ShardId, offset: Offset): Head | undefined {
    return this.#at(this.live(shard), offset);
  }

  #at(replica: LogReplica, offset: Offset): Head | undefined {
    const { record, head } = replica;
    if (offset === record.base.offset) return record.base;
    if (offset < record.base.offset || offset > head.offset) return undefined;
    return this.#checked(replica, () => this.#segments.reader.at(replica, offset, this.#segments.current));
  }

  /** See Log.read. */
  read(shard: ShardId, from: Offset): LogEntry[] {
    const replica = this.live(shard);
    const { base } = replica.record;
    if (from > replica.head.offset) return [];
    if (from <= base.offset) {
      const begins = base.offset + 1;
      throw new Refusal("FAILED_PRECONDITION", `offset ${from} was trimmed: the log begins at ${begins}`);
    }
    return this.#checked(replica, () => this.#segments.reader.read(replica, from, this.#segments.current));
  }

  /** Reads. Damage ends the ids that it concerns before it is told (safety.md §1 and §7). */
  #checked<T>(replica: LogReplica, read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof EntryDamage)) throw error;
      const { offset, damage } = error;
      const first = this.#segments.current.indexes.get(replica.record.shard)?.first;
      const isOpen = first !== undefined && offset >= first;
      // a segment that the state does not need any more may go: a follower that does gets a snapshot
      if (isOpen) this.#endDamaged([...this.#files.replicas.values()], damage);
      else if (this.#segments.reader.lastBeside(replica, offset) > replica.record.released)
        this.#endDamaged([replica], damage);
      throw new Refusal("DATA_LOSS", error.message, { cause: error });
    }
  }

  #endDamaged(replicas: readonly LogReplica[], damage: Damage): void {
    const ending = replicas.filter(({ record }) => !isRemoved(record) && !isFileDamage(record.ended));
    const records = ending.map((replica) => ended(replica, damage));
    this.#ballast.use(() => this.#files.promises.save({ replicas: records }));
    for (const [nth, replica] of ending.entries()) {
      replica.record = records[nth]!;
      replica.damage = damage;
    }
    this.#syncWatermark(ending);
    this.#isDamaged = true;
  }

  #beginGeneration(replica: LogReplica, record: ReplicaRecord): void {
    refuseWhenFull(() => this.#ballast.use(() => this.#segments.beginGeneration(record.shard)));
    this.#ballast.use(() => this.#files.watermark.sync([record]));
    this.#behind.delete(record.shard);
    this.#save(record);
    changeTo(replica, record);
    replica.damage = record.ended;
  }

  // --- storing --------------------------------------------------------------------------------------------------

  #save(record: ReplicaRecord): void {
    this.#ballast.use(() => this.#files.promises.save({ replicas: [record] }));
  }

  #syncWatermark(replicas: readonly LogReplica[]): void {
    const records = replicas.map(({ record, head }) => ({ ...record, head }));
    this.#ballast.use(() => this.#files.watermark.sync(records));
    for (const { record } of replicas) this.#behind.delete(record.shard);
  }

  /** A head has moved on, over the ends of terms: the watermark does not have it yet. */
  moved(shard: ShardId, head: Head, termEnds: readonly Head[]): void {
    const replica = this.#files.replicas.get(shard)!;
    for (const end of termEnds) moveHead(replica, end);
    moveHead(replica, head);
    this.#behind.add(shard);
  }

  get isWatermarkBehind(): boolean {
    return this.#behind.size > 0;
  }

  catchUpWatermark(): void {
    this.#syncWatermark([...this.#behind].map((shard) => this.#files.replicas.get(shard)!));
  }
}

/** A step that has changed nothing when the disk has no space for it. */
function refuseWhenFull(step: () => void): void {
  try {
    step();
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    throw new Refusal("RESOURCE_EXHAUSTED", "no space left for the log: nothing was changed", { cause: error });
  }
}
