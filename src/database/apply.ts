/**
 * Applies log entries to a shard's state: the one way state changes. A function of the entry and the state alone:
 * every replica computes the same bytes, so time and every choice are taken from the entry.
 *
 * An entry is one atomic batch: all puts in order, then all deletes, then all delete-ranges, each seeing the effects
 * of the earlier ones. A per-operation failure is a status in its response and hurts no other operation.
 *
 * Invariant: entries are applied in offset order, each once: entry.offset = applied.offset + 1.
 * Source: semantics.md §1; Oxia's dataserver/database.
 */
import { assert, unreachable } from "../lib/assert.ts";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import type { LogEntry, Offset, Term, Timestamp } from "../model/ids.ts";
import { INTERNAL_PREFIX, isInternal } from "../model/keys.ts";
import type { KeyValue } from "../ports.ts";
import { decodeEntryValue } from "../wire/log-entry.ts";
import type { Int64 } from "../wire/reader.ts";
import type { Delete, DeleteRange, Put, Write } from "../wire/requests.ts";
import { rowParts } from "../wire/stored-record.ts";
import { Writer } from "../wire/writer.ts";
import { encodeRow, storedVersion } from "./record.ts";

/** Status on the wire. */
const STATUS = { OK: 0, KEY_NOT_FOUND: 1, UNEXPECTED_VERSION_ID: 2, SESSION_DOES_NOT_EXIST: 3 } as const;
type Status = (typeof STATUS)[keyof typeof STATUS];

/** Keys removed per step of a delete-range: a cursor ends with the first change, so keys are gathered first. */
const DELETE_RANGE_STEP = 1024;

/** Where in the log a write stands. */
export interface EntryPosition {
  readonly term: Term;
  readonly offset: Offset;
  readonly timestamp: Timestamp;
}

/** Applies an entry read from a log or sent by a leader; its responses are nobody's. */
export function applyEntry(kv: KeyValue, entry: LogEntry): void {
  const value = decodeEntryValue(entry.value);
  switch (value.kind) {
    case "write":
      applyWrites(kv, value.writes, entry, undefined);
      return;
    case "control":
      applyControl(kv, entry);
      return;
    default:
      unreachable(value);
  }
}

/** A control entry changes no record: the state only moves on to its offset. */
export function applyControl(kv: KeyValue, at: EntryPosition): void {
  assertNext(kv, at.offset);
  kv.commit({ offset: at.offset, term: at.term, versionId: kv.applied.versionId });
}

/** Applies one client write and returns its serialised WriteResponse, in bytes of its own. */
export function applyWrite(kv: KeyValue, write: Write, at: EntryPosition): Bytes {
  const response = new Writer(64 + 40 * (write.puts.length + write.deletes.length));
  applyWrites(kv, [write], at, response);
  return response.finish();
}

/** Whether applying this write reads keys in order, so that `KeyValue.ordered` should come first. */
export function readsInOrder(write: Write): boolean {
  return write.deleteRanges.length > 0;
}

function applyWrites(kv: KeyValue, writes: readonly Write[], at: EntryPosition, response: Writer | undefined): void {
  assertNext(kv, at.offset);
  let versionId = kv.applied.versionId;
  for (const write of writes) {
    for (const put of write.puts) versionId = applyPut(kv, put, versionId, at.timestamp, response);
    for (const remove of write.deletes) applyDelete(kv, remove, response);
    for (const range of write.deleteRanges) applyDeleteRange(kv, range, response);
  }
  kv.commit({ offset: at.offset, term: at.term, versionId });
}

function assertNext(kv: KeyValue, offset: Offset): void {
  assert(offset === kv.applied.offset + 1, "applied out of order", offset, kv.applied.offset);
}

const rowWriter = new Writer(1024);
/** A row larger than this is not kept as scratch. */
const ROW_SCRATCH_BYTES_MAX = 1024 * 1024;

/** Returns the shard's version counter afterwards. */
function applyPut(kv: KeyValue, put: Put, counter: number, now: Timestamp, response: Writer | undefined): number {
  const old = kv.get(put.key);
  const before = old === undefined ? undefined : storedVersion(old);
  if (!versionMatches(put.expectedVersionId, before?.versionId)) {
    if (response !== undefined) respondStatus(response, 0x0a, STATUS.UNEXPECTED_VERSION_ID);
    return counter;
  }
  if (put.sessionId !== undefined) {
    // No session can have been created yet, so none exists.
    if (response !== undefined) respondStatus(response, 0x0a, STATUS.SESSION_DOES_NOT_EXIST);
    return counter;
  }
  const next = put.overrideVersionId === undefined ? counter + 1 : counter;
  encodeRow(rowWriter, put, {
    versionId: put.overrideVersionId ?? next,
    modificationsCount:
      put.overrideModificationsCount ?? (before === undefined ? 0 : increment(before.modificationsCount)),
    createdTimestamp: before === undefined ? now : before.createdTimestamp,
    modifiedTimestamp: now,
  });
  const row = rowWriter.finish();
  kv.put(put.key, row);
  if (response !== undefined) respondPut(response, row);
  if (rowWriter.bytes.length > ROW_SCRATCH_BYTES_MAX) rowWriter.bytes = new Uint8Array(1024);
  return next;
}

/** Absent: anything. -1: the key must be absent. Else: the key must have that version id. */
function versionMatches(expected: Int64 | undefined, actual: Int64 | undefined): boolean {
  if (expected === undefined) return true;
  if (expected === -1 && actual === undefined) return true;
  return actual !== undefined && expected === actual && expected !== -1;
}

/** One more, wrapping as a signed 64-bit integer does: a count that a client has overridden may be the largest. */
function increment(count: Int64): Int64 {
  if (typeof count === "number" && count < Number.MAX_SAFE_INTEGER) return count + 1;
  const next = BigInt.asIntN(64, BigInt(count) + 1n);
  const asNumber = Number(next);
  return Number.isSafeInteger(asNumber) ? asNumber : next;
}

function applyDelete(kv: KeyValue, remove: Delete, response: Writer | undefined): void {
  const status = deleteStatus(kv.get(remove.key), remove.expectedVersionId);
  if (status === STATUS.OK) kv.delete(remove.key);
  if (response !== undefined) respondStatus(response, 0x12, status);
}

function deleteStatus(old: Bytes | undefined, expected: Int64 | undefined): Status {
  if (old === undefined) {
    return expected === undefined || expected === -1 ? STATUS.KEY_NOT_FOUND : STATUS.UNEXPECTED_VERSION_ID;
  }
  if (expected === undefined) return STATUS.OK;
  return expected !== -1 && expected === storedVersion(old).versionId ? STATUS.OK : STATUS.UNEXPECTED_VERSION_ID;
}

/** An empty end means the end of the user keys; internal keys are never in the range. */
function applyDeleteRange(kv: KeyValue, range: DeleteRange, response: Writer | undefined): void {
  const { startInclusive, endExclusive } = range;
  const to = endExclusive.length === 0 || isInternal(endExclusive) ? INTERNAL_PREFIX : endExclusive;
  for (;;) {
    const keys: Bytes[] = [];
    const cursor = kv.cursor({ from: startInclusive, to });
    while (keys.length < DELETE_RANGE_STEP && cursor.next()) keys.push(cursor.key.slice());
    for (const key of keys) kv.delete(key);
    if (keys.length < DELETE_RANGE_STEP) break;
  }
  if (response !== undefined) respondStatus(response, 0x1a, STATUS.OK);
}

function respondStatus(response: Writer, tag: number, status: Status): void {
  if (status === STATUS.OK) {
    response.field(tag, EMPTY_BYTES);
    return;
  }
  response.byte(tag);
  response.varint(2);
  response.byte(0x08);
  response.byte(status);
}

/** PutResponse { version = 2 }: cut from the row, which begins with just that field. */
function respondPut(response: Writer, row: Bytes): void {
  const { versionEnd } = rowParts(row);
  response.byte(0x0a);
  response.varint(versionEnd);
  response.slice(row, 0, versionEnd);
}
