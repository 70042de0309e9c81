/**
 * All KV files of a node: memory budgets, the flush Worker, reading connections.
 *
 * Budgets are exact and shared by all shards. Active tables freeze, the largest first, when together they reach half
 * of the table budget; the other half may wait for its flush. When both are full, `room` makes writers wait. The cache
 * is one queue of generations over all shards: past its budget the oldest are dropped.
 */

import { assert } from "../../lib/assert.ts";
import { type EntryId, NO_OFFSET, type Offset, type Timestamp } from "../../model/ids.ts";
import type { KeyOrder, KeySorting } from "../../model/keys.ts";
import {
  FLUSH_RETRY_MS,
  KEY_VALUE_FILES_OPEN_MAX,
  SCAN_BEFORE_SERVING_BYTES_MAX,
  SHARD_TABLE_BYTES_MAX,
} from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type { Clock, Damage, Logger } from "../../ports.ts";
import { type StartThread, startThread } from "../start-worker.ts";
import { BackgroundScan } from "./background-scan.ts";
import { ChunkPool } from "./chunk-pool.ts";
import type { Opened } from "./flush.ts";
import type { FlushAnswers, FlushRequest } from "./flush-service.ts";
import { IdleShards } from "./idle-shards.ts";
import type { KeyValueReader } from "./reader.ts";
import { Readers } from "./readers.ts";
import { SqliteKeyValue, type StateHost } from "./shard-state.ts";
import type { Writing } from "./state-receiver.ts";
import { PacedSender } from "./state-sender.ts";
import { EMPTY_STATE } from "./stored-state.ts";
import { Table } from "./table.ts";
import { type Reading, Transfers } from "./transfers.ts";
import { WorkerCalls, type WorkerError } from "./worker-calls.ts";

export interface KeyValueNodeOptions {
  readonly tableBytesMax: number;
  readonly cacheBytesMax: number;
  readonly sqliteCacheBytesMax: number;
  /** Bytes of files that are scanned before they serve; default SCAN_BEFORE_SERVING_BYTES_MAX. Others are scanned while they do. */
  readonly scanBeforeServingBytesMax?: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told once of an I/O error on a KV file: the process must end. */
  readonly onFault: (error: Error) => void;
  /** Default: Workers. */
  readonly startThread?: StartThread;
}

/** Counters since the start, and sizes as of the last flush. */
export interface KeyValueStats {
  tableHits: number;
  fileReads: number;
  flushes: number;
  flushedRows: number;
  flushedBytes: number;
  walBytes: number;
  fileBytes: number;
}

/** A read-through generation holds at least this much before the next one begins. */
const READ_THROUGH_BYTES_MIN = 256 * 1024;
export class KeyValueNode implements StateHost {
  readonly pool = new ChunkPool();
  readonly clock: Clock;
  readonly stats: KeyValueStats = {
    tableHits: 0,
    fileReads: 0,
    flushes: 0,
    flushedRows: 0,
    flushedBytes: 0,
    walBytes: 0,
    fileBytes: 0,
  };
  readonly #options: KeyValueNodeOptions;
  readonly #worker: WorkerCalls<FlushRequest, FlushAnswers>;
  readonly #transfers: Transfers;
  readonly #fileBytes = new Map<string, number>();
  readonly #shards = new Map<string, SqliteKeyValue>();
  readonly #readers: Readers;
  /** Oldest first. */
  #generations: { readonly shard: SqliteKeyValue; readonly table: Table }[] = [];
  #cacheBytes = 0;
  #activeBytes = 0;
  #frozenBytes = 0;
  readonly #scans: BackgroundScan;
  readonly #idle: IdleShards;
  readonly #scanBytesMax: number;
  readonly #flushes = new Map<SqliteKeyValue, Promise<void>>();
  #closing = false;
  /** The last flush found no space, and none has succeeded since. */
  full = false;
  #roomWaiters: (() => void)[] = [];
  #room: Promise<void> | undefined;
  /** Told the applied offset that is in a synced checkpoint of the shard's file. */
  onDurable: (path: string, offset: Offset) => void = () => {};

  constructor(options: KeyValueNodeOptions) {
    this.#options = options;
    this.clock = options.clock;
    const start = options.startThread ?? startThread;
    this.#scans = new BackgroundScan(start, options.onFault);
    this.#scanBytesMax = options.scanBeforeServingBytesMax ?? SCAN_BEFORE_SERVING_BYTES_MAX;
    this.#worker = new WorkerCalls(start, "key-value/flush-worker", options.onFault);
    this.#transfers = new Transfers(start, options.onFault);
    this.#readers = new Readers(
      options.clock,
      () => this.#readerCacheBytes(),
      () => [...this.#shards.values()].flatMap((shard) => [...shard.snapshots]),
    );
    this.#idle = new IdleShards(options.clock, (shard) => {
      if (!this.#flushes.has(shard) && shard.damage === undefined) void this.#flush(shard);
    });
  }

  get cacheBytesMax(): number {
    return this.#options.cacheBytesMax;
  }

  /** Memory of active and frozen tables, and of the cache. */
  get memory(): { readonly active: number; readonly frozen: number; readonly cache: number } {
    return { active: this.#activeBytes, frozen: this.#frozenBytes, cache: this.#cacheBytes };
  }

  /**
   * Opens one shard's file, or creates it. With `base`, where the shard's log begins, what a transfer has left is settled
   * first (state-files.ts). With `verify` every record is checked: first, or in a large file afterwards. Damage is an
   * answer; a file whose device fails is a fault. `onDamage` says what becomes of a damaged file: it is set aside as
   * `<path>.damaged`, and `restart` begins with an empty one, to be filled by replaying the whole log, while `salvage`
   * keeps every readable row.
   */
  async open(options: {
    readonly path: string;
    readonly order: KeyOrder;
    readonly verify: boolean;
    readonly onDamage: "refuse" | "restart" | "salvage";
    readonly base?: EntryId;
  }): Promise<{ readonly keyValue: SqliteKeyValue } | { readonly damage: Damage }> {
    const { path, order, verify, onDamage, base } = options;
    const { sorting } = order;
    assert(!this.#shards.has(path), "a state was opened twice", path);
    const verifyBytesMax = verify ? this.#scanBytesMax : 0;
    let opened = await this.#worker.carryOut({ kind: "open", path, sorting, verifyBytesMax, base }, "refuse");
    if (opened.damage !== undefined && onDamage !== "refuse") {
      opened = await this.#worker.carryOut({ kind: onDamage, path }, "refuse");
    }
    if (opened.damage !== undefined) {
      await this.#worker.carryOut({ kind: "close", path }, "fault");
      return { damage: opened.damage };
    }
    const keyValue = this.#opened(path, order, opened);
    if (verify && !opened.verified) this.#scanLater(keyValue, opened.bytes);
    // without space, or while somebody reads, it is for the next flush
    const moved = opened.state === undefined ? "pinned" : await this.#checkpoint(keyValue);
    if (moved === "moved") this.#durable(keyValue, keyValue.applied.offset);
    if (keyValue.damage === undefined) return { keyValue };
    await keyValue.abandon();
    return { damage: keyValue.damage };
  }

  #opened(path: string, order: KeyOrder, { state, trimmed, bytes }: Opened): SqliteKeyValue {
    const keyValue = new SqliteKeyValue(this, path, order, state ?? EMPTY_STATE, trimmed);
    this.#shards.set(path, keyValue);
    this.#sized(path, bytes);
    return keyValue;
  }

  /** Bytes of files that serve and are not proved whole yet. */
  get unverifiedBytes(): number {
    return this.#scans.bytesLeft;
  }

  #scanLater(shard: SqliteKeyValue, bytes: number): void {
    const { path, order } = shard;
    shard.scanned = false;
    const onEnd = (damage: Damage | undefined): void => {
      shard.scanned = true;
      if (shard.isClosed || damage === undefined) return;
      shard.damage = damage;
      const fields = { component: "key-value", file: damage.file, where: damage.where };
      this.#options.logger.error(fields, `shard is damaged and refuses to serve: ${damage.what}`);
    };
    this.#scans.add({ path, sorting: order.sorting, bytes, onEnd });
  }

  /** Flushes and closes all shards, then ends the Worker. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#idle.stop();
    this.#scans.stop();
    await Promise.all([...this.#shards.values()].map((shard) => shard.close()));
    this.#transfers.stop();
    await this.#worker.carryOut({ kind: "stop" }, "fault");
    this.#worker.terminate();
  }

  // --- tables and their flushes ---------------------------------------------------------------------------------

  /** A shard has applied an entry. Starts flushes when the active tables have reached their budget. */
  committed(shard: SqliteKeyValue): void {
    const bytes = shard.activeBytes;
    this.#activeBytes += bytes - shard.activeBytesCounted;
    shard.activeBytesCounted = bytes;
    this.#idle.committed(shard, bytes);
    if (this.#activeBytes >= this.#options.tableBytesMax / 2) this.#flushLargest();
    else if (bytes >= SHARD_TABLE_BYTES_MAX && !this.#flushes.has(shard) && shard.damage === undefined)
      void this.#flush(shard);
  }

  room(): Promise<void> | undefined {
    // what is committed goes on into memory: what may still come is bounded by the requests in flight
    if (this.full) return undefined;
    if (this.#activeBytes + this.#frozenBytes < this.#options.tableBytesMax) return undefined;
    // with nothing on its way to the disk nobody would make any
    if (this.#flushes.size === 0) this.#flushLargest();
    if (this.#flushes.size === 0) return undefined;
    return this.#roomMade();
  }

  /** Resolves when a flush has ended, or has found no space. */
  #roomMade(): Promise<void> {
    this.#room ??= new Promise((resolve) => this.#roomWaiters.push(resolve));
    return this.#room;
  }

  /** Resolves when all that the shard has applied by now is in a synced checkpoint. */
  async flushNow(shard: SqliteKeyValue): Promise<void> {
    const wanted = shard.applied.offset;
    // without space the state stays in the log, which a start replays
    const ends = () => this.#closing || shard.isClosing;
    const givenUp = () => (ends() && this.full) || shard.damage !== undefined || shard.isClosed;
    while (shard.flushedOffset < wanted && !givenUp()) {
      const flush = this.#flushes.get(shard) ?? this.#flush(shard);
      await (ends() ? Promise.race([flush, this.#roomMade()]) : flush);
    }
    for (let attempt = 0; shard.durableOffset < wanted && !givenUp(); attempt++) {
      const moved = await this.#checkpoint(shard);
      if (moved !== "pinned") this.full = moved === "full";
      if (moved === "moved") this.#durable(shard, shard.flushedOffset);
      else await this.#pause(Math.min(10 * 2 ** attempt, FLUSH_RETRY_MS));
    }
  }

  /** Moves all that was flushed into a synced checkpoint, unless somebody reads an older state. In a damaged file nothing is. */
  async #checkpoint(shard: SqliteKeyValue): Promise<"moved" | "pinned" | "full"> {
    try {
      return (await this.#worker.ask({ kind: "checkpoint", path: shard.path })) ? "moved" : "pinned";
    } catch (error) {
      const { kind, message } = error as WorkerError;
      if (kind === "full") return "full";
      if (kind === "corrupt") shard.damage = { file: shard.path, where: "byte 0", what: message };
      else this.#options.onFault(error as Error);
      return "pinned";
    }
  }

  /** Removes old notifications from a shard's file, a bounded number at a time. Resolves with the last one, if any was old enough. */
  async trimNotifications(shard: SqliteKeyValue, before: Timestamp): Promise<Offset | undefined> {
    let last: Offset | undefined;
    try {
      while (!this.#closing && !shard.isClosed) {
        const removed = await this.#worker.ask({ kind: "trim-notifications", path: shard.path, before });
        if (removed === undefined) break;
        last = removed;
      }
    } catch (error) {
      const { kind, message } = error as WorkerError;
      if (kind === "corrupt") shard.damage = { file: shard.path, where: "byte 0", what: message };
      else if (kind !== "full") this.#options.onFault(error as Error);
    }
    return last;
  }

  /** Freezes the largest active tables until what stays active is half of what may. */
  #flushLargest(): void {
    const candidates = [...this.#shards.values()].filter(
      (shard) => !this.#flushes.has(shard) && shard.damage === undefined,
    );
    candidates.sort((a, b) => b.activeBytes - a.activeBytes);
    let active = this.#activeBytes;
    for (const shard of candidates) {
      if (active < this.#options.tableBytesMax / 4) break;
      active -= shard.activeBytes;
      void this.#flush(shard);
    }
  }

  #flush(shard: SqliteKeyValue): Promise<void> {
    const flush = this.#runFlush(shard).finally(() => {
      if (this.#flushes.get(shard) === flush) this.#flushes.delete(shard);
    });
    this.#flushes.set(shard, flush);
    return flush;
  }

  async #runFlush(shard: SqliteKeyValue): Promise<void> {
    const frozen = shard.freeze();
    if (frozen === undefined) return;
    const { table, state, notifications } = frozen;
    this.#activeBytes += shard.activeBytes - shard.activeBytesCounted;
    shard.activeBytesCounted = shard.activeBytes;
    const held = table.bytes + notifications.bytes.length;
    this.#frozenBytes += held;
    for (let attempt = 0; ; attempt++) {
      try {
        const done = await this.#worker.ask({
          kind: "flush",
          path: shard.path,
          table: table.share(),
          state,
          notifications,
        });
        this.stats.flushes++;
        this.stats.flushedRows += done.rows;
        this.stats.flushedBytes += done.bytes;
        this.stats.walBytes = done.walBytes;
        this.#sized(shard.path, done.fileBytes);
        await shard.flushed(state);
        if (done.durable) this.#durable(shard, state.applied.offset);
        break;
      } catch (error) {
        const { kind, message } = error as WorkerError;
        if (kind === "corrupt") {
          shard.damage = { file: shard.path, where: "byte 0", what: message };
          this.#flushEnded(shard, held);
          return;
        }
        if (kind !== "full") {
          this.#options.onFault(error as Error);
          return new Promise(() => {});
        }
        this.full = true;
        this.#makeRoom();
        if (this.#closing) return;
        if (shard.isClosed) break;
        if (attempt === 0) {
          this.#options.logger.warn({ component: "key-value", err: error }, "no space to flush: writes are refused");
        }
        await this.#pause(Math.min(50 * 2 ** attempt, FLUSH_RETRY_MS));
      }
    }
    this.#flushEnded(shard, held);
  }

  /** A flush is over before whoever waited for room goes on: what that commits may need the next one. */
  #flushEnded(shard: SqliteKeyValue, held: number): void {
    this.#flushes.delete(shard);
    this.#frozenBytes -= held;
    this.full = false;
    this.#makeRoom();
  }

  #makeRoom(): void {
    this.#room = undefined;
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }

  /** Of a state's files, as of its last flush. */
  fileBytesOf(path: string): number {
    return this.#fileBytes.get(path) ?? 0;
  }

  #sized(path: string, bytes: number): void {
    this.stats.fileBytes += bytes - (this.#fileBytes.get(path) ?? 0);
    this.#fileBytes.set(path, bytes);
  }

  #durable(shard: SqliteKeyValue, offset: Offset): void {
    if (shard.isClosed) return;
    shard.durableOffset = offset;
    this.onDurable(shard.path, offset);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(ms, resolve));
  }

  // --- states that come and go ----------------------------------------------------------------------------------

  /** Flushes, unless the disk is full, then begins to send what is in the shard's file. */
  async send(shard: SqliteKeyValue): Promise<PacedSender> {
    const wanted = shard.applied.offset;
    while (shard.flushedOffset < wanted && !this.full && shard.damage === undefined && !shard.isClosed) {
      await Promise.race([this.#flushes.get(shard) ?? this.#flush(shard), this.#roomMade()]);
    }
    if (shard.flushedOffset === NO_OFFSET) await this.#checkpoint(shard); // there is a file then, though nothing is in it
    const reading = await noticing(shard, this.#transfers.read(shard.path, shard.order.sorting));
    const source: Reading = { ...reading, next: () => noticing(shard, reading.next()) };
    return new PacedSender(reading.head.state, source, this.clock);
  }

  /** Begins to write another server's state beside the one at `path`. */
  receive(path: string, sorting: KeySorting): Promise<Writing> {
    return this.#transfers.write(path, sorting);
  }

  /** What was received takes the place of what stands, which is abandoned if it is open. Rejects DATA_LOSS when it is damaged by now. */
  async replace(path: string, order: KeyOrder): Promise<SqliteKeyValue> {
    await this.#shards.get(path)?.abandon();
    const opened = await this.#worker.carryOut({ kind: "replace", path, sorting: order.sorting }, "fault");
    const { damage } = opened;
    if (damage !== undefined) throw new Refusal("DATA_LOSS", `${path}: ${damage.where}: ${damage.what}`);
    const keyValue = this.#opened(path, order, opened);
    this.#durable(keyValue, keyValue.applied.offset);
    return keyValue;
  }

  /** Removes a state and all that belongs to it, open or not. */
  async remove(path: string): Promise<void> {
    await this.#shards.get(path)?.abandon();
    await this.#worker.carryOut({ kind: "remove", path }, "fault");
    this.#sized(path, 0);
    this.#fileBytes.delete(path);
  }

  /** Resolves when no flush of the shard is under way. */
  async settled(shard: SqliteKeyValue): Promise<void> {
    await this.#flushes.get(shard);
  }

  // --- cache ----------------------------------------------------------------------------------------------------

  /** The table that takes the next row read from a shard's file: the current one while it is small; undefined without a cache. */
  readThroughTable(shard: SqliteKeyValue, current: Table | undefined): Table | undefined {
    const { cacheBytesMax } = this.#options;
    const share = Math.max(READ_THROUGH_BYTES_MIN, cacheBytesMax / (8 * this.#shards.size));
    if (cacheBytesMax < READ_THROUGH_BYTES_MIN) return undefined;
    if (current !== undefined && current.bytes < share) return current;
    const table = new Table(this.pool);
    this.cacheAdded(shard, table);
    return table;
  }

  cacheAdded(shard: SqliteKeyValue, table: Table): void {
    this.#generations.push({ shard, table });
    this.cacheGrew(table.bytes);
  }

  cacheGrew(bytes: number): void {
    this.#cacheBytes += bytes;
    while (this.#cacheBytes > this.#options.cacheBytesMax) {
      const oldest = this.#generations.shift();
      if (oldest === undefined) break;
      this.#cacheBytes -= oldest.table.bytes;
      oldest.shard.forget(oldest.table);
    }
  }

  // --- readers --------------------------------------------------------------------------------------------------

  reader(path: string): KeyValueReader {
    return this.#readers.of(path);
  }

  snapshotReader(path: string): Promise<KeyValueReader> {
    return this.#readers.take(path);
  }

  discardSnapshotReader(reader: KeyValueReader): void {
    this.#readers.discard(reader);
  }

  returnSnapshotReader(reader: KeyValueReader): void {
    this.#readers.giveBack(reader);
  }

  /** A shard closes, and no flush of it is under way: its connections go. */
  async closed(shard: SqliteKeyValue): Promise<void> {
    this.#shards.delete(shard.path);
    this.#scans.forget(shard.path);
    this.#activeBytes -= shard.activeBytesCounted;
    for (const { table } of this.#generations.filter((generation) => generation.shard === shard))
      this.#cacheBytes -= table.bytes;
    this.#generations = this.#generations.filter((generation) => generation.shard !== shard);
    this.#readers.close(shard.path);
    await this.#worker.carryOut({ kind: "close", path: shard.path }, "fault");
  }

  #readerCacheBytes(): number {
    return this.#options.sqliteCacheBytesMax / (2 * Math.max(1, Math.min(this.#shards.size, KEY_VALUE_FILES_OPEN_MAX)));
  }
}

/** A state that proves damaged while it is read must not be served any more. */
async function noticing<T>(shard: SqliteKeyValue, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof Refusal && error.reason === "DATA_LOSS" && !shard.isClosed) {
      shard.damage ??= { file: shard.path, where: "byte 0", what: error.message };
    }
    throw error;
  }
}
