/**
 * One call over Connect or gRPC-Web as its handler sees it: the counterpart of call.ts for native gRPC. Replies are
 * queued here, and Connect takes them at the pace of the reader.
 */
import type { HandlerContext } from "@connectrpc/connect";
import type { Bytes } from "../lib/bytes.ts";
import { STREAM_UNSENT_BYTES_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { Code } from "./code.ts";
import type { BidiControls, Call } from "./method.ts";
import type { MethodStats } from "./stats.ts";
import type { Status } from "./status.ts";
import type { Origin } from "./universal.ts";

export interface ConnectCallOptions {
  readonly context: HandlerContext;
  readonly origin: Origin;
  readonly stats: MethodStats;
  /** What `error` says to the peer; logs faults. */
  readonly statusOf: (error: unknown) => Status;
}

export class ConnectCall implements Call, BidiControls {
  readonly peer: string;
  readonly authority: string | undefined;
  cancelled = false;
  ended = false;
  /** How the call failed, if its handler failed it. */
  failure: Status | undefined;
  /** Invariant: defined once `ended`. */
  code: Code | undefined;
  /** Resolves when the call has ended, however it did. */
  readonly over: Promise<void>;
  readonly #options: ConnectCallOptions;
  readonly #resolveOver: () => void;
  #cancelCallbacks: (() => void)[] = [];
  #queue: Bytes[] = [];
  #queuedBytes = 0;
  /** Sizes of requests that were handed over and not answered, oldest first. */
  readonly #unanswered: number[] = [];
  #wake: PromiseWithResolvers<void> | undefined;
  #drain: PromiseWithResolvers<void> | undefined;
  #resume: PromiseWithResolvers<void> | undefined;
  #resumed = false;

  constructor(options: ConnectCallOptions) {
    this.#options = options;
    this.peer = options.origin.peer;
    this.authority = options.origin.authority;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#resolveOver = resolve;
    options.stats.started++;
    const { signal } = options.context;
    if (signal.aborted) this.#abort();
    else signal.addEventListener("abort", () => this.#abort(), { once: true });
  }

  // --- Call ---------------------------------------------------------------------------------------------------

  header(name: string): readonly string[] {
    const { headers } = this.#options.origin;
    const values: string[] = [];
    for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) values.push(headers[i + 1]!);
    return values;
  }

  onCancel(callback: () => void): void {
    if (this.cancelled) callback();
    else if (!this.ended) this.#cancelCallbacks.push(callback);
  }

  setResponseHeader(name: string, value: string): void {
    this.#options.context.responseHeader.set(name, value);
  }

  // --- Sink, BidiControls -------------------------------------------------------------------------------------

  send(message: Bytes): boolean {
    this.answered();
    if (this.ended) return false;
    this.#options.stats.messagesSent++;
    this.#queue.push(message);
    this.#queuedBytes += message.length;
    this.#wake?.resolve();
    return this.#queuedBytes < STREAM_UNSENT_BYTES_MAX;
  }

  drained(): Promise<void> {
    if (this.ended) return Promise.reject(new Refusal("ABORTED", "oxia: operation was aborted"));
    if (this.#queuedBytes < STREAM_UNSENT_BYTES_MAX) return Promise.resolve();
    this.#drain ??= Promise.withResolvers<void>();
    return this.#drain.promise;
  }

  resume(): void {
    this.#resumed = true;
    this.#resume?.resolve();
  }

  end(): void {
    if (!this.ended) this.#decide(Code.OK);
  }

  fail(error: unknown): void {
    const status = this.#options.statusOf(error);
    if (this.ended) return;
    this.failure = status;
    this.#decide(status.code);
  }

  // --- for connect-method.ts ----------------------------------------------------------------------------------

  /** Notes a request of `bytes` that is about to be handed over. Throws RESOURCE_EXHAUSTED. */
  received(bytes: number): void {
    this.#options.origin.body.hold(bytes);
    this.#options.stats.messagesReceived++;
    this.#unanswered.push(bytes);
    this.#resumed = false;
  }

  /** The oldest request that was handed over is answered, or needs no answer. */
  answered(): void {
    const bytes = this.#unanswered.shift();
    if (bytes !== undefined) this.#options.origin.body.unhold(bytes);
  }

  /** Resolves when the handler takes requests again, or the call has ended. */
  async resumed(): Promise<void> {
    if (this.#resumed || this.ended) return;
    this.#resume = Promise.withResolvers<void>();
    await Promise.race([this.#resume.promise, this.over]);
  }

  /** The replies, in order, to the end of the call; the caller looks at `failure` then. */
  async *replies(): AsyncIterable<Bytes> {
    try {
      for (;;) {
        for (let message = this.#queue.shift(); message !== undefined; message = this.#queue.shift()) {
          this.#queuedBytes -= message.length;
          if (this.#drain !== undefined && this.#queuedBytes < STREAM_UNSENT_BYTES_MAX / 2) {
            this.#drain.resolve();
            this.#drain = undefined;
          }
          yield message;
        }
        if (this.ended) return;
        this.#wake = Promise.withResolvers<void>();
        await Promise.race([this.#wake.promise, this.over]);
      }
    } finally {
      this.#abort(); // the reader may have gone
    }
  }

  #abort(): void {
    if (this.ended) return;
    this.cancelled = true;
    const { reason } = this.#options.context.signal as { reason?: { code?: number } };
    this.#decide(reason?.code === Code.DEADLINE_EXCEEDED ? Code.DEADLINE_EXCEEDED : Code.CANCELLED);
    const callbacks = this.#cancelCallbacks;
    this.#cancelCallbacks = [];
    for (const callback of callbacks) callback();
  }

  #decide(code: Code): void {
    this.ended = true;
    this.code = code;
    this.#options.stats.ended(code);
    this.#drain?.reject(new Refusal("ABORTED", "oxia: operation was aborted"));
    while (this.#unanswered.length > 0) this.answered();
    this.#resolveOver();
  }
}
