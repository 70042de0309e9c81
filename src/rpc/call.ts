/**
 * One native gRPC call on its HTTP/2 stream: what its handler sees (`Call`), its replies (`Sink`), and its end.
 *
 *     headers -> [deadline] -> replies ... -> status
 *
 * - The first of end, failure, deadline and cancellation decides the status; what comes later is dropped.
 * - An end without a reply is one HEADERS frame (Trailers-Only): official clients take a failure for early only then.
 * - What one turn of the event loop has to say, on all calls, is gathered and written at the end of the turn: replies
 *   of a stream become one write, and those of a connection one system call (see `gatherWrites` in listener.ts).
 * - Bytes not yet written count on the call and on its connection; `send` says false past either bound.
 *
 * Source: gRPC, doc/PROTOCOL-HTTP2.md; protocol.md §1.2.
 */
import { constants, type ServerHttp2Stream } from "node:http2";
import type { Bytes } from "../lib/bytes.ts";
import { STREAM_UNSENT_BYTES_MAX, STREAM_WRITE_BYTES } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, Logger } from "../ports.ts";
import { Code, StatusError } from "./code.ts";
import type { Connection } from "./connection.ts";
import { flushSoon } from "./flush-queue.ts";
import { FRAME_PREFIX_BYTES, frameAll, prefixOf } from "./frame.ts";
import type { BidiControls, Call } from "./method.ts";
import type { RequestSide } from "./request-side.ts";
import type { MethodStats } from "./stats.ts";
import { grpcTrailers, statusOf } from "./status.ts";

export interface CallPorts {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Replies from this size on are written as they are, after their prefix: a copy would cost more than a second write. */
const COPY_BYTES_MAX = 32 * 1024;
const OK_HEADERS = { ":status": 200, "content-type": "application/grpc" };
const OK_TRAILERS = { "grpc-status": "0" };
/** No `date`: gRPC has no use for it, and it costs a sixth of an empty call. */
const RESPOND = { waitForTrailers: true, sendDate: false };
const RESPOND_AND_END = { endStream: true, sendDate: false };

/** The stream of a call, with the call: listeners are shared by all streams and find their call here. */
export interface CallStream extends ServerHttp2Stream {
  call: NativeCall;
}

export class NativeCall implements Call, BidiControls {
  readonly stream: CallStream;
  readonly connection: Connection;
  readonly authority: string | undefined;
  readonly path: string;
  readonly stats: MethodStats;
  cancelled = false;
  /** Whether the status is decided. */
  ended = false;
  /** Sets itself. */
  request: RequestSide | undefined;
  readonly #ports: CallPorts;
  /** Names and values in turn. */
  readonly #headers: readonly string[];
  #responseHeaders: Record<string, string | number> | undefined;
  #trailers: Record<string, string> = OK_TRAILERS;
  #cancelCallbacks: (() => void)[] | undefined;
  #stopDeadline: (() => void) | undefined;
  #responded = false;
  #endWritten = false;
  #queue: Bytes[] = [];
  /** Bytes of #queue with prefixes. */
  #queued = 0;
  /** What this call has added to the unsent bytes of its connection. */
  #counted = 0;
  #drain: PromiseWithResolvers<void> | undefined;
  #awaitsConnection = false;
  #onWritten: (() => void) | undefined;

  constructor(
    ports: CallPorts,
    connection: Connection,
    stream: ServerHttp2Stream,
    request: { path: string; authority: string | undefined; headers: readonly string[]; stats: MethodStats },
  ) {
    this.#ports = ports;
    this.connection = connection;
    this.stream = stream as CallStream;
    this.stream.call = this;
    this.path = request.path;
    this.authority = request.authority;
    this.#headers = request.headers;
    this.stats = request.stats;
    stream.on("wantTrailers", onWantTrailers);
    stream.on("close", onClose);
    stream.on("error", ignore); // every failure of a stream also closes it
    request.stats.started++;
  }

  // --- Call ---------------------------------------------------------------------------------------------------

  get peer(): string {
    return this.connection.peer;
  }

  header(name: string): readonly string[] {
    const headers = this.#headers;
    const values: string[] = [];
    for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) values.push(headers[i + 1]!);
    return values;
  }

  onCancel(callback: () => void): void {
    if (this.cancelled) callback();
    else if (!this.ended) {
      this.#cancelCallbacks ??= [];
      this.#cancelCallbacks.push(callback);
    }
  }

  setResponseHeader(name: string, value: string): void {
    if (this.#responded) return;
    this.#responseHeaders ??= { ...OK_HEADERS };
    this.#responseHeaders[name] = value;
  }

  /** Ends the call with DEADLINE_EXCEEDED in `ms` milliseconds, at once when there are none. */
  setDeadline(ms: number): void {
    if (ms <= 0) this.#expire();
    else this.#stopDeadline = this.#ports.clock.after(ms, () => this.#expire());
  }

  // --- Sink ---------------------------------------------------------------------------------------------------

  send(message: Bytes): boolean {
    this.request?.sent();
    if (this.ended) return false;
    this.stats.messagesSent++;
    const bytes = FRAME_PREFIX_BYTES + message.length;
    this.#queue.push(message);
    if (this.#queued === 0) flushSoon(this);
    this.#queued += bytes;
    this.#count(bytes);
    if (this.#queued >= STREAM_WRITE_BYTES) this.flush();
    return this.#counted < STREAM_UNSENT_BYTES_MAX && !this.connection.choked;
  }

  drained(): Promise<void> {
    if (this.ended) return Promise.reject(new Refusal("ABORTED", "oxia: operation was aborted"));
    if (this.#counted < STREAM_UNSENT_BYTES_MAX && !this.connection.choked) return Promise.resolve();
    this.#drain ??= Promise.withResolvers<void>();
    if (this.#counted < STREAM_UNSENT_BYTES_MAX) this.#awaitConnection();
    return this.#drain.promise;
  }

  // --- BidiControls -------------------------------------------------------------------------------------------

  resume(): void {
    if (!this.ended) this.request?.resume();
  }

  /** Ends the call with status OK. */
  end(): void {
    if (this.ended) this.request?.handlerEnded();
    else this.#finish(Code.OK);
  }

  /** Ends the call with an error: a Refusal, a StatusError, or a fault, which is logged. */
  fail(error: unknown): void {
    const status = statusOf(error, this.path, this.#ports.logger);
    if (this.ended) {
      this.request?.handlerEnded();
      return;
    }
    this.#trailers = grpcTrailers(status);
    this.#finish(status.code);
  }

  // --- the end ------------------------------------------------------------------------------------------------

  /** Answers a unary call: one reply and the end. */
  answer(message: Bytes): void {
    if (this.ended) return;
    this.stats.messagesSent++;
    this.#queue.push(message);
    this.#queued += FRAME_PREFIX_BYTES + message.length;
    this.#count(FRAME_PREFIX_BYTES + message.length);
    this.#finish(Code.OK);
  }

  #finish(code: Code): void {
    this.#decide(code);
    flushSoon(this);
  }

  #decide(code: Code): void {
    this.ended = true;
    this.stats.ended(code);
    if (this.#stopDeadline !== undefined) this.#stopDeadline();
    if (this.#drain !== undefined) this.#drain.reject(new Refusal("ABORTED", "oxia: operation was aborted"));
    this.request?.callEnded();
  }

  #expire(): void {
    if (this.ended) return;
    const unread = this.#counted > 0;
    this.cancelled = true;
    this.fail(new StatusError(Code.DEADLINE_EXCEEDED, "deadline exceeded"));
    // whoever does not read replies would not read the status either, and would hold them for as long
    if (unread && !this.stream.destroyed) this.stream.close(constants.NGHTTP2_CANCEL);
    this.#runCancelCallbacks();
  }

  /** The stream is gone. For its listener. */
  closed(): void {
    this.#queue = [];
    this.#queued = 0;
    this.#count(-this.#counted);
    if (this.ended) return;
    this.cancelled = true;
    this.#decide(Code.CANCELLED);
    this.#runCancelCallbacks();
  }

  /** For the stream's listener. */
  sendTrailers(): void {
    if (!this.stream.destroyed && !this.stream.closed) this.stream.sendTrailers(this.#trailers);
  }

  #runCancelCallbacks(): void {
    const callbacks = this.#cancelCallbacks;
    this.#cancelCallbacks = undefined;
    if (callbacks === undefined) return;
    for (const callback of callbacks) {
      try {
        callback();
      } catch (error) {
        this.#ports.logger.error({ component: "rpc", method: this.path, err: error }, "ending a cancelled call failed");
      }
    }
  }

  // --- writing ------------------------------------------------------------------------------------------------

  /** Writes what was gathered: replies, and the end. A fault in it ends this stream, and no other. */
  flush(): void {
    try {
      this.#flush();
    } catch (error) {
      this.#ports.logger.error({ component: "rpc", method: this.path, err: error }, "writing a reply failed");
      if (!this.stream.destroyed) this.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    }
  }

  #flush(): void {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return;
    if (!this.ended) {
      if (this.#queued > 0) this.#write(false);
      return;
    }
    if (this.#endWritten) return;
    this.#endWritten = true;
    if (this.#responded || this.#queued > 0) this.#write(true);
    else {
      this.#responded = true;
      stream.respond({ ...(this.#responseHeaders ?? OK_HEADERS), ...this.#trailers }, RESPOND_AND_END);
      this.connection.pings.sent();
    }
    // a client that has more to send is told that nobody listens (RFC 9113 §8.1)
    if (!stream.readableEnded) stream.once("finish", closeUnread);
  }

  /** Writes what is queued; with `end`, ends the stream so that it asks for the trailers. */
  #write(end: boolean): void {
    const { stream } = this;
    if (!this.#responded) {
      this.#responded = true;
      stream.respond(this.#responseHeaders ?? OK_HEADERS, RESPOND);
    }
    const queue = this.#queue;
    if (queue.length === 0) {
      if (end) stream.end();
      return;
    }
    this.#queue = [];
    const bytes = this.#queued;
    this.#queued = 0;
    let last = queue[0]!;
    if (queue.length === 1 && last.length > COPY_BYTES_MAX) stream.write(prefixOf(last.length));
    else last = frameAll(queue, bytes);
    if (end) stream.end(last);
    else {
      this.#onWritten ??= () => this.#written();
      stream.write(last, this.#onWritten);
    }
  }

  /** A write has left: says so to whoever waits. */
  #written(): void {
    this.#count(this.#queued + this.stream.writableLength - this.#counted);
    if (this.#drain !== undefined && this.#counted < STREAM_UNSENT_BYTES_MAX / 2) this.#awaitConnection();
  }

  /** Resolves the drain once the connection has room too. */
  #awaitConnection(): void {
    if (this.connection.choked) {
      if (this.#awaitsConnection) return;
      this.#awaitsConnection = true;
      this.connection.whenUnchoked(() => {
        this.#awaitsConnection = false;
        if (this.#drain !== undefined && this.#counted < STREAM_UNSENT_BYTES_MAX) this.#undrain();
      });
    } else this.#undrain();
  }

  #undrain(): void {
    const drain = this.#drain!;
    this.#drain = undefined;
    drain.resolve();
  }

  #count(bytes: number): void {
    this.#counted += bytes;
    this.connection.addUnsent(bytes);
  }
}

function onWantTrailers(this: ServerHttp2Stream): void {
  (this as CallStream).call.sendTrailers();
}

/** Closes a stream whose answer is out, and whose request is not all in. */
function closeUnread(this: ServerHttp2Stream): void {
  if (!this.destroyed && !this.closed) this.close(constants.NGHTTP2_NO_ERROR);
}

function ignore(): void {}

function onClose(this: ServerHttp2Stream): void {
  (this as CallStream).call.closed();
}
