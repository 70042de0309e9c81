/**
 * The Log port on a simulated disk: the same files, the same order of syncs and the same answers as storage/log.ts, in
 * memory and simulated time. One writer takes what waits, task by task; what arrives while a sync runs is the next
 * group.
 *
 *     append     rows of all shards that wait -> segment synced -> resolved, in order
 *     promise    promises synced -> watermark synced -> the head as it stands
 *
 * A promise may overtake appends that wait, or follow them: the port allows both, the seed decides.
 */
import type { Head, LogEntry, Offset, ShardId, Term } from "../../src/model/ids.ts";
import {
  LOG_COMMIT_BYTES_MAX,
  LOG_QUEUED_BYTES_MAX,
  LOG_READ_BYTES_MAX,
  LOG_READ_ENTRIES_MAX,
  WATERMARK_LAG_COMMITS_MAX,
  WATERMARK_LAG_MS_MAX,
} from "../../src/model/limits.ts";
import type { LogShape, LogStats, StampAnswer, StampRequest, Truncation } from "../../src/model/log-calls.ts";
import { damageRefusal, type Reason, Refusal } from "../../src/model/refusal.ts";
import type { Log, ReplicaLife, ReplicaLog } from "../../src/ports.ts";
import { changeTo, moveHead, shapeOf } from "../../src/storage/log-replica.ts";
import { released } from "../../src/storage/replica-changes.ts";
import { withoutSpentCuts } from "../../src/storage/replica-record.ts";
import { entryCrc } from "../../src/wire/entry-crc.ts";
import { DiskFull, type MountedDisk } from "./disk.ts";
import {
  type MemoryReplica,
  type OpenedFiles,
  openLogFiles,
  type Place,
  ROW_OVERHEAD_BYTES,
  type Row,
  segmentName,
} from "./memory-log-files.ts";
import { MemoryReplicas } from "./memory-log-replicas.ts";
import type { Life } from "./node.ts";
import type { SimRandom } from "./random.ts";

export interface MemoryLogOptions {
  readonly life: Life;
  readonly disk: MountedDisk;
  readonly random: SimRandom;
  readonly retentionMs: number;
  /** Entries after which a segment is rolled; default 256. */
  readonly segmentEntriesMax?: number;
  /** Kept back for terms and control entries; default 4,096. */
  readonly ballastBytes?: number;
  readonly queuedBytesMax?: number;
}

interface Append {
  readonly shard: ShardId;
  readonly entry: LogEntry;
  readonly acceptedUnder: Term;
  readonly resolve: () => void;
  readonly reject: (error: Refusal) => void;
}

type Task = { readonly append: Append } | { readonly run: () => Promise<void> };

/** First byte of a LogEntryValue that is a control request. */
const CONTROL_TAG = 0x12;

/** Opens or creates the log. Damage is told by `replicas`; never settles when the disk fails. */
export async function openMemoryLog(options: MemoryLogOptions): Promise<MemoryLog> {
  const log = new MemoryLog(options, await openLogFiles(options.disk));
  await log.begin();
  return log;
}

export class MemoryLog implements Log {
  readonly #options: MemoryLogOptions;
  readonly #files: OpenedFiles;
  readonly #records: MemoryReplicas;
  #tasks: Task[] = [];
  #running = false;
  #closing = false;
  #queuedBytes = 0;
  #openedAt: number;
  #commitsBehind = 0;
  #entriesAppended = 0;
  #bytesAppended = 0;
  #commits = 0;

  constructor(options: MemoryLogOptions, files: OpenedFiles) {
    this.#options = options;
    this.#files = files;
    const { life, disk, ballastBytes = 4_096 } = options;
    const roll = () => this.#roll();
    const entryAt = (replica: MemoryReplica, offset: Offset) => this.#entryAt(replica, offset);
    this.#records = new MemoryReplicas({ life, disk, ballastBytes, roll, entryAt }, files);
    this.#openedAt = options.life.clock.now();
    for (const { number } of files.segments.slice(0, -1)) {
      if (!files.closedAt.has(number)) files.closedAt.set(number, this.#openedAt);
    }
  }

  async begin(): Promise<void> {
    await this.#records.begin();
  }

  // --- the port -----------------------------------------------------------------------------------------------------

  replicas(): readonly ReplicaLog[] {
    return this.#records.list();
  }

  replica(shard: ShardId): ReplicaLog | undefined {
    return this.#records.list().find((one) => one.shard === shard);
  }

  create(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog> {
    return this.#ask(() => this.#records.create(shard, life));
  }

  adopt(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog> {
    return this.#ask(() => this.#records.adopt(shard, life));
  }

  promise(shard: ShardId, term: Term): Promise<Head> {
    const overtakes = this.#options.random.chance(0.5);
    return this.#ask(() => this.#records.promise(shard, term), { overtakes });
  }

  markLed(shard: ShardId, term: Term): Promise<void> {
    return this.#ask(() => this.#records.markLed(shard, term));
  }

  truncate(shard: ShardId, truncation: Truncation): Promise<Head> {
    return this.#ask(() => this.#records.truncate(shard, truncation));
  }

  install(shard: ShardId, acceptedUnder: Term, base: Head): Promise<void> {
    return this.#ask(() => this.#records.install(shard, acceptedUnder, base));
  }

  end(shard: ShardId, reason: string): Promise<ReplicaLog> {
    return this.#ask(() => this.#records.end(shard, reason));
  }

  remove(shard: ShardId): Promise<void> {
    return this.#ask(() => this.#records.remove(shard));
  }

  stamp(): number {
    return this.#records.stamp;
  }

  takeStamp(request: StampRequest): Promise<StampAnswer> {
    return this.#ask(() => this.#records.takeStamp(request));
  }

  shape(shard: ShardId): Promise<LogShape> {
    return this.#ask(async () => shapeOf(this.#records.live(shard)));
  }

  at(shard: ShardId, offset: Offset): Promise<Head | undefined> {
    return this.#ask(() => this.#records.at(shard, offset));
  }

  append(shard: ShardId, entry: LogEntry, acceptedUnder: Term = entry.term): Promise<void> {
    const bytes = entry.value.length;
    const bytesMax = this.#options.queuedBytesMax ?? LOG_QUEUED_BYTES_MAX;
    if (this.#closing) return Promise.reject(new Refusal("RESOURCE_UNAVAILABLE", "the log is closed"));
    if (this.#queuedBytes > 0 && this.#queuedBytes + bytes > bytesMax) {
      return Promise.reject(new Refusal("RESOURCE_EXHAUSTED", `${bytesMax} bytes of entries wait for the log`));
    }
    this.#queuedBytes += bytes;
    return new Promise((resolve, reject) =>
      this.#enqueue({ append: { shard, entry, acceptedUnder, resolve, reject } }),
    );
  }

  read(shard: ShardId, fromInclusive: Offset): Promise<readonly LogEntry[]> {
    return this.#ask(() => this.#read(shard, fromInclusive));
  }

  release(shard: ShardId, upToInclusive: Offset): void {
    void this.#ask(async () => {
      const replica = this.#files.replicas.get(shard);
      if (replica !== undefined) replica.record = released(replica, upToInclusive) ?? replica.record;
    });
  }

  stats(): LogStats {
    const { segments } = this.#files;
    return {
      bytes: segments.reduce((sum, { bytes }) => sum + bytes, 0),
      segments: segments.length,
      entriesAppended: this.#entriesAppended,
      bytesAppended: this.#bytesAppended,
      commits: this.#commits,
      commitMs: 0,
      upkeepMsMax: 0,
    };
  }

  close(): Promise<void> {
    this.#closing = true;
    return this.#ask(async () => {
      const replicas = [...this.#files.replicas.values()].filter(({ damage }) => damage === undefined);
      await this.#records.save(replicas.map(({ record, head }) => ({ ...record, head })));
      await this.#records.syncWatermark(replicas, true);
    });
  }

  // --- the writer ---------------------------------------------------------------------------------------------------

  #ask<T>(task: () => Promise<T>, { overtakes = false } = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = () =>
        task().then(resolve, (error) => {
          if (error instanceof Refusal) reject(error);
          else throw error;
        });
      this.#enqueue({ run }, overtakes);
    });
  }

  #enqueue(task: Task, overtakes = false): void {
    const firstAppend = overtakes ? this.#tasks.findIndex((other) => "append" in other) : -1;
    if (firstAppend >= 0) this.#tasks.splice(firstAppend, 0, task);
    else this.#tasks.push(task);
    if (this.#running || !this.#options.life.alive) return;
    this.#running = true;
    this.#options.life.spawn("log writer", () => this.#work());
  }

  async #work(): Promise<void> {
    await undefined; // what arrives in this turn is one group
    while (this.#tasks.length > 0) {
      const [first] = this.#tasks;
      if ("append" in first!) {
        await this.#commit(this.#takeGroup());
      } else {
        this.#tasks.shift();
        await first!.run();
      }
      await this.#upkeep();
    }
    this.#running = false;
  }

  #takeGroup(): Append[] {
    const group: Append[] = [];
    let bytes = 0;
    for (const task of this.#tasks) {
      if (!("append" in task) || bytes >= LOG_COMMIT_BYTES_MAX) break;
      group.push(task.append);
      bytes += task.append.entry.value.length;
    }
    this.#tasks = this.#tasks.slice(group.length);
    this.#queuedBytes -= bytes;
    return group;
  }

  async #commit(group: readonly Append[]): Promise<void> {
    const heads = new Map<ShardId, Head>();
    const refusals = new Map<Append, Reason>();
    const rows: Row[] = [];
    for (const append of group) {
      const { shard, entry } = append;
      const refused = this.#refusal(append, heads);
      if (refused !== undefined) {
        refusals.set(append, refused);
        continue;
      }
      const { record, head } = this.#files.replicas.get(shard)!;
      const crc = entryCrc((heads.get(shard) ?? head).crc, entry);
      heads.set(shard, { term: entry.term, offset: entry.offset, crc });
      rows.push({ shard, generation: record.generation, entry, crc });
    }
    const full = rows.length > 0 && !(await this.#writeRows(rows));
    if (!full && rows.length > 0) await this.#committed(rows);
    for (const append of group) {
      const refused = refusals.get(append) ?? (full ? "RESOURCE_EXHAUSTED" : undefined);
      if (refused === undefined) append.resolve();
      else append.reject(new Refusal(refused, "the entry was not appended"));
    }
  }

  #refusal({ shard, entry, acceptedUnder }: Append, heads: ReadonlyMap<ShardId, Head>): Reason | undefined {
    const replica = this.#files.replicas.get(shard);
    if (replica === undefined || replica.damage !== undefined) return "NODE_IS_NOT_MEMBER";
    if (acceptedUnder !== replica.record.promise) return "RESOURCE_UNAVAILABLE";
    const head = heads.get(shard) ?? replica.head;
    if (entry.offset !== head.offset + 1) return "RESOURCE_EXHAUSTED";
    return entry.term < head.term || entry.term > acceptedUnder ? "INVALID_TERM" : undefined;
  }

  /** False when the disk is full. Control entries may use the ballast; clients' entries are refused before. */
  async #writeRows(rows: readonly Row[]): Promise<boolean> {
    const { disk } = this.#options;
    const name = segmentName(this.#files.segments.at(-1)!.number);
    const stored = rows.map((row) => ({ record: row, bytes: row.entry.value.length + ROW_OVERHEAD_BYTES }));
    const write = () =>
      disk.write(name, stored).then(
        () => true,
        (error) => {
          if (error instanceof DiskFull) return false;
          throw error;
        },
      );
    if (await write()) return true;
    const areControl = rows.every(({ entry }) => entry.value[0] === CONTROL_TAG);
    return areControl && (await this.#records.dropBallast()) && (await write());
  }

  async #committed(rows: readonly Row[]): Promise<void> {
    const segment = this.#files.segments.at(-1)!;
    await this.#options.disk.sync(segmentName(segment.number));
    for (const { shard, entry, crc } of rows) {
      const replica = this.#files.replicas.get(shard)!;
      moveHead(replica, { term: entry.term, offset: entry.offset, crc });
      replica.places.push({ segment: segment.number, nth: segment.rows++ });
      segment.bytes += entry.value.length + ROW_OVERHEAD_BYTES;
      segment.last.set(shard, replica.head);
      this.#records.moved(shard);
      this.#bytesAppended += entry.value.length;
      this.#records.trace("committed", shard, entry.offset, crc);
    }
    this.#entriesAppended += rows.length;
    this.#commits++;
    if (this.#commitsBehind++ > 0) return;
    this.#options.life.clock.after(WATERMARK_LAG_MS_MAX, () => void this.#ask(() => this.#catchUpWatermark()));
  }

  // --- upkeep: between tasks, so a log that nobody uses stands still ---------------------------------------------------

  async #upkeep(): Promise<void> {
    if (this.#commitsBehind >= WATERMARK_LAG_COMMITS_MAX) await this.#catchUpWatermark();
    await this.#records.layBallast();
    const segment = this.#files.segments.at(-1)!;
    const age = this.#options.life.clock.now() - this.#openedAt;
    const isOld = segment.rows > 0 && age >= this.#options.retentionMs / 4;
    if (isOld || segment.rows >= (this.#options.segmentEntriesMax ?? 256)) await this.#roll();
    while (await this.#trim());
  }

  /** Begins the next segment and closes the current one. */
  async #roll(): Promise<void> {
    const { disk, life } = this.#options;
    const { number } = this.#files.segments.at(-1)!;
    await disk.write(segmentName(number + 1), []);
    await disk.syncNames();
    // whatever was removed is gone for good now
    const oldest = this.#files.segments[0]!.number;
    for (const replica of this.#files.replicas.values()) replica.record = withoutSpentCuts(replica.record, oldest);
    const at = life.clock.now();
    const replicas = [...this.#files.replicas.values()].map(({ record, head }) => ({ ...record, head }));
    await this.#records.save(replicas, { number, at });
    this.#files.closedAt.set(number, at);
    this.#files.segments.push({ number: number + 1, rows: 0, bytes: 0, last: new Map() });
    this.#openedAt = at;
  }

  /** Removes the oldest segment if nobody needs it: older than the retention, and behind every state's checkpoint. */
  async #trim(): Promise<boolean> {
    const { segments, closedAt, replicas } = this.#files;
    const [oldest] = segments;
    if (oldest === undefined || segments.length === 1) return false;
    const age = this.#options.life.clock.now() - (closedAt.get(oldest.number) ?? 0);
    if (age < this.#options.retentionMs) return false;
    const moved: { replica: MemoryReplica; base: Head }[] = [];
    for (const [shard, last] of oldest.last) {
      const replica = replicas.get(shard)!;
      if (replica.damage !== undefined || last.offset > replica.record.released) return false;
      if (last.offset > replica.record.base.offset) moved.push({ replica, base: last });
    }
    const records = moved.map(({ replica, base }) => ({ ...replica.record, base, head: replica.head }));
    await this.#records.save(records);
    for (const [nth, { replica, base }] of moved.entries()) {
      replica.places = replica.places.slice(base.offset - replica.record.base.offset);
      changeTo(replica, records[nth]!);
    }
    await this.#options.disk.remove(segmentName(oldest.number));
    segments.shift();
    closedAt.delete(oldest.number);
    return true;
  }

  async #catchUpWatermark(): Promise<void> {
    await this.#records.catchUpWatermark();
    this.#commitsBehind = 0;
  }

  // --- reading ------------------------------------------------------------------------------------------------------

  async #read(shard: ShardId, from: Offset): Promise<readonly LogEntry[]> {
    const { record, head, places } = this.#records.live(shard);
    if (from > head.offset) return [];
    const first = from - record.base.offset - 1;
    if (first < 0) {
      const begins = record.base.offset + 1;
      throw new Refusal("FAILED_PRECONDITION", `offset ${from} was trimmed: the log begins at ${begins}`);
    }
    const wanted = places.slice(first, first + LOG_READ_ENTRIES_MAX);
    const entries: LogEntry[] = [];
    let bytes = 0;
    for (const { place, row } of await this.#rowsAt(wanted)) {
      if (row?.entry.offset !== from + entries.length) return this.#damaged(shard, from + entries.length, place);
      const { entry } = row;
      if (entries.length > 0 && bytes + entry.value.length > LOG_READ_BYTES_MAX) break;
      entries.push(entry);
      bytes += entry.value.length;
    }
    return entries;
  }

  async #entryAt({ record: { shard, base }, places }: MemoryReplica, offset: Offset): Promise<Head> {
    const first = offset - base.offset - 1;
    const [found] = await this.#rowsAt(places.slice(first, first + 1));
    const { place, row } = found!;
    if (row?.entry.offset !== offset) return this.#damaged(shard, offset, place);
    return { term: row.entry.term, offset, crc: row.crc };
  }

  /** Rejects with DATA_LOSS, once what it ends has ended. */
  async #damaged(shard: ShardId, offset: Offset, { segment, nth }: Place): Promise<never> {
    const what = "its checksum is not that of what was written";
    const damage = { file: segmentName(segment), where: `row ${nth}`, what };
    const { segments } = this.#files;
    const isOpen = segment === segments.at(-1)!.number;
    const last = segments.find(({ number }) => number === segment)?.last.get(shard)?.offset ?? offset;
    await this.#records.found(damage, { shard, last, isOpen });
    throw damageRefusal(shard, damage);
  }

  /** The rows at these places, one read a segment; undefined where the row is bad. */
  async #rowsAt(places: readonly Place[]): Promise<{ place: Place; row: Row | undefined }[]> {
    const all: { place: Place; row: Row | undefined }[] = [];
    for (let at = 0; at < places.length; ) {
      const { segment } = places[at]!;
      const end = places.findIndex((place, nth) => nth > at && place.segment !== segment);
      const some = places.slice(at, end < 0 ? places.length : end);
      const rows = await this.#options.disk.readSome<Row>(
        segmentName(segment),
        some.map(({ nth }) => nth),
      );
      for (const [nth, place] of some.entries()) {
        const row = rows[nth];
        all.push({ place, row: row === undefined || row.bad ? undefined : row.record });
      }
      at += some.length;
    }
    return all;
  }
}
