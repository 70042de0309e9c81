/**
 * Calls over HTTP/2: gRPC on connections without TLS, opened when first needed. A connection that fails is forgotten,
 * and the next call opens another.
 *
 * Source: gRPC, doc/PROTOCOL-HTTP2.md.
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { CLIENT_MESSAGE_BYTES_MAX } from "../model/limits.ts";
import { Writer } from "../wire/writer.ts";
import { type CallStatus, plainStatus, statusFromHttp, statusFromReset, statusFromTrailers } from "./call-status.ts";
import { FrameError, FrameReader } from "./frame-reader.ts";
import { GrpcCode } from "./grpc-code.ts";
import { type Headers, writeHeader } from "./hpack.ts";
import { CONNECTION_TIMES, type ConnectionTimes, Http2Connection } from "./http2-connection.ts";
import { Http2Error } from "./http2-frames.ts";
import type { Http2Stream, StreamListener } from "./http2-stream.ts";
import type { Call, CallHandler, CallRequest, Transport } from "./transport.ts";

export interface Http2Options {
  /** Default 1. */
  readonly connectionsPerServer?: number;
  readonly times?: ConnectionTimes;
}

export class Http2Transport implements Transport {
  readonly #connectionsPerServer: number;
  readonly #times: ConnectionTimes;
  readonly #servers = new Map<string, Http2Connection[]>();
  #closed = false;

  constructor(options: Http2Options = {}) {
    this.#connectionsPerServer = options.connectionsPerServer ?? 1;
    this.#times = options.times ?? CONNECTION_TIMES;
  }

  open(request: CallRequest, handler: CallHandler): Call {
    if (this.#closed) return deadCall(handler, plainStatus(GrpcCode.cancelled, "the client is closed"));
    try {
      return new Http2Call(this.#connection(request.address), request, handler);
    } catch (error) {
      return deadCall(handler, unavailable(request.address, error));
    }
  }

  close(): void {
    this.#closed = true;
    for (const connections of this.#servers.values()) for (const connection of [...connections]) connection.close();
  }

  /** An idle connection, else a new one within the bound, else the one with the fewest calls. */
  #connection(address: string): Http2Connection {
    let connections = this.#servers.get(address);
    if (connections === undefined) {
      connections = [];
      this.#servers.set(address, connections);
    }
    let best: Http2Connection | undefined;
    for (const connection of connections) {
      if (best === undefined || connection.streams < best.streams) best = connection;
    }
    if (best !== undefined && (best.streams === 0 || connections.length >= this.#connectionsPerServer)) return best;
    const list = connections;
    const connection = new Http2Connection(address, this.#times, () => {
      const at = list.indexOf(connection);
      if (at >= 0) list.splice(at, 1);
    });
    list.push(connection);
    return connection;
  }
}

class Http2Call implements Call, StreamListener {
  readonly #address: string;
  readonly #handler: CallHandler;
  readonly #stream: Http2Stream;
  readonly #frames = new FrameReader(CLIENT_MESSAGE_BYTES_MAX);
  /** What the headers said, should no trailers come. */
  #status: CallStatus | undefined;
  /** Nothing more is told to the handler. */
  #over = false;

  constructor(connection: Http2Connection, request: CallRequest, handler: CallHandler) {
    this.#address = request.address;
    this.#handler = handler;
    this.#stream = connection.open(headerBlock(request), this);
    if (request.message !== undefined) this.#stream.send(request.message, true);
  }

  send(framed: Bytes): boolean {
    return this.#over || this.#stream.send(framed, false);
  }

  halfClose(): void {
    if (!this.#over) this.#stream.send(EMPTY_BYTES, true);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  cancel(): void {
    this.#over = true;
    this.#stream.cancel(Http2Error.cancel);
  }

  // --- StreamListener -------------------------------------------------------------------------------------------

  headers(headers: Headers, last: boolean): void {
    this.#status ??= statusFromTrailers(headers);
    const httpStatus = Number(headers[":status"] ?? 200);
    // 1xx only announce what is to come
    if (httpStatus >= 200 && httpStatus !== 200) this.#status ??= statusFromHttp(httpStatus);
    if (last) this.#end(this.#status ?? unavailable(this.#address, new Error("the call ended without a status")));
    else if (httpStatus === 200 && !this.#over) this.#handler.headers?.(headers);
  }

  data(bytes: Bytes, last: boolean): void {
    if (this.#over) return;
    try {
      this.#frames.push(bytes, (message) => {
        if (!this.#over) this.#handler.message(message);
      });
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#stream.cancel(Http2Error.cancel);
      this.#end(plainStatus(GrpcCode.internal, error.message));
      return;
    }
    if (last) this.#end(this.#status ?? unavailable(this.#address, new Error("the call ended without a status")));
  }

  drained(): void {
    if (!this.#over) this.#handler.drained();
  }

  reset(errorCode: number): void {
    this.#end(this.#status ?? statusFromReset(errorCode));
  }

  lost(error: Error): void {
    this.#end(unavailable(this.#address, error));
  }

  #end(status: CallStatus): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler.ended(status);
  }
}

function headerBlock({ address, path, headers, timeoutMs }: CallRequest): Bytes {
  const block = new Writer(256);
  writeHeader(block, ":method", "POST");
  writeHeader(block, ":scheme", "http");
  writeHeader(block, ":path", path);
  writeHeader(block, ":authority", address);
  writeHeader(block, "content-type", "application/grpc");
  writeHeader(block, "te", "trailers");
  if (timeoutMs !== undefined) writeHeader(block, "grpc-timeout", grpcTimeout(timeoutMs));
  for (const name in headers) writeHeader(block, name, headers[name]!);
  return block.finish();
}

/** At most eight digits and a unit. */
function grpcTimeout(timeoutMs: number): string {
  const ms = Math.max(1, Math.ceil(timeoutMs));
  return ms < 100_000_000 ? `${ms}m` : `${Math.min(99_999_999, Math.ceil(ms / 1000))}S`;
}

function unavailable(address: string, error: unknown): CallStatus {
  return plainStatus(GrpcCode.unavailable, `${address}: ${error instanceof Error ? error.message : String(error)}`);
}

/** A call that could not be made: its handler hears so, and not from within `open`. */
function deadCall(handler: CallHandler, status: CallStatus): Call {
  let cancelled = false;
  queueMicrotask(() => {
    if (!cancelled) handler.ended(status);
  });
  return {
    send: () => true,
    halfClose: () => {},
    pause: () => {},
    resume: () => {},
    cancel: () => {
      cancelled = true;
    },
  };
}
