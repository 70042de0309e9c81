/**
 * The promises database: what this node has promised for each replica (replica-record.ts), and what the log's closed
 * segments hold. Small, and synced before any answer that depends on it: one transaction for all that is asked at once.
 *
 *     replica (shard, record, crc)        segment (number, record, crc)        stamp (one = 0, record, crc)
 *
 * Every row has a CRC-32C over its record, which holds its key too. A segment's record:
 *
 *     number f64 · state u32 · closed at f64 · shards u32 · for each: shard f64, generation f64, first f64,
 *     last: term f64, offset f64, crc u32
 *
 * The stamp's record is a double (safety.md §1, check (c)).
 *
 * `adopting` is a segment whose file is complete but not yet in its place: opening the log finishes the move.
 *
 * Source: safety.md §4 and §7.
 */
import type { Database, Statement } from "bun:sqlite";
import type { Bytes } from "../lib/bytes.ts";
import { crc32c } from "../lib/crc32c.ts";
import type { Head, Offset, ShardId, Timestamp } from "../model/ids.ts";
import { decodeRecord, encodeRecord, type ReplicaRecord } from "./replica-record.ts";
import { openSqlite } from "./sqlite.ts";

/** What a closed segment holds of one shard. */
export interface SegmentShare {
  readonly shard: ShardId;
  /** Of its last entry. */
  readonly generation: number;
  readonly first: Offset;
  readonly last: Head;
}

export interface SegmentRecord {
  readonly number: number;
  readonly state: "open" | "closed" | "adopting";
  /** When it was closed; 0 before. */
  readonly closedAt: Timestamp;
  readonly shares: readonly SegmentShare[];
}

const STATES = ["open", "closed", "adopting"] as const;
const SEGMENT_HEADER_BYTES = 24;
const SHARE_BYTES = 44;

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
      const record = decode(bytes);
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

  /** Moves all that the -wal holds into the file, synced. */
  checkpoint(): void {
    this.#database.query("PRAGMA wal_checkpoint(TRUNCATE)").values();
  }

  close(): void {
    for (const statement of Object.values(this.#statements)) statement.finalize();
    this.#database.close();
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
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES + SHARE_BYTES * record.shares.length);
  const view = new DataView(bytes.buffer);
  view.setFloat64(0, record.number, true);
  view.setUint32(8, STATES.indexOf(record.state), true);
  view.setFloat64(12, record.closedAt, true);
  view.setUint32(20, record.shares.length, true);
  for (const [i, { shard, generation, first, last }] of record.shares.entries()) {
    const at = SEGMENT_HEADER_BYTES + SHARE_BYTES * i;
    for (const [k, number] of [shard, generation, first, last.term, last.offset].entries()) {
      view.setFloat64(at + 8 * k, number, true);
    }
    view.setUint32(at + 40, last.crc, true);
  }
  return bytes;
}

function decodeSegment(bytes: Bytes): SegmentRecord {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const shares = Array.from({ length: view.getUint32(20, true) }, (_, i): SegmentShare => {
    const at = SEGMENT_HEADER_BYTES + SHARE_BYTES * i;
    const number = (k: number) => view.getFloat64(at + 8 * k, true);
    const last = { term: number(3), offset: number(4), crc: view.getUint32(at + 40, true) };
    return { shard: number(0), generation: number(1), first: number(2), last };
  });
  return {
    number: view.getFloat64(0, true),
    state: STATES[view.getUint32(8, true)]!,
    closedAt: view.getFloat64(12, true),
    shares,
  };
}
