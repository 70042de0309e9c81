/**
 * The client's ports in the hands of a test: a transport whose calls wait until the test answers them, a clock that
 * the test moves, and messages made with the generated code, which shares nothing with the client's own.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { type CallStatus, plainStatus, statusFromTrailers } from "../../src/client/call-status.ts";
import type { Call, CallHandler, CallRequest, ClientPorts, Transport } from "../../src/client/transport.ts";
import {
  CreateSessionResponseSchema,
  GetSequenceUpdatesResponseSchema,
  ListRequestSchema,
  ListResponseSchema,
  NamespaceShardsAssignmentSchema,
  NotificationBatchSchema,
  NotificationsRequestSchema,
  type NotificationType,
  RangeScanResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  ShardAssignmentSchema,
  ShardAssignmentsSchema,
  type ShardKeyRouter,
  WriteRequestSchema,
  WriteResponseSchema,
} from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.ts";
import { ManualClock } from "./manual-clock.ts";

export const OK: CallStatus = plainStatus(0, "");

const latin1 = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));

/** A call that the client made. */
export class FakeCall implements Call {
  readonly request: CallRequest;
  /** Messages that the client sent, without prefixes. */
  readonly sent: Uint8Array[] = [];
  cancelled = false;
  paused = false;
  halfClosed = false;
  /** What `send` returns. */
  takesMore = true;
  readonly #handler: CallHandler;

  constructor(request: CallRequest, handler: CallHandler) {
    this.request = request;
    this.#handler = handler;
    if (request.message !== undefined) this.send(request.message);
  }

  /** The last part of the path. */
  get method(): string {
    return this.request.path.split("/").at(-1)!;
  }

  send(framed: Uint8Array): boolean {
    if (new DataView(framed.buffer, framed.byteOffset).getUint32(1) !== framed.length - 5)
      throw new Error("bad prefix");
    this.sent.push(framed.slice(5));
    return this.takesMore;
  }

  halfClose(): void {
    this.halfClosed = true;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  cancel(): void {
    this.cancelled = true;
  }

  // --- the server's side ----------------------------------------------------------------------------------------

  answer(message: Uint8Array): void {
    if (!this.cancelled) this.#handler.message(message);
  }

  /** The headers of the answer. */
  head(headers: Record<string, string> = {}): void {
    if (!this.cancelled) this.#handler.headers?.(headers);
  }

  drain(): void {
    this.takesMore = true;
    this.#handler.drained();
  }

  end(status: CallStatus = OK): void {
    if (!this.cancelled) this.#handler.ended(status);
  }

  /** Keys of the puts in the n-th request of a WriteStream. */
  puts(n: number): string[] {
    return fromBinary(WriteRequestSchema, this.sent[n]!).puts.map(({ key }) => latin1(key));
  }

  /** Answers the next request of a WriteStream that has none: every operation is done. */
  answerWrite(): void {
    const request = fromBinary(WriteRequestSchema, this.sent[this.#answered++]!);
    this.answer(
      writeAnswer({
        puts: request.puts.map(() => ({ version: version(7) })),
        deletes: request.deletes.map(() => ({})),
        deleteRanges: request.deleteRanges.map(() => ({})),
      }),
    );
  }

  /** Answers the next request of a WriteStream with this. */
  answerWriteWith(response: MessageInitShape<typeof WriteResponseSchema>): void {
    this.#answered++;
    this.answer(writeAnswer(response));
  }

  #answered = 0;

  /** Keys of the gets of a Read. */
  gets(): string[] {
    return fromBinary(ReadRequestSchema, this.sent[0]!).gets.map(({ key }) => latin1(key));
  }

  /** The offset after which a GetNotifications starts. */
  startOffset(): bigint | undefined {
    return fromBinary(NotificationsRequestSchema, this.sent[0]!).startOffsetExclusive;
  }

  /** Where a List or a RangeScan starts. */
  start(): string {
    return latin1(fromBinary(ListRequestSchema, this.sent[0]!).startInclusive);
  }
}

export class FakeTransport implements Transport {
  readonly calls: FakeCall[] = [];
  closed = false;

  open(request: CallRequest, handler: CallHandler): Call {
    const call = new FakeCall(request, handler);
    this.calls.push(call);
    return call;
  }

  close(): void {
    this.closed = true;
  }

  /** Calls of one method, the oldest first. */
  of(method: string): FakeCall[] {
    return this.calls.filter((call) => call.method === method);
  }

  /** The newest call of one method. */
  last(method: string): FakeCall {
    const call = this.of(method).at(-1);
    if (call === undefined) throw new Error(`no ${method} call`);
    return call;
  }
}

export interface FakePorts extends ClientPorts {
  readonly clock: ManualClock;
  readonly transport: FakeTransport;
}

/** A hash that a test reads off a key: `a@1234` hashes to 1234, a key without `@` to 0. */
export function fakePorts(): FakePorts {
  return {
    clock: new ManualClock(),
    transport: new FakeTransport(),
    hash: (key) => Number((typeof key === "string" ? key : latin1(key)).split("@")[1] ?? 0),
    random: () => 1,
  };
}

/** Lets everything run that is ready to. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

// --- messages -------------------------------------------------------------------------------------------------

export interface FakeShard {
  readonly id: number;
  readonly leader: string;
  readonly min: number;
  readonly max: number;
}

export function assignments(shards: readonly FakeShard[], namespace = "default", router = 1): Uint8Array {
  const its = create(NamespaceShardsAssignmentSchema, {
    shardKeyRouter: router as ShardKeyRouter,
    assignments: shards.map(({ id, leader, min, max }) =>
      create(ShardAssignmentSchema, {
        shard: BigInt(id),
        leader,
        shardBoundaries: { case: "int32HashRange", value: { minHashInclusive: min, maxHashInclusive: max } },
      }),
    ),
  });
  return toBinary(ShardAssignmentsSchema, create(ShardAssignmentsSchema, { namespaces: { [namespace]: its } }));
}

export function version(id: number) {
  return { versionId: BigInt(id), modificationsCount: 0n, createdTimestamp: 1n, modifiedTimestamp: 2n };
}

export function writeAnswer(response: MessageInitShape<typeof WriteResponseSchema>): Uint8Array {
  return toBinary(WriteResponseSchema, create(WriteResponseSchema, response));
}

export function readAnswer(gets: MessageInitShape<typeof ReadResponseSchema>["gets"]): Uint8Array {
  return toBinary(ReadResponseSchema, create(ReadResponseSchema, gets === undefined ? {} : { gets }));
}

export function listAnswer(keys: readonly string[]): Uint8Array {
  return toBinary(ListResponseSchema, create(ListResponseSchema, { keys: keys.map(bytes) }));
}

export function scanAnswer(keys: readonly string[]): Uint8Array {
  const records = keys.map((key) => ({ key: bytes(key), value: bytes(`value of ${key}`), version: version(1) }));
  return toBinary(RangeScanResponseSchema, create(RangeScanResponseSchema, { records }));
}

export function sessionAnswer(id: number): Uint8Array {
  return toBinary(CreateSessionResponseSchema, create(CreateSessionResponseSchema, { sessionId: BigInt(id) }));
}

export interface FakeNotification {
  readonly type?: number;
  readonly versionId?: number;
  readonly keyRangeLast?: string;
}

export function notificationBatch(offset: number, changes: Record<string, FakeNotification> = {}): Uint8Array {
  const notifications = Object.entries(changes).map(([key, { type = 0, versionId, keyRangeLast }]) => ({
    key: bytes(key),
    value: {
      type: type as NotificationType,
      ...(versionId === undefined ? {} : { versionId: BigInt(versionId) }),
      ...(keyRangeLast === undefined ? {} : { keyRangeLast: bytes(keyRangeLast) }),
    },
  }));
  return toBinary(NotificationBatchSchema, create(NotificationBatchSchema, { offset: BigInt(offset), notifications }));
}

export function sequenceAnswer(key: string): Uint8Array {
  const response = create(GetSequenceUpdatesResponseSchema, { highestSequenceKey: bytes(key) });
  return toBinary(GetSequenceUpdatesResponseSchema, response);
}

/** A status with details, by way of the trailers that a server sends. */
export function refusal(code: number, reason: string, metadata: Record<string, string> = {}): CallStatus {
  const info = create(ErrorInfoSchema, { reason, domain: "oxia.io", metadata });
  const status = create(StatusSchema, { code, message: reason, details: [anyPack(ErrorInfoSchema, info)] });
  const details = Buffer.from(toBinary(StatusSchema, status)).toString("base64");
  const trailers = { "grpc-status": String(code), "grpc-message": reason, "grpc-status-details-bin": details };
  return statusFromTrailers(trailers)!;
}
