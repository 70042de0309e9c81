/**
 * What a MemoryLog keeps on its disk, in the same three places as the real one, and how it is read after whatever has
 * happened to it (safety.md §7):
 *
 *     segment 1 … n   entries, in the order of their commits; the last one is open
 *     promises        the record of each replica, the latest one counts; when segments were closed
 *     watermark       the same records with the heads, synced behind the others
 *
 * A bad record at the end of a file that is still written is what a crash leaves of a write that was not synced, and is
 * cut off. Anywhere else it is damage, and so is anything below the watermark. Damage in the open segment, the promises
 * or the watermark ends every replica of the node; in a closed segment, those that still need its rows.
 */
import { type Head, type LogEntry, NO_TERM, type Offset, type ShardId, type Timestamp } from "../../src/model/ids.ts";
import type { Damage } from "../../src/ports.ts";
import { isFileDamage, isLive, type LogReplica, moveHead, newLogReplica } from "../../src/storage/log-replica.ts";
import { ended, isBegun, isRemoved } from "../../src/storage/replica-changes.ts";
import { type ReplicaRecord, withoutSpentCuts } from "../../src/storage/replica-record.ts";
import { DiskFull, type MountedDisk, type ReadRecord } from "./disk.ts";

export const PROMISES = "log/promises";
export const WATERMARK = "log/watermark";
export const BALLAST = "log/ballast";

export interface Row {
  readonly shard: ShardId;
  readonly generation: number;
  readonly entry: LogEntry;
  readonly crc: number;
}

export interface PromisesRecord {
  readonly replicas: readonly ReplicaRecord[];
  readonly closed?: { readonly number: number; readonly at: Timestamp };
  readonly stamp?: number;
}

export interface WatermarkRecord {
  readonly replicas: readonly ReplicaRecord[];
  /** The log was closed in order: nothing was written behind this. */
  readonly closing: boolean;
}

/** One segment's part in the logs of the shards. */
export interface Segment {
  readonly number: number;
  rows: number;
  bytes: number;
  /** The last entry of each shard in it. */
  readonly last: Map<ShardId, Head>;
}

/** Where an entry lies. */
export interface Place {
  readonly segment: number;
  readonly nth: number;
}

export interface MemoryReplica extends LogReplica {
  /** The places of the entries behind the base, up to the head. */
  places: Place[];
}

export interface OpenedFiles {
  readonly replicas: Map<ShardId, MemoryReplica>;
  /** Oldest first, at least one: the last is open. */
  readonly segments: Segment[];
  readonly closedAt: Map<number, Timestamp>;
  /** Whether there was damage: the next start may find it again in the open segment. */
  readonly isDamaged: boolean;
  readonly stamp: number;
}

export function segmentName(number: number): string {
  return `log/segment-${number}`;
}

/** Forgets, in the segments and in the replica, the entries that the next record's cut leaves out. */
export function cutSegments(segments: readonly Segment[], replica: MemoryReplica, next: ReplicaRecord): void {
  const { shard, base, head } = next;
  const isCutBack = base.offset === replica.record.base.offset;
  const kept = replica.places.slice(0, isCutBack ? head.offset - base.offset : 0);
  for (const { number, last } of segments) {
    if (kept.at(-1)?.segment === number) last.set(shard, head);
    else if (!kept.some((place) => place.segment === number)) last.delete(shard);
  }
  replica.places = kept;
}

export const ROW_OVERHEAD_BYTES = 48;
export const RECORD_BYTES = 100;

/** Reads what is there and makes it durable: what is answered from here on is on the disk. */
export async function openLogFiles(disk: MountedDisk): Promise<OpenedFiles> {
  return new Opening(disk).run();
}

class Opening {
  readonly #disk: MountedDisk;
  readonly #replicas = new Map<ShardId, MemoryReplica>();
  readonly #closedAt = new Map<number, Timestamp>();
  /** The replicas as they stood when a segment was last closed: its entries were durable. */
  readonly #atClosing = new Map<ShardId, ReplicaRecord>();
  #nodeDamage: Damage | undefined;
  #stamp = 0;

  constructor(disk: MountedDisk) {
    this.#disk = disk;
  }

  async run(): Promise<OpenedFiles> {
    const numbers = this.#segmentNumbers();
    const watermark = await this.#readWatermark(numbers.length > 0 || this.#disk.names().includes(PROMISES));
    await this.#readPromises(watermark);
    const segments: Segment[] = [];
    for (const number of numbers) segments.push(await this.#readSegment(number, number === numbers.at(-1)));
    segments.push(...(await this.#nextSegment(numbers)));
    for (const number of this.#closedAt.keys()) if (!numbers.includes(number)) this.#closedAt.delete(number);
    this.#compareClosed();
    this.#compareHeads(watermark);
    for (const replica of this.#replicas.values()) {
      const { ended: end } = replica.record;
      replica.damage ??= isFileDamage(end) ? end : (this.#nodeDamage ?? end);
      replica.record = withoutSpentCuts(replica.record, segments[0]!.number);
    }
    await this.#store();
    const here = [...this.#replicas.values()].filter(({ record }) => !isRemoved(record));
    const isDamaged = this.#nodeDamage !== undefined || here.some(({ damage }) => isFileDamage(damage));
    return { replicas: this.#replicas, segments, closedAt: this.#closedAt, isDamaged, stamp: this.#stamp };
  }

  #segmentNumbers(): number[] {
    const numbers = this.#disk.names().flatMap((name) => {
      const match = /^log\/segment-(\d+)$/.exec(name);
      return match === null ? [] : [Number(match[1])];
    });
    return numbers.sort((a, b) => a - b);
  }

  /** The open segment exists before the one before it is called closed. */
  async #nextSegment(numbers: readonly number[]): Promise<Segment[]> {
    const number = Math.max(0, ...this.#closedAt.keys()) + 1;
    if (numbers.length > 0 && numbers.at(-1)! >= number) return [];
    if (number > 1) this.#damageAll(segmentName(number), "byte 0", "it is missing while the promises are not");
    await this.#disk.write(segmentName(number), []);
    await this.#disk.syncNames();
    return [{ number, rows: 0, bytes: 0, last: new Map() }];
  }

  async #readWatermark(isOld: boolean): Promise<WatermarkContent> {
    const records = new Map<ShardId, ReplicaRecord>();
    const found = await this.#disk.read<WatermarkRecord>(WATERMARK);
    if (found === undefined) {
      // it is the first file that is made: without it there is nothing, or something was taken away
      if (isOld) this.#damageAll(WATERMARK, "byte 0", "it is missing while the log is not");
      else await this.#disk.replace(WATERMARK, []);
      return { records, closed: false };
    }
    let closed = false;
    for (const record of await this.#goodOnes(WATERMARK, found)) {
      for (const replica of record.replicas) records.set(replica.shard, replica);
      closed = record.closing;
    }
    return { records, closed };
  }

  async #readPromises(watermark: WatermarkContent): Promise<void> {
    const found = (await this.#disk.read<PromisesRecord>(PROMISES)) ?? [];
    for (const { replicas, closed, stamp } of await this.#goodOnes(PROMISES, found)) {
      for (const record of replicas) this.#add(record);
      this.#stamp = stamp ?? this.#stamp;
      if (closed === undefined) continue;
      this.#closedAt.set(closed.number, closed.at);
      for (const record of replicas) this.#atClosing.set(record.shard, record);
    }
    for (const [shard, known] of watermark.records) {
      const record = this.#replicas.get(shard)?.record;
      if (record !== undefined && isAtLeast(record, known)) continue;
      if (isBegun(record, known)) {
        this.#add(known);
        continue;
      }
      this.#damageAll(PROMISES, `shard ${shard}`, "it is older than the watermark");
      // the higher promise goes on, whatever becomes of the shard here
      const isOlder = record === undefined || record.generation < known.generation;
      const promise = Math.max(record?.promise ?? NO_TERM, known.promise);
      this.#add({ ...(isOlder ? known : record), promise, led: Math.max(record?.led ?? NO_TERM, known.led) });
    }
  }

  #add(record: ReplicaRecord): void {
    const damage = isRemoved(record) ? record.ended : undefined;
    this.#replicas.set(record.shard, { ...newLogReplica(record, damage), places: [] });
  }

  /** The records of a file up to a bad end, which is cut off; bad ones before it are damage. */
  async #goodOnes<T>(name: string, found: readonly ReadRecord<T>[]): Promise<readonly T[]> {
    let { length } = found;
    while (length > 0 && found[length - 1]!.bad) length--;
    const bad = found.slice(0, length).findIndex((one) => one.bad);
    if (bad >= 0) this.#damageAll(name, `record ${bad}`, "its checksum is wrong");
    if (length < found.length) await this.#disk.truncate(name, length);
    return found.slice(0, length).flatMap(({ record, bad: isBad }) => (isBad ? [] : [record]));
  }

  async #readSegment(number: number, isOpen: boolean): Promise<Segment> {
    const name = segmentName(number);
    const found = (await this.#disk.read<Row>(name)) ?? [];
    const segment: Segment = { number, rows: 0, bytes: 0, last: new Map() };
    let { length } = found;
    while (isOpen && length > 0 && found[length - 1]!.bad) length--;
    const bad: number[] = [];
    for (const [nth, { record: row, bad: isBad }] of found.slice(0, length).entries()) {
      segment.rows++;
      segment.bytes += row.entry.value.length + ROW_OVERHEAD_BYTES;
      // a dead row is nobody's: it is in a closed segment, since its cut has begun a new one
      if (isBad && (isOpen || !this.#isDead(row))) bad.push(nth);
      this.#replay(segment, row, nth);
    }
    if (length < found.length) await this.#disk.truncate(name, length);
    if (bad.length > 0)
      this.#segmentDamage(segment, isOpen, { file: name, where: `row ${bad[0]}`, what: "its checksum is wrong" });
    await this.#disk.rewrite(name);
    await this.#disk.sync(name);
    return segment;
  }

  #isDead({ shard, generation, entry }: Row): boolean {
    const replica = this.#replicas.get(shard);
    return replica !== undefined && !isLive({ generation, offset: entry.offset }, replica.record);
  }

  #replay(segment: Segment, { shard, generation, entry, crc }: Row, nth: number): void {
    const replica = this.#replicas.get(shard);
    if (replica === undefined) return;
    const { record, head } = replica;
    if (!isLive({ generation, offset: entry.offset }, record)) return;
    const at: Head = { term: entry.term, offset: entry.offset, crc };
    segment.last.set(shard, at);
    if (entry.offset <= head.offset) return;
    if (entry.offset > head.offset + 1) {
      replica.damage ??= {
        file: segmentName(segment.number),
        where: `row ${nth}`,
        what: `entries before ${entry.offset} are missing`,
      };
      return;
    }
    moveHead(replica, at);
    replica.places.push({ segment: segment.number, nth });
  }

  #segmentDamage(segment: Segment, isOpen: boolean, damage: Damage): void {
    if (isOpen) {
      this.#nodeDamage ??= damage;
      return;
    }
    for (const [shard, { offset }] of segment.last) {
      const replica = this.#replicas.get(shard)!;
      if (offset > replica.record.released) replica.damage ??= damage;
    }
  }

  /** A record of the promises that was lost may have let closed segments go that are needed without it. */
  #compareClosed(): void {
    for (const [shard, { head, generation }] of this.#atClosing) {
      const replica = this.#replicas.get(shard)!;
      if (replica.record.generation !== generation || replica.head.offset >= head.offset) continue;
      replica.damage ??= { file: PROMISES, where: `shard ${shard}`, what: missing(replica.head.offset, head.offset) };
    }
  }

  #compareHeads({ records, closed }: WatermarkContent): void {
    for (const [shard, { head, generation }] of records) {
      const replica = this.#replicas.get(shard);
      if (replica === undefined || replica.record.generation !== generation) continue;
      if (replica.damage !== undefined || isFileDamage(replica.record.ended)) continue;
      const isBelow = replica.head.offset < head.offset;
      const differs = replica.head.offset === head.offset && replica.head.crc !== head.crc;
      const damage = { file: WATERMARK, where: `shard ${shard}`, what: missing(replica.head.offset, head.offset) };
      // what an ended replica has lost is nobody else's matter
      if ((isBelow || differs) && replica.record.ended !== undefined) replica.damage = damage;
      else if (isBelow || differs) this.#nodeDamage ??= damage;
      if (closed && replica.head.offset > head.offset)
        this.#damageAll(WATERMARK, `shard ${shard}`, "the log went on behind its end");
    }
  }

  /** Ends are durable before anything is answered; both files begin anew. */
  async #store(): Promise<void> {
    const replicas: ReplicaRecord[] = [];
    for (const replica of this.#replicas.values()) {
      const { record, head, damage } = replica;
      replica.record = damage === undefined || isRemoved(record) ? { ...record, head } : ended(replica, damage);
      replicas.push(replica.record);
    }
    const bytes = RECORD_BYTES * (replicas.length + 1);
    const closed = [...this.#closedAt].map(([number, at]) => ({
      record: { replicas: [], closed: { number, at } },
      bytes: 16,
    }));
    const promises = [{ record: { replicas, stamp: this.#stamp } satisfies PromisesRecord, bytes }, ...closed];
    await this.#replace(PROMISES, promises);
    await this.#replace(WATERMARK, [{ record: { replicas, closing: false } satisfies WatermarkRecord, bytes }]);
  }

  /** On a full disk the ballast makes room. */
  async #replace(
    name: string,
    records: readonly { readonly record: unknown; readonly bytes: number }[],
  ): Promise<void> {
    try {
      await this.#disk.replace(name, records);
    } catch (error) {
      if (!(error instanceof DiskFull)) throw error;
      await this.#disk.remove(BALLAST);
      await this.#disk.replace(name, records);
    }
  }

  #damageAll(file: string, where: string, what: string): void {
    this.#nodeDamage ??= { file, where, what };
  }
}

interface WatermarkContent {
  readonly records: ReadonlyMap<ShardId, ReplicaRecord>;
  readonly closed: boolean;
}

function missing(found: Offset, expected: Offset): string {
  return `the log ends at ${found}, and was durable up to ${expected}`;
}

/** Whether the promises are not older than the watermark, which is synced behind them. */
function isAtLeast(record: ReplicaRecord, known: ReplicaRecord): boolean {
  if (record.generation !== known.generation) return record.generation > known.generation;
  return record.replicaId === known.replicaId && record.promise >= known.promise && record.led >= known.led;
}
