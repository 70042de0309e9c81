/**
 * A stored record and the field that a range scan sends it as.
 *
 *     row       field 2 of GetResponse, the `Version` message
 *               field 3 of GetResponse, the value; left out when it is empty
 *               extras, which clients are not sent (database/record.ts)
 *     body      the row without its extras
 *     field     0x0a size body 0x22 size key: one entry of RangeScanResponse.records, or of ReadResponse.gets
 *
 * Storage keeps records as such fields, so that a scan is a copy of what lies there.
 */
import type { Bytes } from "../lib/bytes.ts";
import { varintSize, type Writer } from "./writer.ts";

const VERSION_TAG = 0x12;
const VALUE_TAG = 0x1a;
export const RECORD_TAG = 0x0a;
export const RECORD_KEY_TAG = 0x22;

/** Where the parts of a row lie; ends are exclusive. */
export interface RowParts {
  /** The content of the `Version` message; its field begins at 0. */
  versionStart: number;
  versionEnd: number;
  /** The value: empty when it equals `bodyEnd`. */
  valueStart: number;
  /** Where the fields that clients are sent end and the extras begin. */
  bodyEnd: number;
}

const parts: RowParts = { versionStart: 0, versionEnd: 0, valueStart: 0, bodyEnd: 0 };

/** The parts of a row; the one object returned is overwritten by the next call. */
export function rowParts(row: Bytes): RowParts {
  const versionLength = lengthAt(row, 1);
  parts.versionStart = 1 + varintSize(versionLength);
  parts.versionEnd = parts.versionStart + versionLength;
  if (row[parts.versionEnd] === VALUE_TAG) {
    const valueLength = lengthAt(row, parts.versionEnd + 1);
    parts.valueStart = parts.versionEnd + 1 + varintSize(valueLength);
    parts.bodyEnd = parts.valueStart + valueLength;
  } else {
    parts.valueStart = parts.bodyEnd = parts.versionEnd;
  }
  return parts;
}

function lengthAt(row: Bytes, at: number): number {
  let result = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = row[at++];
    if (byte === undefined) return result;
    result |= (byte & 0x7f) << shift;
    if (byte < 0x80) return result;
  }
}

/** Where a row's body ends: at the row's end for bytes that are no record's row, which are kept like any other. */
export function bodyEnd(row: Bytes): number {
  if (row[0] !== VERSION_TAG) return row.length;
  const end = rowParts(row).bodyEnd;
  return end >= 0 && end <= row.length ? end : row.length;
}

/** Bytes of a record's field. */
export function recordFieldSize(bodyLength: number, keyLength: number): number {
  const size = bodyLength + 1 + varintSize(keyLength) + keyLength;
  return 1 + varintSize(size) + size;
}

/** Appends a record's field: the first `bodyLength` bytes of `row`, and the key. */
export function appendRecord(target: Writer, row: Bytes, bodyLength: number, key: Bytes): void {
  const size = bodyLength + 1 + varintSize(key.length) + key.length;
  target.reserve(6 + size);
  target.byte(RECORD_TAG);
  target.varint(size);
  target.slice(row, 0, bodyLength);
  target.byte(RECORD_KEY_TAG);
  target.varint(key.length);
  target.slice(key, 0, key.length);
}

/** A place among records; see Cursor in ports.ts. */
interface RecordCursor {
  next(): boolean;
  readonly key: Bytes;
  readonly row: Bytes;
}

/** `Cursor.appendRecords` for cursors that have nothing better: record by record. */
export function appendOneByOne(cursor: RecordCursor, target: Writer, recordsMax: number, bytesMax: number): boolean {
  for (let records = 0; records < recordsMax && target.length < bytesMax; records++) {
    if (!cursor.next()) return false;
    const { key, row } = cursor;
    appendRecord(target, row, bodyEnd(row), key);
  }
  return true;
}
