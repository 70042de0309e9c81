/**
 * How a record is stored: a row of bytes that is already what clients are sent.
 *
 *     field 2 of GetResponse   the `Version` message
 *     field 3 of GetResponse   the value; left out when it is empty
 *     extras                   PutRequest fields 6 (partition key) and 8 (secondary indexes), as they were sent
 *
 * So the answer to a get or a scanned record is one copy of the first two, and the answer to a put one copy of the
 * first (the version is field 2 of PutResponse too). Everything is a function of the log entry and the old row, so
 * that all replicas store the same bytes.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { Timestamp } from "../model/ids.ts";
import { type Int64, Reader } from "../wire/reader.ts";
import { decodeSecondaryIndex, type Put, type SecondaryIndex } from "../wire/requests.ts";
import { rowParts } from "../wire/stored-record.ts";
import { int64Size, varintSize, type Writer } from "../wire/writer.ts";

const VERSION_TAG = 0x12;
const VALUE_TAG = 0x1a;
const PARTITION_KEY_TAG = 0x32;
const SECONDARY_INDEX_TAG = 0x42;

/** What apply needs of the record that a put replaces or a delete removes. */
export interface StoredVersion {
  versionId: Int64;
  modificationsCount: Int64;
  createdTimestamp: Int64;
  sessionId: Int64 | undefined;
}

const stored: StoredVersion = { versionId: 0, modificationsCount: 0, createdTimestamp: 0, sessionId: undefined };

/** The version of a row; the one object returned is overwritten by the next call. */
export function storedVersion(row: Bytes): StoredVersion {
  const { versionStart, versionEnd } = rowParts(row);
  const reader = new Reader(row, versionStart, versionEnd);
  stored.versionId = 0;
  stored.modificationsCount = 0;
  stored.createdTimestamp = 0;
  stored.sessionId = undefined;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) stored.versionId = reader.int64();
    else if (tag === 0x10) stored.modificationsCount = reader.int64();
    else if (tag === 0x19) stored.createdTimestamp = reader.fixed64();
    else if (tag === 0x28) stored.sessionId = reader.int64();
    else reader.skip(tag);
  }
  return stored;
}

/** The value, a view of the row. */
export function rowValue(row: Bytes): Bytes {
  const { valueStart, bodyEnd } = rowParts(row);
  return row.subarray(valueStart, bodyEnd);
}

/** The secondary indexes of a row, views of it. */
export function rowSecondaryIndexes(row: Bytes): SecondaryIndex[] {
  const indexes: SecondaryIndex[] = [];
  const reader = new Reader(row, rowParts(row).bodyEnd);
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === SECONDARY_INDEX_TAG) indexes.push(decodeSecondaryIndex(reader));
    else reader.skip(tag);
  }
  return indexes;
}

export interface NewVersion {
  readonly versionId: Int64;
  readonly modificationsCount: Int64;
  readonly createdTimestamp: Int64;
  readonly modifiedTimestamp: Timestamp;
}

/** Makes `row` hold the row of `put`, whatever it held before. */
export function encodeRow(row: Writer, put: Put, version: NewVersion): void {
  row.reset();
  row.byte(VERSION_TAG);
  row.varint(versionSize(put, version));
  encodeVersion(row, put, version);
  if (put.value.length > 0) row.field(VALUE_TAG, put.value);
  encodeExtras(row, put);
}

function versionSize(put: Put, version: NewVersion): number {
  let size = 0;
  if (version.versionId !== 0) size += 1 + int64Size(version.versionId);
  if (version.modificationsCount !== 0) size += 1 + int64Size(version.modificationsCount);
  if (version.createdTimestamp !== 0) size += 9;
  if (version.modifiedTimestamp !== 0) size += 9;
  if (put.sessionId !== undefined) size += 1 + int64Size(put.sessionId);
  if (put.clientIdentity !== undefined) size += fieldSize(put.clientIdentity.length);
  return size;
}

/** A `Version` message: fields in ascending number, zero values left out, as protobuf does. */
function encodeVersion(row: Writer, put: Put, version: NewVersion): void {
  if (version.versionId !== 0) {
    row.byte(0x08);
    row.int64(version.versionId);
  }
  if (version.modificationsCount !== 0) {
    row.byte(0x10);
    row.int64(version.modificationsCount);
  }
  if (version.createdTimestamp !== 0) {
    row.byte(0x19);
    row.fixed64(version.createdTimestamp);
  }
  if (version.modifiedTimestamp !== 0) {
    row.byte(0x21);
    row.fixed64(version.modifiedTimestamp);
  }
  if (put.sessionId !== undefined) {
    row.byte(0x28);
    row.int64(put.sessionId);
  }
  if (put.clientIdentity !== undefined) row.field(0x32, put.clientIdentity);
}

function encodeExtras(row: Writer, put: Put): void {
  if (put.partitionKey !== undefined) row.field(PARTITION_KEY_TAG, put.partitionKey);
  for (const index of put.secondaryIndexes ?? []) {
    row.byte(SECONDARY_INDEX_TAG);
    row.varint(indexSize(index));
    if (index.name.length > 0) row.field(0x0a, index.name);
    if (index.key.length > 0) row.field(0x12, index.key);
  }
}

function indexSize(index: SecondaryIndex): number {
  const name = index.name.length;
  const key = index.key.length;
  return (name > 0 ? fieldSize(name) : 0) + (key > 0 ? fieldSize(key) : 0);
}

/** Bytes of a length-delimited field whose tag is below 128. */
export function fieldSize(contentLength: number): number {
  return 1 + varintSize(contentLength) + contentLength;
}
