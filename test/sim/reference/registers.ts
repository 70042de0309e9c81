/**
 * What clients of mixed clusters ask for: puts, deletes and gets of single keys, in the bytes that servers log. No client
 * API: a write is a serialised WriteRequest, a read answers the stored row.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { rowValue, storedVersion } from "../../../src/database/record.ts";
import { Status, WriteRequestSchema, WriteResponseSchema } from "../../../src/gen/io/oxia/proto/v1/client_pb.ts";
import { type Bytes, text, utf8 } from "../../../src/lib/bytes.ts";
import type { ShardId } from "../../../src/model/ids.ts";
import type { TermOptions } from "../../../src/model/peer-messages.ts";
import { CallError } from "../call-error.ts";
import type { Operation, Outcome } from "../history.ts";
import type { Channel, Service } from "../network.ts";

export const SHARD: ShardId = 0;
export const OPTIONS: TermOptions = {
  notificationsEnabled: true,
  keySorting: "hierarchical",
  readConsistency: "linearizable",
};
export const NAMESPACE = "default";
const METHOD = "Registers";

export type RegisterOperation = Extract<Operation, { kind: "put" | "delete" | "get" }>;

/** A server's shard as clients of registers see it. Turned down: nothing has happened. */
export interface RegisterShard {
  write(request: Bytes): Promise<Bytes>;
  /** The row of a key. */
  read(key: Bytes): Promise<Bytes | undefined>;
}

/** Answers the clients of registers, and leaves all other calls to `peers`. A call is a stream: no network repeats it. */
export function withRegisters(peers: Service, shard: RegisterShard): Service {
  return {
    ...peers,
    async stream(call, stream) {
      if (call.method !== METHOD) return peers.stream!(call, stream);
      const operation = (await stream.next()) as RegisterOperation;
      if (operation.kind === "get") stream.send(found(operation.key, await shard.read(utf8(operation.key))));
      else stream.send(outcomeOf(operation, await shard.write(encode(operation))));
    },
  };
}

/** Sends an operation to one server. Throws CallError. */
export async function askRegisters(channel: Channel, server: string, operation: RegisterOperation): Promise<Outcome> {
  const stream = channel.serverStream(server, METHOD, operation, { timeoutMs: 2_000 });
  const outcome = (await stream.next()) as Outcome | undefined;
  if (outcome === undefined) throw new CallError("UNKNOWN", "the stream ended without an answer");
  return outcome;
}

/** Whether a server that answered so has promised not to have carried anything out. */
export function isTurnedDown(error: unknown): boolean {
  return error instanceof CallError && error.refusal?.reason === "NODE_IS_NOT_LEADER";
}

/** The WriteRequest of a put or delete. */
export function encode(operation: Exclude<RegisterOperation, { kind: "get" }>): Bytes {
  const shard = BigInt(SHARD);
  const { key } = operation;
  const expected = "expected" in operation && operation.expected !== undefined ? BigInt(operation.expected) : undefined;
  const condition = expected === undefined ? {} : { expectedVersionId: expected };
  const writes =
    operation.kind === "put"
      ? { puts: [{ key, value: utf8(operation.value), ...condition }] }
      : { deletes: [{ key, ...condition }] };
  return toBinary(WriteRequestSchema, create(WriteRequestSchema, { shard, ...writes }));
}

function outcomeOf({ kind }: RegisterOperation, response: Bytes): Outcome {
  const { puts, deletes } = fromBinary(WriteResponseSchema, response);
  const put = puts[0];
  const status = kind === "put" ? put!.status : deletes[0]!.status;
  if (status === Status.KEY_NOT_FOUND) return { status: "KEY_NOT_FOUND" };
  if (status === Status.UNEXPECTED_VERSION_ID) return { status: "UNEXPECTED_VERSION_ID" };
  return put?.version === undefined ? { status: "OK" } : { status: "OK", version: Number(put.version.versionId) };
}

function found(key: string, row: Bytes | undefined): Outcome {
  if (row === undefined) return { status: "KEY_NOT_FOUND" };
  return { status: "OK", record: { key, value: text(rowValue(row)), version: Number(storedVersion(row).versionId) } };
}
