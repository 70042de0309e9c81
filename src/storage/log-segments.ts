/**
 * The segments of a node's log while it runs: the open one, which commits go to, and the closed ones, which are read
 * until every state is past them. A segment is rolled when it is old or large, and before a generation begins
 * (replica-record.ts): so the rows of one share are of one generation, and dead rows and live ones of the same offsets
 * never share a segment.
 */
import { existsSync, statSync } from "node:fs";
import { assert } from "../lib/assert.ts";
import type { ShardId, Timestamp } from "../model/ids.ts";
import { LOG_SEGMENT_BYTES_MAX } from "../model/limits.ts";
import { removeSqlite, setAside, syncDirectory } from "./files.ts";
import { segmentPath } from "./log-files.ts";
import type { OpenedLog, OpenSegment } from "./log-opening.ts";
import { EntryDamage, LogReader } from "./log-reader.ts";
import { changeTo, type LogReplica, liveLast, shapeOf } from "./log-replica.ts";
import type { SegmentRecord, SegmentShare } from "./promises.ts";
import { type ReplicaRecord, withoutSpentCuts } from "./replica-record.ts";
import { SegmentFile } from "./segment.ts";
import { MEMORY } from "./sqlite.ts";

export interface SegmentsOptions {
  readonly directory: string;
  readonly retentionMs: number;
  readonly syncData: boolean;
  /** Wall clock, for retention. */
  readonly now: () => Timestamp;
  /** Bytes after which a segment is rolled; default LOG_SEGMENT_BYTES_MAX. */
  readonly segmentBytesMax?: number;
  /**
   * Removes the files of a segment that is no longer recorded, and calls `gone` once no crash brings them back; may take
   * its time. Default: at once.
   */
  readonly removeSegment?: (path: string, gone: () => void) => void;
}

export class LogSegments {
  readonly reader: LogReader;
  readonly #options: SegmentsOptions;
  readonly #files: OpenedLog;
  #current: OpenSegment;
  #openedAt: Timestamp;
  #closedBytes = 0;
  /** Segments that are recorded no more, and whose files may still be there. */
  readonly #leaving = new Set<number>();

  constructor(options: SegmentsOptions, files: OpenedLog) {
    this.#options = options;
    this.#files = files;
    this.reader = new LogReader(options.directory, files.closed);
    this.#current = files.current;
    this.#openedAt = options.now();
    for (const segment of files.closed) this.#closedBytes += this.#sizeOf(segment);
  }

  /** Where commits go. */
  get current(): OpenSegment {
    return this.#current;
  }

  /** Above the numbers of all segments: whatever row is there now lies before it. */
  get next(): number {
    return this.#current.number + 1;
  }

  /** Bytes of all segments. */
  get bytes(): number {
    return this.#closedBytes + this.#current.file.bytes;
  }

  get count(): number {
    return this.#files.closed.length + 1;
  }

  // --- rolling --------------------------------------------------------------------------------------------------

  rollWhenDue(): void {
    const { file } = this.#current;
    if (file.rows === 0 || this.isStandIn) return;
    const age = this.#options.now() - this.#openedAt;
    const bytesMax = this.#options.segmentBytesMax ?? LOG_SEGMENT_BYTES_MAX;
    if (file.bytes < bytesMax && age < this.#options.retentionMs / 4) return;
    this.roll();
  }

  /** Whether the open segment is unreadable, and something in memory stands in for it. */
  get isStandIn(): boolean {
    return this.#current.file.path === MEMORY;
  }

  /** Before a generation of a shard begins: no row of an earlier one stays in the open segment. */
  beginGeneration(shard: ShardId): void {
    const { indexes, dead } = this.#current;
    if (indexes.has(shard) || dead.has(shard)) this.leaveOpenOne();
  }

  /** What is written next goes to another segment. An unreadable one is put aside, for its stand-in stores nothing. */
  leaveOpenOne(): void {
    const { number, file } = this.#current;
    if (!this.isStandIn) {
      if (file.rows > 0) this.roll();
      return;
    }
    const { directory, syncData } = this.#options;
    const path = segmentPath(directory, number);
    setAside(path);
    const fresh = new SegmentFile(path, { syncData, create: true });
    syncDirectory(directory);
    file.close();
    this.#current = { number, file: fresh, indexes: new Map(), dead: new Set() };
  }

  /** Begins the next segment and closes the current one. After a crash in between, opening finishes the step. */
  roll(): void {
    const { number, file, indexes } = this.#current;
    const { directory, syncData } = this.#options;
    const replicas = [...this.#files.replicas.values()];
    const record: SegmentRecord = {
      number,
      closedAt: this.#options.now(),
      shares: [...indexes].map(([shard, index]) => this.#shareOf(shard, index.first)),
    };
    const next = new SegmentFile(segmentPath(directory, number + 1), { syncData, create: true });
    try {
      syncDirectory(directory);
      file.checkpointAll();
      this.#files.promises.save({
        segments: [record],
        replicas: replicas.map((replica) => ({ ...replica.record, head: replica.head })),
      });
    } catch (error) {
      next.close(); // on a full disk the roll is tried again
      throw error;
    }
    file.close();
    this.#files.closed.push(record);
    this.#closedBytes += this.#sizeOf(record);
    this.reader.segmentClosed(number, indexes);
    this.#current = { number: number + 1, file: next, indexes: new Map(), dead: new Set() };
    this.#openedAt = this.#options.now();
  }

  #shareOf(shard: ShardId, first: number): SegmentShare {
    const replica = this.#files.replicas.get(shard)!;
    const { record, head } = replica;
    const ends = shapeOf(replica).termEnds.filter(({ offset }) => offset >= first);
    return { shard, generation: record.generation, first, termEnds: ends, last: head };
  }

  // --- trimming -------------------------------------------------------------------------------------------------

  /** Removes the oldest segments that nobody needs: older than the retention, and behind every state's synced checkpoint. */
  trim(): void {
    const { closed, replicas } = this.#files;
    while (closed.length > 0) {
      const [oldest] = closed;
      assert(oldest !== undefined, "a segment to trim");
      if (this.#options.now() - oldest.closedAt < this.#options.retentionMs) return;
      const live = oldest.shares.flatMap((share) => {
        const replica = replicas.get(share.shard);
        return replica !== undefined && isLiveShare(share, replica.record) ? [{ share, replica }] : [];
      });
      if (live.some(({ share, replica }) => isNeeded(share, replica))) return;
      const bases = this.#basesBehind(live);
      if (bases === undefined) return;
      const moved = bases.map(({ replica, base }): ReplicaRecord => ({ ...replica.record, base, head: replica.head }));
      this.#files.promises.save({ replicas: moved, droppedSegments: [oldest.number] });
      for (const [nth, { replica }] of bases.entries()) changeTo(replica, moved[nth]!);
      this.#closedBytes -= this.#sizeOf(oldest);
      closed.shift();
      this.reader.segmentRemoved(oldest.number);
      this.#remove(oldest.number);
    }
  }

  #remove(number: number): void {
    const { directory, removeSegment } = this.#options;
    this.#leaving.add(number);
    const gone = () => {
      this.#leaving.delete(number);
      this.#forgetSpentCuts();
    };
    const path = segmentPath(directory, number);
    if (removeSegment !== undefined) removeSegment(path, gone);
    else {
      removeSqlite(path);
      syncDirectory(directory);
      gone();
    }
  }

  /** Records are stored without them when they are next stored: a cut too many does no harm. */
  #forgetSpentCuts(): void {
    const oldest = Math.min(...this.#leaving, this.#files.closed[0]?.number ?? this.#current.number);
    for (const replica of this.#files.replicas.values()) replica.record = withoutSpentCuts(replica.record, oldest);
  }

  /** The last entries of shares; undefined when one cannot be read. Where a cut goes through a share, only its rows say with which checksum. */
  #basesBehind(live: readonly { readonly share: SegmentShare; readonly replica: LogReplica }[]) {
    try {
      return live.map(({ share, replica }) => {
        const last = liveLast(share, replica.record);
        const base = last === share.last.offset ? share.last : this.reader.at(replica, last, this.#current);
        return { replica, base };
      });
    } catch (error) {
      if (error instanceof EntryDamage) return undefined;
      throw error;
    }
  }

  #sizeOf({ number }: SegmentRecord): number {
    const path = segmentPath(this.#options.directory, number);
    return existsSync(path) ? statSync(path).size : 0;
  }
}

/** Whether a share holds an entry of the log as it stands, behind its base. */
function isLiveShare(share: SegmentShare, record: ReplicaRecord): boolean {
  const last = liveLast(share, record);
  return last >= share.first && last > record.base.offset;
}

/** Whether entries of a live share may still be asked for. */
function isNeeded(share: SegmentShare, { record, damage }: LogReplica): boolean {
  return damage !== undefined || liveLast(share, record) > record.released;
}
