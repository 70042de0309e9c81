/**
 * Checks the log's rows, file by file in the order in which they were written: every entry that still matters must
 * follow the one before it (offset, term, chain CRC), and reach at least as far as the closed segments' shares and the
 * watermark say. Builds the index on the way.
 *
 * Damage in the open segment concerns every shard of the node, since nobody can tell what else it has lost. In a
 * closed one it concerns the shards that still need its rows; for the others, whose state is in a synced checkpoint
 * up to the segment's end, the log then begins behind it.
 *
 * Source: safety.md §7.
 */
import { EMPTY_HEAD, type Head, NO_OFFSET, type Offset, type ShardId } from "../model/ids.ts";
import type { Damage } from "../ports.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import { LOG_READ_BYTES_MAX } from "../model/limits.ts";
import type { SegmentShare } from "./promises.ts";
import { newRecord, type ReplicaRecord } from "./replica-record.ts";
import { isWellFormed, type Row } from "./segment.ts";
import { indexOf, type Segment, type Segments } from "./segments.ts";

/** One shard as the scan has found it so far. */
export interface ShardScan {
  record: ReplicaRecord;
  /** The last good entry. */
  head: Head;
  /** Generation of that entry's row. */
  generation: number;
  /** Entries up to here are in a synced checkpoint of the shard's state. */
  readonly needed: Offset;
  /** A head that was durable in this generation, if one is known. */
  readonly mark: Head | undefined;
  /** Highest offset that any row or record speaks of. */
  seen: Offset;
  /** The first thing that is wrong. */
  damage: Damage | undefined;
}

export interface ScanInput {
  readonly segments: Segments;
  /** Undefined when nothing that says what lives here can be trusted: the rows themselves then tell. */
  readonly records: ReadonlyMap<ShardId, ReplicaRecord> | undefined;
  readonly marks: ReadonlyMap<ShardId, Head>;
  /** Per shard, up to where its state is in a synced checkpoint, where more is known than the records say. */
  readonly applied: ReadonlyMap<ShardId, Offset>;
}

export class LogScan {
  readonly shards = new Map<ShardId, ShardScan>();
  /** Segments of which something that matters is not what was written. */
  readonly damagedSegments = new Set<Segment>();
  /** What was found and did no harm. */
  readonly notes: Damage[] = [];
  readonly #segments: Segments;
  readonly #trusted: boolean;

  constructor({ segments, records, marks, applied }: ScanInput) {
    this.#segments = segments;
    this.#trusted = records !== undefined;
    for (const [shard, record] of records ?? []) {
      this.shards.set(shard, {
        record,
        head: record.base,
        generation: 0,
        needed: Math.max(record.released, applied.get(shard) ?? NO_OFFSET),
        mark: marks.get(shard),
        seen: Math.max(record.base.offset, marks.get(shard)?.offset ?? NO_OFFSET),
        damage: undefined,
      });
    }
  }

  /** Whether no shard needs the rows of a closed segment to recover. */
  isUnneeded(segment: Segment): boolean {
    if (!this.#trusted || segment.closedAt === 0 || segment.shares.size === 0) return false;
    return [...segment.shares.values()].every((share) => {
      const scan = this.shards.get(share.shard);
      if (scan === undefined) return true;
      const alive = share.generation === scan.record.generation || share.last.offset <= scan.record.cut;
      return share.last.offset <= scan.record.base.offset || (alive && share.last.offset <= scan.needed);
    });
  }

  /** Takes a closed segment's shares for what its rows would say. */
  pass(segment: Segment): void {
    for (const share of segment.shares.values()) {
      const scan = this.shards.get(share.shard);
      if (scan === undefined || share.last.offset <= scan.head.offset) continue;
      scan.head = share.last;
      scan.generation = share.generation;
      scan.seen = Math.max(scan.seen, share.last.offset);
    }
  }

  /** Checks a segment's rows. `damage` is what is already known to be wrong with the file. */
  scan(segment: Segment, damage: Damage | undefined): void {
    segment.indexes ??= new Map();
    let fileDamage = damage;
    try {
      for (let rowid = 0; ; ) {
        const rows = this.#segments.fileOf(segment).scan(rowid);
        if (rows.length === 0) break;
        for (const row of rows) {
          const wrong = row.rowid === rowid + 1 ? this.#row(segment, row) : "rows before it are missing";
          if (wrong !== undefined) fileDamage ??= this.#at(segment, row, wrong);
          rowid = Math.max(rowid + 1, row.rowid);
        }
      }
    } catch (error) {
      if (!isFileDamage(error)) throw error;
      fileDamage ??= { file: segment.path, where: "the file", what: String((error as Error).message) };
    }
    this.finish(segment, fileDamage);
  }

  /** Concludes a segment: compares with its shares, and says whom the damage concerns. */
  finish(segment: Segment, fileDamage: Damage | undefined): void {
    const damage = fileDamage ?? this.#firstDamage(segment);
    if (segment.closedAt === 0 || segment.shares.size === 0) {
      if (damage !== undefined) this.#damageAll(segment, damage);
      return;
    }
    for (const share of segment.shares.values()) {
      const scan = this.shards.get(share.shard);
      if (scan === undefined) continue;
      scan.seen = Math.max(scan.seen, share.last.offset);
      const missing = this.#missing(scan, share);
      if (missing === undefined) continue;
      this.damagedSegments.add(segment);
      const found = damage ?? { file: segment.path, where: `shard ${share.shard}, offset ${scan.head.offset + 1}`, what: missing };
      if (share.last.offset <= scan.needed && share.generation === scan.record.generation) this.#beginBehind(scan, share, found);
      else scan.damage ??= found;
    }
    if (fileDamage !== undefined && !this.damagedSegments.has(segment)) this.notes.push(fileDamage);
  }

  /** Compares every head with the watermark's; what is missing should have been in the last segment. */
  compareWithMarks(last: Segment | undefined, directory: string): void {
    for (const scan of this.shards.values()) {
      if (scan.mark === undefined || scan.damage !== undefined || scan.head.offset >= scan.mark.offset) continue;
      const damage: Damage = {
        file: last?.path ?? directory,
        where: `shard ${scan.record.shard}, offset ${scan.head.offset + 1}`,
        what: `the log ends at offset ${scan.head.offset}, but had reached ${scan.mark.offset}`,
      };
      if (last === undefined) for (const other of this.shards.values()) other.damage ??= damage;
      else this.#damageAll(last, damage);
      return;
    }
  }

  #damageAll(segment: Segment, damage: Damage): void {
    this.damagedSegments.add(segment);
    for (const scan of this.shards.values()) scan.damage ??= damage;
  }

  #firstDamage(segment: Segment): Damage | undefined {
    for (const { damage } of this.shards.values()) if (damage?.file === segment.path) return damage;
    return undefined;
  }

  /** Why a share is not all there. */
  #missing(scan: ShardScan, share: SegmentShare): string | undefined {
    const { base, generation, cut } = scan.record;
    if (share.last.offset <= base.offset) return undefined;
    const dead = share.generation < generation && share.last.offset > cut;
    const expected = dead ? cut : share.last.offset;
    if (scan.damage !== undefined && scan.damage.file !== this.#segments.list.find((s) => s.shares.get(share.shard) === share)?.path) return undefined;
    if (scan.head.offset < expected) return "entries are missing";
    if (!dead && scan.head.offset === expected && scan.head.crc !== share.last.crc) return "the chain's CRC differs";
    return undefined;
  }

  /** The shard does not need what is damaged: its log begins behind this segment. */
  #beginBehind(scan: ShardScan, share: SegmentShare, found: Damage): void {
    if (scan.damage?.file === found.file) scan.damage = undefined;
    if (scan.damage !== undefined) return;
    this.notes.push(found);
    scan.head = share.last;
    scan.generation = share.generation;
    scan.record = { ...scan.record, base: share.last };
    for (const segment of this.#segments.list) segment.indexes?.delete(share.shard);
  }

  /** Checks one row; answers what is wrong with it when that is no matter of one known shard. */
  #row(segment: Segment, row: Row): string | undefined {
    if (!isWellFormed(row)) return "the row holds no entry";
    const scan = this.#shardOf(row);
    if (scan === undefined) return `shard ${row.shard} does not live here`;
    scan.seen = Math.max(scan.seen, row.offset);
    const { base, generation, cut } = scan.record;
    if (row.offset <= base.offset || scan.damage !== undefined) return undefined;
    if (row.generation < generation && row.offset > cut) return undefined;
    if (row.generation > scan.generation && row.offset <= scan.head.offset) this.#supersede(scan, row);
    const wrong = whatIsWrong(scan, row, this.#trusted);
    if (wrong !== undefined) {
      scan.damage = this.#at(segment, row, wrong);
      return undefined;
    }
    scan.head = { term: row.term, offset: row.offset, crc: row.crc };
    scan.generation = row.generation;
    indexOf(segment.indexes!, row.shard, row.offset).add(row.offset, row.rowid, 1);
    return undefined;
  }

  /** A row of a newer generation replaces what stood at its offset and behind it. */
  #supersede(scan: ShardScan, row: Row): void {
    const before = row.offset - 1;
    const { base } = scan.record;
    const previous = before === base.offset ? base : this.#segments.read(row.shard, before, LOG_READ_BYTES_MAX)[0];
    this.#segments.truncate(row.shard, before);
    if (previous !== undefined) scan.head = { term: previous.term, offset: before, crc: previous.crc };
  }

  #shardOf(row: Row): ShardScan | undefined {
    const known = this.shards.get(row.shard);
    if (known !== undefined || this.#trusted) return known;
    // Nothing says where this log began: an entry that is not the very first cannot be checked, so it is the base.
    const base = row.offset === 0 ? EMPTY_HEAD : { term: row.term, offset: row.offset, crc: row.crc };
    const record = { ...newRecord(row.shard, 0n, 0), base };
    const scan = { record, head: base, generation: 0, needed: NO_OFFSET, mark: undefined, seen: NO_OFFSET, damage: undefined };
    this.shards.set(row.shard, scan);
    return scan;
  }

  #at(segment: Segment, row: Row, what: string): Damage {
    const where = isWellFormed(row) ? `shard ${row.shard}, offset ${row.offset} (row ${row.rowid})` : `row ${row.rowid}`;
    return { file: segment.path, where, what };
  }
}

function whatIsWrong({ record, head, generation, mark }: ShardScan, row: Row, trusted: boolean): string | undefined {
  if (row.offset !== head.offset + 1) return `the entry follows offset ${head.offset}`;
  if (row.generation < generation || (trusted && row.generation > record.generation)) return "the generation does not fit";
  if (row.term < head.term || (trusted && row.term > record.promise)) return `term ${row.term} does not fit`;
  if (entryCrc(head.crc, row) !== row.crc) return "the chain's CRC differs";
  if (mark?.offset === row.offset && (mark.crc !== row.crc || mark.term !== row.term)) return "this is not the entry that was written here";
  return undefined;
}

const SQLITE_DAMAGE = new Set([1, 8, 11, 17, 20, 26]);

/** Whether an error that came of opening or reading an SQLite file says that the file is not what was written. */
export function isFileDamage(error: unknown): boolean {
  const { name, errno } = error as { name?: string; errno?: number };
  if (name === "SQLiteError") return SQLITE_DAMAGE.has((errno ?? 0) & 0xff);
  return name === "AssertionError" || name === "RowDamage";
}
