/**
 * The load of a client without batches: each put is a unary Write and each get a Read of its own, without retries, as
 * small programs and the official Node and Python clients send them.
 */
import { decodeWriteAnswer, RecordDecoder, Status } from "../client/answers.ts";
import { Assignments } from "../client/assignments.ts";
import { type CallStatus, plainStatus } from "../client/call-status.ts";
import { RequestTimeoutError, ServerError } from "../client/errors.ts";
import { GrpcCode } from "../client/grpc-code.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { loadKeyHash, platformClock } from "../client/platform.ts";
import { beginFrame, endFrame, writeGet, writePut } from "../client/requests.ts";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { Writer } from "../wire/writer.ts";
import type { Target } from "./perf-load.ts";

const WRITE = "/io.oxia.proto.v1.OxiaClient/Write";
const READ = "/io.oxia.proto.v1.OxiaClient/Read";

export interface UnaryOptions {
  readonly serviceAddress: string;
  readonly namespace: string;
  readonly requestTimeoutMs: number;
  readonly connections: number;
  readonly authToken: string | undefined;
}

export interface UnaryTarget extends Target {
  close(): void;
}

export async function connectUnary(options: UnaryOptions): Promise<UnaryTarget> {
  const { serviceAddress, namespace, requestTimeoutMs, authToken } = options;
  const transport = new Http2Transport({ connectionsPerServer: options.connections });
  const headers: Record<string, string> = authToken === undefined ? {} : { authorization: `Bearer ${authToken}` };
  const hash = await loadKeyHash();
  const ports = { clock: platformClock, transport, hash, random: Math.random };
  const assignments = new Assignments(ports, { serviceAddress, namespace, headers });
  const close = () => {
    assignments.close();
    transport.close();
  };
  await assignments.start(requestTimeoutMs).catch((error) => {
    close();
    throw error;
  });

  const call = (path: string, key: string, append: (writer: Writer) => void): Promise<Bytes> =>
    new Promise((resolve, reject) => {
      const shard = assignments.table.byHash(hash(key));
      const writer = new Writer();
      beginFrame(writer, shard.id);
      append(writer);
      let answer = EMPTY_BYTES;
      const cancelTimeout = platformClock.after(requestTimeoutMs, () => {
        open.cancel();
        reject(new RequestTimeoutError("a call", requestTimeoutMs));
      });
      const open = transport.open(
        { address: shard.leader, path, headers, timeoutMs: requestTimeoutMs },
        {
          message: (message) => {
            answer = message;
          },
          drained: () => {},
          ended: (status) => {
            cancelTimeout();
            if (status.code === GrpcCode.ok) resolve(answer);
            else reject(new ServerError(status));
          },
        },
      );
      open.send(endFrame(writer));
      open.halfClose();
    });

  return {
    close,
    async put(key, value) {
      const answer = await call(WRITE, key, (writer) => writePut(writer, { ...NO_OPTIONS, key, value }));
      const status = decodeWriteAnswer(answer).puts[0]?.status;
      if (status !== Status.ok) throw new ServerError(unexpected(status));
    },
    async get(key) {
      const answer = await call(READ, key, (writer) => writeGet(writer, key, true, 0));
      const status = new RecordDecoder(answer).gets(() => key)[0]?.status;
      if (status !== Status.ok && status !== Status.keyNotFound) throw new ServerError(unexpected(status));
    },
    scan: () => Promise.reject(new Error("range scans are no unary calls")),
  };
}

const NO_OPTIONS = {
  expectedVersionId: undefined,
  partitionKey: undefined,
  overrideVersionId: undefined,
  overrideModificationsCount: undefined,
};

function unexpected(status: number | undefined): CallStatus {
  return plainStatus(GrpcCode.internal, status === undefined ? "no answer" : `status ${status}`);
}
