/**
 * What a MemoryLog promises about its replicas, in the order of syncs of storage/log-replicas.ts: promises, then the
 * watermark; where a generation begins, a new segment, the watermark, then the promises. It keeps the ballast too, which
 * these may use when the disk is full.
 */
import type { Head, Offset, ShardId, Term } from "../../src/model/ids.ts";
import type { StampAnswer, StampRequest, Truncation } from "../../src/model/log-calls.ts";
import { Refusal } from "../../src/model/refusal.ts";
import type { Damage, ReplicaLife, ReplicaLog } from "../../src/ports.ts";
import { takeStamp } from "../../src/protocol/fencing.ts";
import {
  changeTo,
  endedByWord,
  isFileDamage,
  newLogReplica,
  refusalOf,
  replicaLog,
} from "../../src/storage/log-replica.ts";
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
} from "../../src/storage/replica-changes.ts";
import type { ReplicaRecord } from "../../src/storage/replica-record.ts";
import { DiskFull, type MountedDisk } from "./disk.ts";
import {
  BALLAST,
  cutSegments,
  type MemoryReplica,
  type OpenedFiles,
  PROMISES,
  type PromisesRecord,
  RECORD_BYTES,
  WATERMARK,
  type WatermarkRecord,
} from "./memory-log-files.ts";
import type { Life } from "./node.ts";

export interface MemoryReplicasOptions {
  readonly life: Life;
  readonly disk: MountedDisk;
  readonly ballastBytes: number;
  /** Begins a new segment. */
  readonly roll: () => Promise<void>;
  /** Id, term and checksum of an entry behind the base, up to the head. */
  readonly entryAt: (replica: MemoryReplica, offset: Offset) => Promise<Head>;
}

export class MemoryReplicas {
  readonly #options: MemoryReplicasOptions;
  readonly #files: OpenedFiles;
  /** As Log.replicas shows them. */
  readonly #found: Map<ShardId, ReplicaLog>;
  #hasBallast = false;
  /** Shards whose heads the watermark does not have yet. */
  readonly #behind = new Set<ShardId>();
  /** Damage was found, and no replica has been minted since. */
  #isDamaged: boolean;
  #stamp: number;

  constructor(options: MemoryReplicasOptions, files: OpenedFiles) {
    this.#options = options;
    this.#files = files;
    this.#isDamaged = files.isDamaged;
    this.#stamp = files.stamp;
    const here = [...files.replicas.values()].filter(({ record }) => !isRemoved(record));
    this.#found = new Map(here.map((replica) => [replica.record.shard, replicaLog(replica)]));
  }

  list(): readonly ReplicaLog[] {
    return [...this.#found.values()].sort((a, b) => a.shard - b.shard);
  }

  live(shard: ShardId): MemoryReplica {
    const replica = this.#here(shard);
    if (replica.damage !== undefined) throw refusalOf(shard, replica.damage);
    return replica;
  }

  #here(shard: ShardId): MemoryReplica {
    const replica = this.#files.replicas.get(shard);
    if (replica !== undefined && !isRemoved(replica.record)) return replica;
    throw new Refusal("NODE_IS_NOT_MEMBER", `no replica of shard ${shard} lives here`);
  }

  // --- changes ------------------------------------------------------------------------------------------------------

  /** Damage that a read has found, in the open segment or in a closed one with entries up to `last`: it ends ids before it is told. */
  async found(damage: Damage, { shard, last, isOpen }: { shard: ShardId; last: Offset; isOpen: boolean }) {
    const replica = this.live(shard);
    if (!isOpen && last <= replica.record.released) return;
    const concerned = isOpen ? [...this.#files.replicas.values()] : [replica];
    const ending = concerned.filter(({ record }) => !isRemoved(record) && !isFileDamage(record.ended));
    const records = ending.map((one) => ended(one, damage));
    await this.save(records);
    for (const [nth, one] of ending.entries()) {
      one.record = records[nth]!;
      one.damage = damage;
      this.#show(one);
    }
    await this.syncWatermark(ending);
    this.#isDamaged = true;
    this.trace("damage found", shard, last, ending.length);
  }

  async promise(shard: ShardId, term: Term): Promise<Head> {
    const replica = this.live(shard);
    await this.#change(replica, promised(replica, term));
    return replica.head;
  }

  async markLed(shard: ShardId, term: Term): Promise<void> {
    const replica = this.live(shard);
    await this.#change(replica, led(replica, term));
  }

  async end(shard: ShardId, reason: string): Promise<ReplicaLog> {
    const replica = this.#here(shard);
    await this.#change(replica, ended(replica, endedByWord(reason)));
    replica.damage ??= replica.record.ended;
    return this.#show(replica);
  }

  get stamp(): number {
    return this.#stamp;
  }

  async takeStamp(request: StampRequest): Promise<StampAnswer> {
    const before = this.#stamp;
    const { held, rolledBack } = takeStamp(before, request);
    const here = [...this.#files.replicas.values()].filter(({ record }) => !isRemoved(record));
    const ending = rolledBack ? here : [];
    if (held === before && ending.length === 0) return { before, rolledBack };
    const replicas = ending.map((replica) => ended(replica, endedByWord(goneBack(before, request))));
    await this.#writeSynced(PROMISES, { replicas, stamp: held } satisfies PromisesRecord, replicas.length);
    this.#stamp = held;
    for (const [nth, replica] of ending.entries()) {
      replica.record = replicas[nth]!;
      replica.damage ??= replica.record.ended;
      this.#show(replica);
    }
    if (ending.length > 0) await this.syncWatermark(ending);
    this.trace("stamp", held, ending.length);
    return { before, rolledBack };
  }

  async #change(replica: MemoryReplica, record: ReplicaRecord): Promise<void> {
    await this.save([record]);
    replica.record = record;
    await this.syncWatermark([replica]);
    this.#show(replica);
    this.trace("promised", record.shard, record.promise, record.led);
  }

  #show(replica: MemoryReplica): ReplicaLog {
    const shown = replicaLog(replica);
    this.#found.set(shown.shard, shown);
    return shown;
  }

  // --- generations --------------------------------------------------------------------------------------------------

  async create(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog> {
    const former = this.#files.replicas.get(shard);
    const record = created(shard, life, { former: former?.record, segment: this.#nextSegment });
    if (this.#isDamaged && this.#files.segments.at(-1)!.rows > 0) await this.#roll();
    this.#isDamaged = false;
    if (former !== undefined) {
      await this.#beginGeneration(former, record);
      return this.#show(former);
    }
    const replica: MemoryReplica = { ...newLogReplica(record), places: [] };
    await this.#change(replica, record);
    this.#files.replicas.set(shard, replica);
    return this.#show(replica);
  }

  async adopt(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog> {
    const replica = this.#here(shard);
    const record = adopted(replica, life, this.#nextSegment);
    if (this.#isDamaged && this.#files.segments.at(-1)!.rows > 0) await this.#roll();
    this.#isDamaged = false;
    await this.#beginGeneration(replica, record);
    return this.#show(replica);
  }

  async remove(shard: ShardId): Promise<void> {
    const replica = this.#files.replicas.get(shard);
    if (replica === undefined || isRemoved(replica.record)) return;
    await this.#beginGeneration(replica, removed(replica, this.#nextSegment));
    this.#found.delete(shard);
  }

  async truncate(shard: ShardId, truncation: Truncation): Promise<Head> {
    const replica = this.live(shard);
    checkTruncation(replica, truncation);
    if (truncation.to === replica.head.offset) return replica.head;
    const kept = (await this.#at(replica, truncation.to))!;
    await this.#beginGeneration(replica, truncated(replica, kept, this.#nextSegment));
    return kept;
  }

  async install(shard: ShardId, acceptedUnder: Term, base: Head): Promise<void> {
    const replica = this.live(shard);
    const segment = this.#nextSegment;
    await this.#beginGeneration(replica, installed(replica, { acceptedUnder, base, segment }));
  }

  async at(shard: ShardId, offset: Offset): Promise<Head | undefined> {
    return this.#at(this.live(shard), offset);
  }

  async #at(replica: MemoryReplica, offset: Offset): Promise<Head | undefined> {
    const { record, head } = replica;
    if (offset === record.base.offset) return record.base;
    if (offset < record.base.offset || offset > head.offset) return undefined;
    return this.#options.entryAt(replica, offset);
  }

  async #beginGeneration(replica: MemoryReplica, record: ReplicaRecord): Promise<void> {
    if (this.#files.segments.at(-1)!.rows > 0) await this.#roll();
    await this.#writeSynced(WATERMARK, { replicas: [record], closing: false } satisfies WatermarkRecord, 1);
    this.#behind.delete(record.shard);
    await this.save([record]);
    cutSegments(this.#files.segments, replica, record);
    changeTo(replica, record);
    replica.damage = record.ended;
    if (!isRemoved(record)) this.#show(replica);
    const { shard, generation, head } = record;
    this.trace("cut", shard, generation, head.offset, head.crc);
  }

  /** Above the numbers of all that are there. */
  get #nextSegment(): number {
    return this.#files.segments.at(-1)!.number + 1;
  }

  async #roll(): Promise<void> {
    try {
      await this.#options.roll();
    } catch (error) {
      if (!(error instanceof DiskFull)) throw error;
      throw new Refusal("RESOURCE_EXHAUSTED", "no space left for the log: nothing was changed", { cause: error });
    }
  }

  // --- storing ------------------------------------------------------------------------------------------------------

  /** What became durable, so that two runs that differ in it differ in their hash. */
  trace(what: string, ...details: readonly number[]): void {
    const { life } = this.#options;
    const { scheduler } = life.node;
    scheduler.trace.event(scheduler.nowMs, life.name, what, ...details);
  }

  save(replicas: readonly ReplicaRecord[], closed?: PromisesRecord["closed"]): Promise<void> {
    const record: PromisesRecord = closed === undefined ? { replicas } : { replicas, closed };
    return this.#writeSynced(PROMISES, record, replicas.length);
  }

  async syncWatermark(replicas: readonly MemoryReplica[], closing = false): Promise<void> {
    const records = replicas.map(({ record, head }) => ({ ...record, head }));
    const record: WatermarkRecord = { replicas: records, closing };
    await this.#writeSynced(WATERMARK, record, records.length);
    for (const { shard } of records) this.#behind.delete(shard);
  }

  /** A head has moved on: the watermark does not have it yet. */
  moved(shard: ShardId): void {
    this.#behind.add(shard);
  }

  get isWatermarkBehind(): boolean {
    return this.#behind.size > 0;
  }

  async catchUpWatermark(): Promise<void> {
    if (this.#behind.size > 0) {
      await this.syncWatermark([...this.#behind].map((shard) => this.#files.replicas.get(shard)!));
    }
  }

  /** What elections need: it may use the ballast; when even that does not do, the process ends. */
  async #writeSynced(name: string, record: unknown, replicas: number): Promise<void> {
    const { disk, life } = this.#options;
    const stored = [{ record, bytes: RECORD_BYTES * Math.max(replicas, 1) }];
    if (!(await this.#hasRoomFor(name, stored))) {
      await this.dropBallast();
      if (!(await this.#hasRoomFor(name, stored))) life.node.end("killed");
    }
    await disk.sync(name);
  }

  /** Writes it, if there is space. */
  async #hasRoomFor(
    name: string,
    stored: readonly { readonly record: unknown; readonly bytes: number }[],
  ): Promise<boolean> {
    try {
      await this.#options.disk.write(name, stored);
      return true;
    } catch (error) {
      if (!(error instanceof DiskFull)) throw error;
      return false;
    }
  }

  // --- the ballast --------------------------------------------------------------------------------------------------

  async begin(): Promise<void> {
    this.#hasBallast = this.#options.disk.names().includes(BALLAST);
    await this.layBallast();
  }

  async layBallast(): Promise<void> {
    if (this.#hasBallast) return;
    try {
      await this.#options.disk.write(BALLAST, [{ record: "", bytes: this.#options.ballastBytes }]);
      this.#hasBallast = true;
    } catch (error) {
      if (!(error instanceof DiskFull)) throw error;
    }
  }

  async dropBallast(): Promise<boolean> {
    if (!this.#hasBallast) return false;
    this.#hasBallast = false;
    await this.#options.disk.remove(BALLAST);
    return true;
  }
}
