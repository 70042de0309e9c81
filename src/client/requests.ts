/**
 * The client's requests on the wire, written straight into the frame that is sent. wire.test.ts compares them with the
 * generated code.
 *
 * A frame is a message behind gRPC's prefix: compressed flag (0), then the length in four bytes, big-endian.
 *
 * Source: protocol.md §2.4.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { Int64 } from "../wire/reader.ts";
import { int64Size, varintSize, Writer } from "../wire/writer.ts";
import type { WireKey } from "./keys.ts";

export const FRAME_PREFIX_BYTES = 5;

/** KeyComparisonType. */
export const Comparison = { equal: 0, floor: 1, ceiling: 2, lower: 3, higher: 4 } as const;
export type ComparisonName = keyof typeof Comparison;

export interface PutFields {
  readonly key: WireKey;
  readonly value: Bytes;
  readonly expectedVersionId: Int64 | undefined;
  readonly partitionKey: WireKey | undefined;
  readonly overrideVersionId: Int64 | undefined;
  readonly overrideModificationsCount: Int64 | undefined;
  /** Absent for most puts. */
  readonly extras?: PutExtras | undefined;
}

export interface WireIndexEntry {
  readonly index: WireKey;
  readonly key: WireKey;
}

export interface PutExtras {
  /** The record's session, known only when the put joins a request. */
  sessionId: Int64 | undefined;
  readonly clientIdentity: WireKey | undefined;
  /** Unsigned. Empty: the key is the record's own. */
  readonly sequenceKeysDeltas: readonly Int64[];
  readonly secondaryIndexes: readonly WireIndexEntry[];
}

export interface RangeFields {
  readonly shard: number;
  /** Empty: from the first key. */
  readonly startInclusive: WireKey;
  /** Empty: to the end. */
  readonly endExclusive: WireKey;
  readonly includeInternalKeys: boolean;
  /** Absent: the keys of the records themselves. */
  readonly useIndex?: WireKey | undefined;
}

/** Starts a Write or Read request: leaves room for the prefix, names the shard. */
export function beginFrame(writer: Writer, shard: number): void {
  writer.reserve(FRAME_PREFIX_BYTES);
  writer.length = FRAME_PREFIX_BYTES;
  writer.byte(0x08);
  writer.int64(shard);
}

/** Fills in the prefix and returns the frame, which owns the writer's bytes from then on. */
export function endFrame(writer: Writer): Bytes {
  const length = writer.length - FRAME_PREFIX_BYTES;
  const { bytes } = writer;
  bytes[0] = 0;
  bytes[1] = length >>> 24;
  bytes[2] = length >>> 16;
  bytes[3] = length >>> 8;
  bytes[4] = length;
  return writer.finish();
}

function fieldSize(length: number): number {
  return 1 + varintSize(length) + length;
}

function optionalInt64Size(value: Int64 | undefined): number {
  return value === undefined ? 0 : 1 + int64Size(value);
}

function writeKey(writer: Writer, tag: number, key: WireKey): void {
  const { length } = key;
  writer.byte(tag);
  writer.varint(length);
  if (typeof key !== "string") {
    writer.raw(key);
    return;
  }
  writer.reserve(length);
  const { bytes } = writer;
  const at = writer.length;
  for (let i = 0; i < length; i++) bytes[at + i] = key.charCodeAt(i);
  writer.length = at + length;
}

function writeOptionalInt64(writer: Writer, tag: number, value: Int64 | undefined): void {
  if (value === undefined) return;
  writer.byte(tag);
  writer.int64(value);
}

/** Appends one put to a Write request. */
export function writePut(writer: Writer, put: PutFields): void {
  const { key, value, partitionKey, extras } = put;
  writer.byte(0x12);
  writer.varint(
    fieldSize(key.length) +
      (value.length === 0 ? 0 : fieldSize(value.length)) +
      optionalInt64Size(put.expectedVersionId) +
      (partitionKey === undefined ? 0 : fieldSize(partitionKey.length)) +
      optionalInt64Size(put.overrideVersionId) +
      optionalInt64Size(put.overrideModificationsCount) +
      (extras === undefined ? 0 : extrasSize(extras)),
  );
  writeKey(writer, 0x0a, key);
  if (value.length > 0) writer.field(0x12, value);
  writeOptionalInt64(writer, 0x18, put.expectedVersionId);
  if (extras !== undefined) {
    writeOptionalInt64(writer, 0x20, extras.sessionId);
    if (extras.clientIdentity !== undefined) writeKey(writer, 0x2a, extras.clientIdentity);
  }
  if (partitionKey !== undefined) writeKey(writer, 0x32, partitionKey);
  if (extras !== undefined) writeDerivedKeys(writer, extras);
  writeOptionalInt64(writer, 0x48, put.overrideVersionId);
  writeOptionalInt64(writer, 0x50, put.overrideModificationsCount);
}

function deltasSize(deltas: readonly Int64[]): number {
  let size = 0;
  for (const delta of deltas) size += int64Size(delta);
  return size;
}

function indexEntrySize({ index, key }: WireIndexEntry): number {
  return fieldSize(index.length) + fieldSize(key.length);
}

function extrasSize({ sessionId, clientIdentity, sequenceKeysDeltas, secondaryIndexes }: PutExtras): number {
  let size = optionalInt64Size(sessionId) + (clientIdentity === undefined ? 0 : fieldSize(clientIdentity.length));
  if (sequenceKeysDeltas.length > 0) size += fieldSize(deltasSize(sequenceKeysDeltas));
  for (const entry of secondaryIndexes) size += fieldSize(indexEntrySize(entry));
  return size;
}

/** The keys that the server makes of the put: parts of a sequence, entries of indexes. */
function writeDerivedKeys(writer: Writer, { sequenceKeysDeltas, secondaryIndexes }: PutExtras): void {
  if (sequenceKeysDeltas.length > 0) {
    writer.byte(0x3a);
    writer.varint(deltasSize(sequenceKeysDeltas));
    for (const delta of sequenceKeysDeltas) writer.int64(delta);
  }
  for (const entry of secondaryIndexes) {
    writer.byte(0x42);
    writer.varint(indexEntrySize(entry));
    writeKey(writer, 0x0a, entry.index);
    writeKey(writer, 0x12, entry.key);
  }
}

/** Appends one delete to a Write request. */
export function writeDelete(
  writer: Writer,
  key: WireKey,
  expectedVersionId: Int64 | undefined,
  partitionKey: WireKey | undefined,
): void {
  writer.byte(0x1a);
  writer.varint(
    fieldSize(key.length) +
      optionalInt64Size(expectedVersionId) +
      (partitionKey === undefined ? 0 : fieldSize(partitionKey.length)),
  );
  writeKey(writer, 0x0a, key);
  writeOptionalInt64(writer, 0x10, expectedVersionId);
  if (partitionKey !== undefined) writeKey(writer, 0x1a, partitionKey);
}

/** Appends one range delete to a Write request. */
export function writeDeleteRange(writer: Writer, startInclusive: WireKey, endExclusive: WireKey): void {
  writer.byte(0x22);
  writer.varint(fieldSize(startInclusive.length) + fieldSize(endExclusive.length));
  writeKey(writer, 0x0a, startInclusive);
  writeKey(writer, 0x12, endExclusive);
}

/** Appends one get to a Read request; with `useIndex` the key is one of that index. */
export function writeGet(
  writer: Writer,
  key: WireKey,
  includeValue: boolean,
  comparison: number,
  useIndex?: WireKey,
): void {
  writer.byte(0x12);
  writer.varint(
    fieldSize(key.length) +
      (includeValue ? 2 : 0) +
      (comparison === 0 ? 0 : 2) +
      (useIndex === undefined ? 0 : fieldSize(useIndex.length)),
  );
  writeKey(writer, 0x0a, key);
  if (includeValue) {
    writer.byte(0x10);
    writer.byte(1);
  }
  if (comparison !== 0) {
    writer.byte(0x18);
    writer.byte(comparison);
  }
  if (useIndex !== undefined) writeKey(writer, 0x22, useIndex);
}

/** Writes a whole List or RangeScan request: they have the same fields. */
export function rangeFrame(writer: Writer, range: RangeFields): Bytes {
  beginFrame(writer, range.shard);
  if (range.startInclusive.length > 0) writeKey(writer, 0x12, range.startInclusive);
  if (range.endExclusive.length > 0) writeKey(writer, 0x1a, range.endExclusive);
  if (range.useIndex !== undefined) writeKey(writer, 0x22, range.useIndex);
  if (range.includeInternalKeys) {
    writer.byte(0x28);
    writer.byte(1);
  }
  return endFrame(writer);
}

/** A whole ShardAssignmentsRequest. */
export function assignmentsFrame(writer: Writer, namespace: Bytes): Bytes {
  writer.length = FRAME_PREFIX_BYTES;
  writer.field(0x0a, namespace);
  return endFrame(writer);
}

/** A whole CreateSessionRequest. */
export function createSessionFrame(shard: number, timeoutMs: number, clientIdentity: WireKey): Bytes {
  const writer = new Writer(64);
  beginFrame(writer, shard);
  writer.byte(0x10);
  writer.varint(timeoutMs);
  writeKey(writer, 0x1a, clientIdentity);
  return endFrame(writer);
}

/** A whole SessionHeartbeat or CloseSessionRequest: they have the same fields. */
export function sessionFrame(shard: number, sessionId: Int64): Bytes {
  const writer = new Writer(32);
  beginFrame(writer, shard);
  writer.byte(0x10);
  writer.int64(sessionId);
  return endFrame(writer);
}

/** A whole NotificationsRequest; without an offset it asks for what comes from now on. */
export function notificationsFrame(shard: number, startOffsetExclusive: Int64 | undefined): Bytes {
  const writer = new Writer(32);
  beginFrame(writer, shard);
  writeOptionalInt64(writer, 0x10, startOffsetExclusive);
  return endFrame(writer);
}

/** A whole GetSequenceUpdatesRequest. */
export function sequenceUpdatesFrame(shard: number, key: WireKey): Bytes {
  const writer = new Writer(64);
  beginFrame(writer, shard);
  writeKey(writer, 0x12, key);
  return endFrame(writer);
}
