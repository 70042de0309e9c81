/**
 * One file of the log: rows of all shards in arrival order, only ever appended. One writer, one connection, which
 * holds the file for itself; a commit is one fsync. Checkpoints run between commits, a few pages at a time, so that
 * the -wal stays small and is overwritten in place.
 *
 *     entry (shard, generation, term, offset, crc, timestamp, value)      rowids dense from 1
 *
 * Source: architecture.md, "One log per node" and "Measured facts" (appending by rowid beats every keyed shape).
 */
import type { Database, Statement } from "bun:sqlite";
import { existsSync } from "node:fs";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import type { Offset, ShardId } from "../model/ids.ts";
import { LOG_CHECKPOINT_PAGES, LOG_READ_BYTES_MAX, LOG_READ_ENTRIES_MAX, LOG_WAL_BYTES_KEPT } from "../model/limits.ts";
import type { Stretch } from "./segment-index.ts";
import { emptyWal, MEMORY, openSqlite } from "./sqlite.ts";

const PAGE_BYTES = 4096;
/** Bytes of a row beside its value, about; for sizes only. */
const ROW_OVERHEAD_BYTES = 32;
/** Rows that one statement inserts: half of the time of one a statement. */
const ROWS_PER_INSERT = 64;
const COLUMNS = 7;
const ROW = "(?, ?, ?, ?, ?, ?, ?)";

const SCHEMA = `CREATE TABLE IF NOT EXISTS entry (
  shard INTEGER, generation INTEGER, term INTEGER, offset INTEGER, crc INTEGER, timestamp INTEGER, value BLOB)`;

/** One row as stored; what the columns hold is up to the reader to check. */
export interface Row {
  readonly rowid: number;
  readonly shard: ShardId;
  readonly generation: number;
  readonly term: number;
  readonly offset: Offset;
  readonly crc: number;
  readonly timestamp: number;
  readonly value: Bytes;
}

export interface SegmentFileOptions {
  /** Whether a commit is on the disk when it returns. */
  readonly syncData: boolean;
}

export class SegmentFile {
  readonly path: string;
  /** Rows committed; rowids are 1 to this. */
  rows: number;
  /** Bytes that the rows take, about. */
  bytes: number;
  readonly #database: Database;
  readonly #statements: Record<
    "begin" | "commit" | "rollback" | "one" | "many" | "checkpoint" | "lengths" | "read" | "scanLengths" | "scan",
    Statement
  >;
  /** Values of rows that wait to be inserted together. */
  #waiting: (number | Bytes)[] = [];
  #rowsInTransaction = 0;
  #bytesInTransaction = 0;
  /** Pages written to the -wal since the last checkpoint, at least about. */
  #walPages = 0;

  /** Opens the file, creating it when `create` is given. Throws what SQLite throws. */
  constructor(path: string, { syncData, create = false }: SegmentFileOptions & { create?: boolean }) {
    this.path = path;
    const database = openSqlite(path, {
      mode: create ? "create" : "write",
      synchronous: syncData ? "FULL" : "OFF",
      exclusive: true,
      ...(path === MEMORY ? { journal: "memory" } : {}),
      pageBytes: PAGE_BYTES,
      autocheckpointPages: 0,
      walBytesKept: LOG_WAL_BYTES_KEPT,
    });
    this.#database = database;
    try {
      if (create) database.run(SCHEMA);
      this.#statements = {
        begin: database.prepare("BEGIN IMMEDIATE"),
        commit: database.prepare("COMMIT"),
        rollback: database.prepare("ROLLBACK"),
        one: database.prepare(`INSERT INTO entry VALUES ${ROW}`),
        many: database.prepare(`INSERT INTO entry VALUES ${new Array(ROWS_PER_INSERT).fill(ROW).join(", ")}`),
        checkpoint: database.prepare("PRAGMA wal_checkpoint(PASSIVE)"),
        lengths: database.prepare(
          "SELECT length(value) FROM entry WHERE rowid >= ? AND shard = ? AND offset >= ? ORDER BY rowid LIMIT ?",
        ),
        read: database.prepare(
          "SELECT rowid, * FROM entry WHERE rowid >= ? AND shard = ? AND offset >= ? ORDER BY rowid LIMIT ?",
        ),
        scanLengths: database.prepare("SELECT length(value) FROM entry WHERE rowid > ? ORDER BY rowid LIMIT ?"),
        scan: database.prepare("SELECT rowid, * FROM entry WHERE rowid > ? ORDER BY rowid LIMIT ?"),
      };
      const [rows] = database.query("SELECT max(rowid) FROM entry").values()[0] as [number | null];
      this.rows = rows ?? 0;
      this.bytes = this.#pages() * PAGE_BYTES;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  #pages(): number {
    return (this.#database.query("PRAGMA page_count").values()[0] as [number])[0];
  }

  begin(): void {
    this.#statements.begin.run();
    this.#rowsInTransaction = 0;
    this.#bytesInTransaction = 0;
    this.#waiting = [];
  }

  /** Appends a row to the open transaction; answers its rowid. `value` must stay as it is until the commit. */
  insert(row: Omit<Row, "rowid">): number {
    const { value } = row;
    this.#waiting.push(row.shard, row.generation, row.term, row.offset, row.crc, row.timestamp, value);
    this.#bytesInTransaction += value.length + ROW_OVERHEAD_BYTES;
    if (this.#waiting.length === COLUMNS * ROWS_PER_INSERT) {
      this.#statements.many.run(...this.#waiting);
      this.#waiting = [];
    }
    return this.rows + ++this.#rowsInTransaction;
  }

  /** Makes the transaction durable. After an error other than a full disk its outcome is unknown. */
  commit(): void {
    const waiting = this.#waiting;
    for (let at = 0; at < waiting.length; at += COLUMNS) {
      this.#statements.one.run(
        waiting[at]!,
        waiting[at + 1]!,
        waiting[at + 2]!,
        waiting[at + 3]!,
        waiting[at + 4]!,
        waiting[at + 5]!,
        waiting[at + 6]!,
      );
    }
    this.#waiting = [];
    this.#statements.commit.run();
    this.rows += this.#rowsInTransaction;
    this.bytes += this.#bytesInTransaction;
    this.#walPages += Math.ceil(this.#bytesInTransaction / PAGE_BYTES) + 1;
  }

  /** Undoes the open transaction, if there still is one: some errors end it themselves. */
  rollback(): void {
    this.#waiting = [];
    if (this.#database.inTransaction) this.#statements.rollback.run();
  }

  /** Moves what the -wal holds into the file once it has grown enough. Throws like a commit; a full disk is harmless. */
  checkpointWhenDue(): void {
    if (this.#walPages < LOG_CHECKPOINT_PAGES) return;
    this.#statements.checkpoint.values();
    this.#walPages = 0;
  }

  /** Moves all that the -wal holds into the file, synced, and empties it. */
  checkpointAll(): void {
    emptyWal(this.#database, this.path);
    this.#walPages = 0;
  }

  /** Entries of a stretch, from its first on, up to the bounds of one read; at least one if the rows are there. */
  read(shard: ShardId, { rowid, offset, entries }: Stretch, bytesMax: number): Row[] {
    const limit = Math.min(entries, LOG_READ_ENTRIES_MAX);
    const lengths = this.#statements.lengths.values(rowid, shard, offset, limit);
    return this.#statements.read.values(rowid, shard, offset, countWithin(lengths, bytesMax)).map(rowOf);
  }

  /**
   * All rows, in order. A row whose id does not ascend is what a page gives that has lost its content, and would be given
   * for ever: it comes as one that is not well-formed, and is the last.
   */
  *all(): Generator<Row> {
    let last = 0;
    for (let rows = this.scan(0); rows.length > 0; rows = this.scan(last)) {
      for (const row of rows) {
        if (row.rowid <= last) {
          yield { ...row, shard: -1 };
          return;
        }
        yield row;
        last = row.rowid;
      }
    }
  }

  /** The next rows behind `rowid`, up to the bounds of one read; none at the end. */
  scan(rowid: number): Row[] {
    const lengths = this.#statements.scanLengths.values(rowid, LOG_READ_ENTRIES_MAX);
    return this.#statements.scan.values(rowid, countWithin(lengths, LOG_READ_BYTES_MAX)).map(rowOf);
  }

  /** Bytes of the -wal beside the file. */
  get walBytes(): number {
    const wal = `${this.path}-wal`;
    return existsSync(wal) ? Bun.file(wal).size : 0;
  }

  /** Checkpoints and closes; the -wal is gone afterwards unless the disk is full. */
  close(): void {
    for (const statement of Object.values(this.#statements)) statement.finalize();
    this.#database.close();
  }
}

/** How many values, given their lengths in order, fit into `bytesMax`: at least one if there is one. */
function countWithin(lengths: unknown[][], bytesMax: number): number {
  let bytes = 0;
  for (let i = 0; i < lengths.length; i++) {
    bytes += Number(lengths[i]![0] ?? 0);
    if (bytes > bytesMax && i > 0) return i;
  }
  return lengths.length;
}

function rowOf(values: unknown[]): Row {
  const [rowid, shard, generation, term, offset, crc, timestamp, value] = values as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    Bytes | null,
  ];
  return { rowid, shard, generation, term, offset, crc, timestamp, value: value ?? EMPTY_BYTES };
}

/** Whether a row holds what an entry's row can hold: a damaged file may hold anything. */
export function isWellFormed(row: Row): boolean {
  const { shard, generation, term, offset, crc, timestamp, value } = row;
  const numbers = [shard, generation, term, offset, crc, timestamp];
  return numbers.every((number) => Number.isSafeInteger(number) && number >= 0) && value instanceof Uint8Array;
}
