/**
 * A block: neighbouring records of a shard in one blob of the KV file. Its records lie in it as clients are sent them,
 * so that a range scan copies whole stretches, and a point read binary-searches a table of ends.
 *
 *     0        CRC-32 of all that follows, seeded with that of the block's bound
 *     4        end of the records
 *     8        number of records n
 *     12       records: one field of RangeScanResponse each (wire/stored-record.ts), in key order
 *     …        n entries of 12 bytes: end of the record, length of its body (top bit: it has extras), its CRC
 *     …        extras of those that have them, in order: length, bytes
 *
 * Numbers are 32 bits, little endian. A record's CRC covers order key, tie and row (record-hash.ts); the block's CRC is
 * what reads check, by an instruction of the processor.
 */
import type { Bytes } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import { type KeyOrder, orderKeyOf, tieOf } from "../../model/keys.ts";
import { KEY_VALUE_BLOCK_BYTES_MAX } from "../../model/limits.ts";
import { appendRecord, bodyEnd, recordFieldSize } from "../../wire/stored-record.ts";
import { Writer } from "../../wire/writer.ts";

const HEADER_BYTES = 12;
const ENTRY_BYTES = 12;
const HAS_EXTRAS = 0x8000_0000;
/** A builder's buffer that a large record has made larger than this is not kept. */
const SCRATCH_BYTES_MAX = 1024 * 1024;

/** A bound: the block holds the keys from it on, up to the next block's. The first block's is empty. */
export interface BlockBound {
  readonly okey: Bytes;
  readonly tie: Bytes;
}

/** As the columns are named. */
export interface StoredBlock extends BlockBound {
  readonly records: Bytes;
}

function word(bytes: Bytes, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

function setWord(bytes: Bytes, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

function blockCrc({ okey, tie }: BlockBound, block: Bytes): number {
  const seed = okey.length === 0 ? 0 : Bun.hash.crc32(okey) ^ (tie.length === 0 ? 0 : Bun.hash.crc32(tie));
  return Bun.hash.crc32(block.subarray(4), seed >>> 0);
}

/** Whether a block is what was written under its bound. */
export function isWhole({ okey, tie, records }: StoredBlock): boolean {
  if (records.length < HEADER_BYTES || word(records, 0) !== blockCrc({ okey, tie }, records)) return false;
  const end = word(records, 4);
  return end >= HEADER_BYTES && end + word(records, 8) * ENTRY_BYTES <= records.length;
}

/** A block opened for reading. Records are numbered from 0; ends are exclusive. */
export class BlockView {
  bytes: Bytes;
  count: number;
  #entries: number;

  /** `bytes` is whole (`isWhole`), or was just built. */
  constructor(bytes: Bytes) {
    this.bytes = bytes;
    this.#entries = word(bytes, 4);
    this.count = word(bytes, 8);
  }

  /** Where the record's field begins and ends. */
  start(index: number): number {
    return index === 0 ? HEADER_BYTES : word(this.bytes, this.#entries + (index - 1) * ENTRY_BYTES);
  }

  end(index: number): number {
    return word(this.bytes, this.#entries + index * ENTRY_BYTES);
  }

  crc(index: number): number {
    return word(this.bytes, this.#entries + index * ENTRY_BYTES + 8);
  }

  bodyStart(index: number): number {
    return this.#behindVarint(this.start(index) + 1);
  }

  /** The raw key lies from here to `end(index)`. */
  keyStart(index: number): number {
    return this.#behindVarint(this.bodyStart(index) + this.bodyLength(index) + 1);
  }

  bodyLength(index: number): number {
    return (this.#lengthAndFlag(index) & ~HAS_EXTRAS) >>> 0;
  }

  hasExtras(index: number): boolean {
    return this.#lengthAndFlag(index) >= HAS_EXTRAS;
  }

  /** The raw key, a view. */
  key(index: number): Bytes {
    return this.bytes.subarray(this.keyStart(index), this.end(index));
  }

  /** The row: a view, unless it has extras. */
  row(index: number): Bytes {
    const start = this.bodyStart(index);
    const length = this.bodyLength(index);
    if (!this.hasExtras(index)) return this.bytes.subarray(start, start + length);
    const extras = this.#extras(index);
    const row = new Uint8Array(length + extras.length);
    row.set(this.bytes.subarray(start, start + length));
    row.set(extras, length);
    return row;
  }

  /** The first record whose key is at or after (orderKey, tie): after it when `past`. `count` when there is none. */
  lowerBound(order: KeyOrder, orderKey: Bytes, tie: Bytes, past = false): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const compared = this.compare(order, orderKey, tie, middle);
      if (compared > 0 || (past && compared === 0)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Compares (orderKey, tie) with a record's key. */
  compare(order: KeyOrder, orderKey: Bytes, tie: Bytes, index: number): number {
    return order.compareWithRaw(orderKey, tie, this.bytes, this.keyStart(index), this.end(index));
  }

  #lengthAndFlag(index: number): number {
    return word(this.bytes, this.#entries + index * ENTRY_BYTES + 4);
  }

  #extras(index: number): Bytes {
    let at = this.#entries + this.count * ENTRY_BYTES;
    for (let before = 0; before < index; before++) if (this.hasExtras(before)) at += 4 + word(this.bytes, at);
    return this.bytes.subarray(at + 4, at + 4 + word(this.bytes, at));
  }

  #behindVarint(at: number): number {
    const { bytes } = this;
    let behind = at;
    while (bytes[behind++]! >= 0x80);
    return behind;
  }
}

/** Gathers records in key order and makes a block of them; then it may be used again. */
export class BlockBuilder {
  readonly #records = new Writer(KEY_VALUE_BLOCK_BYTES_MAX);
  /** Triples: end, length of the body and flag, CRC. */
  #entries: Uint32Array = new Uint32Array(3 * 64);
  #count = 0;
  #extras: Bytes[] = [];
  #extrasBytes = 0;
  /** Raw key of the first record. */
  #firstKey: Bytes | undefined;

  get count(): number {
    return this.#count;
  }

  /** Bytes of the block as it stands. */
  get size(): number {
    return HEADER_BYTES + this.#records.length + this.#count * ENTRY_BYTES + this.#extrasBytes;
  }

  /** What one more record adds, given its row and key; at most. */
  static recordSize(row: Bytes, key: Bytes): number {
    const length = bodyEnd(row);
    return BlockBuilder.fieldSize(recordFieldSize(length, key.length), row.length - length);
  }

  /** What one more record adds, given the bytes of its field and of its extras. */
  static fieldSize(fieldBytes: number, extrasBytes: number): number {
    return fieldBytes + ENTRY_BYTES + (extrasBytes > 0 ? 4 + extrasBytes : 0);
  }

  add(row: Bytes, key: Bytes, crc: number): void {
    const length = bodyEnd(row);
    appendRecord(this.#records, row, length, key);
    if (length < row.length) this.#addExtras(row.subarray(length));
    this.#added(length, length < row.length, crc, key);
  }

  /** Adds a record of another block. */
  addStored(view: BlockView, index: number): void {
    const length = view.bodyLength(index);
    const extras = view.hasExtras(index);
    this.#records.slice(view.bytes, view.start(index), view.end(index));
    if (extras) this.#addExtras(view.row(index).subarray(length));
    this.#added(length, extras, view.crc(index), this.#firstKey ?? view.key(index));
  }

  /** The bound that the first record gives. */
  firstBound(order: KeyOrder): BlockBound {
    const key = this.#firstKey!;
    return { okey: orderKeyOf(order, key), tie: tieOf(order, key).slice() };
  }

  /** The block under a bound, in bytes of its own; the builder is empty afterwards. */
  finish(bound: BlockBound): Bytes {
    const block = new Uint8Array(this.size);
    setWord(block, 4, HEADER_BYTES + this.#records.length);
    setWord(block, 8, this.#count);
    block.set(this.#records.finish(), HEADER_BYTES);
    let at = HEADER_BYTES + this.#records.length;
    for (let i = 0; i < 3 * this.#count; i++, at += 4) setWord(block, at, this.#entries[i]!);
    for (const extras of this.#extras) {
      setWord(block, at, extras.length);
      block.set(extras, at + 4);
      at += 4 + extras.length;
    }
    setWord(block, 0, blockCrc(bound, block));
    this.#records.reset();
    if (this.#records.bytes.length > SCRATCH_BYTES_MAX) this.#records.bytes = new Uint8Array(KEY_VALUE_BLOCK_BYTES_MAX);
    this.#count = 0;
    this.#extras = [];
    this.#extrasBytes = 0;
    this.#firstKey = undefined;
    return block;
  }

  #addExtras(extras: Bytes): void {
    this.#extras.push(extras);
    this.#extrasBytes += 4 + extras.length;
  }

  #added(bodyLength: number, extras: boolean, crc: number, key: Bytes): void {
    this.#firstKey ??= key.slice();
    const at = 3 * this.#count++;
    if (at === this.#entries.length) this.#entries = grown(this.#entries);
    this.#entries[at] = HEADER_BYTES + this.#records.length;
    this.#entries[at + 1] = extras ? bodyLength | HAS_EXTRAS : bodyLength;
    this.#entries[at + 2] = crc;
  }
}

function grown(words: Uint32Array): Uint32Array {
  const larger = new Uint32Array(2 * words.length);
  larger.set(words);
  return larger;
}

/** The CRC that a record of this key and row has. */
export function recordCrc(order: KeyOrder, key: Bytes, row: Bytes): number {
  return recordCrcOf(orderKeyOf(order, key), tieOf(order, key), row);
}

/** The same for who has the order key and tie at hand. */
export function recordCrcOf(orderKey: Bytes, tie: Bytes, row: Bytes): number {
  let crc = crc32c(orderKey);
  if (tie.length > 0) crc = crc32c(tie, 0, tie.length, crc);
  return crc32c(row, 0, row.length, crc);
}
