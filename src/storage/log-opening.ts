/**
 * Opens a node's log after whatever has happened to it, and tells what a crash leaves from damage (safety.md §7):
 *
 *     -wal files are read before SQLite opens them; then every file is checkpointed and synced, so that what is read
 *     from here on is on the disk; rows that the state still needs are read and their chain of CRCs checked; what the
 *     watermark says was durable must be there
 *
 * Damage in the open segment, the promises database or the watermark ends every replica of the node; in a closed
 * segment, those that still need its rows. Losses may be accepted shard by shard: what can be read up to the first bad
 * entry, or the state where that has more, becomes the log of a new replica id, under a new generation.
 */
import { existsSync, mkdirSync } from "node:fs";
import { type EntryId, type Head, NO_OFFSET, NO_TERM, type ReplicaId, type ShardId } from "../model/ids.ts";
import type { Damage } from "../ports.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import type { Ballast } from "./ballast.ts";
import { setAside, syncDirectory } from "./files.ts";
import { promisesPath, segmentNumbers, segmentPath, watermarkPath } from "./log-files.ts";
import {
  changeTo,
  isFileDamage,
  isLive,
  type LogReplica,
  liveLast,
  moveHead,
  newLogReplica,
  shapeOf,
} from "./log-replica.ts";
import { Promises, RowDamage, type SegmentRecord, type SegmentShare } from "./promises.ts";
import { ended, isBegun, isRemoved } from "./replica-changes.ts";
import { type ReplicaRecord, withCut, withoutSpentCuts } from "./replica-record.ts";
import { isWellFormed, SegmentFile } from "./segment.ts";
import { ShardIndex } from "./segment-index.ts";
import { MEMORY, sqliteErrorKind } from "./sqlite.ts";
import { scanWal } from "./wal-scan.ts";
import { readWatermark, Watermark, type WatermarkContent } from "./watermark.ts";

/** Whatever of a shard's log is lost, it goes on. */
export interface AcceptedLoss {
  /** The entry up to which the shard's state has applied. */
  readonly applied: EntryId;
  /** The id that goes on if there is a loss. */
  readonly replicaId: ReplicaId;
}

export interface OpeningOptions {
  readonly directory: string;
  readonly syncData: boolean;
  readonly acceptLoss: ReadonlyMap<ShardId, AcceptedLoss>;
}

/** A segment and where the entries of each shard lie in it. */
export interface OpenSegment {
  readonly number: number;
  readonly file: SegmentFile;
  readonly indexes: Map<ShardId, ShardIndex>;
  /** Shards of which rows lie in it that are not entries of a log as it stands. */
  readonly dead: Set<ShardId>;
}

/** What reading a segment fills in. */
interface Reading extends Pick<OpenSegment, "indexes" | "dead"> {
  /** Shards whose rows are not looked at. */
  readonly passed: ReadonlySet<ShardId>;
}

export interface OpenedLog {
  readonly promises: Promises;
  readonly watermark: Watermark;
  readonly replicas: Map<ShardId, LogReplica>;
  /** Closed segments, oldest first. */
  readonly closed: SegmentRecord[];
  readonly current: OpenSegment;
  /** Whether there was damage: the next start may find it again in the open segment. */
  readonly isDamaged: boolean;
  readonly stamp: number;
}

/** Throws what the device throws; everything else is an answer. */
export function openLogFiles(options: OpeningOptions, ballast: Ballast): OpenedLog {
  mkdirSync(options.directory, { recursive: true });
  return new Opening(options, ballast).run();
}

class Opening {
  readonly #options: OpeningOptions;
  readonly #directory: string;
  readonly #ballast: Ballast;
  readonly #replicas = new Map<ShardId, LogReplica>();
  /** Damage that concerns every replica of the node. */
  #nodeDamage: Damage | undefined;
  #stamp = 0;
  /** Shards whose records are not stored as they are now. */
  readonly #toStore = new Set<ShardId>();

  constructor(options: OpeningOptions, ballast: Ballast) {
    this.#ballast = ballast;
    this.#options = options;
    this.#directory = options.directory;
  }

  run(): OpenedLog {
    const found = segmentNumbers(this.#directory);
    const watermark = this.#readWatermark(found);
    const { promises, segments } = this.#openPromises(watermark);
    const numbers = this.#withoutOrphans(found, segments);
    this.#finishGenerations(promises, watermark);
    this.#compareWithWatermark(watermark);
    const closed = closedSegments(numbers, segments);
    this.#checkClosed(closed);
    const unrecorded = closed.filter(({ number }) => !segments.has(number));
    if (unrecorded.length > 0) this.#ballast.use(() => promises.save({ segments: unrecorded }));
    const current = this.#openCurrent(numbers, closed);
    if (watermark !== undefined && (watermark.closed || !watermark.unsynced)) this.#compareHeads(watermark, current);
    for (const replica of this.#replicas.values()) {
      const { ended: end } = replica.record;
      replica.damage ??= isFileDamage(end) ? end : (this.#nodeDamage ?? end);
    }
    this.#acceptLoss(current.number + 1);
    this.#endDamaged(promises);
    const oldest = numbers[0] ?? current.number;
    for (const replica of this.#replicas.values()) replica.record = withoutSpentCuts(replica.record, oldest);
    const fresh = this.#writeWatermark();
    const here = [...this.#replicas.values()].filter(({ record }) => !isRemoved(record));
    const isDamaged = this.#nodeDamage !== undefined || here.some(({ damage }) => isFileDamage(damage));
    const stamp = this.#stamp;
    return { promises, watermark: fresh, replicas: this.#replicas, closed, current, isDamaged, stamp };
  }

  /** Without promises and watermark nobody knows whose the rows are: they must not become those of a replica made next. */
  #withoutOrphans(numbers: readonly number[], segments: ReadonlyMap<number, SegmentRecord>): readonly number[] {
    if (this.#nodeDamage === undefined || this.#replicas.size > 0 || segments.size > 0) return numbers;
    for (const number of numbers) setAside(segmentPath(this.#directory, number));
    syncDirectory(this.#directory);
    return [];
  }

  // --- watermark and promises -----------------------------------------------------------------------------------

  #readWatermark(numbers: readonly number[]): WatermarkContent | undefined {
    const path = watermarkPath(this.#directory);
    const reading = readWatermark(path);
    switch (reading.kind) {
      case "content":
        return reading.content;
      case "missing":
        // The watermark is the first file that is made: without it there is nothing, or something was taken away.
        if (numbers.length > 0 || existsSync(promisesPath(this.#directory))) {
          this.#damage({ file: path, where: "byte 0", what: "it is missing while the log is not" });
        } else {
          new Watermark(path, [], { unsynced: !this.#options.syncData }).close();
        }
        return undefined;
      case "damaged":
        this.#damage({ file: path, where: `byte ${reading.byte}`, what: reading.what });
        return undefined;
    }
  }

  #openPromises(watermark: WatermarkContent | undefined): { promises: Promises; segments: Map<number, SegmentRecord> } {
    const path = promisesPath(this.#directory);
    const lost = walDamage(path);
    if (lost !== undefined) this.#damage(lost);
    let promises: Promises | undefined;
    try {
      promises = new Promises(path, { create: true });
      syncDirectory(this.#directory);
      promises.checkpoint();
      const { replicas, segments, stamp } = promises.read();
      this.#stamp = stamp;
      for (const record of replicas.values()) this.#addReplica(record);
      return { promises, segments };
    } catch (error) {
      promises?.close();
      if (!(error instanceof RowDamage) && sqliteErrorKind(error) !== "corrupt") throw error;
      this.#damage({ file: path, where: "byte 0", what: (error as Error).message });
    }
    return this.#replacePromises(path, watermark);
  }

  /** Without its promises every replica ends; what the watermark knows of them is stored again, with the reason. */
  #replacePromises(
    path: string,
    watermark: WatermarkContent | undefined,
  ): { promises: Promises; segments: Map<number, SegmentRecord> } {
    setAside(path);
    const promises = new Promises(path, { create: true });
    for (const record of watermark?.records.values() ?? []) {
      this.#addReplica(record);
      this.#toStore.add(record.shard);
    }
    syncDirectory(this.#directory);
    return { promises, segments: new Map() };
  }

  /** The entries of an ended one are read too: a loss may yet be accepted. Of a removed one all are dead. */
  #addReplica(record: ReplicaRecord): void {
    this.#replicas.set(record.shard, newLogReplica(record, isRemoved(record) ? record.ended : undefined));
  }

  /**
   * A generation that begins is told to the watermark first (log-replicas.ts): one that is ahead of the promises by it,
   * and by nothing else, is what a crash in between leaves, and holds all that was to be stored.
   */
  #finishGenerations(promises: Promises, watermark: WatermarkContent | undefined): void {
    const begun = [...(watermark?.records.values() ?? [])].filter((durable) =>
      isBegun(this.#replicas.get(durable.shard)?.record, durable),
    );
    if (begun.length > 0) this.#ballast.use(() => promises.save({ replicas: begun }));
    for (const record of begun) this.#addReplica(record);
  }

  /** No promise may be below what the watermark says was durable. */
  #compareWithWatermark(watermark: WatermarkContent | undefined): void {
    for (const durable of watermark?.records.values() ?? []) {
      const record = this.#replicas.get(durable.shard)?.record;
      const lost =
        record === undefined ||
        record.generation < durable.generation ||
        (record.generation === durable.generation &&
          (record.promise < durable.promise || record.led < durable.led || record.replicaId !== durable.replicaId));
      if (!lost) continue;
      const file = promisesPath(this.#directory);
      this.#damage({
        file,
        where: `shard ${durable.shard}`,
        what: `its promise is behind the watermark, which has term ${durable.promise}`,
      });
      // the higher promise goes on, whatever becomes of the shard here
      const isOlder = record === undefined || record.generation < durable.generation;
      const promise = Math.max(record?.promise ?? NO_TERM, durable.promise);
      const led = Math.max(record?.led ?? NO_TERM, durable.led);
      this.#addReplica({ ...(isOlder ? durable : record), promise, led });
      this.#toStore.add(durable.shard);
    }
  }

  // --- segments -------------------------------------------------------------------------------------------------

  /** Reads the closed segments that hold entries which a state still needs; of the others only the end is known. */
  #checkClosed(closed: SegmentRecord[]): void {
    for (const [at, segment] of closed.entries()) {
      const passed = segment.shares.filter((share) => !this.#isNeeded(share));
      for (const share of passed) this.#advance(share);
      if (segment.shares.length > 0 && passed.length === segment.shares.length) continue;
      closed[at] = this.#checkSegment(segment, new Set(passed.map(({ shard }) => shard)));
    }
  }

  #isNeeded(share: SegmentShare): boolean {
    const record = this.#replicas.get(share.shard)?.record;
    if (record === undefined) return false;
    const last = liveLast(share, record);
    if (last < share.first) return false;
    // a share that a cut goes through ends in its middle: only its rows say with which checksum
    return last > record.released || (last < share.last.offset && last > record.base.offset);
  }

  /** Takes over the end of a share that no state needs. */
  #advance(share: SegmentShare): void {
    const replica = this.#replicas.get(share.shard);
    if (replica === undefined || liveLast(share, replica.record) < share.last.offset) return;
    for (const { term, offset } of share.termEnds) {
      if (offset > replica.head.offset) moveHead(replica, { term, offset, crc: share.last.crc });
    }
  }

  /** `passed`: shards that need nothing of it. */
  #checkSegment(segment: SegmentRecord, passed: ReadonlySet<ShardId>): SegmentRecord {
    const path = segmentPath(this.#directory, segment.number);
    const indexes = new Map<ShardId, ShardIndex>();
    let file: SegmentFile | undefined;
    let damage: Damage | undefined;
    try {
      if (!existsSync(path)) throw new RowDamage("the file is missing");
      damage = walDamage(path);
      file = new SegmentFile(path, { syncData: true });
      file.checkpointAll();
      damage = this.#readRows(file, { indexes, dead: new Set(), passed }) ?? damage;
    } catch (error) {
      if (!(error instanceof RowDamage) && sqliteErrorKind(error) !== "corrupt") throw error;
      damage = { file: path, where: "byte 0", what: (error as Error).message };
    } finally {
      file?.close();
    }
    const shares = segment.shares.length > 0 ? segment.shares : this.#sharesOf(indexes);
    for (const share of shares) {
      const replica = this.#replicas.get(share.shard);
      if (replica === undefined) continue;
      const last = liveLast(share, replica.record);
      if (last < share.first || replica.head.offset >= last || last <= replica.record.released) continue;
      const where = `offset ${replica.head.offset + 1}`;
      replica.damage ??= damage ?? { file: path, where, what: "an entry is missing" };
    }
    return { ...segment, shares };
  }

  #sharesOf(indexes: ReadonlyMap<ShardId, ShardIndex>): SegmentRecord["shares"] {
    return [...indexes].map(([shard, index]) => {
      const replica = this.#replicas.get(shard)!;
      const termEnds = shapeOf(replica).termEnds.filter(({ offset }) => offset >= index.first);
      return { shard, generation: replica.record.generation, first: index.first, termEnds, last: replica.head };
    });
  }

  /** Reads all rows, moves heads on, fills the indexes. Answers the first damage that is new; the rows of shards without one are all read. */
  #readRows(file: SegmentFile, { indexes, dead, passed }: Reading): Damage | undefined {
    let damage: Damage | undefined;
    for (const row of file.all()) {
      const place = (what: string): Damage => ({
        file: file.path,
        where: `row ${row.rowid}, offset ${row.offset}`,
        what,
      });
      if (!isWellFormed(row)) {
        damage ??= place("it does not hold what an entry's row holds");
        continue;
      }
      if (passed.has(row.shard)) continue;
      const replica = this.#replicas.get(row.shard);
      if (replica === undefined || replica.damage !== undefined || !isLive(row, replica.record)) {
        dead.add(row.shard);
        continue;
      }
      if (row.offset <= replica.head.offset && row.offset <= replica.record.base.offset) continue;
      const follows = row.offset === replica.head.offset + 1;
      if (!follows || row.crc !== entryCrc(replica.head.crc, row)) {
        const what = follows ? "its checksum is not that of what was written" : "the entries before it are missing";
        replica.damage ??= place(what);
        // what an ended replica has lost is nobody else's matter
        if (replica.record.ended === undefined) damage ??= replica.damage;
        dead.add(row.shard);
        continue;
      }
      moveHead(replica, { term: row.term, offset: row.offset, crc: row.crc });
      indexRow(indexes, row.shard, row.offset, row.rowid);
    }
    return damage;
  }

  /** Opens the newest segment, or the first one. A damaged one is read as far as it goes and set aside. */
  #openCurrent(numbers: readonly number[], closed: readonly SegmentRecord[]): OpenSegment {
    const { syncData } = this.#options;
    const last = numbers.at(-1);
    const isOpen = last !== undefined && !closed.some(({ number }) => number === last);
    const number = isOpen ? last : (last ?? 0) + 1;
    const path = segmentPath(this.#directory, number);
    const indexes = new Map<ShardId, ShardIndex>();
    const dead = new Set<ShardId>();
    const lost = isOpen ? walDamage(path) : undefined;
    if (lost !== undefined) this.#damage(lost);
    try {
      const file = new SegmentFile(path, { syncData, create: true });
      syncDirectory(this.#directory);
      file.checkpointAll();
      const damage = this.#readRows(file, { indexes, dead, passed: new Set() });
      if (damage !== undefined) this.#damage(damage);
      return { number, file, indexes, dead };
    } catch (error) {
      if (sqliteErrorKind(error) !== "corrupt") throw error;
      this.#damage({ file: path, where: "byte 0", what: (error as Error).message });
    }
    return { number, file: this.#salvage(path), indexes: new Map(), dead: new Set() };
  }

  /** The unreadable segment stays as it is until its loss is accepted: a stand-in in memory keeps the node running. */
  #salvage(path: string): SegmentFile {
    if (this.#options.acceptLoss.size === 0) return new SegmentFile(MEMORY, { syncData: false, create: true });
    setAside(path);
    const file = new SegmentFile(path, { syncData: this.#options.syncData, create: true });
    syncDirectory(this.#directory);
    return file;
  }

  /** What was durable must still be there. */
  #compareHeads(watermark: WatermarkContent, current: OpenSegment): void {
    for (const durable of watermark.records.values()) {
      const replica = this.#replicas.get(durable.shard);
      if (replica === undefined || replica.damage !== undefined || isFileDamage(replica.record.ended)) continue;
      if (replica.record.generation !== durable.generation) continue;
      if (replica.head.offset >= durable.head.offset) continue;
      const damage = {
        file: current.file.path === MEMORY ? segmentPath(this.#directory, current.number) : current.file.path,
        where: `offset ${replica.head.offset + 1}`,
        what: `shard ${durable.shard}: entries up to ${durable.head.offset} were durable and are gone`,
      };
      // what an ended replica has lost is nobody else's matter
      if (replica.record.ended === undefined) this.#damage(damage);
      else replica.damage = damage;
    }
  }

  /** Damage ends ids: durably, before anything is answered (safety.md §1). */
  #endDamaged(promises: Promises): void {
    for (const replica of this.#replicas.values()) {
      const { record, damage } = replica;
      if (damage === undefined || isRemoved(record)) continue;
      const next = ended(replica, damage);
      if (next.ended === record.ended) continue;
      replica.record = next;
      this.#toStore.add(record.shard);
    }
    if (this.#toStore.size === 0) return;
    const replicas = [...this.#toStore].map((shard) => this.#replicas.get(shard)!.record);
    this.#ballast.use(() => promises.save({ replicas }));
  }

  /** Written after all else: what it says is durable. */
  #writeWatermark(): Watermark {
    const records = [...this.#replicas.values()].map(({ record, head }) => ({ ...record, head }));
    const options = { unsynced: !this.#options.syncData };
    return this.#ballast.use(() => new Watermark(watermarkPath(this.#directory), records, options));
  }

  // --- accepted losses ------------------------------------------------------------------------------------------

  /** `segment`: above the numbers of all that are there. */
  #acceptLoss(segment: number): void {
    for (const [shard, { applied, replicaId }] of this.#options.acceptLoss) {
      const replica = this.#replicas.get(shard);
      if (replica === undefined || isRemoved(replica.record)) continue;
      const { record } = replica;
      if (replica.damage === undefined && applied.offset <= replica.head.offset && applied.offset >= record.released)
        continue;
      const stateIsAhead = applied.offset > replica.head.offset;
      const head: Head = stateIsAhead ? { ...applied, crc: 0 } : replica.head;
      const base = stateIsAhead ? head : record.base;
      const promise = Math.max(record.promise, head.term);
      const generation = record.generation + 1;
      const cut = { generation, offset: stateIsAhead ? NO_OFFSET : head.offset, segment };
      changeTo(replica, {
        ...record,
        replicaId,
        mintedTerm: promise,
        promise,
        led: promise,
        generation,
        cuts: withCut(record.cuts, cut),
        base,
        head,
        released: Math.max(base.offset, Math.min(record.released, applied.offset)),
        ended: undefined,
      });
      replica.damage = undefined;
      this.#toStore.add(shard);
    }
  }

  #damage(damage: Damage): void {
    this.#nodeDamage ??= damage;
  }
}

/**
 * Every segment but the newest, oldest first. One that a crash left without a record, between making the next segment
 * and recording this one, is read like any other that is needed.
 */
function closedSegments(numbers: readonly number[], records: ReadonlyMap<number, SegmentRecord>): SegmentRecord[] {
  const unrecorded = numbers
    .slice(0, -1)
    .filter((number) => !records.has(number))
    .map((number): SegmentRecord => ({ number, closedAt: 0, shares: [] }));
  return [...records.values(), ...unrecorded].sort((a, b) => a.number - b.number);
}

/** A committed frame in a -wal that is not what was written: SQLite would drop it, and all behind it, in silence. */
function walDamage(path: string): Damage | undefined {
  const { damagedAt } = scanWal(`${path}-wal`);
  if (damagedAt === undefined) return undefined;
  return { file: `${path}-wal`, where: `byte ${damagedAt}`, what: "a committed frame is not what was written" };
}

/** Notes where an entry lies. */
export function indexRow(indexes: Map<ShardId, ShardIndex>, shard: ShardId, offset: number, rowid: number): void {
  let index = indexes.get(shard);
  if (index === undefined) {
    index = new ShardIndex(offset);
    indexes.set(shard, index);
  }
  index.add(offset, rowid, 1);
}
