/**
 * The writing side of the KV files: opens and scans them, writes frozen tables in key order, checkpoints. Runs in a
 * Worker of its own (flush-worker.ts); one writer connection a file, the least recently used ones closed.
 *
 *     kv     (okey, tie) → crc32c(okey, tie, row) little endian, row      WITHOUT ROWID, in key order
 *     meta   one row: applied offset and term, version counter, row count, additive hash
 *
 * A flush is one transaction, so a file is always a state that some entry left behind. It may lag behind the log, whose
 * entries are kept until a checkpoint that covers them is complete and synced: under synchronous=NORMAL a power cut
 * brings the file back to it.
 */
import type { Database, Statement } from "bun:sqlite";
import { existsSync, renameSync, rmSync, statSync } from "node:fs";
import { compareBytes } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import { KEY_VALUE_FILES_OPEN_MAX, KEY_VALUE_WAL_BYTES_MAX } from "../../model/limits.ts";
import type { AppliedState, Damage } from "../../ports.ts";
import { openSqlite, sqliteErrorKind } from "../sqlite.ts";
import { ChunkPool } from "./chunk-pool.ts";
import { addToHash, type RecordHash, sameHash } from "./record-hash.ts";
import { NOWHERE, type SharedTable, Table } from "./table.ts";
import { sortedKeys } from "./table-order.ts";

/** What a file holds, as stored by its last flush. */
export interface StoredState {
  readonly applied: AppliedState;
  readonly rowCount: number;
  readonly hash: RecordHash;
}

export interface Opened {
  readonly state: StoredState | undefined;
  readonly damage: Damage | undefined;
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

const UPSERT = "INSERT INTO kv VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET row = excluded.row";
const DELETE = "DELETE FROM kv WHERE okey = ?1 AND tie = ?2";
const SCAN_PAGE = 2048;
/** A flush goes through the file in key order: each page is wanted once. */
const WRITER_CACHE_KIB = 1024;

interface Writer {
  readonly database: Database;
  readonly upsert: Statement;
  readonly remove: Statement;
}

export class Flusher {
  /** Open writers, the least recently used first. */
  readonly #writers = new Map<string, Writer>();

  /** Opens or creates a file; with `verify` every row is read and checked. Damage is an answer, an I/O error is thrown. */
  open(path: string, verify: boolean): Opened {
    try {
      const { database } = this.#writer(path);
      const state = readState(database);
      const damage = verify ? scan(database, path, state) : undefined;
      return { state, damage, bytes: statSync(path).size };
    } catch (error) {
      const kind = sqliteErrorKind(error);
      if (kind === "io" || kind === "full") throw error;
      this.#discard(path);
      return {
        state: undefined,
        damage: { file: path, where: "byte 0", what: String((error as Error).message) },
        bytes: 0,
      };
    }
  }

  /** Writes a frozen table's live rows and the state that it leaves behind, then checkpoints. Throws with nothing written. */
  flush(path: string, shared: SharedTable, state: StoredState): Flushed {
    const writer = this.#writer(path);
    const table = Table.ofShared(shared, new ChunkPool());
    let rows = 0;
    let bytes = 0;
    writer.database.run("BEGIN IMMEDIATE");
    try {
      for (const key of sortedKeys(table)) {
        const version = table.newest(key);
        if (version === NOWHERE) continue;
        if (table.isTombstone(version)) writer.remove.run(table.orderKey(key), table.tie(key));
        else writer.upsert.run(table.orderKey(key), table.tie(key), table.crcAndRow(version));
        rows++;
        bytes += table.keyLength(key) + table.rowLength(version);
      }
      writeState(writer.database, state);
      writer.database.run("COMMIT");
    } catch (error) {
      rollback(writer.database);
      throw error;
    }
    const durable = checkpoint(writer.database);
    return { durable, rows, bytes, walBytes: walBytes(path), fileBytes: statSync(path).size };
  }

  /** Whether all that was flushed to a file is in a synced checkpoint afterwards. */
  checkpoint(path: string): boolean {
    return checkpoint(this.#writer(path).database);
  }

  close(path: string): void {
    const writer = this.#writers.get(path);
    this.#writers.delete(path);
    if (writer === undefined) return;
    // closing a database checkpoints it too, but keeps an error of the device to itself
    try {
      checkpoint(writer.database);
    } catch (error) {
      if (sqliteErrorKind(error) !== "full") throw error;
    }
    writer.upsert.finalize();
    writer.remove.finalize();
    writer.database.close();
  }

  /** Closes a file that cannot be trusted, whatever it says. */
  #discard(path: string): void {
    const writer = this.#writers.get(path);
    this.#writers.delete(path);
    writer?.database.close();
  }

  closeAll(): void {
    for (const path of [...this.#writers.keys()]) this.close(path);
  }

  /** Removes a file with all that belongs to it. */
  remove(path: string): void {
    this.close(path);
    for (const suffix of ["", "-wal", "-shm"]) rmSync(path + suffix, { force: true });
  }

  /** Sets a damaged file aside as `<path>.damaged` and begins with an empty one. */
  restart(path: string): Opened {
    this.#setAside(path);
    return this.open(path, false);
  }

  /** Sets a damaged file aside and copies every row that can be read and has its checksum to a new one. */
  salvage(path: string): Opened {
    this.#setAside(path);
    const old = openSqlite(`${path}.damaged`, { mode: "read", synchronous: "NORMAL" });
    try {
      const state = readState(old);
      if (state === undefined)
        return { state: undefined, damage: { file: path, where: "meta", what: "the stored state is gone" }, bytes: 0 };
      const writer = this.#writer(path);
      const hash: RecordHash = { low: 0, high: 0 };
      writer.database.run("BEGIN IMMEDIATE");
      for (const [orderKey, tie, row] of readableRows(old)) {
        writer.upsert.run(orderKey, tie, row);
      }
      let rowCount = 0;
      for (const [crc] of writer.database.query("SELECT substr(row, 1, 4) FROM kv").values() as [Uint8Array][]) {
        addToHash(hash, storedCrc(crc), 1);
        rowCount++;
      }
      writeState(writer.database, { applied: state.applied, rowCount, hash });
      writer.database.run("COMMIT");
    } catch (error) {
      return {
        state: undefined,
        damage: { file: path, where: "byte 0", what: String((error as Error).message) },
        bytes: 0,
      };
    } finally {
      old.close();
    }
    return this.open(path, true);
  }

  #setAside(path: string): void {
    this.#discard(path);
    for (const suffix of ["", "-wal", "-shm"]) {
      if (existsSync(path + suffix)) renameSync(path + suffix, `${path}.damaged${suffix}`);
    }
  }

  #writer(path: string): Writer {
    let writer = this.#writers.get(path);
    if (writer === undefined) {
      if (this.#writers.size >= KEY_VALUE_FILES_OPEN_MAX) this.close(this.#writers.keys().next().value!);
      const database = openSqlite(path, {
        mode: "create",
        synchronous: "NORMAL",
        cacheKiB: WRITER_CACHE_KIB,
        autocheckpointPages: 0,
        walBytesKept: KEY_VALUE_WAL_BYTES_MAX,
      });
      database.run(
        "CREATE TABLE IF NOT EXISTS kv(okey BLOB NOT NULL, tie BLOB NOT NULL, row BLOB NOT NULL, PRIMARY KEY(okey, tie)) WITHOUT ROWID",
      );
      database.run(
        "CREATE TABLE IF NOT EXISTS meta(id INTEGER PRIMARY KEY CHECK(id = 0), offset INTEGER NOT NULL, term INTEGER NOT NULL," +
          " version INTEGER NOT NULL, rows INTEGER NOT NULL, hash_low INTEGER NOT NULL, hash_high INTEGER NOT NULL, crc INTEGER NOT NULL)",
      );
      writer = { database, upsert: database.prepare(UPSERT), remove: database.prepare(DELETE) };
    } else {
      this.#writers.delete(path);
    }
    this.#writers.set(path, writer);
    return writer;
  }
}

function rollback(database: Database): void {
  // after a failure SQLite may have rolled back by itself
  if (database.inTransaction) database.run("ROLLBACK");
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

type MetaRow = [offset: number, term: number, version: number, rows: number, low: number, high: number, crc: number];

function metaCrc(values: readonly number[]): number {
  return crc32c(new TextEncoder().encode(values.join(",")));
}

function writeState(database: Database, { applied, rowCount, hash }: StoredState): void {
  const values = [applied.offset, applied.term, applied.versionId, rowCount, hash.low, hash.high];
  database
    .query("INSERT OR REPLACE INTO meta VALUES(0, ?1, ?2, ?3, ?4, ?5, ?6, ?7)")
    .run(...(values as [number, number, number, number, number, number]), metaCrc(values));
}

/** Undefined for a file that nothing was flushed to. Throws when the stored state is not what was written. */
function readState(database: Database): StoredState | undefined {
  const query = database.query("SELECT offset, term, version, rows, hash_low, hash_high, crc FROM meta");
  const [row] = query.values() as MetaRow[];
  if (row === undefined) return undefined;
  const [offset, term, versionId, rowCount, low, high, crc] = row;
  if (crc !== metaCrc(row.slice(0, 6)))
    throw new Error("the stored state has another checksum than it was written with");
  return { applied: { offset, term, versionId }, rowCount, hash: { low, high } };
}

/** Reads everything: keys ascending, the CRC of each row, row count and additive hash as stored. */
function scan(database: Database, path: string, state: StoredState | undefined): Damage | undefined {
  const damage = (where: string, what: string): Damage => ({ file: path, where, what });
  const page = database.query(
    `SELECT okey, tie, row FROM kv WHERE (okey, tie) > (?1, ?2) ORDER BY okey, tie LIMIT ${SCAN_PAGE}`,
  );
  const hash: RecordHash = { low: 0, high: 0 };
  let count = 0;
  let last: readonly [Uint8Array, Uint8Array] = [new Uint8Array(0), new Uint8Array(0)];
  for (;;) {
    const rows = page.values(last[0], last[1]) as [Uint8Array, Uint8Array, Uint8Array][];
    for (const [orderKey, tie, row] of rows) {
      if ((compareBytes(orderKey, last[0]) || compareBytes(tie, last[1])) <= 0)
        return damage(`row ${count}`, "keys are out of order");
      const crc = storedCrc(row);
      if (!hasItsCrc(orderKey, tie, row))
        return damage(`row ${count}`, "a row has another checksum than it was written with");
      addToHash(hash, crc, 1);
      count++;
      last = [orderKey, tie];
    }
    if (rows.length < SCAN_PAGE) break;
  }
  if (count !== (state?.rowCount ?? 0))
    return damage(`row ${count}`, `${count} rows where ${state?.rowCount ?? 0} were written`);
  if (!sameHash(hash, state?.hash ?? { low: 0, high: 0 }))
    return damage("the file", "the records have another hash than they were written with");
  return undefined;
}

/** From the front as far as it can be read, then from the back. */
function* readableRows(database: Database): Generator<[Uint8Array, Uint8Array, Uint8Array]> {
  for (const direction of ["ASC", "DESC"]) {
    try {
      const rows = database.query(`SELECT okey, tie, row FROM kv ORDER BY okey ${direction}, tie ${direction}`);
      for (const { okey, tie, row } of rows.iterate() as Iterable<Record<string, Uint8Array>>) {
        if (hasItsCrc(okey!, tie!, row!)) yield [okey!, tie!, row!];
      }
      return;
    } catch {
      // an unreadable page ends this direction: the other one reads what lies behind it
    }
  }
}

/** The CRC that a stored row begins with. */
export function storedCrc(stored: Uint8Array): number {
  return (stored[0]! | (stored[1]! << 8) | (stored[2]! << 16) | (stored[3]! << 24)) >>> 0;
}

/** Whether a stored row has the CRC that it begins with: over order key, tie and row. */
export function hasItsCrc(orderKey: Uint8Array, tie: Uint8Array, stored: Uint8Array): boolean {
  let crc = crc32c(orderKey);
  if (tie.length > 0) crc = crc32c(tie, 0, tie.length, crc);
  return crc32c(stored, 4, stored.length, crc) === storedCrc(stored);
}
