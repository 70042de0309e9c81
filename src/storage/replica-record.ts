/**
 * What a node promises about one replica of a shard, in bytes: the promises database holds one of these for each
 * replica, the watermark appends them. Little-endian; numbers are doubles, exact up to 2^53:
 *
 *     shard f64 · replica id u64 · promise f64 · led f64 · generation f64 · minted term f64
 *     base: term f64, offset f64, crc u32 · head: term f64, offset f64, crc u32 · released f64
 *     number of cuts u32 · length of the end's reason u32
 *     for each cut: generation f64, offset f64, segment f64 · the reason, JSON in UTF-8 (absent = the replica lives)
 *
 * **Generations.** A log entry's row names the generation in which it was appended. A generation ends when the log is
 * cut back: by truncation, by installing a snapshot, by accepted loss, or when a shard is created anew on a node that
 * held it before. A cut says where: rows of older generations above its offset are dead, wherever they lie. A later cut
 * that goes deeper makes earlier ones superfluous; one that does not leaves them in force, or what they have cut would
 * come back. It is forgotten once no segment is there that may hold rows of earlier generations.
 *
 * Invariants: generations and offsets of cuts ascend; base.offset <= released unless nothing is released; base.offset <= head.offset; head.term <= promise.
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
import type { Damage, ReplicaLife } from "../ports.ts";

/** Rows of generations below `generation` with offsets above `offset` are dead. */
export interface Cut {
  readonly generation: number;
  readonly offset: Offset;
  /** All rows of earlier generations lie in segments before this one. */
  readonly segment: number;
}

export interface ReplicaRecord {
  readonly shard: ShardId;
  readonly replicaId: ReplicaId;
  /** The term in which the id was minted. */
  readonly mintedTerm: Term;
  readonly promise: Term;
  readonly led: Term;
  readonly generation: number;
  readonly cuts: readonly Cut[];
  readonly base: Head;
  /** The head as last synced; it may have moved on since. */
  readonly head: Head;
  /** Up to here, inclusive, the shard's state is in a synced checkpoint. */
  readonly released: Offset;
  /** Why this replica's life is over; its id never counts again. */
  readonly ended: Damage | undefined;
}

/** A replica that has just been minted. */
export function newRecord(shard: ShardId, { replicaId, mintedTerm }: ReplicaLife, generation: number): ReplicaRecord {
  return {
    shard,
    replicaId,
    mintedTerm,
    promise: NO_TERM,
    led: NO_TERM,
    generation,
    cuts: [],
    base: EMPTY_HEAD,
    head: EMPTY_HEAD,
    released: NO_OFFSET,
    ended: undefined,
  };
}

/** The cuts in force once another is made. */
export function withCut(cuts: readonly Cut[], cut: Cut): Cut[] {
  return [...cuts.filter((earlier) => earlier.offset < cut.offset), cut];
}

/** The record without the cuts that have nothing left to cut: `oldestSegment` is the first one that is there. */
export function withoutSpentCuts(record: ReplicaRecord, oldestSegment: number): ReplicaRecord {
  const cuts = record.cuts.filter(({ segment }) => segment > oldestSegment);
  return cuts.length === record.cuts.length ? record : { ...record, cuts };
}

const FIXED_BYTES = 8 * 6 + 20 + 20 + 8 + 4 + 4;
const CUT_BYTES = 24;

/** Appends the record to `out` at `at`; answers where it ends. `view` looks at the same bytes. See `recordBytes`. */
export function encodeRecord(record: ReplicaRecord): Bytes {
  const reason = record.ended === undefined ? new Uint8Array(0) : utf8(JSON.stringify(record.ended));
  const bytes = new Uint8Array(FIXED_BYTES + CUT_BYTES * record.cuts.length + reason.length);
  const view = new DataView(bytes.buffer);
  view.setFloat64(0, record.shard, true);
  view.setBigUint64(8, record.replicaId, true);
  view.setFloat64(16, record.promise, true);
  view.setFloat64(24, record.led, true);
  view.setFloat64(32, record.generation, true);
  view.setFloat64(40, record.mintedTerm, true);
  putHead(view, 48, record.base);
  putHead(view, 68, record.head);
  view.setFloat64(88, record.released, true);
  view.setUint32(96, record.cuts.length, true);
  view.setUint32(100, reason.length, true);
  for (const [i, { generation, offset, segment }] of record.cuts.entries()) {
    view.setFloat64(FIXED_BYTES + CUT_BYTES * i, generation, true);
    view.setFloat64(FIXED_BYTES + CUT_BYTES * i + 8, offset, true);
    view.setFloat64(FIXED_BYTES + CUT_BYTES * i + 16, segment, true);
  }
  bytes.set(reason, FIXED_BYTES + CUT_BYTES * record.cuts.length);
  return bytes;
}

/** Reads one record at `start`; answers it and where it ends. The bytes are under a CRC: what does not fit is a bug. */
export function decodeRecord(bytes: Bytes, start = 0): { record: ReplicaRecord; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset + start);
  const cutCount = view.getUint32(96, true);
  const reasonBytes = view.getUint32(100, true);
  const reasonStart = start + FIXED_BYTES + CUT_BYTES * cutCount;
  const end = reasonStart + reasonBytes;
  const record: ReplicaRecord = {
    shard: view.getFloat64(0, true),
    replicaId: view.getBigUint64(8, true),
    promise: view.getFloat64(16, true),
    led: view.getFloat64(24, true),
    generation: view.getFloat64(32, true),
    cuts: Array.from({ length: cutCount }, (_, i) => ({
      generation: view.getFloat64(FIXED_BYTES + CUT_BYTES * i, true),
      offset: view.getFloat64(FIXED_BYTES + CUT_BYTES * i + 8, true),
      segment: view.getFloat64(FIXED_BYTES + CUT_BYTES * i + 16, true),
    })),
    mintedTerm: view.getFloat64(40, true),
    base: getHead(view, 48),
    head: getHead(view, 68),
    released: view.getFloat64(88, true),
    ended: reasonBytes === 0 ? undefined : (JSON.parse(text(bytes.subarray(reasonStart, end))) as Damage),
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
