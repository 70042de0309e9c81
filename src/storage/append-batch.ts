/**
 * Appends on their way to the log's thread, in one buffer that is handed over instead of copied object by object:
 *
 *     for each: shard, term accepted under, term, offset, timestamp, length of the value as doubles; the value, padded to 8 bytes
 */
import type { Append } from "./log-writer.ts";

const HEADER_DOUBLES = 6;
const HEADER_BYTES = 8 * HEADER_DOUBLES;

function padded(length: number): number {
  return (length + 7) & ~7;
}

/** Copies the appends; what they hold stays the caller's. */
export function packAppends(appends: readonly Append[]): ArrayBuffer {
  let size = 0;
  for (const { entry } of appends) size += HEADER_BYTES + padded(entry.value.length);
  const buffer = new ArrayBuffer(size);
  const doubles = new Float64Array(buffer);
  const bytes = new Uint8Array(buffer);
  let at = 0;
  for (const { shard, entry, acceptedUnder } of appends) {
    const header = at / 8;
    doubles[header] = shard;
    doubles[header + 1] = acceptedUnder;
    doubles[header + 2] = entry.term;
    doubles[header + 3] = entry.offset;
    doubles[header + 4] = entry.timestamp;
    doubles[header + 5] = entry.value.length;
    bytes.set(entry.value, at + HEADER_BYTES);
    at += HEADER_BYTES + padded(entry.value.length);
  }
  return buffer;
}

/** The appends of a buffer, in order; values are views of it. */
export function unpackAppends(buffer: ArrayBuffer): Append[] {
  const doubles = new Float64Array(buffer);
  const appends: Append[] = [];
  for (let at = 0; at < buffer.byteLength; ) {
    const header = at / 8;
    const length = doubles[header + 5]!;
    const value = new Uint8Array(buffer, at + HEADER_BYTES, length);
    appends.push({
      shard: doubles[header]!,
      acceptedUnder: doubles[header + 1]!,
      entry: { term: doubles[header + 2]!, offset: doubles[header + 3]!, timestamp: doubles[header + 4]!, value },
    });
    at += HEADER_BYTES + padded(length);
  }
  return appends;
}
