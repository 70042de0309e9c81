/**
 * Real shards on real files, served on a free port: for tests of the client API that look at both sides. Shards have
 * the clock that a test gives them; the connections have the system's.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  CloseSessionRequestSchema,
  CreateSessionRequestSchema,
  CreateSessionResponseSchema,
  GetSequenceUpdatesRequestSchema,
  GetSequenceUpdatesResponseSchema,
  NotificationBatchSchema,
  NotificationsRequestSchema,
  SessionHeartbeatSchema,
  WriteRequestSchema,
  type WriteResponse,
  WriteResponseSchema,
} from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import type { TermOptions } from "../../src/model/peer-messages.ts";
import { Refusal } from "../../src/model/refusal.ts";
import { systemClock } from "../../src/ops/clock.ts";
import { systemRandom } from "../../src/ops/random.ts";
import type { Clock } from "../../src/ports.ts";
import { initialRanges } from "../../src/protocol/assignment.ts";
import { DataServer } from "../../src/replication/data-server.ts";
import { leadAlone, NO_FOLLOWERS } from "../../src/replication/lead-alone.ts";
import type { Leader } from "../../src/replication/leader.ts";
import { Assignments } from "../../src/rpc/assignments-api.ts";
import { ClientApi } from "../../src/rpc/client-api.ts";
import { clientMethods } from "../../src/rpc/client-methods.ts";
import { FileDocuments } from "../../src/storage/documents.ts";
import { SqliteKeyValues } from "../../src/storage/key-value/key-values.ts";
import { openSqliteLog } from "../../src/storage/log.ts";
import type { WriteInit } from "./applied-state.ts";
import { bytesOf, keyOf, SERVICE } from "./client.ts";
import { type Bidi, Code, Connection, type Outcome } from "./grpc.ts";
import { listenForTest } from "./rpc-server.ts";

export interface ShardServer {
  readonly address: string;
  readonly api: ClientApi;
  readonly shards: readonly Leader[];
  /** A connection that is closed with the server. */
  connect(): Promise<Connection>;
  /** Opens everything again, on another port. */
  restart(): Promise<ShardServer>;
  /** Closes everything; again, it does nothing. */
  stop(): Promise<void>;
}

export interface ShardServerOptions extends Partial<TermOptions> {
  readonly shards?: number;
  readonly clock?: Clock;
  readonly notificationsRetentionMs?: number;
  readonly sessionsMax?: number;
}

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const fault = (error: Error) => {
  throw error;
};

export async function startShards(
  options: ShardServerOptions = {},
  folder = mkdtempSync(join(tmpdir(), "varia-shards-")),
): Promise<ShardServer> {
  const { shards: count = 1, clock = systemClock, notificationsRetentionMs, sessionsMax, ...given } = options;
  const termOptions: TermOptions = {
    notificationsEnabled: true,
    keySorting: "hierarchical",
    readConsistency: "linearizable",
    ...given,
  };
  const MiB = 1024 * 1024;
  const log = await openSqliteLog({
    directory: join(folder, "log"),
    retentionMs: 3_600_000,
    syncData: false,
    acceptLoss: new Map(),
    onFault: fault,
  });
  const keyValues = new SqliteKeyValues({
    directory: folder,
    verify: true,
    released: (shard, offset) => log.release(shard, offset),
    tableBytesMax: 64 * MiB,
    cacheBytesMax: MiB,
    sqliteCacheBytesMax: MiB,
    clock: systemClock,
    logger: silent,
    onFault: fault,
  });
  const documents = new FileDocuments({
    path: join(folder, "documents"),
    clock: systemClock,
    onDamage: () => {},
    onFault: fault,
  });
  const server = await DataServer.open(
    { log, keyValues, documents, followers: NO_FOLLOWERS, clock, random: systemRandom, logger: silent },
    {
      self: "test",
      onDamage: "keep",
      ...(notificationsRetentionMs === undefined ? {} : { notificationsRetentionMs }),
      ...(sessionsMax === undefined ? {} : { sessionsMax }),
    },
  );
  await leadAlone(server, {
    instanceId: "test",
    namespace: "default",
    options: termOptions,
    ranges: initialRanges(count),
  });
  const shards = server.replicas;
  const api = new ClientApi(shards, new Assignments(shards, { clock, heldMsMax: 0 }));
  const listener = await listenForTest(clientMethods(api));
  const connections: Connection[] = [];
  let stopped: Promise<void> | undefined;
  const stop = async () => {
    const reason = new Refusal("RESOURCE_UNAVAILABLE", "the server is shutting down");
    api.close(reason);
    for (const connection of connections) await connection.close();
    await listener.close({ graceMs: 0 });
    await Promise.all(shards.leaders().map((leader) => leader.drain(reason)));
    await server.close();
    await keyValues.close();
    await log.close();
  };
  const stopOnce = () => {
    stopped ??= stop();
    return stopped;
  };
  return {
    address: listener.address,
    api,
    shards: shards.leaders(),
    async connect() {
      const connection = await Connection.open(listener.address);
      connections.push(connection);
      return connection;
    },
    async restart() {
      await stopOnce();
      return startShards(options, folder);
    },
    async stop() {
      await stopOnce();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

// --- calls ----------------------------------------------------------------------------------------------------

/** One request, one answer: `undefined` when the call failed. */
async function unary<Request extends DescMessage, Response extends DescMessage>(
  connection: Connection,
  name: string,
  [requestSchema, init]: [Request, MessageInitShape<Request>],
  responseSchema: Response,
): Promise<Outcome & { readonly answer: MessageShape<Response> | undefined }> {
  const request = toBinary(requestSchema, create(requestSchema, init));
  const { messages, ...outcome } = await connection.call(`${SERVICE}/${name}`, request);
  const answer = messages[0] === undefined ? undefined : fromBinary(responseSchema, messages[0]);
  return { ...outcome, answer };
}

export const write = (connection: Connection, init: WriteInit) =>
  unary(connection, "Write", [WriteRequestSchema, { shard: 0n, ...init }], WriteResponseSchema);

/** A write that must succeed. */
export async function written(connection: Connection, init: WriteInit): Promise<WriteResponse> {
  const { code, message, answer } = await write(connection, init);
  if (code !== Code.OK || answer === undefined) throw new Error(`the write failed: ${code} ${message}`);
  return answer;
}

export const createSession = (connection: Connection, sessionTimeoutMs: number, shard = 0n) =>
  unary(
    connection,
    "CreateSession",
    [CreateSessionRequestSchema, { shard, sessionTimeoutMs, clientIdentity: "me" }],
    CreateSessionResponseSchema,
  );

export const keepAlive = (connection: Connection, sessionId: bigint, shard = 0n) =>
  unary(connection, "KeepAlive", [SessionHeartbeatSchema, { shard, sessionId }], CreateSessionResponseSchema);

export const closeSession = (connection: Connection, sessionId: bigint, shard = 0n) =>
  unary(connection, "CloseSession", [CloseSessionRequestSchema, { shard, sessionId }], CreateSessionResponseSchema);

/** A session that must come about. */
export async function newSession(connection: Connection, timeoutMs = 10_000): Promise<bigint> {
  const { code, message, answer } = await createSession(connection, timeoutMs);
  if (code !== Code.OK || answer === undefined) throw new Error(`no session: ${code} ${message}`);
  return answer.sessionId;
}

/** A stream of a server: what has come so far, and its end. */
export interface Subscription<Message> {
  readonly received: Message[];
  readonly headers: Readonly<Record<string, unknown>>;
  readonly call: Bidi;
  readonly ended: Promise<Outcome>;
}

function subscribe<Message>(
  connection: Connection,
  name: string,
  request: Uint8Array,
  decode: (message: Uint8Array) => Message,
): Subscription<Message> {
  const received: Message[] = [];
  const headers: Record<string, unknown> = {};
  const call = connection.open(`${SERVICE}/${name}`, (message) => received.push(decode(message)), {
    timeoutMs: 60_000,
    onHeaders: (given) => Object.assign(headers, given),
  });
  call.send(request);
  call.halfClose();
  return { received, headers, call, ended: call.ended };
}

export function notifications(connection: Connection, startOffsetExclusive?: bigint, shard = 0n) {
  const init = startOffsetExclusive === undefined ? { shard } : { shard, startOffsetExclusive };
  const request = toBinary(NotificationsRequestSchema, create(NotificationsRequestSchema, init));
  return subscribe(connection, "GetNotifications", request, (message) => fromBinary(NotificationBatchSchema, message));
}

/** The keys that the stream tells, as latin1. */
export function sequenceUpdates(connection: Connection, prefix: string, shard = 0n) {
  const init = { shard, key: bytesOf(prefix) };
  const request = toBinary(GetSequenceUpdatesRequestSchema, create(GetSequenceUpdatesRequestSchema, init));
  return subscribe(connection, "GetSequenceUpdates", request, (message) =>
    keyOf(fromBinary(GetSequenceUpdatesResponseSchema, message).highestSequenceKey),
  );
}
