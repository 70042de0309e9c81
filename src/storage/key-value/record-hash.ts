/**
 * The additive hash of a shard's records (the checksum feature): a sum over all records of a mix of the record's CRC,
 * which covers order key, tie and row. Adding and removing are exact inverses, so it is kept up with each change, and
 * two replicas with the same records have the same hash whatever their history.
 */

/** 64 bits as two signed words, each a sum modulo 2^32. */
export interface RecordHash {
  low: number;
  high: number;
}

/** Adds (`sign` 1) or removes (-1) the record with this CRC. */
export function addToHash(hash: RecordHash, crc: number, sign: 1 | -1): void {
  hash.low = (hash.low + sign * (crc | 0)) | 0;
  let mixed = Math.imul(crc ^ (crc >>> 15), 0x85ebca6b | 0);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35 | 0);
  hash.high = (hash.high + sign * (mixed ^ (mixed >>> 16))) | 0;
}

export function hashToBigInt(hash: RecordHash): bigint {
  return (BigInt(hash.high >>> 0) << 32n) | BigInt(hash.low >>> 0);
}

export function sameHash(a: RecordHash, b: RecordHash): boolean {
  return a.low === b.low && a.high === b.high;
}
