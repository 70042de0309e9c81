/**
 * A stream of one shard that has no end: opened at the shard's leader, and again at whoever leads when it breaks, ends
 * or the leader changes. What it asks for on each opening is its owner's business, who knows what has come.
 *
 * A paused feed holds the server back, and is not opened again before it goes on.
 *
 * Source: semantics.md §5; errors.md §5.
 */
import type { Bytes } from "../lib/bytes.ts";
import { type ChangedBy, followsAtOnce, retryDelayMs } from "./backoff.ts";
import { type CallStatus, isRetryable, plainStatus } from "./call-status.ts";
import { ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { ShardContext } from "./shard-context.ts";
import type { Call } from "./transport.ts";

export interface FeedOwner {
  readonly path: string;
  /** The request of the next call, framed. */
  request(): Bytes;
  headers?(headers: Readonly<Record<string, string | undefined>>): void;
  /** One message. What it throws ends the feed as `failed`. */
  message(message: Bytes): void;
  /** The server refuses for good. */
  failed(error: Error): void;
  /** The shard is no more. */
  gone(): void;
}

export class ShardFeed {
  readonly shard: number;
  readonly #context: ShardContext;
  readonly #owner: FeedOwner;
  #call: Call | undefined;
  #address = "";
  #paused = false;
  #closed = false;
  #attempts = 0;
  #cancelRetry: (() => void) | undefined;
  #lastStatus: CallStatus | undefined;

  /** Nothing is opened before `start`. */
  constructor(shard: number, context: ShardContext, owner: FeedOwner) {
    this.shard = shard;
    this.#context = context;
    this.#owner = owner;
  }

  /** What the last call that failed ended with, unless one has brought a message since. */
  get lastError(): Error | undefined {
    return this.#lastStatus === undefined ? undefined : new ServerError(this.#lastStatus);
  }

  start(): void {
    this.#context.feeds.add(this);
    this.#open();
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#call?.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#call !== undefined) this.#call.resume();
    else if (this.#cancelRetry === undefined) this.#open();
  }

  close(): void {
    this.#closed = true;
    this.#context.feeds.delete(this);
    this.#dropCall();
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
  }

  /** A stream at a server that no longer leads may say nothing more, without ending. */
  assignmentsChanged(by: ChangedBy): void {
    if (this.#closed) return;
    const shard = this.#context.assignments.table.byId(this.shard);
    if (shard === undefined) {
      this.#dropCall();
      this.#open();
    } else if (this.#call !== undefined) {
      if (shard.leader === "" || shard.leader === this.#address) return;
      this.#dropCall();
      this.#open();
    } else if (this.#cancelRetry !== undefined && followsAtOnce(by, this.#attempts, shard.leader === this.#address)) {
      this.#open();
    }
  }

  #open(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    if (this.#closed) return;
    const { assignments, ports, headers } = this.#context;
    const shard = assignments.table.byId(this.shard);
    if (shard === undefined) {
      this.close();
      this.#owner.gone();
      return;
    }
    if (this.#paused) return;
    if (shard.leader === "") {
      this.#retryLater(plainStatus(GrpcCode.unavailable, `shard ${this.shard} has no leader`));
      return;
    }
    this.#address = shard.leader;
    const call = ports.transport.open(
      { address: shard.leader, path: this.#owner.path, headers, message: this.#owner.request() },
      {
        headers: (its) => {
          if (call === this.#call) this.#owner.headers?.(its);
        },
        message: (message) => {
          if (call === this.#call) this.#take(message);
        },
        drained: () => {},
        ended: (status) => {
          if (call === this.#call) this.#ended(status);
        },
      },
    );
    this.#call = call;
  }

  #take(message: Bytes): void {
    this.#attempts = 0;
    this.#lastStatus = undefined;
    try {
      this.#owner.message(message);
    } catch (error) {
      const status = plainStatus(GrpcCode.internal, error instanceof Error ? error.message : String(error));
      this.#fail(new ServerError(status, { cause: error }));
    }
  }

  #ended(status: CallStatus): void {
    this.#call = undefined;
    if (!isRetryable(status)) {
      this.#fail(new ServerError(status));
      return;
    }
    this.#retryLater(status);
    if (status.hint !== undefined) this.#context.assignments.takeHint(status.hint);
  }

  #retryLater(status: CallStatus): void {
    this.#lastStatus = status;
    this.#attempts++;
    const { clock, random } = this.#context.ports;
    this.#cancelRetry = clock.after(retryDelayMs(this.#attempts, random), () => this.#open());
  }

  #fail(error: Error): void {
    this.close();
    this.#owner.failed(error);
  }

  #dropCall(): void {
    this.#call?.cancel();
    this.#call = undefined;
  }
}
