/**
 * The requests of the hot client calls, decoded from `io.oxia.proto.v1` messages. Byte fields are views of the
 * message: whoever keeps a request keeps its message. Proto3's last-one-wins and packed-or-not rules hold.
 *
 * Only shapes are checked here; what a value may be is for database/validate.ts.
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { type Int64, Reader } from "./reader.ts";

export interface SecondaryIndex {
  readonly name: Bytes;
  readonly key: Bytes;
}

/** Absent optional fields are undefined; all objects have all properties, so that the engine sees one shape. */
export interface Put {
  key: Bytes;
  value: Bytes;
  expectedVersionId: Int64 | undefined;
  sessionId: Int64 | undefined;
  clientIdentity: Bytes | undefined;
  partitionKey: Bytes | undefined;
  sequenceKeyDeltas: Int64[] | undefined;
  secondaryIndexes: SecondaryIndex[] | undefined;
  overrideVersionId: Int64 | undefined;
  overrideModificationsCount: Int64 | undefined;
}

export interface Delete {
  key: Bytes;
  expectedVersionId: Int64 | undefined;
}

export interface DeleteRange {
  startInclusive: Bytes;
  endExclusive: Bytes;
}

export interface Write {
  shard: Int64 | undefined;
  puts: Put[];
  deletes: Delete[];
  deleteRanges: DeleteRange[];
}

export interface Get {
  key: Bytes;
  includeValue: boolean;
  /** KeyComparisonType: EQUAL 0, FLOOR 1, CEILING 2, LOWER 3, HIGHER 4; unchecked. */
  comparison: number;
  secondaryIndexName: Bytes | undefined;
}

export interface Read {
  shard: Int64 | undefined;
  gets: Get[];
}

/** A ListRequest or a RangeScanRequest: they have the same fields. */
export interface RangeRead {
  shard: Int64 | undefined;
  startInclusive: Bytes;
  endExclusive: Bytes;
  secondaryIndexName: Bytes | undefined;
  includeInternalKeys: boolean;
}

export function decodeWrite(message: Bytes): Write {
  const reader = new Reader(message);
  const write: Write = { shard: undefined, puts: [], deletes: [], deleteRanges: [] };
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 0x08:
        write.shard = reader.int64();
        break;
      case 0x12:
        write.puts.push(decodePut(reader));
        break;
      case 0x1a:
        write.deletes.push(decodeDelete(reader));
        break;
      case 0x22:
        write.deleteRanges.push(decodeDeleteRange(reader));
        break;
      default:
        reader.skip(tag);
    }
  }
  return write;
}

export function decodeRead(message: Bytes): Read {
  const reader = new Reader(message);
  const read: Read = { shard: undefined, gets: [] };
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 0x08:
        read.shard = reader.int64();
        break;
      case 0x12:
        read.gets.push(decodeGet(reader));
        break;
      default:
        reader.skip(tag);
    }
  }
  return read;
}

export function decodeRangeRead(message: Bytes): RangeRead {
  const reader = new Reader(message);
  const range: RangeRead = {
    shard: undefined,
    startInclusive: EMPTY_BYTES,
    endExclusive: EMPTY_BYTES,
    secondaryIndexName: undefined,
    includeInternalKeys: false,
  };
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 0x08:
        range.shard = reader.int64();
        break;
      case 0x12:
        range.startInclusive = reader.view();
        break;
      case 0x1a:
        range.endExclusive = reader.view();
        break;
      case 0x22:
        range.secondaryIndexName = reader.view();
        break;
      case 0x28:
        range.includeInternalKeys = reader.bool();
        break;
      default:
        reader.skip(tag);
    }
  }
  return range;
}

/** Runs `body` over the fields of a nested message, with the reader bounded to it. */
function nested(reader: Reader, field: (tag: number) => void): void {
  const end = reader.messageEnd();
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.pos < end) field(reader.tag());
  reader.end = outerEnd;
}

function decodePut(reader: Reader): Put {
  const put: Put = {
    key: EMPTY_BYTES,
    value: EMPTY_BYTES,
    expectedVersionId: undefined,
    sessionId: undefined,
    clientIdentity: undefined,
    partitionKey: undefined,
    sequenceKeyDeltas: undefined,
    secondaryIndexes: undefined,
    overrideVersionId: undefined,
    overrideModificationsCount: undefined,
  };
  const end = reader.messageEnd();
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.pos < end) {
    const tag = reader.tag();
    switch (tag) {
      case 0x0a:
        put.key = reader.view();
        break;
      case 0x12:
        put.value = reader.view();
        break;
      default:
        decodePutOption(reader, tag, put);
    }
  }
  reader.end = outerEnd;
  return put;
}

function decodePutOption(reader: Reader, tag: number, put: Put): void {
  switch (tag) {
    case 0x18:
      put.expectedVersionId = reader.int64();
      break;
    case 0x20:
      put.sessionId = reader.int64();
      break;
    case 0x2a:
      put.clientIdentity = reader.view();
      break;
    case 0x32:
      put.partitionKey = reader.view();
      break;
    case 0x38:
      put.sequenceKeyDeltas ??= [];
      put.sequenceKeyDeltas.push(reader.uint64());
      break;
    case 0x3a: {
      put.sequenceKeyDeltas ??= [];
      const deltas = put.sequenceKeyDeltas;
      const end = reader.messageEnd();
      const outerEnd = reader.end;
      reader.end = end;
      while (reader.pos < end) deltas.push(reader.uint64());
      reader.end = outerEnd;
      break;
    }
    case 0x42:
      put.secondaryIndexes ??= [];
      put.secondaryIndexes.push(decodeSecondaryIndex(reader));
      break;
    case 0x48:
      put.overrideVersionId = reader.int64();
      break;
    case 0x50:
      put.overrideModificationsCount = reader.int64();
      break;
    default:
      reader.skip(tag);
  }
}

export function decodeSecondaryIndex(reader: Reader): SecondaryIndex {
  let name = EMPTY_BYTES;
  let key = EMPTY_BYTES;
  nested(reader, (tag) => {
    if (tag === 0x0a) name = reader.view();
    else if (tag === 0x12) key = reader.view();
    else reader.skip(tag);
  });
  return { name, key };
}

function decodeDelete(reader: Reader): Delete {
  const result: Delete = { key: EMPTY_BYTES, expectedVersionId: undefined };
  nested(reader, (tag) => {
    if (tag === 0x0a) result.key = reader.view();
    else if (tag === 0x10) result.expectedVersionId = reader.int64();
    else reader.skip(tag);
  });
  return result;
}

function decodeDeleteRange(reader: Reader): DeleteRange {
  const result: DeleteRange = { startInclusive: EMPTY_BYTES, endExclusive: EMPTY_BYTES };
  nested(reader, (tag) => {
    if (tag === 0x0a) result.startInclusive = reader.view();
    else if (tag === 0x12) result.endExclusive = reader.view();
    else reader.skip(tag);
  });
  return result;
}

function decodeGet(reader: Reader): Get {
  const get: Get = { key: EMPTY_BYTES, includeValue: false, comparison: 0, secondaryIndexName: undefined };
  const end = reader.messageEnd();
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.pos < end) {
    const tag = reader.tag();
    switch (tag) {
      case 0x0a:
        get.key = reader.view();
        break;
      case 0x10:
        get.includeValue = reader.bool();
        break;
      case 0x18:
        get.comparison = reader.uint32();
        break;
      case 0x22:
        get.secondaryIndexName = reader.view();
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.end = outerEnd;
  return get;
}

/** A CreateSessionRequest, whose field 2 is the timeout, or a SessionHeartbeat or CloseSessionRequest, whose field 2 is the id. */
export interface SessionRequest {
  shard: Int64;
  timeoutMsOrId: Int64;
  clientIdentity: Bytes;
}

export function decodeSessionRequest(message: Bytes): SessionRequest {
  const reader = new Reader(message);
  const request: SessionRequest = { shard: 0, timeoutMsOrId: 0, clientIdentity: EMPTY_BYTES };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) request.shard = reader.int64();
    else if (tag === 0x10) request.timeoutMsOrId = reader.int64();
    else if (tag === 0x1a) request.clientIdentity = reader.view();
    else reader.skip(tag);
  }
  return request;
}

export interface NotificationsRequest {
  shard: Int64;
  startOffsetExclusive: Int64 | undefined;
}

export function decodeNotificationsRequest(message: Bytes): NotificationsRequest {
  const reader = new Reader(message);
  const request: NotificationsRequest = { shard: 0, startOffsetExclusive: undefined };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) request.shard = reader.int64();
    else if (tag === 0x10) request.startOffsetExclusive = reader.int64();
    else reader.skip(tag);
  }
  return request;
}

export interface SequenceUpdatesRequest {
  shard: Int64;
  key: Bytes;
}

export function decodeSequenceUpdatesRequest(message: Bytes): SequenceUpdatesRequest {
  const reader = new Reader(message);
  const request: SequenceUpdatesRequest = { shard: 0, key: EMPTY_BYTES };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) request.shard = reader.int64();
    else if (tag === 0x12) request.key = reader.view();
    else reader.skip(tag);
  }
  return request;
}
