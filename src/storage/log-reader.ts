/**
 * Reads entries back from the segments of a node's log, each against the chain of checksums.
 *
 * An entry is looked up in the open segment first, then in the closed one whose share holds it. A share that a cut goes
 * through (safety.md §7, accepted losses) ends at the cut: rows behind it belong to a log that is no more.
 */
import type { Head, LogEntry, Offset, ShardId } from "../model/ids.ts";
import { LOG_READ_BYTES_MAX, LOG_READ_ENTRIES_MAX } from "../model/limits.ts";
import type { Damage } from "../ports.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import { segmentPath } from "./log-files.ts";
import { indexRow, type OpenSegment } from "./log-opening.ts";
import { type LogReplica, liveLast } from "./log-replica.ts";
import type { SegmentRecord } from "./promises.ts";
import type { ReplicaRecord } from "./replica-record.ts";
import { isWellFormed, type Row, SegmentFile } from "./segment.ts";
import type { ShardIndex } from "./segment-index.ts";
import { sqliteErrorKind } from "./sqlite.ts";

/** An entry that should be there and is not what was written. */
export class EntryDamage extends Error {
  override readonly name = "EntryDamage";
  readonly offset: Offset;
  readonly damage: Damage;

  constructor(offset: Offset, damage: Damage) {
    super(`${damage.file}: ${damage.where}: ${damage.what}`);
    this.offset = offset;
    this.damage = damage;
  }
}

export class LogReader {
  readonly #directory: string;
  /** Closed segments, oldest first: the writer's own list. */
  readonly #closed: readonly SegmentRecord[];
  /** Indexes of closed segments that were read. */
  readonly #indexes = new Map<number, Map<ShardId, ShardIndex>>();

  constructor(directory: string, closed: readonly SegmentRecord[]) {
    this.#directory = directory;
    this.#closed = closed;
  }

  /** Takes over the indexes of a segment that was just closed. */
  segmentClosed(number: number, indexes: Map<ShardId, ShardIndex>): void {
    this.#indexes.set(number, indexes);
  }

  segmentRemoved(number: number): void {
    this.#indexes.delete(number);
  }

  /**
   * Entries of a replica from `from` on, dense, up to LOG_READ_BYTES_MAX or the end of a segment; at least one, for
   * base < from <= head. Throws EntryDamage.
   */
  read(replica: LogReplica, from: Offset, current: OpenSegment): LogEntry[] {
    return this.#rows(replica, from, current, LOG_READ_ENTRIES_MAX).map(entryOf);
  }

  /** The id and the chain's value of an entry, for base < offset <= head, checked as by a read. Throws EntryDamage. */
  at(replica: LogReplica, offset: Offset, current: OpenSegment): Head {
    const { term, crc } = this.#rows(replica, offset, current, 1)[0]!;
    return { term, offset, crc };
  }

  /** The last entry in the closed segment that holds this one: opening finds it as damaged as this one. */
  lastBeside({ record, head }: LogReplica, offset: Offset): Offset {
    return this.#shareOf(record, offset)?.last ?? head.offset;
  }

  #rows({ record, head }: LogReplica, from: Offset, current: OpenSegment, entriesMax: number): Row[] {
    const until = Math.min(head.offset, from + entriesMax - 1);
    const index = current.indexes.get(record.shard);
    if (index !== undefined && from >= index.first) {
      return this.#readFrom(current.file, index, record, { from, last: until });
    }
    const found = this.#shareOf(record, from);
    if (found === undefined) throw damaged(this.#directory, from, "no segment holds it");
    return this.#withSegment(found.segment, from, (file, indexes) => {
      const closedIndex = indexes.get(record.shard);
      if (closedIndex === undefined || closedIndex.last < from)
        throw damaged(file.path, from, "its segment does not hold it");
      return this.#readFrom(file, closedIndex, record, { from, last: Math.min(found.last, closedIndex.last, until) });
    });
  }

  /** Reads and checks the chain against the entry before, which lies in the same segment or ends the one before it. */
  #readFrom(
    file: SegmentFile,
    index: ShardIndex,
    record: ReplicaRecord,
    { from, last }: { readonly from: Offset; readonly last: Offset },
  ): Row[] {
    let crc = from > index.first ? storedCrc(file, index, record.shard, from - 1) : this.#crcBefore(record, from);
    const rows: Row[] = [];
    const stretch = index.find(from);
    const entries = Math.min(stretch.entries, last - from + 1);
    for (const row of file.read(record.shard, { ...stretch, entries }, LOG_READ_BYTES_MAX)) {
      const expected = from + rows.length;
      if (expected > last) break;
      if (!isWellFormed(row) || row.offset !== expected) {
        throw damaged(file.path, expected, "the entries are not in order");
      }
      if (row.crc !== entryCrc(crc, row)) {
        throw damaged(file.path, expected, "its checksum is not that of what was written");
      }
      crc = row.crc;
      rows.push(row);
    }
    if (rows.length === 0) throw damaged(file.path, from, "its segment does not hold it");
    return rows;
  }

  /** The chain's value at the entry before `offset`, the first of its segment. */
  #crcBefore(record: ReplicaRecord, offset: Offset): number {
    if (record.base.offset === offset - 1) return record.base.crc;
    const found = this.#shareOf(record, offset - 1);
    if (found === undefined) throw damaged(this.#directory, offset - 1, "no segment holds it");
    const { segment, share } = found;
    if (share.last.offset === offset - 1) return share.last.crc;
    return this.#withSegment(segment, offset - 1, (file, indexes) => {
      const index = indexes.get(record.shard);
      if (index === undefined) throw damaged(file.path, offset - 1, "its segment does not hold it");
      return storedCrc(file, index, record.shard, offset - 1);
    });
  }

  /** The closed segment that holds an entry of the log as it stands, and the last such entry in it. */
  #shareOf(record: ReplicaRecord, offset: Offset) {
    for (const segment of this.#closed) {
      const share = segment.shares.find(
        (candidate) =>
          candidate.shard === record.shard && candidate.first <= offset && offset <= liveLast(candidate, record),
      );
      if (share !== undefined) return { segment, share, last: liveLast(share, record) };
    }
    return undefined;
  }

  #withSegment<T>(
    segment: SegmentRecord,
    offset: Offset,
    use: (file: SegmentFile, indexes: Map<ShardId, ShardIndex>) => T,
  ): T {
    const path = segmentPath(this.#directory, segment.number);
    let file: SegmentFile | undefined;
    try {
      file = new SegmentFile(path, { syncData: true });
      return use(file, this.#indexesOf(segment, file));
    } catch (error) {
      if (sqliteErrorKind(error) !== "corrupt") throw error;
      throw damaged(path, offset, (error as Error).message);
    } finally {
      file?.close();
    }
  }

  #indexesOf(segment: SegmentRecord, file: SegmentFile): Map<ShardId, ShardIndex> {
    let indexes = this.#indexes.get(segment.number);
    if (indexes !== undefined) return indexes;
    indexes = new Map();
    for (const row of file.all()) {
      if (!isWellFormed(row)) continue;
      const index = indexes.get(row.shard);
      if (index === undefined || row.offset === index.last + 1) indexRow(indexes, row.shard, row.offset, row.rowid);
    }
    this.#indexes.set(segment.number, indexes);
    return indexes;
  }
}

/** The checksum stored with one entry. */
function storedCrc(file: SegmentFile, index: ShardIndex, shard: ShardId, offset: Offset): number {
  const [row] = file.read(shard, { ...index.find(offset), entries: 1 }, LOG_READ_BYTES_MAX);
  if (row === undefined || row.offset !== offset || !isWellFormed(row)) {
    throw damaged(file.path, offset, "its segment does not hold it");
  }
  return row.crc;
}

function entryOf({ term, offset, timestamp, value }: Row): LogEntry {
  return { term, offset, timestamp, value };
}

function damaged(file: string, offset: Offset, what: string): EntryDamage {
  return new EntryDamage(offset, { file, where: `offset ${offset}`, what });
}
