/**
 * An in-memory table of one shard: what was written since the last flush, what is being flushed, or a generation of
 * the record cache.
 *
 * An append-only arena holds two kinds of entries, and an open-addressing hash index finds the key entries:
 *
 *     key       hash · newest version · order key length · tie length · order key · tie
 *     version   previous version · row length (top bit: tombstone) · CRC · row
 *
 * An overwrite appends a version and links back to the one before, so older versions stay reachable: a snapshot is
 * (table, arena end) and walks back to the first version below its end; a rollback makes predecessors the newest
 * again. A key whose newest version is nowhere is not in the table.
 *
 * Chunks are shared memory, so that a frozen table is flushed by another thread without a copy. Nothing here makes an
 * object per record. Addresses are chunk index and offset in one number; all entries are 4-byte aligned.
 *
 * Invariant: every key in the table has exactly one slot and one key entry.
 */
import { assert } from "../../lib/assert.ts";
import { type Bytes, compareBytes, concatBytes } from "../../lib/bytes.ts";
import { type Chunk, type ChunkPool, chunkOf } from "./chunk-pool.ts";

export type Address = number;
export const NOWHERE: Address = -1;

/** One bit more than a chunk of the largest pooled size needs, so that an end that fills it has an address too. */
const OFFSET_BITS = 21;
const OFFSET_MASK = (1 << OFFSET_BITS) - 1;
const CHUNKS_MAX = 1 << (31 - OFFSET_BITS);
const KEY_HEADER_BYTES = 16;
const VERSION_HEADER_BYTES = 12;
const TOMBSTONE = 0x8000_0000 | 0;
const LENGTH_MASK = 0x7fff_ffff;
const SLOTS_MIN = 256;

/** An order key and its tie in borrowed memory, with the hash of both: what a look-up needs. */
export interface KeyProbe {
  bytes: Uint8Array;
  orderKeyLength: number;
  tieLength: number;
  hash: number;
}

/** A hash of a probe's bytes: murmur3's mixing over four bytes at a time. */
export function hashKey(bytes: Uint8Array, length: number): number {
  let hash = length | 0;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    let word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    word = Math.imul(word, 0xcc9e2d51 | 0);
    word = (word << 15) | (word >>> 17);
    hash ^= Math.imul(word, 0x1b873593);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  let tail = 0;
  for (let shift = 0; at < length; at++, shift += 8) tail |= bytes[at]! << shift;
  hash ^= Math.imul(tail, 0x85ebca6b | 0);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b | 0);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35 | 0);
  return hash ^ (hash >>> 16);
}

/** The probe of a key, in bytes of its own. */
export function probeOf(orderKey: Bytes, tie: Bytes): KeyProbe {
  const bytes = concatBytes(orderKey, tie);
  return { bytes, orderKeyLength: orderKey.length, tieLength: tie.length, hash: hashKey(bytes, bytes.length) };
}

/** A table as it crosses to another thread, which may read it as long as the owner keeps it. */
export interface SharedTable {
  readonly chunks: readonly SharedArrayBuffer[];
  readonly keys: SharedArrayBuffer;
  readonly keyCount: number;
}

export class Table {
  readonly chunks: Chunk[] = [];
  readonly #pool: ChunkPool;
  /** Bytes used in the last chunk. */
  #used = 0;
  /** Pairs of words: hash, key address + 1. */
  #slots = new Int32Array(2 * SLOTS_MIN);
  #keys = sharedWords(SLOTS_MIN);
  #mask = SLOTS_MIN - 1;
  /** Memory held by chunks and slots. */
  bytes = this.#slots.byteLength + this.#keys.byteLength;
  /** Key entries. */
  keyCount = 0;
  /** Bytes of all newest versions with their keys, tombstones included: what a flush or a cache keeps. */
  liveBytes = 0;
  /** Readers that walk this table; its memory is given back when it is dropped and none is left. */
  #pins = 0;
  #dropped = false;

  constructor(pool: ChunkPool) {
    this.#pool = pool;
  }

  /** The table of another thread, to read key by key: nothing can be looked up or added. */
  static ofShared(shared: SharedTable, pool: ChunkPool): Table {
    const table = new Table(pool);
    table.chunks.push(...shared.chunks.map(chunkOf));
    table.#keys = new Int32Array(shared.keys);
    table.keyCount = shared.keyCount;
    return table;
  }

  /** Must not change while the other thread reads. */
  share(): SharedTable {
    const chunks = this.chunks.map(({ bytes }) => bytes.buffer as SharedArrayBuffer);
    return { chunks, keys: this.#keys.buffer as SharedArrayBuffer, keyCount: this.keyCount };
  }

  /** What exists now lies below it. */
  get end(): Address {
    if (this.chunks.length === 0) return 0;
    // behind an entry with a chunk of its own the next chunk begins
    return this.#used > OFFSET_MASK
      ? this.chunks.length << OFFSET_BITS
      : ((this.chunks.length - 1) << OFFSET_BITS) | this.#used;
  }

  /** Addresses of all key entries in the order of their adding; the first `keyCount` words are filled. */
  get keys(): Int32Array {
    return this.#keys;
  }

  /** The key entry, or NOWHERE. */
  find(probe: KeyProbe): Address {
    const slots = this.#slots;
    const { hash } = probe;
    for (let at = hash & this.#mask; ; at = (at + 1) & this.#mask) {
      const slot = slots[2 * at + 1]!;
      if (slot === 0) return NOWHERE;
      if (slots[2 * at] === hash && this.#sameKey(slot - 1, probe)) return slot - 1;
    }
  }

  /** The key entry, made if need be. */
  findOrAdd(probe: KeyProbe): Address {
    const found = this.find(probe);
    if (found !== NOWHERE) return found;
    const size = probe.orderKeyLength + probe.tieLength;
    const address = this.#allocate(KEY_HEADER_BYTES + size);
    const chunk = this.chunks[address >>> OFFSET_BITS]!;
    const offset = address & OFFSET_MASK;
    const word = offset >>> 2;
    chunk.words[word] = probe.hash;
    chunk.words[word + 1] = 0;
    chunk.words[word + 2] = probe.orderKeyLength;
    chunk.words[word + 3] = probe.tieLength;
    const to = offset + KEY_HEADER_BYTES;
    for (let i = 0; i < size; i++) chunk.bytes[to + i] = probe.bytes[i]!;
    if (this.keyCount === this.#keys.length) this.#growKeys();
    this.#keys[this.keyCount++] = address;
    if (2 * this.keyCount > this.#mask) this.#grow();
    this.#insert(probe.hash, address);
    return address;
  }

  /** Appends a version of a key and makes it the newest; `row` undefined is a tombstone. Returns its address. */
  append(key: Address, row: Bytes | undefined, crc: number): Address {
    const size = row === undefined ? 0 : row.length;
    const before = this.newest(key);
    this.liveBytes += size - (before === NOWHERE ? -this.keyLength(key) : this.rowLength(before));
    const address = this.#allocate(VERSION_HEADER_BYTES + size);
    const chunk = this.chunks[address >>> OFFSET_BITS]!;
    const offset = address & OFFSET_MASK;
    const word = offset >>> 2;
    chunk.words[word] = before + 1;
    chunk.words[word + 1] = row === undefined ? TOMBSTONE : size;
    chunk.words[word + 2] = crc;
    if (row !== undefined) chunk.bytes.set(row, offset + VERSION_HEADER_BYTES);
    this.setNewest(key, address);
    return address;
  }

  /** The newest version of a key, or NOWHERE. */
  newest(key: Address): Address {
    return this.#word(key, 1) - 1;
  }

  setNewest(key: Address, version: Address): void {
    this.chunks[key >>> OFFSET_BITS]!.words[((key & OFFSET_MASK) >>> 2) + 1] = version + 1;
  }

  /** The version that was the newest when the arena ended at `end`, or NOWHERE. */
  versionBelow(key: Address, end: Address): Address {
    let version = this.newest(key);
    while (version >= end) version = this.previous(version);
    return version;
  }

  previous(version: Address): Address {
    return this.#word(version, 0) - 1;
  }

  isTombstone(version: Address): boolean {
    return this.#word(version, 1) < 0;
  }

  crc(version: Address): number {
    return this.#word(version, 2) >>> 0;
  }

  /** The row, a view of the arena. */
  row(version: Address): Bytes {
    const offset = (version & OFFSET_MASK) + VERSION_HEADER_BYTES;
    const length = this.#word(version, 1) & LENGTH_MASK;
    return this.chunks[version >>> OFFSET_BITS]!.bytes.subarray(offset, offset + length);
  }

  rowLength(version: Address): number {
    return this.#word(version, 1) & LENGTH_MASK;
  }

  /** The order key, a view of the arena. */
  orderKey(key: Address): Bytes {
    const offset = (key & OFFSET_MASK) + KEY_HEADER_BYTES;
    return this.chunks[key >>> OFFSET_BITS]!.bytes.subarray(offset, offset + this.#word(key, 2));
  }

  tie(key: Address): Bytes {
    const offset = (key & OFFSET_MASK) + KEY_HEADER_BYTES + this.#word(key, 2);
    return this.chunks[key >>> OFFSET_BITS]!.bytes.subarray(offset, offset + this.#word(key, 3));
  }

  /** Bytes of order key and tie. */
  keyLength(key: Address): number {
    return this.#word(key, 2) + this.#word(key, 3);
  }

  /** Bytewise order of (order key, tie) of two keys of this table. */
  compareKeys(a: Address, b: Address): number {
    const aBytes = this.chunks[a >>> OFFSET_BITS]!.bytes;
    const bBytes = this.chunks[b >>> OFFSET_BITS]!.bytes;
    const aLength = this.#word(a, 2);
    const bLength = this.#word(b, 2);
    const aAt = (a & OFFSET_MASK) + KEY_HEADER_BYTES;
    const bAt = (b & OFFSET_MASK) + KEY_HEADER_BYTES;
    const shorter = Math.min(aLength, bLength);
    for (let i = 0; i < shorter; i++) {
      const difference = aBytes[aAt + i]! - bBytes[bAt + i]!;
      if (difference !== 0) return difference;
    }
    if (aLength !== bLength) return aLength - bLength;
    return compareBytes(this.tie(a), this.tie(b));
  }

  orderKeyLength(key: Address): number {
    return this.#word(key, 2);
  }

  /** Four bytes of the order key from `at` on as a number in their order, with zeros behind its end. */
  keyWord(key: Address, at: number): number {
    const { bytes } = this.chunks[key >>> OFFSET_BITS]!;
    const length = this.#word(key, 2);
    const start = (key & OFFSET_MASK) + KEY_HEADER_BYTES + at;
    if (at + 4 <= length) {
      return ((bytes[start]! << 24) | (bytes[start + 1]! << 16) | (bytes[start + 2]! << 8) | bytes[start + 3]!) >>> 0;
    }
    let word = 0;
    for (let i = 0; i < 4; i++) word = word * 256 + (at + i < length ? bytes[start + i]! : 0);
    return word;
  }

  pin(): void {
    this.#pins++;
  }

  unpin(): void {
    this.#pins--;
    this.#release();
  }

  /** Nobody looks anything up here any more. */
  drop(): void {
    this.#dropped = true;
    this.#release();
  }

  #release(): void {
    if (!this.#dropped || this.#pins > 0) return;
    for (const chunk of this.chunks.splice(0)) this.#pool.give(chunk);
    this.#slots = EMPTY_SLOTS;
    this.#keys = EMPTY_SLOTS;
    this.#mask = 0;
    this.keyCount = 0;
    this.bytes = 0;
  }

  #word(address: Address, index: number): number {
    return this.chunks[address >>> OFFSET_BITS]!.words[((address & OFFSET_MASK) >>> 2) + index]!;
  }

  #sameKey(key: Address, probe: KeyProbe): boolean {
    const chunk = this.chunks[key >>> OFFSET_BITS]!;
    const word = (key & OFFSET_MASK) >>> 2;
    if (chunk.words[word + 2] !== probe.orderKeyLength || chunk.words[word + 3] !== probe.tieLength) return false;
    const at = (key & OFFSET_MASK) + KEY_HEADER_BYTES;
    const size = probe.orderKeyLength + probe.tieLength;
    const { bytes } = probe;
    for (let i = 0; i < size; i++) if (chunk.bytes[at + i] !== bytes[i]) return false;
    return true;
  }

  #allocate(size: number): Address {
    const rounded = (size + 3) & ~3;
    const last = this.chunks.at(-1);
    if (last === undefined || this.#used + rounded > last.bytes.length) {
      const chunk = this.#pool.take(rounded, last === undefined ? 0 : last.bytes.length);
      assert(this.chunks.length < CHUNKS_MAX, "a table outgrew its addresses", this.chunks.length);
      this.chunks.push(chunk);
      this.bytes += chunk.bytes.length;
      this.#used = 0;
    }
    const address = ((this.chunks.length - 1) << OFFSET_BITS) | this.#used;
    this.#used += rounded;
    return address;
  }

  #insert(hash: number, key: Address): void {
    const slots = this.#slots;
    let at = hash & this.#mask;
    while (slots[2 * at + 1] !== 0) at = (at + 1) & this.#mask;
    slots[2 * at] = hash;
    slots[2 * at + 1] = key + 1;
  }

  #growKeys(): void {
    const old = this.#keys;
    this.#keys = sharedWords(old.length * 2);
    this.#keys.set(old);
    this.bytes += old.byteLength;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Int32Array(old.length * 2);
    this.#mask = this.#slots.length / 2 - 1;
    this.bytes += old.byteLength;
    for (let i = 0; i < old.length; i += 2) if (old[i + 1] !== 0) this.#insert(old[i]!, old[i + 1]! - 1);
  }
}

const EMPTY_SLOTS = new Int32Array(2);

function sharedWords(count: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(count * 4));
}
