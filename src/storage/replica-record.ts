/**
 * What a node promises about one replica of a shard, in bytes: the promises database holds one of these for each
 * replica, the watermark appends them. Little-endian; numbers are doubles, exact up to 2^53:
 *
 *     shard f64 · replica id u64 · promise f64 · led f64 · generation f64 · cut f64
 *     base: term f64, offset f64, crc u32 · head: term f64, offset f64, crc u32 · released f64
 *     length of the end's reason u32 · the reason, JSON in UTF-8 (absent = the replica lives)
 *
 * **Generations.** A log entry's row names the generation in which it was appended. A generation ends when the log is
 * cut back: by truncation, by installing a snapshot, by accepted loss, or when a shard is created anew on a node that
 * held it before. Rows of an older generation above `cut` are dead, wherever they lie.
 *
 * Invariants: base.offset <= released unless nothing is released; base.offset <= head.offset; head.term <= promise.
 */
import { type Bytes, text, utf8 } from "../lib/bytes.ts";
import {
  EMPTY_HEAD,
  type Head,
  NO_OFFSET,
  NO_TERM,
  type Offset,
  type ReplicaId,
  type ShardId,
  type Term,
} from "../model/ids.ts";
import type { Damage } from "../ports.ts";

export interface ReplicaRecord {
  readonly shard: ShardId;
  readonly replicaId: ReplicaId;
  readonly promise: Term;
  readonly led: Term;
  readonly generation: number;
  /** Rows of older generations with offsets above this are dead. */
  readonly cut: Offset;
  readonly base: Head;
  /** The head as last synced; it may have moved on since. */
  readonly head: Head;
  /** Up to here, inclusive, the shard's state is in a synced checkpoint. */
  readonly released: Offset;
  /** Why this replica's life is over; its id never counts again. */
  readonly ended: Damage | undefined;
}

/** A replica that has just been minted. */
export function newRecord(shard: ShardId, replicaId: ReplicaId, generation: number): ReplicaRecord {
  return {
    shard,
    replicaId,
    promise: NO_TERM,
    led: NO_TERM,
    generation,
    cut: NO_OFFSET,
    base: EMPTY_HEAD,
    head: EMPTY_HEAD,
    released: NO_OFFSET,
    ended: undefined,
  };
}

const FIXED_BYTES = 8 * 6 + 20 + 20 + 8 + 4;

/** Appends the record to `out` at `at`; answers where it ends. `view` looks at the same bytes. See `recordBytes`. */
export function encodeRecord(record: ReplicaRecord): Bytes {
  const reason = record.ended === undefined ? new Uint8Array(0) : utf8(JSON.stringify(record.ended));
  const bytes = new Uint8Array(FIXED_BYTES + reason.length);
  const view = new DataView(bytes.buffer);
  view.setFloat64(0, record.shard, true);
  view.setBigUint64(8, record.replicaId, true);
  view.setFloat64(16, record.promise, true);
  view.setFloat64(24, record.led, true);
  view.setFloat64(32, record.generation, true);
  view.setFloat64(40, record.cut, true);
  putHead(view, 48, record.base);
  putHead(view, 68, record.head);
  view.setFloat64(88, record.released, true);
  view.setUint32(96, reason.length, true);
  bytes.set(reason, FIXED_BYTES);
  return bytes;
}

/** Reads one record at `start`; answers it and where it ends. The bytes are under a CRC: what does not fit is a bug. */
export function decodeRecord(bytes: Bytes, start = 0): { record: ReplicaRecord; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset + start);
  const reasonBytes = view.getUint32(96, true);
  const end = start + FIXED_BYTES + reasonBytes;
  const record: ReplicaRecord = {
    shard: view.getFloat64(0, true),
    replicaId: view.getBigUint64(8, true),
    promise: view.getFloat64(16, true),
    led: view.getFloat64(24, true),
    generation: view.getFloat64(32, true),
    cut: view.getFloat64(40, true),
    base: getHead(view, 48),
    head: getHead(view, 68),
    released: view.getFloat64(88, true),
    ended: reasonBytes === 0 ? undefined : (JSON.parse(text(bytes.subarray(start + FIXED_BYTES, end))) as Damage),
  };
  return { record, end };
}

function putHead(view: DataView, at: number, head: Head): void {
  view.setFloat64(at, head.term, true);
  view.setFloat64(at + 8, head.offset, true);
  view.setUint32(at + 16, head.crc, true);
}

function getHead(view: DataView, at: number): Head {
  return {
    term: view.getFloat64(at, true),
    offset: view.getFloat64(at + 8, true),
    crc: view.getUint32(at + 16, true),
  };
}
