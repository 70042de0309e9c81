/**
 * The log's files as one log: segments `log-<n>.sqlite` in ascending order, the last of them open for appending, the
 * others closed. Knows which entries of which shard lie where; rolls to a new file and unlinks old ones.
 *
 *     closed  log-3   shard 0: offsets 10…19   shard 1: 0…4         unlinked when no shard needs its rows
 *     open    log-4   shard 0: offsets 20…     shard 1: 5…          appended to
 *
 * A closed segment that was not scanned when the log was opened (nobody needs its rows to recover) is indexed when it
 * is first read from. Closed files are opened for reading, a few at a time.
 *
 * Source: architecture.md, "One log per node".
 */
import { readdirSync } from "node:fs";
import { unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Head, Offset, ShardId, Timestamp } from "../model/ids.ts";
import { LOG_SEGMENT_FILES_OPEN_MAX } from "../model/limits.ts";
import { SQLITE_SUFFIXES, syncDirectory } from "./files.ts";
import type { SegmentRecord, SegmentShare } from "./promises.ts";
import { isWellFormed, type Row, SegmentFile } from "./segment.ts";
import { ShardIndex } from "./segment-index.ts";

export interface Segment {
  readonly number: number;
  readonly path: string;
  /** Undefined while nobody reads it. */
  file: SegmentFile | undefined;
  /** Undefined = not scanned yet. */
  indexes: Map<ShardId, ShardIndex> | undefined;
  /** What it holds of each shard; of a closed segment only. */
  shares: ReadonlyMap<ShardId, SegmentShare>;
  /** 0 while it is open. */
  closedAt: Timestamp;
  /** Bytes on disk when last looked at. */
  bytes: number;
}

export function segmentPath(directory: string, number: number): string {
  return join(directory, `log-${number}.sqlite`);
}

/** Numbers of the segment files in a directory, ascending. */
export function segmentNumbers(directory: string): number[] {
  const names = readdirSync(directory).map((name) => /^log-(\d+)\.sqlite$/.exec(name)?.[1]);
  return names
    .filter((number) => number !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

/** A segment as it is known before its file is looked at. */
export function segmentOf(directory: string, number: number, record?: SegmentRecord): Segment {
  return {
    number,
    path: segmentPath(directory, number),
    file: undefined,
    indexes: undefined,
    shares: new Map(record?.shares.map((share) => [share.shard, share])),
    closedAt: record?.closedAt ?? 0,
    bytes: 0,
  };
}

export class Segments {
  readonly directory: string;
  /** Ascending. */
  readonly list: Segment[] = [];
  readonly #syncData: boolean;

  constructor(directory: string, options: { syncData: boolean }) {
    this.directory = directory;
    this.#syncData = options.syncData;
  }

  /** The segment that is appended to; undefined in a log that has none yet. */
  get open(): Segment | undefined {
    const last = this.list.at(-1);
    return last?.closedAt === 0 ? last : undefined;
  }

  get bytes(): number {
    return this.list.reduce((sum, { file, bytes }) => sum + (file?.bytes ?? bytes), 0);
  }

  /** Creates the file of the next segment, durably, and opens it for appending. */
  create(number: number): Segment {
    const segment = segmentOf(this.directory, number);
    segment.file = new SegmentFile(segment.path, { syncData: this.#syncData, create: true });
    segment.indexes = new Map();
    syncDirectory(this.directory);
    this.list.push(segment);
    return segment;
  }

  /** The file, opened if need be: of the closed ones at most LOG_SEGMENT_FILES_OPEN_MAX stay open. */
  fileOf(segment: Segment): SegmentFile {
    if (segment.file === undefined) {
      const held = this.list.filter((other) => other.file !== undefined && other.closedAt !== 0);
      if (held.length >= LOG_SEGMENT_FILES_OPEN_MAX) this.#closeFile(held[0]!);
      segment.file = new SegmentFile(segment.path, { syncData: this.#syncData });
    }
    return segment.file;
  }

  /** Ends the open segment: no more rows. Its file is checkpointed and closed. */
  closeOpen(segment: Segment, closedAt: Timestamp, shares: Iterable<SegmentShare>): void {
    segment.closedAt = Math.max(1, closedAt);
    segment.shares = new Map([...shares].map((share) => [share.shard, share]));
    this.#closeFile(segment);
  }

  #closeFile(segment: Segment): void {
    const { file } = segment;
    if (file === undefined) return;
    segment.bytes = file.bytes;
    segment.file = undefined;
    file.close();
  }

  /** First and last offset of a shard that are alive in a segment. */
  range(segment: Segment, shard: ShardId): { first: Offset; last: Offset } | undefined {
    if (segment.indexes !== undefined) return segment.indexes.get(shard);
    const share = segment.shares.get(shard);
    return share === undefined ? undefined : { first: share.first, last: share.last.offset };
  }

  /** The segment that holds an entry: of those that say so the last one, since later rows replace earlier ones. */
  find(shard: ShardId, offset: Offset): Segment | undefined {
    return this.list.findLast((segment) => {
      const range = this.range(segment, shard);
      return range !== undefined && range.first <= offset && offset <= range.last;
    });
  }

  /** Rows of a shard from `offset` on, which lie in one segment; none if no segment has it. Unchecked. */
  read(shard: ShardId, offset: Offset, bytesMax: number): Row[] {
    const segment = this.find(shard, offset);
    if (segment === undefined) return [];
    if (segment.indexes === undefined) for (const _ of this.indexing(segment));
    const index = segment.indexes?.get(shard);
    if (index === undefined || offset < index.first || offset > index.last) return [];
    return this.fileOf(segment).read(shard, index.find(offset), bytesMax);
  }

  /** Builds a closed segment's index in slices: take one, let others run, take the next. */
  *indexing(segment: Segment): Generator<void> {
    if (segment.indexes !== undefined) return;
    const indexes = new Map<ShardId, ShardIndex>();
    const generations = new Map<ShardId, number>();
    for (let rowid = 0; ; ) {
      const rows = this.fileOf(segment).scan(rowid);
      if (rows.length === 0) break;
      for (const row of rows) {
        rowid = Math.max(rowid + 1, row.rowid);
        if (isWellFormed(row)) addRow(indexes, generations, row);
      }
      yield;
    }
    segment.indexes ??= indexes;
  }

  /** Forgets a shard's entries behind `offset`, wherever they lie: they are dead. */
  truncate(shard: ShardId, offset: Offset): void {
    for (const segment of this.list) {
      const index = segment.indexes?.get(shard);
      index?.truncate(offset);
      if (index !== undefined && index.last < index.first) segment.indexes!.delete(shard);
    }
  }

  /** Takes a segment out and unlinks its files in the background; resolves once that is durable. */
  async drop(segment: Segment): Promise<void> {
    this.list.splice(this.list.indexOf(segment), 1);
    this.#closeFile(segment);
    for (const suffix of SQLITE_SUFFIXES) {
      await unlink(segment.path + suffix).catch((error) => {
        if (error.code !== "ENOENT") throw error;
      });
    }
  }

  close(): void {
    for (const segment of this.list) this.#closeFile(segment);
  }
}

function addRow(indexes: Map<ShardId, ShardIndex>, generations: Map<ShardId, number>, row: Row): void {
  const { shard, offset, generation } = row;
  const index = indexes.get(shard);
  if (index === undefined) {
    indexOf(indexes, shard, offset).add(offset, row.rowid, 1);
  } else if (offset === index.last + 1) {
    index.add(offset, row.rowid, 1);
  } else if (offset <= index.last && generation > generations.get(shard)!) {
    index.truncate(offset - 1);
    if (index.last < index.first) indexes.delete(shard);
    indexOf(indexes, shard, offset).add(offset, row.rowid, 1);
  } else return;
  generations.set(shard, generation);
}

/** The shard's index in a segment, begun at `first` if there is none. */
export function indexOf(indexes: Map<ShardId, ShardIndex>, shard: ShardId, first: Offset): ShardIndex {
  let index = indexes.get(shard);
  if (index === undefined) {
    index = new ShardIndex(first);
    indexes.set(shard, index);
  }
  return index;
}

/** What a segment holds of each shard, given the heads of all of them. */
export function sharesOf(
  segment: Segment,
  headOf: (shard: ShardId) => { generation: number; head: Head },
): SegmentShare[] {
  return [...(segment.indexes ?? [])].map(([shard, { first }]) => {
    const { generation, head } = headOf(shard);
    return { shard, generation, first, last: head };
  });
}
