/**
 * Calls over node:http2: gRPC on connections without TLS, one or more to each server, opened when first needed. A
 * connection that fails is forgotten, and the next call opens another.
 *
 * Keepalive: a ping every 10 s, also without calls; one that is not answered within 3 s ends the connection, which is
 * how a peer that vanished is found.
 *
 * Source: gRPC, doc/PROTOCOL-HTTP2.md; protocol.md §1.2.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import type { Socket } from "node:net";
import {
  CLIENT_CONNECT_MS_MAX,
  CLIENT_KEEPALIVE_INTERVAL_MS,
  CLIENT_KEEPALIVE_TIMEOUT_MS,
  CLIENT_MESSAGE_BYTES_MAX,
} from "../model/limits.ts";
import {
  type CallStatus,
  plainStatus,
  statusFromHttp,
  statusFromReset,
  statusFromTrailers,
  type Trailers,
} from "./call-status.ts";
import { FrameReader } from "./frame-reader.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { Call, CallHandler, CallRequest, Transport } from "./transport.ts";

/** Flow-control window of one stream: covers a large page of a range read, and bounds what waits while it is paused. */
const STREAM_WINDOW_BYTES = 1024 * 1024;

export class Http2Transport implements Transport {
  readonly #connectionsPerServer: number;
  readonly #servers = new Map<string, Connection[]>();
  #turn = 0;
  #closed = false;

  constructor(options: { readonly connectionsPerServer?: number } = {}) {
    this.#connectionsPerServer = options.connectionsPerServer ?? 1;
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
    this.#servers.clear();
  }

  #connection(address: string): Connection {
    let connections = this.#servers.get(address);
    if (connections === undefined) {
      connections = [];
      this.#servers.set(address, connections);
    }
    if (connections.length >= this.#connectionsPerServer) return connections[this.#turn++ % connections.length]!;
    const list = connections;
    const connection = new Connection(address, () => {
      const at = list.indexOf(connection);
      if (at >= 0) list.splice(at, 1);
    });
    list.push(connection);
    return connection;
  }
}

/** One HTTP/2 connection, and why it ended. */
class Connection {
  readonly session: ClientHttp2Session;
  readonly address: string;
  /** What ended the connection, once something has. */
  failure: Error | undefined;
  readonly #onGone: () => void;
  readonly #connectTimer: NodeJS.Timeout;
  #keepalive: NodeJS.Timeout | undefined;
  #pongTimer: NodeJS.Timeout | undefined;

  constructor(address: string, onGone: () => void) {
    this.address = address;
    this.#onGone = onGone;
    this.session = connect(`http://${address}`, {
      settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
      // answers of parallel range reads that wait for a slow program are bounded by the streams' windows
      maxSessionMemory: 1000,
    });
    this.#connectTimer = setTimeout(() => this.#fail(new Error("connecting took too long")), CLIENT_CONNECT_MS_MAX);
    this.session.once("connect", (_session, socket) => {
      clearTimeout(this.#connectTimer);
      (socket as Socket).setNoDelay?.(true);
      this.#keepalive = setInterval(() => this.#ping(), CLIENT_KEEPALIVE_INTERVAL_MS);
    });
    this.session.on("error", (error: Error) => this.#gone(error));
    this.session.on("goaway", () => this.#gone(new Error("the server is closing the connection")));
    this.session.on("close", () => this.#gone(new Error("the connection was closed")));
  }

  close(): void {
    this.#gone(new Error("the client is closed"));
    this.session.destroy();
  }

  #ping(): void {
    if (this.session.destroyed) return;
    if (this.#pongTimer !== undefined) return;
    this.#pongTimer = setTimeout(() => {
      // a pong may wait behind whatever held this program up until now: what has arrived is read first
      setImmediate(() => {
        if (this.#pongTimer !== undefined) this.#fail(new Error("the server does not answer pings"));
      });
    }, CLIENT_KEEPALIVE_TIMEOUT_MS);
    this.session.ping(() => {
      clearTimeout(this.#pongTimer);
      this.#pongTimer = undefined;
    });
  }

  #fail(error: Error): void {
    this.#gone(error);
    this.session.destroy(error);
  }

  #gone(error: Error): void {
    this.failure ??= error;
    clearTimeout(this.#connectTimer);
    clearInterval(this.#keepalive);
    clearTimeout(this.#pongTimer);
    this.#pongTimer = undefined;
    this.#onGone();
  }
}

class Http2Call implements Call {
  readonly #connection: Connection;
  readonly #handler: CallHandler;
  readonly #stream: ClientHttp2Stream;
  readonly #frames = new FrameReader(CLIENT_MESSAGE_BYTES_MAX);
  /** The status that headers, trailers or an error gave; the first one counts. */
  #status: CallStatus | undefined;
  /** Nothing more is told to the handler. */
  #over = false;

  constructor(connection: Connection, request: CallRequest, handler: CallHandler) {
    this.#connection = connection;
    this.#handler = handler;
    const stream = connection.session.request(requestHeaders(request), { endStream: false });
    this.#stream = stream;
    stream.on("response", (headers) => this.#takeHeaders(headers as unknown as Trailers & { ":status"?: number }));
    stream.on("trailers", (headers) => {
      this.#status ??= statusFromTrailers(headers as unknown as Trailers);
    });
    stream.on("data", (chunk: Buffer) => this.#takeChunk(chunk));
    stream.on("drain", () => {
      if (!this.#over) handler.drained();
    });
    stream.on("error", (error: Error) => {
      this.#status ??= this.#statusOfError(error);
    });
    stream.on("close", () => this.#end());
  }

  send(framed: Uint8Array): boolean {
    if (this.#over || this.#stream.destroyed || this.#stream.writableEnded) return true;
    return this.#stream.write(framed);
  }

  halfClose(): void {
    if (!this.#over) this.#stream.end();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.close(constants.NGHTTP2_CANCEL);
    // whatever still comes is thrown away, so that the stream can end
    this.#stream.resume();
  }

  #takeHeaders(headers: Trailers & { ":status"?: number }): void {
    this.#status ??= statusFromTrailers(headers);
    const httpStatus = Number(headers[":status"] ?? 200);
    if (httpStatus !== 200) this.#status ??= statusFromHttp(httpStatus);
  }

  #takeChunk(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#frames.push(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length), (message) => {
        if (!this.#over) this.#handler.message(message);
      });
    } catch (error) {
      this.#status = plainStatus(GrpcCode.internal, error instanceof Error ? error.message : String(error));
      this.#stream.close(constants.NGHTTP2_CANCEL);
    }
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler.ended(this.#status ?? this.#statusWithoutTrailers());
  }

  #statusWithoutTrailers(): CallStatus {
    const { failure, address } = this.#connection;
    if (failure !== undefined) return unavailable(address, failure);
    const code = this.#stream.rstCode;
    if (code !== undefined && code !== constants.NGHTTP2_NO_ERROR) return statusFromReset(code);
    return unavailable(address, new Error("the call ended without a status"));
  }

  #statusOfError(error: Error): CallStatus | undefined {
    const code = this.#stream.rstCode;
    if (this.#connection.failure === undefined && code !== undefined && code !== constants.NGHTTP2_NO_ERROR) {
      return statusFromReset(code);
    }
    return unavailable(this.#connection.address, this.#connection.failure ?? error);
  }
}

function requestHeaders({ path, headers, timeoutMs }: CallRequest): Record<string, string> {
  return {
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    ...(timeoutMs === undefined ? {} : { "grpc-timeout": grpcTimeout(timeoutMs) }),
    ...headers,
  };
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
