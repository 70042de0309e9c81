/**
 * The watermark: an append-only file that says how far each replica's promises and log had got, so that a start can
 * tell a log that lost something from one that never had it. The log's files cannot tell that themselves: SQLite drops
 * everything behind a flipped bit in its -wal, without a word.
 *
 *     batches     magic u32 · flags u32 · sequence u32 · records u32 · bytes u32 · CRC-32C u32 · records
 *
 * The first batch holds every replica; later ones those that changed, and the last record of a replica counts. The
 * file is only ever created whole (written aside, synced, renamed) and is rewritten so when it has grown; batches are
 * appended and synced. A bad batch with a good one behind it, or a bad first one, is damage; at the end of the file it
 * is what an interrupted write leaves.
 *
 * Invariant: what a batch says was durable in the log and the promises database before the batch was written, or says
 * that something is about to be cut (a higher generation).
 *
 * Source: safety.md §7.
 */
import { closeSync, existsSync, fdatasyncSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { type Bytes, concatBytes } from "../lib/bytes.ts";
import { crc32c } from "../lib/crc32c.ts";
import type { ShardId } from "../model/ids.ts";
import { WATERMARK_FILE_BYTES_MAX } from "../model/limits.ts";
import { replaceFile, writeAll } from "./files.ts";
import { decodeRecord, encodeRecord, type ReplicaRecord } from "./replica-record.ts";

const MAGIC = 0x324d_5756; // "VWM2"
/** The first one of a format with other records. */
const EARLIER_MAGIC = 0x314d_5756;
const HEADER_BYTES = 24;
/** The log was closed in order: nothing followed. */
const CLOSED = 1;
/** Entries were not synced at each commit (`--wal-sync-data=false`). */
const UNSYNCED = 2;

export interface WatermarkContent {
  readonly records: ReadonlyMap<ShardId, ReplicaRecord>;
  /** The log was closed in order. */
  readonly closed: boolean;
  /** Whoever wrote the log last did not sync its entries. */
  readonly unsynced: boolean;
}

export type WatermarkReading =
  | { readonly kind: "content"; readonly content: WatermarkContent }
  | { readonly kind: "missing" }
  | { readonly kind: "damaged"; readonly byte: number; readonly what: string };

/** Reads a watermark file as a crash or an orderly end left it. Throws what the file system throws, and when the format is an earlier one. */
export function readWatermark(path: string): WatermarkReading {
  if (!existsSync(path)) return { kind: "missing" };
  const bytes = readFileSync(path);
  if (bytes.length >= 4 && bytes.readUInt32LE(0) === EARLIER_MAGIC) {
    throw new Error(`${path} is of an earlier format: this Varia cannot read the log, move the data through a client`);
  }
  const records = new Map<ShardId, ReplicaRecord>();
  let flags = 0;
  let sequence = -1;
  let at = 0;
  for (;;) {
    const batch = batchAt(bytes, at);
    if (batch === undefined || batch.sequence !== sequence + 1) break;
    for (const record of batch.records) records.set(record.shard, record);
    ({ flags, sequence, end: at } = batch);
  }
  if (sequence < 0) return { kind: "damaged", byte: 0, what: "its first records are not what was written" };
  for (let later = at + 1; later + HEADER_BYTES <= bytes.length; later++) {
    const batch = batchAt(bytes, later);
    if (batch !== undefined && batch.sequence > sequence) {
      return { kind: "damaged", byte: at, what: "records in the middle are not what was written" };
    }
  }
  return {
    kind: "content",
    content: { records, closed: at === bytes.length && (flags & CLOSED) !== 0, unsynced: (flags & UNSYNCED) !== 0 },
  };
}

interface Batch {
  readonly flags: number;
  readonly sequence: number;
  readonly records: readonly ReplicaRecord[];
  readonly end: number;
}

/** The batch that begins at `at`, if one does and is whole. */
function batchAt(bytes: Bytes, at: number): Batch | undefined {
  if (at + HEADER_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  const end = at + HEADER_BYTES + view.getUint32(16, true);
  if (end > bytes.length) return undefined;
  const crc = crc32c(bytes, at + HEADER_BYTES, end, crc32c(bytes, at, at + 20));
  if (crc !== view.getUint32(20, true)) return undefined;
  const records: ReplicaRecord[] = [];
  for (let next = at + HEADER_BYTES; next < end; ) {
    const decoded = decodeRecord(bytes, next);
    records.push(decoded.record);
    next = decoded.end;
  }
  return { flags: view.getUint32(4, true), sequence: view.getUint32(8, true), records, end };
}

function encodeBatch(flags: number, sequence: number, records: readonly ReplicaRecord[]): Bytes {
  const payload = concatBytes(...records.map(encodeRecord));
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, flags, true);
  view.setUint32(8, sequence, true);
  view.setUint32(12, records.length, true);
  view.setUint32(16, payload.length, true);
  bytes.set(payload, HEADER_BYTES);
  view.setUint32(20, crc32c(payload, 0, payload.length, crc32c(bytes, 0, 20)), true);
  return bytes;
}

export class Watermark {
  readonly #path: string;
  readonly #flags: number;
  readonly #records: Map<ShardId, ReplicaRecord>;
  #file: number;
  #length: number;
  #sequence = 0;

  /** Writes a new file with `records` in place of whatever is there, durably, and opens it for appending. */
  constructor(path: string, records: Iterable<ReplicaRecord>, options: { unsynced: boolean }) {
    this.#path = path;
    this.#flags = options.unsynced ? UNSYNCED : 0;
    this.#records = new Map([...records].map((record) => [record.shard, record]));
    this.#length = this.#rewrite();
    this.#file = openSync(path, "r+");
  }

  /**
   * Appends the records and syncs. Throws ENOSPC with the file as it was; any other error leaves the outcome unknown.
   * `closing` marks that nothing follows.
   */
  sync(records: readonly ReplicaRecord[], { closing = false } = {}): void {
    const bytes = encodeBatch(this.#flags | (closing ? CLOSED : 0), this.#sequence + 1, records);
    try {
      writeAll(this.#file, bytes, this.#length);
    } catch (error) {
      ftruncateSync(this.#file, this.#length);
      throw error;
    }
    fdatasyncSync(this.#file);
    this.#sequence++;
    this.#length += bytes.length;
    for (const record of records) this.#records.set(record.shard, record);
    if (this.#length > WATERMARK_FILE_BYTES_MAX + 2 * this.#rewrittenLength && !closing) this.#compact();
  }

  close(): void {
    closeSync(this.#file);
  }

  #rewrittenLength = 0;

  #compact(): void {
    const length = this.#rewrite();
    const file = openSync(this.#path, "r+");
    closeSync(this.#file);
    this.#file = file;
    this.#length = length;
    this.#sequence = 0;
  }

  #rewrite(): number {
    const bytes = encodeBatch(this.#flags, 0, [...this.#records.values()]);
    replaceFile(this.#path, bytes);
    this.#rewrittenLength = bytes.length;
    return bytes.length;
  }
}
