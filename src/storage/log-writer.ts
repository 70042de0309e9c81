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
import type { Bytes } from "../lib/bytes.ts";
import type { Head, LogEntry, Offset, ShardId, Term } from "../model/ids.ts";
import { LOG_COMMIT_BYTES_MAX, WATERMARK_LAG_COMMITS_MAX, WATERMARK_LAG_MS_MAX } from "../model/limits.ts";
import type { LogShape, LogStats, StampAnswer, StampRequest, Truncation } from "../model/log-calls.ts";
import type { Reason } from "../model/refusal.ts";
import type { ReplicaLife, ReplicaLog } from "../ports.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import { Ballast } from "./ballast.ts";
import { type AcceptedLoss, indexRow, type OpenedLog, openLogFiles } from "./log-opening.ts";
import type { LogReplica } from "./log-replica.ts";
import { LogReplicas } from "./log-replicas.ts";
import { LogSegments, type SegmentsOptions } from "./log-segments.ts";
import { released } from "./replica-changes.ts";
import type { SegmentFile } from "./segment.ts";
import { isDiskFull } from "./sqlite.ts";

export interface LogWriterOptions extends SegmentsOptions {
  readonly acceptLoss: ReadonlyMap<ShardId, AcceptedLoss>;
  /** Time that never goes back, for the watermark's lag. */
  readonly monotonicMs: () => number;
  /** Default LOG_BALLAST_BYTES. */
  readonly ballastBytes?: number;
}

export interface Append {
  readonly shard: ShardId;
  readonly entry: LogEntry;
  /** The term under which the entry was accepted: that of its leader, not always its own. */
  readonly acceptedUnder: Term;
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
  readonly #segments: LogSegments;
  readonly #records: LogReplicas;
  #commitsBehind = 0;
  #behindSince = 0;
  #entriesAppended = 0;
  #bytesAppended = 0;
  #commits = 0;
  #commitMs = 0;
  #upkeepMsMax = 0;

  /** Opens or creates the log in a directory. Throws what the device throws. */
  constructor(options: LogWriterOptions) {
    this.#options = options;
    this.#ballast = new Ballast(options.directory, options.ballastBytes);
    this.#files = openLogFiles(options, this.#ballast);
    this.#replicas = this.#files.replicas;
    this.#segments = new LogSegments(options, this.#files);
    this.#records = new LogReplicas(this.#files, this.#segments, this.#ballast);
    // behind an accepted loss a new segment begins: dead rows and live ones of the same offsets never share one
    if (options.acceptLoss.size > 0 && this.#segments.current.file.rows > 0 && !this.#segments.isStandIn)
      this.#segments.roll();
    this.#ballast.lay();
  }

  replicas(): ReplicaLog[] {
    return this.#records.list();
  }

  // --- replicas and promises: see the port ----------------------------------------------------------------------

  create(shard: ShardId, life: ReplicaLife): ReplicaLog {
    return this.#records.create(shard, life);
  }

  adopt(shard: ShardId, life: ReplicaLife): ReplicaLog {
    return this.#records.adopt(shard, life);
  }

  promise(shard: ShardId, term: Term): Head {
    return this.#records.promise(shard, term);
  }

  markLed(shard: ShardId, term: Term): void {
    this.#records.markLed(shard, term);
  }

  truncate(shard: ShardId, truncation: Truncation): Head {
    return this.#records.truncate(shard, truncation);
  }

  install(shard: ShardId, acceptedUnder: Term, base: Head): void {
    this.#records.install(shard, acceptedUnder, base);
  }

  end(shard: ShardId, reason: string): ReplicaLog {
    return this.#records.end(shard, reason);
  }

  get stamp(): number {
    return this.#records.stamp;
  }

  takeStamp(request: StampRequest): StampAnswer {
    return this.#records.takeStamp(request);
  }

  remove(shard: ShardId): void {
    this.#records.remove(shard);
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
    const termEnds = new Map<ShardId, Head[]>();
    const accepted: Append[] = [];
    const rowids: number[] = [];
    const { file } = this.#segments.current;
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
        rowids.push(this.#insert(append, heads, termEnds));
        accepted.push(append);
      }
      if (accepted.length > 0) this.#commitFile(file);
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
    if (!full) this.#committed(accepted, rowids, { heads, termEnds });
    for (const append of group) {
      const refused = refusals.get(append) ?? (full ? "RESOURCE_EXHAUSTED" : undefined);
      results.push({ shard: append.shard, offset: append.entry.offset, refused });
    }
  }

  #commitFile(file: Pick<SegmentFile, "commit">): void {
    const started = this.#options.monotonicMs();
    file.commit();
    this.#commitMs += this.#options.monotonicMs() - started;
  }

  /** Why an entry is not appended: another term accepted it, the one before it was refused, or its term cannot follow. */
  #refusal({ shard, entry, acceptedUnder }: Append, heads: ReadonlyMap<ShardId, Head>): Reason | undefined {
    const replica = this.#replicas.get(shard);
    if (replica === undefined || replica.damage !== undefined) return "NODE_IS_NOT_MEMBER";
    if (acceptedUnder !== replica.record.promise) return "RESOURCE_UNAVAILABLE";
    const head = heads.get(shard) ?? replica.head;
    if (entry.offset !== head.offset + 1) return "RESOURCE_EXHAUSTED";
    return entry.term < head.term || entry.term > acceptedUnder ? "INVALID_TERM" : undefined;
  }

  #insert({ shard, entry }: Append, heads: Map<ShardId, Head>, termEnds: Map<ShardId, Head[]>): number {
    const replica = this.#replicas.get(shard)!;
    const before = heads.get(shard) ?? replica.head;
    const crc = entryCrc(before.crc, entry);
    const { term, offset, timestamp, value } = entry;
    if (before.term !== term) termEnds.set(shard, [...(termEnds.get(shard) ?? []), before]);
    heads.set(shard, { term, offset, crc });
    return this.#segments.current.file.insert({
      shard,
      generation: replica.record.generation,
      term,
      offset,
      crc,
      timestamp,
      value,
    });
  }

  #committed(
    accepted: readonly Append[],
    rowids: readonly number[],
    { heads, termEnds }: { heads: ReadonlyMap<ShardId, Head>; termEnds: ReadonlyMap<ShardId, readonly Head[]> },
  ): void {
    if (accepted.length === 0) return;
    const { file, indexes } = this.#segments.current;
    for (const [at, { shard, entry }] of accepted.entries()) {
      indexRow(indexes, shard, entry.offset, rowids[at]!);
      this.#bytesAppended += entry.value.length;
    }
    for (const [shard, head] of heads) this.#records.moved(shard, head, termEnds.get(shard) ?? []);
    this.#entriesAppended += accepted.length;
    this.#commits++;
    if (this.#commitsBehind++ === 0) this.#behindSince = this.#options.monotonicMs();
    this.#timed(() => {
      tolerateFull(() => file.checkpointWhenDue());
      if (this.#commitsBehind >= WATERMARK_LAG_COMMITS_MAX) this.#catchUpWatermark();
    });
  }

  // --- reading --------------------------------------------------------------------------------------------------

  /** See Log.read. */
  read(shard: ShardId, fromInclusive: Offset): LogEntry[] {
    return this.#records.read(shard, fromInclusive);
  }

  /** See Log.shape. */
  shape(shard: ShardId): LogShape {
    return this.#records.shape(shard);
  }

  /** See Log.at. */
  at(shard: ShardId, offset: Offset): Head | undefined {
    return this.#records.at(shard, offset);
  }

  // --- upkeep ---------------------------------------------------------------------------------------------------

  /** See Log.release. */
  release(shard: ShardId, upToInclusive: Offset): void {
    const replica = this.#replicas.get(shard);
    if (replica !== undefined) replica.record = released(replica, upToInclusive) ?? replica.record;
  }

  /** What is due between commits: the watermark's lag, a roll, a trim, the ballast. */
  upkeep(): void {
    if (this.#commitsBehind > 0 && this.#options.monotonicMs() - this.#behindSince >= WATERMARK_LAG_MS_MAX)
      this.#timed(() => this.#catchUpWatermark());
    this.#timed(() => {
      tolerateFull(() => {
        this.#segments.rollWhenDue();
        this.#segments.trim();
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
    if (this.#records.isWatermarkBehind) this.#records.catchUpWatermark();
    this.#commitsBehind = 0;
  }

  stats(): LogStats {
    return {
      bytes: this.#segments.bytes,
      segments: this.#segments.count,
      entriesAppended: this.#entriesAppended,
      bytesAppended: this.#bytesAppended,
      commits: this.#commits,
      commitMs: this.#commitMs,
      upkeepMsMax: this.#upkeepMsMax,
    };
  }

  /** Everything durable, and marked as closed in order. */
  close(): void {
    const records = [...this.#replicas.values()]
      .filter(({ damage }) => damage === undefined)
      .map(({ record, head }) => ({ ...record, head }));
    tolerateFull(() => {
      this.#segments.current.file.checkpointAll();
      this.#files.promises.save({ replicas: records });
      // closing a database checkpoints it too, but keeps an error of the device to itself
      this.#files.promises.checkpoint();
      this.#files.watermark.sync(records, { closing: true });
    });
    this.#segments.current.file.close();
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
