/**
 * The calls of OxiaClient that the tests need, over harness/grpc.ts and the generated messages: each request exactly
 * as given, each answer exactly as it came. No retries, no batching, no routing: a test must know what was sent.
 *
 * Keys are latin1 strings, one character a byte.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ListRequestSchema,
  ListResponseSchema,
  RangeScanRequestSchema,
  RangeScanResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  ShardAssignmentsRequestSchema,
  ShardAssignmentsSchema,
  Status as WireStatus,
  type Version as WireVersion,
  WriteRequestSchema,
  WriteResponseSchema,
} from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import type { Answer, Batch, Found, Key, Status, Version } from "../e2e/model.ts";
import { type Bidi, Code, type Connection, codeName, type Outcome } from "./grpc.ts";

export const SERVICE = "/io.oxia.proto.v1.OxiaClient";

export const bytesOf = (key: Key): Uint8Array => Buffer.from(key, "latin1");
export const keyOf = (bytes: Uint8Array): Key => Buffer.from(bytes).toString("latin1");

/** A call that ended with an error, where the test has no use for one. */
export class CallFailed extends Error {
  override readonly name = "CallFailed";
  readonly outcome: Outcome;

  constructor(what: string, outcome: Outcome) {
    super(`${what}: ${codeName(outcome.code)} ${outcome.message}${outcome.lost ? " (lost)" : ""}`);
    this.outcome = outcome;
  }
}

export function encodeWrite(batch: Batch, shard?: number | bigint): Uint8Array {
  const request = create(WriteRequestSchema, {
    puts: batch.puts.map(({ key, value, expected }) => ({ key: bytesOf(key), value, ...expecting(expected) })),
    deletes: batch.deletes.map(({ key, expected }) => ({ key: bytesOf(key), ...expecting(expected) })),
    deleteRanges: batch.deleteRanges.map((range) => ({
      startInclusive: bytesOf(range.startInclusive),
      endExclusive: bytesOf(range.endExclusive),
    })),
    ...(shard === undefined ? {} : { shard: BigInt(shard) }),
  });
  return toBinary(WriteRequestSchema, request);
}

function expecting(expected: number | undefined) {
  return expected === undefined ? {} : { expectedVersionId: BigInt(expected) };
}

export function decodeAnswer(bytes: Uint8Array): Answer {
  const response = fromBinary(WriteResponseSchema, bytes);
  return {
    puts: response.puts.map(({ status, version }) => ({
      status: statusName(status),
      version: version && versionOf(version),
    })),
    deletes: response.deletes.map(({ status }) => statusName(status)),
    deleteRanges: response.deleteRanges.map(({ status }) => statusName(status)),
  };
}

const STATUS_NAMES = new Map<number, Status>([
  [WireStatus.OK, "OK"],
  [WireStatus.KEY_NOT_FOUND, "KEY_NOT_FOUND"],
  [WireStatus.UNEXPECTED_VERSION_ID, "UNEXPECTED_VERSION_ID"],
  [WireStatus.SESSION_DOES_NOT_EXIST, "SESSION_DOES_NOT_EXIST"],
]);

function statusName(status: WireStatus): Status {
  const name = STATUS_NAMES.get(status);
  if (name === undefined) throw new Error(`status ${status} in an answer`);
  return name;
}

function versionOf(version: WireVersion): Version {
  return {
    versionId: Number(version.versionId),
    modifications: Number(version.modificationsCount),
    createdMs: Number(version.createdTimestamp),
    modifiedMs: Number(version.modifiedTimestamp),
  };
}

/** Unary Write. The answer is there when the outcome's code is OK. */
export async function write(
  connection: Connection,
  shard: number,
  batch: Batch,
): Promise<Outcome & { readonly answer: Answer | undefined }> {
  const { messages, ...outcome } = await connection.call(`${SERVICE}/Write`, encodeWrite(batch, shard));
  return { ...outcome, answer: outcome.code === Code.OK && messages[0] ? decodeAnswer(messages[0]) : undefined };
}

export function writeStream(
  connection: Connection,
  shard: number,
  onAnswer: (answer: Answer) => void,
  namespace = "default",
): Bidi {
  return connection.open(`${SERVICE}/WriteStream`, (message) => onAnswer(decodeAnswer(message)), {
    headers: { namespace, "shard-id": String(shard) },
    timeoutMs: 600_000,
  });
}

/** EQUAL gets with values, index-aligned with `keys`; `undefined` where there is no record. Throws CallFailed. */
export async function read(
  connection: Connection,
  shard: number,
  keys: readonly Key[],
): Promise<(Found | undefined)[]> {
  const gets = keys.map((key) => ({ key: bytesOf(key), includeValue: true }));
  const request = toBinary(ReadRequestSchema, create(ReadRequestSchema, { shard: BigInt(shard), gets }));
  const reply = await connection.call(`${SERVICE}/Read`, request);
  if (reply.code !== Code.OK) throw new CallFailed(`read of shard ${shard}`, reply);
  const results = reply.messages.flatMap((message) => fromBinary(ReadResponseSchema, message).gets);
  if (results.length !== keys.length) throw new Error(`${results.length} results for ${keys.length} gets`);
  return results.map(({ status, version, value }) =>
    status === WireStatus.OK && version ? { value: value ?? new Uint8Array(), version: versionOf(version) } : undefined,
  );
}

/** All user records of a shard, or those of a range. Throws CallFailed. */
export async function scan(
  connection: Connection,
  shard: number,
  from: Key = "",
  to: Key = "",
): Promise<Map<Key, Found>> {
  const request = create(RangeScanRequestSchema, {
    shard: BigInt(shard),
    startInclusive: bytesOf(from),
    endExclusive: bytesOf(to),
  });
  const reply = await connection.call(`${SERVICE}/RangeScan`, toBinary(RangeScanRequestSchema, request));
  if (reply.code !== Code.OK) throw new CallFailed(`scan of shard ${shard}`, reply);
  const records = new Map<Key, Found>();
  for (const message of reply.messages) {
    for (const { key, value, version } of fromBinary(RangeScanResponseSchema, message).records) {
      if (key === undefined || version === undefined)
        throw new Error(`shard ${shard}: a record without key or version`);
      if (records.has(keyOf(key))) throw new Error(`shard ${shard}: a key twice in one scan`);
      records.set(keyOf(key), { value: value ?? new Uint8Array(), version: versionOf(version) });
    }
  }
  return records;
}

/** Keys of a shard in the order in which they came. Throws CallFailed. */
export async function list(connection: Connection, shard: number, from: Key = "", to: Key = ""): Promise<Key[]> {
  const request = create(ListRequestSchema, {
    shard: BigInt(shard),
    startInclusive: bytesOf(from),
    endExclusive: bytesOf(to),
  });
  const reply = await connection.call(`${SERVICE}/List`, toBinary(ListRequestSchema, request));
  if (reply.code !== Code.OK) throw new CallFailed(`list of shard ${shard}`, reply);
  return reply.messages.flatMap((message) => fromBinary(ListResponseSchema, message).keys.map(keyOf));
}

/** The ids of the namespace's shards, from the first message of GetShardAssignments. */
export async function shardIds(connection: Connection, namespace = "default"): Promise<number[]> {
  const request = toBinary(ShardAssignmentsRequestSchema, create(ShardAssignmentsRequestSchema, { namespace }));
  const ids: number[] = [];
  const call = connection.open(`${SERVICE}/GetShardAssignments`, (message) => {
    const assignment = fromBinary(ShardAssignmentsSchema, message).namespaces[namespace];
    for (const { shard } of assignment?.assignments ?? []) ids.push(Number(shard));
    call.cancel();
  });
  call.send(request);
  call.halfClose();
  const outcome = await call.ended;
  if (ids.length === 0) throw new CallFailed("assignments", outcome);
  return ids.sort((a, b) => a - b);
}
