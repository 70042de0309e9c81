/**
 * The request side of native calls, in what unary and streaming ones share: DATA frames of an HTTP/2 stream come in,
 * messages go to handlers (single-request.ts, request-stream.ts), and a message that takes too long to arrive ends its
 * call, so that half-sent requests cannot hold memory for ever.
 */
import type { ServerHttp2Stream } from "node:http2";
import type { Bytes } from "../lib/bytes.ts";
import { REQUEST_BYTES_PER_S_MIN, REQUEST_MS_MAX } from "../model/limits.ts";
import type { Clock } from "../ports.ts";
import type { RequestBudget } from "./budget.ts";
import type { CallStream } from "./call.ts";
import { Code, StatusError } from "./code.ts";

/** What the request sides of a listener share. */
export interface RequestPorts {
  readonly budget: RequestBudget;
  readonly messageBytesMax: number;
  readonly incomplete: IncompleteRequests;
  readonly clock: Clock;
}

export interface IncompleteRequest {
  /** Set by IncompleteRequests. */
  sinceMs: number;
  /** Declared length of the message under way; 0 while it is not known. */
  readonly expectedBytes: number;
  /** Ends the call with `error`. */
  overdue(error: StatusError): void;
}

/** Requests of which a part is in: swept now and then for those past their time. */
export class IncompleteRequests {
  readonly #requests = new Set<IncompleteRequest>();
  /** Time of the last sweep: near enough, and cheaper than a clock. */
  #nowMs: number;

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  get size(): number {
    return this.#requests.size;
  }

  add(request: IncompleteRequest): void {
    request.sinceMs = this.#nowMs;
    this.#requests.add(request);
  }

  delete(request: IncompleteRequest): void {
    this.#requests.delete(request);
  }

  /** Ends what has taken longer than REQUEST_MS_MAX and a second for each REQUEST_BYTES_PER_S_MIN. `nowMs` is monotonic. */
  sweep(nowMs: number): void {
    this.#nowMs = nowMs;
    for (const request of this.#requests) {
      const allowedMs = REQUEST_MS_MAX + (1000 * request.expectedBytes) / REQUEST_BYTES_PER_S_MIN;
      if (nowMs - request.sinceMs <= allowedMs) continue;
      this.#requests.delete(request);
      request.overdue(new StatusError(Code.DEADLINE_EXCEEDED, "the request took too long to arrive"));
    }
  }
}

/** Has the stream of a call feed its request side: listeners are shared by all streams. */
export function listen(stream: CallStream): void {
  stream.on("data", onData);
  stream.on("end", onEnd);
}

function onData(this: ServerHttp2Stream, chunk: Bytes): void {
  (this as CallStream).call.request?.data(chunk);
}

function onEnd(this: ServerHttp2Stream): void {
  (this as CallStream).call.request?.end();
}
