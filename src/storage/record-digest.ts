/**
 * What a record is known by: the CRC that is stored with its row, and its share of the state's hash.
 *
 *     crc      CRC-32C over key, row
 *     share    64 bits, mixed from the CRC of the key alone and the CRC of both
 *     hash     the sum of the shares of all records, each 32-bit half by itself modulo 2^32
 *
 * A sum can be kept up to date: a put takes the old record's share out and adds the new one's. It is defined over raw
 * keys and rows alone, so replicas that hold the same records have the same hash, whatever their files look like.
 */
import type { Bytes } from "../lib/bytes.ts";
import { crc32c } from "../lib/crc32c.ts";

/** CRC-32C of a key, unsigned: where the record's CRC goes on from. */
export function keyCrc(key: Bytes): number {
  return crc32c(key);
}

/** CRC-32C of a record, unsigned. `keyCrc` is that of its key. */
export function recordCrc(keyCrc: number, row: Bytes): number {
  return crc32c(row, 0, row.length, keyCrc);
}

/** The sum over the records of a state. */
export class StateHash {
  #high = 0;
  #low = 0;

  /** Takes a record in. */
  add(keyCrc: number, crc: number): void {
    this.#high = (this.#high + highShare(keyCrc, crc)) | 0;
    this.#low = (this.#low + lowShare(keyCrc, crc)) | 0;
  }

  /** Takes a record out. */
  remove(keyCrc: number, crc: number): void {
    this.#high = (this.#high - highShare(keyCrc, crc)) | 0;
    this.#low = (this.#low - lowShare(keyCrc, crc)) | 0;
  }

  /** The upper 32 bits, unsigned. */
  get high(): number {
    return this.#high >>> 0;
  }

  /** The lower 32 bits, unsigned. */
  get low(): number {
    return this.#low >>> 0;
  }

  /** Becomes the hash with these halves. */
  set(high: number, low: number): void {
    this.#high = high | 0;
    this.#low = low | 0;
  }

  get value(): bigint {
    return (BigInt(this.high) << 32n) | BigInt(this.low);
  }
}

function highShare(keyCrc: number, crc: number): number {
  return mix(keyCrc ^ Math.imul(crc, 0x9e3779b1));
}

function lowShare(keyCrc: number, crc: number): number {
  return mix(crc + Math.imul(keyCrc, 0x85ebca77));
}

/** MurmurHash3's last step: every bit of the input changes half of the output's. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
