/**
 * Loads that the client library would weigh down: one operation a call without batches or retries, as small programs
 * and the official Node and Python clients send them, and range scans whose records are walked and counted, not kept.
 */
import { decodeWriteAnswer, RecordDecoder, Status } from "../client/answers.ts";
import { Assignments } from "../client/assignments.ts";
import { type CallStatus, plainStatus } from "../client/call-status.ts";
import { RequestTimeoutError, ServerError } from "../client/errors.ts";
import { GrpcCode } from "../client/grpc-code.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { loadKeyHash, platformClock } from "../client/platform.ts";
import { beginFrame, endFrame, rangeFrame, writeGet, writePut } from "../client/requests.ts";
import type { Shard } from "../client/shard-table.ts";
import type { KeyHash, Transport } from "../client/transport.ts";
import type { Bytes } from "../lib/bytes.ts";
import { Reader } from "../wire/reader.ts";
import { Writer } from "../wire/writer.ts";
import { KEYS_END, KEYS_START, type Target } from "./perf-load.ts";

const SERVICE = "/io.oxia.proto.v1.OxiaClient";
const NO_OPTIONS = {
  expectedVersionId: undefined,
  partitionKey: undefined,
  overrideVersionId: undefined,
  overrideModificationsCount: undefined,
};

export interface RawOptions {
  readonly serviceAddress: string;
  readonly namespace: string;
  readonly requestTimeoutMs: number;
  readonly connections: number;
  readonly authToken: string | undefined;
}

/** Learns the shards; connections to their leaders come with the first calls. */
export async function connectRaw(options: RawOptions): Promise<RawTarget> {
  const { serviceAddress, namespace, requestTimeoutMs, authToken, connections } = options;
  const headers: Record<string, string> = authToken === undefined ? {} : { authorization: `Bearer ${authToken}` };
  const transport = new Http2Transport({ connectionsPerServer: connections });
  const hash = await loadKeyHash();
  const ports = { clock: platformClock, transport, hash, random: Math.random };
  const assignments = new Assignments(ports, { serviceAddress, namespace, headers });
  try {
    await assignments.start(requestTimeoutMs);
  } catch (error) {
    transport.close();
    throw error;
  } finally {
    // a benchmark's shards stay where they are: the stream would only be a disturbance
    assignments.close();
  }
  return new RawTarget(assignments, transport, hash, requestTimeoutMs, headers);
}

export class RawTarget implements Target {
  readonly #assignments: Assignments;
  readonly #transport: Transport;
  readonly #hash: KeyHash;
  readonly #timeoutMs: number;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(
    assignments: Assignments,
    transport: Transport,
    hash: KeyHash,
    timeoutMs: number,
    headers: Readonly<Record<string, string>>,
  ) {
    this.#assignments = assignments;
    this.#transport = transport;
    this.#hash = hash;
    this.#timeoutMs = timeoutMs;
    this.#headers = headers;
  }

  close(): void {
    this.#transport.close();
  }

  async put(key: string, value: Bytes): Promise<void> {
    const shard = this.#shardOf(key);
    const writer = new Writer(value.length + key.length + 64);
    beginFrame(writer, shard.id);
    writePut(writer, { ...NO_OPTIONS, key, value });
    let status: number | undefined;
    await this.#call("Write", shard, endFrame(writer), (answer) => {
      status = decodeWriteAnswer(answer).puts[0]?.status;
    });
    if (status !== Status.ok) throw new ServerError(unexpected(status));
  }

  async get(key: string): Promise<void> {
    const shard = this.#shardOf(key);
    const writer = new Writer(key.length + 64);
    beginFrame(writer, shard.id);
    writeGet(writer, key, true, 0);
    let status: number | undefined;
    await this.#call("Read", shard, endFrame(writer), (answer) => {
      status = new RecordDecoder(answer).gets(() => key)[0]?.status;
    });
    if (status !== Status.ok && status !== Status.keyNotFound) throw new ServerError(unexpected(status));
  }

  /** Scans all shards at once. */
  async scan(): Promise<number> {
    let records = 0;
    const range = { startInclusive: KEYS_START, endExclusive: KEYS_END, includeInternalKeys: false };
    const scans = this.#assignments.table.shards.map((shard) =>
      this.#call("RangeScan", shard, rangeFrame(new Writer(), { ...range, shard: shard.id }), (answer) => {
        records += countRecords(answer);
      }),
    );
    await Promise.all(scans);
    return records;
  }

  #shardOf(key: string): Shard {
    return this.#assignments.table.byHash(this.#hash(key));
  }

  #call(method: string, { leader }: Shard, message: Bytes, take: (answer: Bytes) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelTimeout = platformClock.after(this.#timeoutMs, () => {
        call.cancel();
        reject(new RequestTimeoutError("a call", this.#timeoutMs));
      });
      const call = this.#transport.open(
        { address: leader, path: `${SERVICE}/${method}`, headers: this.#headers, timeoutMs: this.#timeoutMs, message },
        {
          message: take,
          drained: () => {},
          ended: (status) => {
            cancelTimeout();
            if (status.code === GrpcCode.ok) resolve();
            else reject(new ServerError(status));
          },
        },
      );
    });
  }
}

function unexpected(status: number | undefined): CallStatus {
  return plainStatus(GrpcCode.internal, status === undefined ? "no answer" : `status ${status}`);
}

/** Records in a RangeScanResponse: each of its fields is walked, nothing is copied. Throws where the bytes are no message. */
export function countRecords(message: Bytes): number {
  const reader = new Reader(message);
  let records = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag !== 0x0a) {
      reader.skip(tag);
      continue;
    }
    const end = reader.messageEnd();
    const outerEnd = reader.end;
    reader.end = end;
    while (reader.pos < end) reader.skip(reader.tag());
    reader.end = outerEnd;
    records++;
  }
  return records;
}
