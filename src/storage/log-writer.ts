/**
 * The one writer of a node's log. It runs in a Worker of its own (log-worker.ts), step by step: between two group
 * commits it answers what was asked, so fencing is a barrier that waits for nobody else (safety.md §4).
 *
 *     append    takes what arrived from any shard, drops what another term accepted, one transaction, one fsync
 *     promise   promises database and watermark synced, then the head as it stands
 *     upkeep    watermark lag, rolling, trimming, the ballast
 *
 * A full disk refuses clients' entries and keeps what it has; promises and control entries then use the ballast. Any
 * other error of the device is thrown: the process must end, since what is on the disk is unknown.
 */
import { existsSync, statSync } from "node:fs";
import { assert } from "../lib/assert.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { EntryId, Head, LogEntry, Offset, ReplicaId, ShardId, Term, Timestamp } from "../model/ids.ts";
import {
  LOG_COMMIT_BYTES_MAX,
  LOG_SEGMENT_BYTES_MAX,
  WATERMARK_LAG_COMMITS_MAX,
  WATERMARK_LAG_MS_MAX,
} from "../model/limits.ts";
import { damageRefusal, type Reason, Refusal } from "../model/refusal.ts";
import type { LogStats, ReplicaLog } from "../ports.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import { Ballast } from "./ballast.ts";
import { removeSqlite, syncDirectory } from "./files.ts";
import { segmentPath } from "./log-files.ts";
import { indexRow, type OpenedLog, type OpenSegment, openLogFiles } from "./log-opening.ts";
import { LogReader } from "./log-reader.ts";
import { type LogReplica, replicaLog } from "./log-replica.ts";
import type { SegmentRecord } from "./promises.ts";
import { newRecord, type ReplicaRecord } from "./replica-record.ts";
import { SegmentFile } from "./segment.ts";
import { isDiskFull } from "./sqlite.ts";

export interface LogWriterOptions {
  readonly directory: string;
  readonly retentionMs: number;
  readonly syncData: boolean;
  readonly acceptLoss: ReadonlyMap<ShardId, EntryId>;
  /** Wall clock, for retention. */
  readonly now: () => Timestamp;
  /** Time that never goes back, for the watermark's lag. */
  readonly monotonicMs: () => number;
  readonly newReplicaId: () => ReplicaId;
  /** Bytes after which a segment is rolled; default LOG_SEGMENT_BYTES_MAX. */
  readonly segmentBytesMax?: number;
  /** Removes the files of a segment that is no longer recorded; may take its time. Default: at once. */
  readonly removeSegment?: (path: string) => void;
}

export interface Append {
  readonly shard: ShardId;
  readonly entry: LogEntry;
}

/** What became of one append: durable, or refused for a reason. */
export interface AppendResult {
  readonly shard: ShardId;
  readonly offset: Offset;
  readonly refused: Reason | undefined;
}

/** First byte of a LogEntryValue that is a control request. */
const CONTROL_TAG = 0x12;

export class LogWriter {
  readonly #options: LogWriterOptions;
  readonly #files: OpenedLog;
  readonly #replicas: Map<ShardId, LogReplica>;
  readonly #ballast: Ballast;
  #current: OpenSegment;
  readonly #reader: LogReader;
  #openedAt: Timestamp;
  /** Replicas whose heads the watermark does not have yet. */
  readonly #behind = new Set<ShardId>();
  #commitsBehind = 0;
  #behindSince = 0;
  #entriesAppended = 0;
  #bytesAppended = 0;
  #commits = 0;
  #closedBytes = 0;
  #upkeepMsMax = 0;

  /** Opens or creates the log in a directory. Throws what the device throws. */
  constructor(options: LogWriterOptions) {
    this.#options = options;
    this.#ballast = new Ballast(options.directory);
    this.#files = openLogFiles(options);
    this.#replicas = this.#files.replicas;
    this.#reader = new LogReader(options.directory, this.#files.closed);
    this.#current = this.#files.current;
    this.#openedAt = options.now();
    // behind an accepted loss a new segment begins: dead rows and live ones of the same offsets never share one
    if (options.acceptLoss.size > 0 && this.#current.file.rows > 0 && this.#current.file.path !== ":memory:")
      this.#roll();
    for (const segment of this.#files.closed) this.#closedBytes += this.#sizeOf(segment);
    this.#ballast.lay();
  }

  replicas(): ReplicaLog[] {
    return [...this.#replicas.values()].map(replicaLog);
  }

  // --- replicas and promises ------------------------------------------------------------------------------------

  create(shard: ShardId): ReplicaLog {
    if (this.#replicas.has(shard)) throw new Refusal("RESOURCE_CONFLICT", `a replica of shard ${shard} lives here`);
    const record = newRecord(shard, this.#options.newReplicaId(), 1);
    this.#save(record);
    const replica: LogReplica = { record, head: record.base, damage: undefined };
    this.#replicas.set(shard, replica);
    this.#syncWatermark([replica]);
    return replicaLog(replica);
  }

  /** See Log.promise. */
  promise(shard: ShardId, term: Term): Head {
    const replica = this.#live(shard);
    if (term < replica.record.promise) {
      throw new Refusal("INVALID_TERM", `shard ${shard} has promised term ${replica.record.promise}, not ${term}`);
    }
    this.#change(replica, { promise: term });
    return replica.head;
  }

  /** See Log.markLed. */
  markLed(shard: ShardId, term: Term): void {
    const replica = this.#live(shard);
    const { promise, led } = replica.record;
    if (term !== promise) throw new Refusal("INVALID_TERM", `shard ${shard} has promised term ${promise}, not ${term}`);
    if (led >= term) throw new Refusal("INVALID_STATUS", `shard ${shard} was led in term ${led} already`);
    this.#change(replica, { led: term });
  }

  #live(shard: ShardId): LogReplica {
    const replica = this.#replicas.get(shard);
    if (replica === undefined) throw new Refusal("NODE_IS_NOT_MEMBER", `no replica of shard ${shard} lives here`);
    if (replica.damage !== undefined) {
      throw damageRefusal(shard, replica.damage);
    }
    return replica;
  }

  /** Stores a changed record, then the watermark: both are durable when it returns. */
  #change(replica: LogReplica, change: Partial<ReplicaRecord>): void {
    const record = { ...replica.record, ...change, head: replica.head };
    this.#save(record);
    replica.record = record;
    this.#syncWatermark([replica]);
  }

  #save(record: ReplicaRecord): void {
    this.#ballast.use(() => this.#files.promises.save({ replicas: [record] }));
  }

  #syncWatermark(replicas: readonly LogReplica[]): void {
    const records = replicas.map(({ record, head }) => ({ ...record, head }));
    this.#ballast.use(() => this.#files.watermark.sync(records));
    for (const { record } of replicas) this.#behind.delete(record.shard);
    if (this.#behind.size === 0) this.#commitsBehind = 0;
  }

  // --- appending ------------------------------------------------------------------------------------------------

  /** Commits appends in the order given, in transactions of bounded size. Answers each, in order. */
  append(appends: readonly Append[]): AppendResult[] {
    const results: AppendResult[] = [];
    for (let next = 0; next < appends.length; ) {
      const group: Append[] = [];
      for (let bytes = 0; next < appends.length && (group.length === 0 || bytes < LOG_COMMIT_BYTES_MAX); next++) {
        group.push(appends[next]!);
        bytes += appends[next]!.entry.value.length;
      }
      this.#commitGroup(group, results);
    }
    return results;
  }

  #commitGroup(group: readonly Append[], results: AppendResult[]): void {
    const heads = new Map<ShardId, Head>();
    const accepted: Append[] = [];
    const rowids: number[] = [];
    const { file } = this.#current;
    const refusals = new Map<Append, Reason>();
    let full = false;
    file.begin();
    try {
      for (const append of group) {
        const refused = this.#refusal(append, heads);
        if (refused !== undefined) {
          refusals.set(append, refused);
          continue;
        }
        rowids.push(this.#insert(append, heads));
        accepted.push(append);
      }
      if (accepted.length > 0) file.commit();
      else file.rollback();
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      full = true;
      file.rollback();
    }
    // control entries may use the ballast; clients' entries are refused before
    if (full && accepted.length > 0 && accepted.every(({ entry }) => isControl(entry.value)) && this.#ballast.drop()) {
      this.#commitGroup(group, results);
      return;
    }
    if (!full) this.#committed(accepted, rowids, heads);
    for (const append of group) {
      const refused = refusals.get(append) ?? (full ? "RESOURCE_EXHAUSTED" : undefined);
      results.push({ shard: append.shard, offset: append.entry.offset, refused });
    }
  }

  /** Why an entry is not appended: another term accepted it, or the one before it was refused. */
  #refusal({ shard, entry }: Append, heads: ReadonlyMap<ShardId, Head>): Reason | undefined {
    const replica = this.#replicas.get(shard);
    if (replica === undefined || replica.damage !== undefined) return "NODE_IS_NOT_MEMBER";
    if (entry.term !== replica.record.promise) return "RESOURCE_UNAVAILABLE";
    const head = heads.get(shard) ?? replica.head;
    return entry.offset === head.offset + 1 ? undefined : "RESOURCE_EXHAUSTED";
  }

  #insert({ shard, entry }: Append, heads: Map<ShardId, Head>): number {
    const replica = this.#replicas.get(shard)!;
    const crc = entryCrc((heads.get(shard) ?? replica.head).crc, entry);
    const { term, offset, timestamp, value } = entry;
    heads.set(shard, { term, offset, crc });
    return this.#current.file.insert({
      shard,
      generation: replica.record.generation,
      term,
      offset,
      crc,
      timestamp,
      value,
    });
  }

  #committed(accepted: readonly Append[], rowids: readonly number[], heads: ReadonlyMap<ShardId, Head>): void {
    if (accepted.length === 0) return;
    for (const [at, { shard, entry }] of accepted.entries()) {
      indexRow(this.#current.indexes, shard, entry.offset, rowids[at]!);
      this.#bytesAppended += entry.value.length;
    }
    for (const [shard, head] of heads) {
      this.#replicas.get(shard)!.head = head;
      this.#behind.add(shard);
    }
    this.#entriesAppended += accepted.length;
    this.#commits++;
    if (this.#commitsBehind++ === 0) this.#behindSince = this.#options.monotonicMs();
    this.#timed(() => {
      tolerateFull(() => this.#current.file.checkpointWhenDue());
      if (this.#commitsBehind >= WATERMARK_LAG_COMMITS_MAX) this.#catchUpWatermark();
    });
  }

  // --- reading --------------------------------------------------------------------------------------------------

  /** See Log.read. */
  read(shard: ShardId, fromInclusive: Offset): LogEntry[] {
    const replica = this.#live(shard);
    if (fromInclusive > replica.head.offset) return [];
    if (fromInclusive <= replica.record.base.offset) {
      throw new Refusal(
        "FAILED_PRECONDITION",
        `offset ${fromInclusive} was trimmed: the log begins at ${replica.record.base.offset + 1}`,
      );
    }
    return this.#reader.read(replica, fromInclusive, this.#current);
  }

  // --- upkeep ---------------------------------------------------------------------------------------------------

  /** See Log.release. */
  release(shard: ShardId, upToInclusive: Offset): void {
    const replica = this.#replicas.get(shard);
    if (replica === undefined || upToInclusive <= replica.record.released) return;
    replica.record = { ...replica.record, released: upToInclusive };
  }

  /** What is due between commits: the watermark's lag, a roll, a trim, the ballast. */
  upkeep(): void {
    if (this.#commitsBehind > 0 && this.#options.monotonicMs() - this.#behindSince >= WATERMARK_LAG_MS_MAX)
      this.#timed(() => this.#catchUpWatermark());
    this.#timed(() => {
      tolerateFull(() => {
        this.#rollWhenDue();
        this.#trim();
        this.#ballast.lay();
      });
    });
  }

  /** Runs a step that commits wait for, and keeps the longest. */
  #timed(step: () => void): void {
    const started = this.#options.monotonicMs();
    step();
    this.#upkeepMsMax = Math.max(this.#upkeepMsMax, this.#options.monotonicMs() - started);
  }

  #catchUpWatermark(): void {
    this.#syncWatermark([...this.#behind].map((shard) => this.#replicas.get(shard)!));
    this.#commitsBehind = 0;
  }

  #rollWhenDue(): void {
    const { file } = this.#current;
    if (file.rows === 0 || file.path === ":memory:") return;
    const age = this.#options.now() - this.#openedAt;
    const bytesMax = this.#options.segmentBytesMax ?? LOG_SEGMENT_BYTES_MAX;
    if (file.bytes < bytesMax && age < this.#options.retentionMs / 4) return;
    this.#roll();
  }

  /** Begins the next segment and closes the current one. After a crash in between, opening finishes the step. */
  #roll(): void {
    const { number, file, indexes } = this.#current;
    const next = new SegmentFile(segmentPath(this.#options.directory, number + 1), {
      syncData: this.#options.syncData,
      create: true,
    });
    syncDirectory(this.#options.directory);
    const shares = [...indexes].map(([shard, index]) => {
      const { record, head } = this.#replicas.get(shard)!;
      return { shard, generation: record.generation, first: index.first, last: head };
    });
    const record: SegmentRecord = { number, state: "closed", closedAt: this.#options.now(), shares };
    file.checkpointAll();
    this.#files.promises.save({
      segments: [record],
      replicas: [...this.#replicas.values()].map((replica) => ({ ...replica.record, head: replica.head })),
    });
    file.close();
    this.#files.closed.push(record);
    this.#closedBytes += this.#sizeOf(record);
    this.#reader.segmentClosed(number, indexes);
    this.#current = { number: number + 1, file: next, indexes: new Map() };
    this.#openedAt = this.#options.now();
  }

  /** Removes the oldest segments that nobody needs: older than the retention, and behind every state's synced checkpoint. */
  #trim(): void {
    const { closed } = this.#files;
    while (closed.length > 0) {
      const [oldest] = closed;
      assert(oldest !== undefined, "a segment to trim");
      if (this.#options.now() - oldest.closedAt < this.#options.retentionMs) return;
      const live = oldest.shares.filter(({ shard }) => this.#replicas.has(shard));
      if (live.some(({ shard, last }) => this.#isNeeded(shard, last.offset))) return;
      const moved = live.map(({ shard, last }) => {
        const replica = this.#replicas.get(shard)!;
        replica.record = { ...replica.record, base: last, head: replica.head };
        return replica.record;
      });
      this.#files.promises.save({ replicas: moved, droppedSegments: [oldest.number] });
      this.#closedBytes -= this.#sizeOf(oldest);
      (this.#options.removeSegment ?? removeSqlite)(segmentPath(this.#options.directory, oldest.number));
      closed.shift();
      this.#reader.segmentRemoved(oldest.number);
    }
  }

  #isNeeded(shard: ShardId, offset: Offset): boolean {
    const { record, damage } = this.#replicas.get(shard)!;
    return damage !== undefined || offset > record.released;
  }

  stats(): LogStats {
    return {
      bytes: this.#closedBytes + this.#current.file.bytes,
      segments: this.#files.closed.length + 1,
      entriesAppended: this.#entriesAppended,
      bytesAppended: this.#bytesAppended,
      commits: this.#commits,
      upkeepMsMax: this.#upkeepMsMax,
    };
  }

  #sizeOf({ number }: SegmentRecord): number {
    const path = segmentPath(this.#options.directory, number);
    return existsSync(path) ? statSync(path).size : 0;
  }

  /** Everything durable, and marked as closed in order. */
  close(): void {
    const records = [...this.#replicas.values()]
      .filter(({ damage }) => damage === undefined)
      .map(({ record, head }) => ({ ...record, head }));
    tolerateFull(() => {
      this.#current.file.checkpointAll();
      this.#files.promises.save({ replicas: records });
      // closing a database checkpoints it too, but keeps an error of the device to itself
      this.#files.promises.checkpoint();
      this.#files.watermark.sync(records, { closing: true });
    });
    this.#current.file.close();
    this.#files.promises.close();
    this.#files.watermark.close();
  }
}

function isControl(value: Bytes): boolean {
  return value[0] === CONTROL_TAG;
}

/** A step that may wait until there is space again. */
function tolerateFull(step: () => void): void {
  try {
    step();
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}
