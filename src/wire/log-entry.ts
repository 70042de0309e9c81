/**
 * `proto.LogEntryValue`: what one log entry holds. A client's WriteRequest is kept byte for byte, so the bytes that
 * arrived are the bytes that every replica logs and applies.
 *
 *     LogEntryValue { requests = 1 { writes = 1 [WriteRequest] } | control_request = 2 { … } }
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import type { Feature } from "../model/peer-messages.ts";
import { malformed, Reader } from "./reader.ts";
import { decodeWrite, type Write } from "./requests.ts";
import { varintSize, Writer } from "./writer.ts";

export type EntryValue =
  | { readonly kind: "write"; readonly writes: readonly Write[] }
  /** Changes nothing: a new leader's own-term entry, a feature's start. */
  | { readonly kind: "control" };

/** The LogEntryValue that carries one serialised WriteRequest. */
export function encodeWriteEntry(request: Bytes): Bytes {
  const inner = 1 + varintSize(request.length) + request.length;
  const writer = new Writer(1 + varintSize(inner) + inner);
  writer.byte(0x0a);
  writer.varint(inner);
  writer.field(0x0a, request);
  return writer.finish();
}

/**
 * What a new leader appends first (semantics.md §8.6): a control entry that asks for a checksum record where all of the
 * ensemble know it, else a write of nothing. A reference follower that is sent any other control entry applies no more.
 */
export function encodeOwnTermEntry(features: readonly Feature[]): Bytes {
  if (!features.includes("DB_CHECKSUM")) return encodeWriteEntry(EMPTY_BYTES);
  const writer = new Writer(4);
  writer.byte(0x12); // control_request
  writer.varint(2);
  writer.field(0x12, EMPTY_BYTES); // record_checksum
  return writer.finish();
}

/** Views into `value`. Throws INVALID_ARGUMENT when it is not a LogEntryValue. */
export function decodeEntryValue(value: Bytes): EntryValue {
  const reader = new Reader(value);
  let decoded: EntryValue | undefined;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x0a) decoded = { kind: "write", writes: decodeWrites(reader.view()) };
    else if (tag === 0x12) {
      reader.view();
      decoded = { kind: "control" };
    } else reader.skip(tag);
  }
  if (decoded === undefined) throw malformed("log entry without a value");
  return decoded;
}

function decodeWrites(requests: Bytes): Write[] {
  const reader = new Reader(requests);
  const writes: Write[] = [];
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x0a) writes.push(decodeWrite(reader.view()));
    else reader.skip(tag);
  }
  return writes;
}
