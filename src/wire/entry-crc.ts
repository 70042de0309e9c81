/**
 * The chain that links log entries: the masked CRC-32C over an entry's canonical bytes, continued from the entry
 * before. The canonical bytes are those of `replication.LogEntry`, fields ascending, zero values omitted:
 *
 *     term = 1 int64, offset = 2 int64, value = 3 bytes, timestamp = 4 fixed64
 *
 * They are never built: the value is read where it lies, and only the few bytes around it are written, into a buffer
 * of this module's own.
 *
 * Source: protocol.md §6.2; semantics.md §8 (CRC input); architecture.md, "One log per node".
 */
import type { Bytes } from "../lib/bytes.ts";
import { crc32c, mask } from "../lib/crc32c.ts";
import type { LogEntry } from "../model/ids.ts";

const TWO_32 = 0x1_0000_0000;
const frame = new Uint8Array(48);

/** The chain's value at `entry`, from its value at the entry before (0 before offset 0). */
export function entryCrc(previous: number, entry: LogEntry): number {
  return entryCrcOf(previous, entry, entry.value, 0, entry.value.length);
}

/** As `entryCrc`, with the value in `bytes` from `start` inclusive to `end` exclusive. Term and offset are at least 0. */
export function entryCrcOf(
  previous: number,
  entry: { readonly term: number; readonly offset: number; readonly timestamp: number },
  bytes: Bytes,
  start: number,
  end: number,
): number {
  let at = 0;
  if (entry.term !== 0) {
    frame[at++] = 0x08;
    at = putVarint(at, entry.term);
  }
  if (entry.offset !== 0) {
    frame[at++] = 0x10;
    at = putVarint(at, entry.offset);
  }
  if (end > start) {
    frame[at++] = 0x1a;
    at = putVarint(at, end - start);
  }
  let crc = crc32c(bytes, start, end, crc32c(frame, 0, at, previous));
  const { timestamp } = entry;
  if (timestamp !== 0) {
    frame[0] = 0x21;
    putFixed32(1, timestamp % TWO_32);
    putFixed32(5, Math.floor(timestamp / TWO_32));
    crc = crc32c(frame, 0, 9, crc);
  }
  return mask(crc);
}

function putVarint(start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest >= 0x8000_0000) {
    frame[at++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    frame[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  frame[at++] = rest;
  return at;
}

function putFixed32(at: number, value: number): void {
  frame[at] = value;
  frame[at + 1] = value >>> 8;
  frame[at + 2] = value >>> 16;
  frame[at + 3] = value >>> 24;
}
