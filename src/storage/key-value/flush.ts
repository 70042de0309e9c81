/**
 * The writing side of the KV files: opens and scans them, writes frozen tables in key order, checkpoints. Runs in a
 * Worker of its own (flush-worker.ts); one writer connection a file, the least recently used ones closed.
 *
 *     block  (okey, tie) → records from this key on (block.ts, block-merge.ts)
 *     meta   one row: applied offset and term, version counter, row count, additive hash
 *
 * A flush is one transaction, so a file is always a state that some entry left behind. It may lag behind the log, whose
 * entries are kept until a checkpoint that covers them is complete and synced: under synchronous=NORMAL a power cut
 * brings the file back to it.
 */
import type { Database } from "bun:sqlite";
import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { assert } from "../../lib/assert.ts";
import { type EntryId, NO_OFFSET, type Offset, type Timestamp } from "../../model/ids.ts";
import { type KeySorting, keyOrder } from "../../model/keys.ts";
import {
  FLUSH_SYNC_BYTES,
  KEY_VALUE_FILES_OPEN_MAX,
  KEY_VALUE_PAGE_BYTES,
  KEY_VALUE_WAL_BYTES_MAX,
  NOTIFICATION_BATCHES_PER_TRIM_MAX,
} from "../../model/limits.ts";
import type { Damage } from "../../ports.ts";
import { makeDirectory, removeSqlite, renameSqlite, replaceFile, setAside, syncFile } from "../files.ts";
import { emptyWal, isDiskFull, openSqlite, sqliteErrorKind } from "../sqlite.ts";
import { BLOCK_SCHEMA, BlockMerger, type Merged } from "./block-merge.ts";
import { ChunkPool } from "./chunk-pool.ts";
import {
  appendNotifications,
  NOTIFICATION_SCHEMA,
  readTrimmed,
  trimNotifications,
  writeTrimmed,
} from "./notification-store.ts";
import type { NotificationRun } from "./notification-tail.ts";
import { addToHash, type RecordHash } from "./record-hash.ts";
import { receivedEndsWith, removeLeftovers, removeState, replaceByReceived } from "./state-files.ts";
import { readState, STATE_SCHEMA, type StoredState, writeState } from "./stored-state.ts";
import { type SharedTable, Table } from "./table.ts";
import { blocks, readableRecords, scan } from "./verify.ts";

export interface Opened {
  readonly state: StoredState | undefined;
  /** What was told up to this offset may be gone. */
  readonly trimmed: Offset;
  readonly damage: Damage | undefined;
  /** Whether every record was read and checked. */
  readonly verified: boolean;
  /** Bytes of the file. */
  readonly bytes: number;
}

export interface Flushed {
  /** Whether a checkpoint that covers this flush is complete and synced. */
  readonly durable: boolean;
  readonly rows: number;
  readonly bytes: number;
  readonly walBytes: number;
  readonly fileBytes: number;
}

/** A flush goes through the file in key order: each page is wanted once. */
const WRITER_CACHE_KIB = 1024;

interface Writer {
  readonly database: Database;
  readonly merger: BlockMerger;
}

export class Flusher {
  /** Open writers, the least recently used first. */
  readonly #writers = new Map<string, Writer>();
  readonly #sorting = new Map<string, KeySorting>();
  #verifiedBytes = 0;

  /**
   * Opens a file; one that is not there is made by the first flush. As long as all files opened so hold no more than
   * `verifyBytesMax`, every record is read and checked. Damage is an answer, an I/O error is thrown.
   */
  open(path: string, sorting: KeySorting, verifyBytesMax: number): Opened {
    this.#sorting.set(path, sorting);
    if (!this.#isThere(path))
      return { state: undefined, trimmed: NO_OFFSET, damage: undefined, verified: true, bytes: 0 };
    try {
      const { database } = this.#writer(path);
      emptyWithSpace(database, path);
      const state = readState(database);
      const size = statSync(path).size + walBytes(path);
      const verified = this.#verifiedBytes + size <= verifyBytesMax;
      if (verified) this.#verifiedBytes += size;
      const damage = verified ? scan(database, path, keyOrder(sorting), state) : undefined;
      return { state, trimmed: readTrimmed(database), damage, verified, bytes: statSync(path).size };
    } catch (error) {
      const kind = sqliteErrorKind(error);
      if (kind === "io" || kind === "full") throw error;
      this.#discard(path);
      return damagedFile({ file: path, where: "byte 0", what: String((error as Error).message) });
    }
  }

  /** Writes a frozen table's live rows and the state that it leaves behind, then checkpoints. Throws with nothing written. */
  flush(path: string, shared: SharedTable, state: StoredState, notifications: NotificationRun): Flushed {
    const writer = this.#writer(path);
    const table = Table.ofShared(shared, new ChunkPool());
    let merged: Merged;
    writer.database.run("BEGIN IMMEDIATE");
    try {
      merged = writer.merger.merge(table, pacedSync(`${path}-wal`));
      merged.bytes += appendNotifications(writer.database, notifications);
      writeState(writer.database, state);
      writer.database.run("COMMIT");
    } catch (error) {
      rollback(writer.database);
      throw error;
    }
    return {
      durable: this.#checkpointWithSpace(writer.database),
      ...merged,
      walBytes: walBytes(path),
      fileBytes: statSync(path).size,
    };
  }

  /** A checkpoint that finds no space has lost nothing: the -wal keeps what is flushed. */
  #checkpointWithSpace(database: Database): boolean {
    try {
      return checkpoint(database);
    } catch (error) {
      if (sqliteErrorKind(error) !== "full") throw error;
      return false;
    }
  }

  /** Removes the oldest notifications; see notification-store.ts. Throws with nothing removed. */
  trimNotifications(path: string, before: Timestamp): Offset | undefined {
    if (!this.#isThere(path)) return undefined;
    return trimNotifications(this.#writer(path).database, before, NOTIFICATION_BATCHES_PER_TRIM_MAX);
  }

  #isThere(path: string): boolean {
    return this.#writers.has(path) || existsSync(path);
  }

  /** Whether all that was flushed to a file is in a synced checkpoint afterwards. Makes one that is not there. */
  checkpoint(path: string): boolean {
    return checkpoint(this.#writer(path).database);
  }

  close(path: string): void {
    const writer = this.#writers.get(path);
    this.#writers.delete(path);
    if (writer === undefined) return;
    // closing a database checkpoints it too, but keeps an error of the device to itself
    this.#checkpointWithSpace(writer.database);
    writer.merger.finalize();
    writer.database.close();
  }

  /** Closes a file that cannot be trusted, whatever it says. */
  #discard(path: string): void {
    const writer = this.#writers.get(path);
    this.#writers.delete(path);
    writer?.merger.finalize();
    writer?.database.close();
  }

  closeAll(): void {
    for (const path of [...this.#writers.keys()]) this.close(path);
  }

  /**
   * Before a state is opened: a received one that ends with `base`, where the log begins, takes its place if it is behind
   * that; whatever else a transfer has left is removed.
   */
  settle(path: string, sorting: KeySorting, base: EntryId): void {
    this.#sorting.set(path, sorting);
    if (receivedEndsWith(path, base) && this.#appliedOffset(path) < base.offset) this.#replace(path);
    removeLeftovers(path);
  }

  /** The received state takes the place of the one that stands, which nobody reads any more, and is opened. */
  replace(path: string, sorting: KeySorting): Opened {
    this.#sorting.set(path, sorting);
    this.#replace(path);
    return this.open(path, sorting, 0);
  }

  #replace(path: string): void {
    this.#discard(path);
    replaceByReceived(path);
  }

  /** How far a state has come; that of one that cannot be read counts for nothing. */
  #appliedOffset(path: string): Offset {
    if (!existsSync(path)) return NO_OFFSET;
    try {
      return readState(this.#writer(path).database)?.applied.offset ?? NO_OFFSET;
    } catch (error) {
      const kind = sqliteErrorKind(error);
      if (kind === "io" || kind === "full") throw error;
      return NO_OFFSET;
    }
  }

  /** Removes a state with all that belongs to it. */
  remove(path: string): void {
    this.#discard(path);
    removeState(path);
  }

  /** Sets a damaged file aside as `<path>.damaged` and begins with an empty one. */
  restart(path: string): Opened {
    this.#setAside(path);
    return this.open(path, this.#sortingOf(path), 0);
  }

  /** Sets a damaged file aside and copies every record that can be read and has its CRC to a new one. */
  salvage(path: string): Opened {
    const aside = this.#setAside(path);
    const sorting = this.#sortingOf(path);
    const order = keyOrder(sorting);
    let old: Database | undefined;
    try {
      old = openSqlite(aside, { mode: "read", synchronous: "NORMAL" });
      const state = readState(old);
      if (state === undefined) {
        // nothing says up to where these records are applied: the log, if it is whole, makes them anew
        old.close();
        return this.open(path, sorting, 0);
      }
      const { database, merger } = this.#writer(path);
      const hash: RecordHash = { low: 0, high: 0 };
      let rowCount = 0;
      database.run("BEGIN IMMEDIATE");
      for (const table of readableRecords(old, order)) merger.merge(table);
      for (const view of blocks(database)) {
        for (let index = 0; index < view.count; index++) addToHash(hash, view.crc(index), 1);
        rowCount += view.count;
      }
      // what was told is not saved: subscribers go on behind it
      writeTrimmed(database, state.told);
      writeState(database, { ...state, rowCount, hash });
      database.run("COMMIT");
    } catch (error) {
      // what was made so far goes, and the damaged file is where it was: the next attempt finds it
      this.#discard(path);
      removeSqlite(path);
      old?.close();
      renameSqlite(aside, path);
      return damagedFile({ file: path, where: "byte 0", what: `it cannot be saved: ${(error as Error).message}` });
    }
    old.close();
    return this.open(path, sorting, Number.POSITIVE_INFINITY);
  }

  #setAside(path: string): string {
    this.#discard(path);
    return setAside(path) ?? `${path}.damaged`;
  }

  #sortingOf(path: string): KeySorting {
    const sorting = this.#sorting.get(path);
    assert(sorting !== undefined, "a file that was never opened", path);
    return sorting;
  }

  #writer(path: string): Writer {
    let writer = this.#writers.get(path);
    if (writer === undefined) {
      if (this.#writers.size >= KEY_VALUE_FILES_OPEN_MAX) this.close(this.#writers.keys().next().value!);
      if (!existsSync(path)) {
        makeDirectory(dirname(path));
        removeSqlite(path); // a -wal must never lie beside a file that it was not written for
        replaceFile(path, emptyFile());
      }
      const database = openSqlite(path, {
        mode: "write",
        synchronous: "NORMAL",
        pageBytes: KEY_VALUE_PAGE_BYTES,
        cacheKiB: WRITER_CACHE_KIB,
        autocheckpointPages: 0,
        walBytesKept: KEY_VALUE_WAL_BYTES_MAX,
      });
      for (const sql of SCHEMA) database.run(sql);
      writer = { database, merger: new BlockMerger(database, path, keyOrder(this.#sortingOf(path))) };
    } else {
      this.#writers.delete(path);
    }
    this.#writers.set(path, writer);
    return writer;
  }
}

const SCHEMA = [BLOCK_SCHEMA, STATE_SCHEMA, ...NOTIFICATION_SCHEMA];

let empty: Uint8Array | undefined;

/**
 * A database in WAL mode with nothing but its schema. Written as a whole, it is there after a crash or is not; SQLite
 * itself would sync eight times to get there.
 */
function emptyFile(): Uint8Array {
  if (empty !== undefined) return empty;
  const memory = openSqlite(":memory:", {
    ...{ mode: "create", synchronous: "OFF", journal: "memory", pageBytes: KEY_VALUE_PAGE_BYTES },
  });
  for (const sql of SCHEMA) memory.run(sql);
  empty = new Uint8Array(memory.serialize());
  memory.close();
  // read and written by way of a -wal (SQLite's file format, §1.3.3)
  empty.fill(2, 18, 20);
  return empty;
}

/**
 * Has what is written to a file go to the disk a little at a time: all at once it would hold up the log, whose commits
 * wait for the same disk.
 */
function pacedSync(path: string): (bytes: number) => void {
  let unsynced = 0;
  return (bytes) => {
    unsynced += bytes;
    if (unsynced < FLUSH_SYNC_BYTES || !existsSync(path)) return;
    unsynced = 0;
    syncFile(path);
  };
}

function damagedFile(damage: Damage): Opened {
  return { state: undefined, trimmed: NO_OFFSET, damage, verified: true, bytes: 0 };
}

function rollback(database: Database): void {
  // after a failure SQLite may have rolled back by itself
  if (database.inTransaction) database.run("ROLLBACK");
}

/** What is read from here on is on the disk. Without space it is where it was. */
function emptyWithSpace(database: Database, path: string): void {
  try {
    emptyWal(database, path);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}

/** Complete and synced, or not: a reader that pins an older state keeps part of the -wal from being moved. */
function checkpoint(database: Database): boolean {
  const [row] = database.query("PRAGMA wal_checkpoint(PASSIVE)").values() as [number, number, number][];
  const [busy, frames, moved] = row ?? [1, 0, 0];
  return busy === 0 && frames === moved;
}

function walBytes(path: string): number {
  return existsSync(`${path}-wal`) ? statSync(`${path}-wal`).size : 0;
}
