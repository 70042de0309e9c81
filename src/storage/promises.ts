/**
 * The promises database: what this node has promised for each replica (replica-record.ts), and what the log's closed
 * segments hold. Small, and synced before any answer that depends on it: one transaction for all that is asked at once.
 *
 *     replica (shard, record, crc)        segment (number, record, crc)        stamp (one = 0, record, crc)
 *
 * Every row has a CRC-32C over its record, which holds its key too. A segment's record:
 *
 *     number f64 · closed at f64 · shards u32 · for each: shard f64, generation f64, first f64,
 *     last: term f64, offset f64, crc u32 · term ends u32 · for each: term f64, offset f64
 *
 * The stamp's record is a double (safety.md §1, check (c)).
 *
 * Source: safety.md §4 and §7.
 */
import type { Database, Statement } from "bun:sqlite";
import type { Bytes } from "../lib/bytes.ts";
import { crc32c } from "../lib/crc32c.ts";
import type { EntryId, Head, Offset, ShardId, Timestamp } from "../model/ids.ts";
import { decodeRecord, encodeRecord, type ReplicaRecord } from "./replica-record.ts";
import { emptyWal, openSqlite } from "./sqlite.ts";

/** What a closed segment holds of one shard. */
export interface SegmentShare {
  readonly shard: ShardId;
  /** Of its last entry. */
  readonly generation: number;
  readonly first: Offset;
  /** The last entry of each term in it, ascending; the last one is `last`. */
  readonly termEnds: readonly EntryId[];
  readonly last: Head;
}

/** A closed segment. */
export interface SegmentRecord {
  readonly number: number;
  /** 0 = nobody knows. */
  readonly closedAt: Timestamp;
  readonly shares: readonly SegmentShare[];
}

const SEGMENT_HEADER_BYTES = 20;
const SHARE_BYTES = 48;
const TERM_END_BYTES = 16;

/** A row that is not what was written. */
export class RowDamage extends Error {
  override readonly name = "RowDamage";
}

export class Promises {
  readonly path: string;
  readonly #database: Database;
  readonly #statements: Record<
    "begin" | "commit" | "putReplica" | "putSegment" | "dropSegment" | "putStamp",
    Statement
  >;

  /** Opens the database, creating it when `create` is given. Throws what SQLite throws. */
  constructor(path: string, { create }: { create: boolean }) {
    this.path = path;
    this.#database = openSqlite(path, {
      mode: create ? "create" : "write",
      synchronous: "FULL",
      exclusive: true,
      autocheckpointPages: 100,
    });
    try {
      if (create) {
        this.#database.run("CREATE TABLE IF NOT EXISTS replica (shard INTEGER PRIMARY KEY, record BLOB, crc INTEGER)");
        this.#database.run("CREATE TABLE IF NOT EXISTS segment (number INTEGER PRIMARY KEY, record BLOB, crc INTEGER)");
        this.#database.run("CREATE TABLE IF NOT EXISTS stamp (one INTEGER PRIMARY KEY, record BLOB, crc INTEGER)");
      }
      this.#statements = {
        begin: this.#database.prepare("BEGIN IMMEDIATE"),
        commit: this.#database.prepare("COMMIT"),
        putReplica: this.#database.prepare("INSERT OR REPLACE INTO replica VALUES (?, ?, ?)"),
        putSegment: this.#database.prepare("INSERT OR REPLACE INTO segment VALUES (?, ?, ?)"),
        putStamp: this.#database.prepare("INSERT OR REPLACE INTO stamp VALUES (0, ?, ?)"),
        dropSegment: this.#database.prepare("DELETE FROM segment WHERE number = ?"),
      };
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** Everything stored. Throws RowDamage, or what SQLite throws, when it is not what was written. */
  read(): { replicas: Map<ShardId, ReplicaRecord>; segments: Map<number, SegmentRecord>; stamp: number } {
    const replicas = this.#records("replica", "shard", (bytes) => decodeRecord(bytes).record);
    const segments = this.#records("segment", "number", decodeSegment);
    const stamps = this.#records("stamp", "one", (bytes) => ({ one: 0, stamp: decodeStamp(bytes) }));
    return {
      replicas: new Map(replicas.map((record) => [record.shard, record])),
      segments: new Map(segments.map((record) => [record.number, record])),
      stamp: stamps[0]?.stamp ?? 0,
    };
  }

  #records<Key extends string, Record extends { readonly [key in Key]: number }>(
    table: string,
    key: Key,
    decode: (bytes: Bytes) => Record,
  ): Record[] {
    const rows = this.#database.query(`SELECT ${key}, record, crc FROM ${table} ORDER BY ${key}`).values();
    return rows.map(([number, bytes, crc]) => {
      if (!(bytes instanceof Uint8Array) || crc32c(bytes) !== crc)
        throw new RowDamage(`${table} ${number}: its CRC differs`);
      const record = decoded(`${table} ${number}`, () => decode(bytes));
      if (record[key] !== number) throw new RowDamage(`${table} ${number}: holds another's record`);
      return record;
    });
  }

  /** Stores all of it, or nothing, durably. After an error other than a full disk the outcome is unknown. */
  save(change: {
    replicas?: Iterable<ReplicaRecord>;
    segments?: Iterable<SegmentRecord>;
    droppedSegments?: Iterable<number>;
    stamp?: number;
  }): void {
    this.#statements.begin.run();
    try {
      for (const record of change.replicas ?? []) {
        const bytes = encodeRecord(record);
        this.#statements.putReplica.run(record.shard, bytes, crc32c(bytes));
      }
      for (const record of change.segments ?? []) {
        const bytes = encodeSegment(record);
        this.#statements.putSegment.run(record.number, bytes, crc32c(bytes));
      }
      for (const number of change.droppedSegments ?? []) this.#statements.dropSegment.run(number);
      if (change.stamp !== undefined) {
        const bytes = encodeStamp(change.stamp);
        this.#statements.putStamp.run(bytes, crc32c(bytes));
      }
      this.#statements.commit.run();
    } catch (error) {
      if (this.#database.inTransaction) this.#database.run("ROLLBACK");
      throw error;
    }
  }

  /** Moves all that the -wal holds into the file, synced, and empties it. */
  checkpoint(): void {
    emptyWal(this.#database, this.path);
  }

  close(): void {
    for (const statement of Object.values(this.#statements)) statement.finalize();
    this.#database.close();
  }
}

/** Bytes that are whole may still be those of another table. */
function decoded<Record>(row: string, decode: () => Record): Record {
  try {
    return decode();
  } catch (cause) {
    throw new RowDamage(`${row}: its record cannot be read`, { cause });
  }
}

function encodeStamp(stamp: number): Bytes {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, stamp, true);
  return bytes;
}

function decodeStamp(bytes: Bytes): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
}

function encodeSegment(record: SegmentRecord): Bytes {
  const ends = record.shares.reduce((sum, { termEnds }) => sum + termEnds.length, 0);
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES + SHARE_BYTES * record.shares.length + TERM_END_BYTES * ends);
  const view = new DataView(bytes.buffer);
  view.setFloat64(0, record.number, true);
  view.setFloat64(8, record.closedAt, true);
  view.setUint32(16, record.shares.length, true);
  let at = SEGMENT_HEADER_BYTES;
  for (const { shard, generation, first, termEnds, last } of record.shares) {
    for (const [k, number] of [shard, generation, first, last.term, last.offset].entries()) {
      view.setFloat64(at + 8 * k, number, true);
    }
    view.setUint32(at + 40, last.crc, true);
    view.setUint32(at + 44, termEnds.length, true);
    at += SHARE_BYTES;
    for (const { term, offset } of termEnds) {
      view.setFloat64(at, term, true);
      view.setFloat64(at + 8, offset, true);
      at += TERM_END_BYTES;
    }
  }
  return bytes;
}

function decodeSegment(bytes: Bytes): SegmentRecord {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = SEGMENT_HEADER_BYTES;
  const shares = Array.from({ length: view.getUint32(16, true) }, (): SegmentShare => {
    const share = at;
    const number = (k: number) => view.getFloat64(share + 8 * k, true);
    const last = { term: number(3), offset: number(4), crc: view.getUint32(share + 40, true) };
    at += SHARE_BYTES;
    const termEnds = Array.from({ length: view.getUint32(share + 44, true) }, (): EntryId => {
      const end = { term: view.getFloat64(at, true), offset: view.getFloat64(at + 8, true) };
      at += TERM_END_BYTES;
      return end;
    });
    return { shard: number(0), generation: number(1), first: number(2), termEnds, last };
  });
  return { number: view.getFloat64(0, true), closedAt: view.getFloat64(8, true), shares };
}
