/**
 * The messages of a Replicate stream, `replication.Append` and `replication.Ack`. The value of an entry is a view of the
 * message that it came in, and is copied once into the one it leaves in.
 *
 * Source: protocol.md §5.3, §5.5.
 */
import type { Bytes } from "../lib/bytes.ts";
import { EMPTY_BYTES } from "../lib/bytes.ts";
import { type LogEntry, NO_OFFSET, NO_TERM, type ReplicaId } from "../model/ids.ts";
import type { Ack, Append } from "../model/peer-messages.ts";
import { type Int64, malformed, Reader } from "./reader.ts";
import { int64Size, varintSize, Writer } from "./writer.ts";

const VARINT = 0;
const FIXED64 = 1;
const FIXED32 = 5;
const TERM = 1 << 3;
const ENTRY = (2 << 3) | 2;
const COMMIT_OFFSET = 3 << 3;
const PREVIOUS_ENTRY_CRC = 4 << 3;
const CUMULATIVE_ACKS = 5 << 3;
const PREVIOUS_TERM = own(1000, VARINT);
const PREVIOUS_CRC = own(1001, FIXED32);
const READ_ROUND = own(1002, VARINT);
const ACKED_OFFSET = own(1003, VARINT);
const REPLICA_ID = own(1004, FIXED64);
const ACK_OFFSET = 1 << 3;
const ACK_READ_ROUND = own(1000, VARINT);
const ACK_PROMISE = own(1001, VARINT);
const ENTRY_TERM = 1 << 3;
const ENTRY_OFFSET = 2 << 3;
const ENTRY_VALUE = (3 << 3) | 2;
const ENTRY_TIMESTAMP = (4 << 3) | FIXED64;
/** All fields but the entry, at their longest. */
const FIELDS_BYTES_MAX = 96;

function own(field: number, wireType: number): number {
  return (field << 3) | wireType;
}

export function encodeAppend(append: Append): Bytes {
  const { entry } = append;
  const entryBytes = entry === undefined ? 0 : entrySize(entry);
  const writer = new Writer(FIELDS_BYTES_MAX + entryBytes);
  int64Field(writer, TERM, append.term);
  if (entry !== undefined) {
    writer.byte(ENTRY);
    writer.varint(entryBytes);
    writeEntry(writer, entry);
  }
  int64Field(writer, COMMIT_OFFSET, append.commitOffset);
  if (append.previousEntryCrc !== undefined) presentInt64(writer, PREVIOUS_ENTRY_CRC, append.previousEntryCrc);
  if (append.cumulativeAcksSupported) presentInt64(writer, CUMULATIVE_ACKS, 1);
  if (append.previousTerm !== undefined) presentInt64(writer, PREVIOUS_TERM, append.previousTerm);
  if (append.previousCrc !== undefined) {
    writer.varint(PREVIOUS_CRC);
    writer.fixed32(append.previousCrc);
  }
  if (append.readRound !== undefined) presentInt64(writer, READ_ROUND, append.readRound);
  if (append.ackedOffset !== undefined) presentInt64(writer, ACKED_OFFSET, append.ackedOffset);
  if (append.replicaId !== undefined) {
    writer.varint(REPLICA_ID);
    writer.fixed64(append.replicaId);
  }
  return writer.finish();
}

/** The entry's value is a view of `bytes`. Throws INVALID_ARGUMENT for what is no Append, or has numbers past 2^53. */
export function decodeAppend(bytes: Bytes): Append {
  const reader = new Reader(bytes);
  const append: { -readonly [Field in keyof Append]: Append[Field] } = {
    term: 0,
    entry: undefined,
    commitOffset: 0,
    previousEntryCrc: undefined,
    cumulativeAcksSupported: false,
    previousTerm: undefined,
    previousCrc: undefined,
    readRound: undefined,
    ackedOffset: undefined,
    replicaId: undefined,
  };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === TERM) append.term = atLeast(NO_TERM, reader.int64());
    else if (tag === ENTRY) append.entry = readEntry(reader);
    else if (tag === COMMIT_OFFSET) append.commitOffset = atLeast(NO_OFFSET, reader.int64());
    else if (tag === PREVIOUS_ENTRY_CRC) append.previousEntryCrc = reader.uint32();
    else if (tag === CUMULATIVE_ACKS) append.cumulativeAcksSupported = reader.bool();
    else if (tag === PREVIOUS_TERM) append.previousTerm = atLeast(NO_TERM, reader.int64());
    else if (tag === PREVIOUS_CRC) append.previousCrc = reader.fixed32();
    else if (tag === READ_ROUND) append.readRound = atLeast(0, reader.uint64());
    else if (tag === ACKED_OFFSET) append.ackedOffset = atLeast(NO_OFFSET, reader.int64());
    else if (tag === REPLICA_ID) append.replicaId = replicaId(reader.fixed64());
    else reader.skip(tag);
  }
  return append;
}

export function encodeAck({ offset, readRound, promise }: Ack): Bytes {
  const writer = new Writer(48);
  int64Field(writer, ACK_OFFSET, offset);
  if (readRound !== undefined) presentInt64(writer, ACK_READ_ROUND, readRound);
  if (promise !== undefined) presentInt64(writer, ACK_PROMISE, promise);
  return writer.finish();
}

/** Throws INVALID_ARGUMENT for what is no Ack, or has numbers past 2^53. */
export function decodeAck(bytes: Bytes): Ack {
  const reader = new Reader(bytes);
  const ack: { -readonly [Field in keyof Ack]: Ack[Field] } = { offset: 0, readRound: undefined, promise: undefined };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === ACK_OFFSET) ack.offset = atLeast(NO_OFFSET, reader.int64());
    else if (tag === ACK_READ_ROUND) ack.readRound = atLeast(0, reader.uint64());
    else if (tag === ACK_PROMISE) ack.promise = atLeast(NO_TERM, reader.int64());
    else reader.skip(tag);
  }
  return ack;
}

function entrySize({ term, offset, value, timestamp }: LogEntry): number {
  let size = timestamp === 0 ? 0 : 9;
  if (term !== 0) size += 1 + int64Size(term);
  if (offset !== 0) size += 1 + int64Size(offset);
  if (value.length > 0) size += 1 + varintSize(value.length) + value.length;
  return size;
}

function writeEntry(writer: Writer, { term, offset, value, timestamp }: LogEntry): void {
  int64Field(writer, ENTRY_TERM, term);
  int64Field(writer, ENTRY_OFFSET, offset);
  if (value.length > 0) writer.field(ENTRY_VALUE, value);
  if (timestamp === 0) return;
  writer.byte(ENTRY_TIMESTAMP);
  writer.fixed64(timestamp);
}

function readEntry(reader: Reader): LogEntry {
  const end = reader.messageEnd();
  const entry = { term: 0, offset: 0, timestamp: 0, value: EMPTY_BYTES };
  while (reader.pos < end) {
    const tag = reader.tag();
    if (tag === ENTRY_TERM) entry.term = atLeast(0, reader.int64());
    else if (tag === ENTRY_OFFSET) entry.offset = atLeast(0, reader.int64());
    else if (tag === ENTRY_VALUE) entry.value = reader.view();
    else if (tag === ENTRY_TIMESTAMP) entry.timestamp = atLeast(0, reader.fixed64());
    else reader.skip(tag);
  }
  if (reader.pos !== end) throw malformed("an entry past its end");
  return entry;
}

/** A field that is left out when it is zero. */
function int64Field(writer: Writer, tag: number, value: number): void {
  if (value !== 0) presentInt64(writer, tag, value);
}

function presentInt64(writer: Writer, tag: number, value: number): void {
  writer.varint(tag);
  writer.int64(value);
}

/** Terms, offsets and rounds are safe integers here: a peer that says otherwise is refused, never rounded. */
function atLeast(least: number, value: Int64): number {
  if (typeof value === "bigint" || value < least) throw malformed(`${value} is no term, offset, round or time`);
  return value;
}

function replicaId(value: Int64): ReplicaId {
  return BigInt(value);
}
