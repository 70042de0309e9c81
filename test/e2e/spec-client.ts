/**
 * Asks a running server what spec-model.ts is asked, and puts its answers in the model's words. Every request goes out
 * exactly as given, every field of an answer comes back.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  CloseSessionRequestSchema,
  CreateSessionRequestSchema,
  CreateSessionResponseSchema,
  type GetResponse,
  GetSequenceUpdatesRequestSchema,
  GetSequenceUpdatesResponseSchema,
  KeyComparisonType,
  ListRequestSchema,
  ListResponseSchema,
  NotificationBatchSchema,
  NotificationsRequestSchema,
  RangeScanRequestSchema,
  RangeScanResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  SessionHeartbeatSchema,
  type Version as WireVersion,
  WriteRequestSchema,
  WriteResponseSchema,
} from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { bytesOf, CallFailed, keyOf, SERVICE } from "../harness/client.ts";
import { type Bidi, Code, type Connection, codeName, type Outcome, type Reply } from "../harness/grpc.ts";
import type { Bytes, Get, Notification, Put, Range, Status, Write } from "./spec-model.ts";

export const SHARD = 0n;
const STATUSES: readonly Status[] = ["OK", "KEY_NOT_FOUND", "UNEXPECTED_VERSION_ID", "SESSION_DOES_NOT_EXIST"];
const TYPES = ["CREATED", "MODIFIED", "DELETED", "RANGE_DELETED"] as const;
/** A stream is held open as long as a run takes. */
const STREAM_MS_MAX = 600_000;

export interface SeenVersion {
  readonly id: bigint;
  readonly count: bigint;
  readonly created: bigint | undefined;
  readonly modified: bigint | undefined;
  readonly session: bigint | undefined;
  readonly identity: string | undefined;
}

export interface SeenFound {
  readonly status: Status;
  readonly version: SeenVersion | undefined;
  readonly value: Bytes | undefined;
  readonly key: Bytes | undefined;
  readonly secondary: Bytes | undefined;
}

export interface SeenWrite {
  readonly puts: readonly Pick<SeenFound, "status" | "version" | "key">[];
  readonly deletes: readonly Status[];
  readonly deleteRanges: readonly Status[];
}

export interface SeenBatch {
  readonly offset: number;
  readonly timestamp: bigint;
  readonly notifications: readonly Notification[];
}

/** A call that ended with an error. */
export interface SeenError {
  readonly error: string;
}

export class SpecClient {
  readonly #connection: Connection;
  #writes = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async write(write: Write): Promise<SeenWrite | SeenError> {
    const reply = await this.#connection.call(`${SERVICE}/Write`, this.#encodeWrite(write));
    return reply.code === Code.OK ? seenWrite(reply.messages[0]!) : failure(reply);
  }

  /** Sends them all before any is answered; the error that ended the stream, if any, comes last. */
  async writeStream(writes: readonly Write[]): Promise<(SeenWrite | SeenError)[]> {
    const answers: (SeenWrite | SeenError)[] = [];
    const headers = { namespace: "default", "shard-id": String(SHARD) };
    const onMessage = (message: Uint8Array) => void answers.push(seenWrite(message));
    const stream = this.#connection.open(`${SERVICE}/WriteStream`, onMessage, { headers });
    for (const write of writes) stream.send(this.#encodeWrite(write));
    stream.halfClose();
    const outcome = await stream.ended;
    if (outcome.code !== Code.OK) answers.push(failure(outcome));
    return answers;
  }

  async read(gets: readonly Get[]): Promise<SeenFound[]> {
    const reply = await this.#call("Read", ReadRequestSchema, {
      shard: SHARD,
      gets: gets.map(({ key, comparison, withValue, index }) => ({
        key: bytesOf(key),
        comparisonType: KeyComparisonType[comparison],
        includeValue: withValue,
        ...(index === undefined ? {} : { secondaryIndexName: bytesOf(index) }),
      })),
    });
    return answered(reply).flatMap((message) => fromBinary(ReadResponseSchema, message).gets.map(seenFound));
  }

  async list(range: Range): Promise<Bytes[]> {
    const messages = answered(await this.#call("List", ListRequestSchema, wireRange(range)));
    return messages.flatMap((message) => fromBinary(ListResponseSchema, message).keys.map(keyOf));
  }

  async scan(range: Range): Promise<SeenFound[]> {
    const messages = answered(await this.#call("RangeScan", RangeScanRequestSchema, wireRange(range)));
    return messages.flatMap((message) => fromBinary(RangeScanResponseSchema, message).records.map(seenFound));
  }

  async createSession(sessionTimeoutMs: number, clientIdentity: string): Promise<bigint> {
    const init = { shard: SHARD, sessionTimeoutMs, clientIdentity };
    const [message] = answered(await this.#call("CreateSession", CreateSessionRequestSchema, init));
    return fromBinary(CreateSessionResponseSchema, message!).sessionId;
  }

  /** `OK` or the error's name and reason. */
  async keepAlive(sessionId: bigint): Promise<string> {
    return told(await this.#call("KeepAlive", SessionHeartbeatSchema, { shard: SHARD, sessionId }));
  }

  async closeSession(sessionId: bigint): Promise<string> {
    return told(await this.#call("CloseSession", CloseSessionRequestSchema, { shard: SHARD, sessionId }));
  }

  notifications(startOffsetExclusive: number | undefined): Feed<SeenBatch> {
    const start = startOffsetExclusive === undefined ? {} : { startOffsetExclusive: BigInt(startOffsetExclusive) };
    const request = create(NotificationsRequestSchema, { shard: SHARD, ...start });
    return new Feed((onMessage) =>
      this.#stream("GetNotifications", toBinary(NotificationsRequestSchema, request), (message) =>
        onMessage(seenBatch(message)),
      ),
    );
  }

  sequenceUpdates(prefix: Bytes): Feed<Bytes> {
    const request = create(GetSequenceUpdatesRequestSchema, { shard: SHARD, key: bytesOf(prefix) });
    return new Feed((onMessage) =>
      this.#stream("GetSequenceUpdates", toBinary(GetSequenceUpdatesRequestSchema, request), (message) =>
        onMessage(keyOf(fromBinary(GetSequenceUpdatesResponseSchema, message).highestSequenceKey)),
      ),
    );
  }

  /** The operations of a request may come in any order on the wire: every other time they come last kind first, in turn. */
  #encodeWrite(write: Write): Uint8Array {
    const { puts, deletes, deleteRanges } = wireWrite(write);
    const encode = (init: MessageInitShape<typeof WriteRequestSchema>) =>
      toBinary(WriteRequestSchema, create(WriteRequestSchema, init));
    if (this.#writes++ % 2 === 0) return encode({ shard: SHARD, puts, deletes, deleteRanges });
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < Math.max(puts.length, deletes.length, deleteRanges.length); at++) {
      pieces.push(
        encode({ deleteRanges: deleteRanges.slice(at, at + 1) }),
        encode({ deletes: deletes.slice(at, at + 1) }),
        encode({ puts: puts.slice(at, at + 1) }),
      );
    }
    return Buffer.concat([...pieces, encode({ shard: SHARD })]);
  }

  #call<Schema extends Parameters<typeof create>[0]>(
    method: string,
    schema: Schema,
    init: MessageInitShape<Schema>,
  ): Promise<Reply> {
    return this.#connection.call(`${SERVICE}/${method}`, toBinary(schema, create(schema, init)));
  }

  #stream(method: string, request: Uint8Array, onMessage: (message: Uint8Array) => void): Bidi {
    const stream = this.#connection.open(`${SERVICE}/${method}`, onMessage, { timeoutMs: STREAM_MS_MAX });
    stream.send(request);
    stream.halfClose();
    return stream;
  }
}

/** The messages of a stream that is followed. */
export class Feed<T> {
  readonly #messages: T[] = [];
  readonly #stream: Bidi;
  readonly #ended: Promise<never>;
  #wake: () => void = () => {};

  constructor(open: (onMessage: (message: T) => void) => Bidi) {
    this.#stream = open((message) => {
      this.#messages.push(message);
      this.#wake();
    });
    this.#ended = this.#stream.ended.then((outcome) => {
      throw new CallFailed("a stream that is followed", outcome);
    });
    this.#ended.catch(() => {}); // only who still waits for a message is told
  }

  /** Takes the next message. Rejects when the stream ends first. */
  async next(): Promise<T> {
    while (this.#messages.length === 0) {
      const more = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await Promise.race([more, this.#ended]);
    }
    return this.#messages.shift()!;
  }

  /** Messages that have come and were not taken. */
  get waiting(): readonly T[] {
    return this.#messages;
  }

  async cancel(): Promise<void> {
    this.#stream.cancel();
    await this.#stream.ended;
  }
}

// --- requests -------------------------------------------------------------------------------------------------

function wireWrite({ puts, deletes, deleteRanges }: Write) {
  return {
    puts: puts.map(wirePut),
    deletes: deletes.map(({ key, expected }) => ({ key: bytesOf(key), ...expecting(expected) })),
    deleteRanges: deleteRanges.map(({ start, end }) => ({
      startInclusive: bytesOf(start),
      endExclusive: bytesOf(end),
    })),
  };
}

function wirePut(put: Put) {
  return {
    key: bytesOf(put.key),
    value: bytesOf(put.value),
    ...expecting(put.expected),
    ...(put.session === undefined ? {} : { sessionId: put.session }),
    ...(put.identity === undefined ? {} : { clientIdentity: put.identity }),
    ...(put.partitionKey === undefined ? {} : { partitionKey: bytesOf(put.partitionKey) }),
    ...(put.overrideVersion === undefined ? {} : { overrideVersionId: put.overrideVersion }),
    ...(put.overrideCount === undefined ? {} : { overrideModificationsCount: put.overrideCount }),
    sequenceKeyDelta: [...put.deltas],
    secondaryIndexes: put.indexes.map(({ name, key }) => ({ indexName: bytesOf(name), secondaryKey: bytesOf(key) })),
  };
}

function expecting(expected: bigint | undefined) {
  return expected === undefined ? {} : { expectedVersionId: expected };
}

function wireRange({ start, end, index, internal }: Range) {
  return {
    shard: SHARD,
    startInclusive: bytesOf(start),
    endExclusive: bytesOf(end),
    includeInternalKeys: internal,
    ...(index === undefined ? {} : { secondaryIndexName: bytesOf(index) }),
  };
}

// --- answers --------------------------------------------------------------------------------------------------

function answered(reply: Reply): readonly Uint8Array[] {
  if (reply.code !== Code.OK) throw new CallFailed("a call that cannot fail", reply);
  return reply.messages;
}

function told({ code, reason }: Outcome): string {
  return reason === undefined ? codeName(code) : `${codeName(code)} ${reason}`;
}

function failure(outcome: Outcome): SeenError {
  if (outcome.lost) throw new CallFailed("a write", outcome);
  return { error: `${codeName(outcome.code)} ${outcome.message}` };
}

function seenWrite(message: Uint8Array): SeenWrite {
  const { puts, deletes, deleteRanges } = fromBinary(WriteResponseSchema, message);
  return {
    puts: puts.map(({ status, version, key }) => ({
      status: statusOf(status),
      version: version && seenVersion(version),
      key: key && keyOf(key),
    })),
    deletes: deletes.map(({ status }) => statusOf(status)),
    deleteRanges: deleteRanges.map(({ status }) => statusOf(status)),
  };
}

function seenFound({ status, version, value, key, secondaryIndexKey }: GetResponse): SeenFound {
  return {
    status: statusOf(status),
    version: version && seenVersion(version),
    value: value && keyOf(value),
    key: key && keyOf(key),
    secondary: secondaryIndexKey && keyOf(secondaryIndexKey),
  };
}

function seenVersion(version: WireVersion): SeenVersion {
  return {
    id: version.versionId,
    count: version.modificationsCount,
    created: version.createdTimestamp,
    modified: version.modifiedTimestamp,
    session: version.sessionId,
    identity: version.clientIdentity,
  };
}

function seenBatch(message: Uint8Array): SeenBatch {
  const { offset, timestamp, notifications } = fromBinary(NotificationBatchSchema, message);
  return {
    offset: Number(offset),
    timestamp,
    notifications: notifications.map(({ key, value }) => {
      if (key === undefined || value === undefined) throw new Error("a notification without key or value");
      const { type, versionId, keyRangeLast } = value;
      return {
        key: keyOf(key),
        type: TYPES[type]!,
        ...(versionId === undefined ? {} : { version: versionId }),
        ...(keyRangeLast === undefined ? {} : { end: keyOf(keyRangeLast) }),
      };
    }),
  };
}

function statusOf(status: number): Status {
  const name = STATUSES[status];
  if (name === undefined) throw new Error(`status ${status} in an answer`);
  return name;
}
