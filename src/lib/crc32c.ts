/**
 * CRC-32C (Castagnoli, reflected, usual inversion before and after), eight bytes a step, and the masked chain that
 * links log records: each value seeds the next, masked so that a CRC over data that holds CRCs stays a good one.
 *
 *     chained(0) = mask(crc32c(bytes))      chained(n) = mask(crc32c(bytes, continued from chained(n - 1)))
 *
 * All values are unsigned 32-bit numbers; nothing is allocated per call.
 *
 * Source: protocol.md §6.2 (the log record's CRC); slicing-by-8 after Kounavis and Berry, 2005.
 */
import type { Bytes } from "./bytes.ts";

const POLYNOMIAL = 0x82f6_3b78;
const MASK_DELTA = 0xa282_ead8;

/** Eight tables of 256: the CRC of a byte that is followed by 0 … 7 zero bytes. */
const tables = makeTables();
const t0 = tables[0]!;
const t1 = tables[1]!;
const t2 = tables[2]!;
const t3 = tables[3]!;
const t4 = tables[4]!;
const t5 = tables[5]!;
const t6 = tables[6]!;
const t7 = tables[7]!;

function makeTables(): Int32Array[] {
  const made = Array.from({ length: 8 }, () => new Int32Array(256));
  const first = made[0]!;
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    first[byte] = crc;
  }
  for (let k = 1; k < 8; k++) {
    const before = made[k - 1]!;
    const table = made[k]!;
    for (let byte = 0; byte < 256; byte++) table[byte] = (before[byte]! >>> 8) ^ first[before[byte]! & 0xff]!;
  }
  return made;
}

/**
 * CRC of `bytes` from `start` inclusive to `end` exclusive, continued from `previous`, the (unmasked) CRC of what
 * stands before: crc32c(b, 0, n, crc32c(a)) is the CRC of a followed by b.
 */
export function crc32c(bytes: Bytes, start = 0, end = bytes.length, previous = 0): number {
  let crc = ~previous;
  let at = start;
  const last = end - 8;
  for (; at <= last; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      t7[crc & 0xff]! ^
      t6[(crc >>> 8) & 0xff]! ^
      t5[(crc >>> 16) & 0xff]! ^
      t4[crc >>> 24]! ^
      t3[bytes[at + 4]!]! ^
      t2[bytes[at + 5]!]! ^
      t1[bytes[at + 6]!]! ^
      t0[bytes[at + 7]!]!;
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

/** `crc` continued by one byte: for headers that are never built. */
export function crc32cByte(crc: number, byte: number): number {
  const before = ~crc;
  return ~((before >>> 8) ^ t0[(before ^ byte) & 0xff]!) >>> 0;
}

/** Rotates right by 15 bits and adds a constant, modulo 2^32. */
export function mask(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}

/** The next value of a masked chain: `previousMasked` is the value so far, 0 at its start. */
export function chainCrc(previousMasked: number, bytes: Bytes, start = 0, end = bytes.length): number {
  return mask(crc32c(bytes, start, end, previousMasked));
}
