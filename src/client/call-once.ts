/** Calls with one answer to a shard's leader: once, or again and again until there is one. */
import type { Bytes } from "../lib/bytes.ts";
import { retryDelayMs } from "./backoff.ts";
import { type CallStatus, isRetryable, plainStatus } from "./call-status.ts";
import { RequestTimeoutError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { ShardContext } from "./shard-context.ts";
import type { Call, CallRequest, Transport } from "./transport.ts";

/** Calls `done` once: with the answer, or with undefined and the status that says why there is none. */
export function callOnce(
  transport: Transport,
  request: CallRequest,
  done: (answer: Bytes | undefined, status: CallStatus) => void,
): Call {
  let answer: Bytes | undefined;
  return transport.open(request, {
    message: (message) => {
      answer ??= message;
    },
    drained: () => {},
    ended: (status) => done(status.code === GrpcCode.ok ? answer : undefined, status),
  });
}

/** What `callShard` rejects with when the shard is no more: others own its hashes. */
export class ShardGoneError extends Error {
  override readonly name = "ShardGoneError";
}

export interface ShardRequest {
  readonly shard: number;
  readonly path: string;
  readonly message: Bytes;
  /** For the error when time is up. */
  readonly what: string;
  readonly timeoutMs: number;
}

/** The answer of the shard's leader, whoever that is by then. Rejects with ServerError, RequestTimeoutError or ShardGoneError. */
export function callShard(context: ShardContext, request: ShardRequest): Promise<Bytes> {
  const { assignments, ports, headers } = context;
  const { shard, path, message, what, timeoutMs } = request;
  return new Promise((resolve, reject) => {
    let attempts = 0;
    let call: Call | undefined;
    let cancelRetry: (() => void) | undefined;
    let lastStatus: CallStatus | undefined;
    const cancelTimeout = ports.clock.after(timeoutMs, () => {
      call?.cancel();
      cancelRetry?.();
      const cause = lastStatus === undefined ? undefined : new ServerError(lastStatus);
      reject(new RequestTimeoutError(what, timeoutMs, { cause }));
    });
    const fail = (error: Error) => {
      cancelTimeout();
      reject(error);
    };
    const retry = (status: CallStatus) => {
      lastStatus = status;
      attempts++;
      if (status.hint !== undefined) assignments.takeHint(status.hint);
      cancelRetry = ports.clock.after(retryDelayMs(attempts, ports.random), attempt);
    };
    const attempt = () => {
      cancelRetry = undefined;
      const leader = assignments.table.byId(shard)?.leader;
      if (leader === undefined) return fail(new ShardGoneError());
      if (leader === "") return retry(plainStatus(GrpcCode.unavailable, `shard ${shard} has no leader`));
      call = callOnce(ports.transport, { address: leader, path, headers, message, timeoutMs }, (answer, status) => {
        call = undefined;
        if (answer !== undefined) {
          cancelTimeout();
          resolve(answer);
        } else if (isRetryable(status)) retry(status);
        else fail(new ServerError(status));
      });
    };
    attempt();
  });
}
