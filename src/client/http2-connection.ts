/**
 * The client's side of one HTTP/2 connection, over TCP without TLS.
 *
 * Why it is written here: node:http2 of Bun 1.4.5 loses flow-control credit. When a peer raises its initial window
 * while a stream is open that has had a WINDOW_UPDATE, the raise is not added (RFC 9113 §6.9.2), and grpc-go raises it
 * all the time while it measures a connection; loads on Oxia stopped for good, one in five. It also holds a stream
 * back behind others (oven-sh/bun#43422), and costs some 100 µs a call where this costs a few.
 *
 * What comes is bound by the streams' windows alone: a stream's is given back when half of it was used, and not while
 * the stream is paused; the connection's, of 2 GiB, now and then. What leaves: http2-uploads.ts.
 *
 * Keepalive: a ping every 10 s, also without calls; one that is not answered within 3 s ends the connection, which is
 * how a peer that vanished is found.
 *
 * Source: RFC 9113; protocol.md §1.2.
 */
import { connect, type Socket } from "node:net";
import { type Bytes, concatBytes, utf8 } from "../lib/bytes.ts";
import {
  CLIENT_CONNECT_MS_MAX,
  CLIENT_CONNECTION_RETURN_BYTES,
  CLIENT_HEADER_BYTES_MAX,
  CLIENT_KEEPALIVE_INTERVAL_MS,
  CLIENT_KEEPALIVE_TIMEOUT_MS,
  CLIENT_STREAM_WINDOW_BYTES,
} from "../model/limits.ts";
import { HpackDecoder, HpackError } from "./hpack.ts";
import {
  Flag,
  FRAME_BYTES_DEFAULT,
  FrameCutter,
  FrameType,
  Http2Error,
  Http2ProtocolError,
  PREFACE,
  readUint32,
  Setting,
  settingsPayload,
  uint32,
  unpadded,
  WINDOW_BYTES_DEFAULT,
  WINDOW_BYTES_MAX,
} from "./http2-frames.ts";
import { Http2Output } from "./http2-output.ts";
import { Http2Stream, type StreamListener, type StreamOwner } from "./http2-stream.ts";
import { Http2Uploads } from "./http2-uploads.ts";

/** Milliseconds that connecting may take, between pings, and that a pong may take. */
export interface ConnectionTimes {
  readonly connectMs: number;
  readonly pingIntervalMs: number;
  readonly pongMs: number;
}

export const CONNECTION_TIMES: ConnectionTimes = {
  connectMs: CLIENT_CONNECT_MS_MAX,
  pingIntervalMs: CLIENT_KEEPALIVE_INTERVAL_MS,
  pongMs: CLIENT_KEEPALIVE_TIMEOUT_MS,
};

export class Http2Connection implements StreamOwner {
  readonly #times: ConnectionTimes;
  readonly #onGone: () => void;
  readonly #socket: Socket;
  readonly #output: Http2Output;
  readonly #uploads: Http2Uploads;
  readonly #cutter = new FrameCutter();
  readonly #hpack = new HpackDecoder();
  /** Bytes of data since the connection's window was given back. */
  #received = 0;
  readonly #streams = new Map<number, Http2Stream>();
  /** Streams that the peer's bound on concurrent streams keeps waiting. */
  readonly #waiting: Http2Stream[] = [];
  #nextId = 1;
  #failure: Error | undefined;
  /** What the peer allows. */
  #concurrentMax = Number.POSITIVE_INFINITY;
  /** A header block that is not whole yet. */
  #block: { readonly stream: number; readonly last: boolean; bytes: Bytes } | undefined;
  readonly #connectTimer: NodeJS.Timeout;
  #pingTimer: NodeJS.Timeout | undefined;
  #pongTimer: NodeJS.Timeout | undefined;

  /** `address` is `host:port`. Calls `onGone` once, when the connection takes no more streams. */
  constructor(address: string, times: ConnectionTimes, onGone: () => void) {
    this.#times = times;
    this.#onGone = onGone;
    const colon = address.lastIndexOf(":");
    const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
    this.#socket = connect({ host, port: Number(address.slice(colon + 1)), noDelay: true });
    this.#output = new Http2Output(this.#socket, () => this.#uploads.pumpBlocked());
    this.#uploads = new Http2Uploads(this.#output);
    this.#output.raw(utf8(PREFACE));
    this.#output.frame(
      FrameType.settings,
      0,
      0,
      settingsPayload([
        [Setting.enablePush, 0],
        [Setting.initialWindowSize, CLIENT_STREAM_WINDOW_BYTES],
      ]),
    );
    this.#output.frame(FrameType.windowUpdate, 0, 0, uint32(WINDOW_BYTES_MAX - WINDOW_BYTES_DEFAULT));
    this.#connectTimer = setTimeout(() => this.#fail(new Error("connecting took too long")), times.connectMs);
    this.#socket.on("connect", () => {
      this.#pingTimer = setInterval(() => this.#ping(), times.pingIntervalMs);
    });
    this.#socket.on("data", (chunk: Buffer) => this.#take(chunk));
    this.#socket.on("error", (error: Error) => this.#fail(error));
    this.#socket.on("close", () => this.#fail(new Error("the connection was closed")));
  }

  /** Streams that are open or wait to be. */
  get streams(): number {
    return this.#streams.size + this.#waiting.length;
  }

  open(headerBlock: Bytes, listener: StreamListener): Http2Stream {
    const stream = new Http2Stream(this, headerBlock, listener);
    if (this.#failure !== undefined) {
      const failure = this.#failure;
      stream.closed = true;
      queueMicrotask(() => listener.lost(failure));
    } else if (this.#streams.size < this.#concurrentMax) this.#start(stream);
    else this.#waiting.push(stream);
    return stream;
  }

  /** Ends the connection and all streams. */
  close(): void {
    this.#output.frame(FrameType.goaway, 0, 0, uint32(0, Http2Error.noError));
    this.#fail(new Error("the client is closed"));
  }

  // --- out ------------------------------------------------------------------------------------------------------

  #start(stream: Http2Stream): void {
    stream.id = this.#nextId;
    this.#nextId += 2;
    this.#streams.set(stream.id, stream);
    this.#output.frame(FrameType.headers, Flag.endHeaders, stream.id, stream.headerBlock);
    this.#uploads.begin(stream);
  }

  pump(stream: Http2Stream): void {
    if (stream.id !== 0 && !stream.closed) this.#uploads.pump(stream);
  }

  cancel(stream: Http2Stream, errorCode: number): void {
    if (stream.closed) return;
    if (stream.id === 0) {
      const at = this.#waiting.indexOf(stream);
      if (at >= 0) this.#waiting.splice(at, 1);
      stream.closed = true;
      return;
    }
    this.#output.frame(FrameType.reset, 0, stream.id, uint32(errorCode));
    this.#closeStream(stream);
  }

  #closeStream(stream: Http2Stream): void {
    stream.closed = true;
    this.#uploads.forget(stream);
    this.#streams.delete(stream.id);
    while (this.#waiting.length > 0 && this.#streams.size < this.#concurrentMax && this.#failure === undefined) {
      this.#start(this.#waiting.shift()!);
    }
    // what the server let finish is finished
    if (this.#failure !== undefined && this.#streams.size === 0) this.#end();
  }

  /** Lets the peer send on, once half of a stream's window is used up. */
  giveBack(stream: Http2Stream): void {
    if (stream.paused || stream.closed || stream.received < CLIENT_STREAM_WINDOW_BYTES / 2) return;
    this.#output.frame(FrameType.windowUpdate, 0, stream.id, uint32(stream.received));
    stream.received = 0;
  }

  // --- in -------------------------------------------------------------------------------------------------------

  #take(chunk: Buffer): void {
    try {
      const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
      this.#cutter.push(bytes, (type, flags, stream, payload) => {
        if (type === FrameType.data) this.#received += payload.length;
        this.#takeFrame(type, flags, stream, payload);
      });
    } catch (error) {
      const code = error instanceof Http2ProtocolError ? error.code : Http2Error.compression;
      this.#output.frame(FrameType.goaway, 0, 0, uint32(0, code));
      this.#fail(error as Error);
      if (error instanceof Http2ProtocolError || error instanceof HpackError) return;
      throw error;
    }
    if (this.#received >= CLIENT_CONNECTION_RETURN_BYTES && this.#failure === undefined) {
      this.#output.frame(FrameType.windowUpdate, 0, 0, uint32(this.#received));
      this.#received = 0;
    }
  }

  #takeFrame(type: number, flags: number, id: number, payload: Bytes): void {
    if (this.#block !== undefined && type !== FrameType.continuation) {
      throw new Http2ProtocolError(Http2Error.protocol, "a frame within a header block");
    }
    switch (type) {
      case FrameType.data:
        this.#takeData(flags, id, payload);
        break;
      case FrameType.headers:
      case FrameType.continuation:
        this.#takeBlock(type, flags, id, payload);
        break;
      case FrameType.reset:
        this.#takeReset(id, readUint32(payload, 0));
        break;
      case FrameType.settings:
        if ((flags & Flag.ack) === 0) this.#takeSettings(payload);
        break;
      case FrameType.ping:
        if ((flags & Flag.ack) !== 0) this.#takePong();
        else this.#output.frame(FrameType.ping, Flag.ack, 0, payload);
        break;
      case FrameType.goaway:
        this.#takeGoaway(readUint32(payload, 0) & 0x7fff_ffff);
        break;
      case FrameType.windowUpdate: {
        const stream = this.#streams.get(id);
        // one for a stream that is gone is late, and harmless
        if (id === 0 || stream !== undefined) this.#uploads.grow(stream, readUint32(payload, 0) & 0x7fff_ffff);
        break;
      }
      case FrameType.pushPromise:
        throw new Http2ProtocolError(Http2Error.protocol, "a push, which was not allowed");
      // other frames are extensions, which are passed over
    }
  }

  #takeData(flags: number, id: number, payload: Bytes): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    const last = (flags & Flag.endStream) !== 0;
    stream.received += payload.length;
    if (last) this.#peerEnded(stream);
    stream.listener.data(unpadded(flags, payload), last);
    this.giveBack(stream);
  }

  #takeBlock(type: number, flags: number, id: number, payload: Bytes): void {
    if (type === FrameType.headers) {
      const start = (flags & Flag.priority) === 0 ? 0 : 5;
      const bytes = unpadded(flags, payload).subarray(start);
      this.#block = { stream: id, last: (flags & Flag.endStream) !== 0, bytes };
    } else {
      if (this.#block?.stream !== id) throw new Http2ProtocolError(Http2Error.protocol, "a continuation of nothing");
      this.#block.bytes = concatBytes(this.#block.bytes, payload);
    }
    const block = this.#block;
    if (block.bytes.length > CLIENT_HEADER_BYTES_MAX) {
      throw new Http2ProtocolError(Http2Error.protocol, `headers of more than ${CLIENT_HEADER_BYTES_MAX} bytes`);
    }
    if ((flags & Flag.endHeaders) === 0) return;
    this.#block = undefined;
    // also for a stream that is gone: later blocks build on this one
    const headers = this.#hpack.decode(block.bytes);
    const stream = this.#streams.get(block.stream);
    if (stream === undefined) return;
    if (block.last) this.#peerEnded(stream);
    stream.listener.headers(headers, block.last);
  }

  /** A peer that has said everything needs to hear nothing more. */
  #peerEnded(stream: Http2Stream): void {
    if (!stream.ended) this.#output.frame(FrameType.reset, 0, stream.id, uint32(Http2Error.cancel));
    this.#closeStream(stream);
  }

  #takeReset(id: number, code: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#closeStream(stream);
    stream.listener.reset(code);
  }

  #takeSettings(payload: Bytes): void {
    clearTimeout(this.#connectTimer);
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const id = (payload[at]! << 8) | payload[at + 1]!;
      const value = readUint32(payload, at + 2);
      if (id === Setting.maxConcurrentStreams) this.#concurrentMax = value;
      else if (id === Setting.maxFrameSize) this.#uploads.frameBytesMax = Math.max(value, FRAME_BYTES_DEFAULT);
      else if (id === Setting.initialWindowSize) this.#uploads.setInitialWindow(value, this.#streams.values());
    }
    this.#output.frame(FrameType.settings, Flag.ack, 0, new Uint8Array(0));
    this.#uploads.pumpBlocked();
  }

  /** Streams up to `lastId` go on; the others have not been looked at. */
  #takeGoaway(lastId: number): void {
    const error = new Error("the server is closing the connection");
    if (this.#failure === undefined) {
      this.#failure = error;
      this.#onGone();
    }
    const unseen = [...this.#streams.values()].filter(({ id }) => id > lastId);
    for (const stream of [...unseen, ...this.#waiting.splice(0)]) {
      this.#closeStream(stream);
      stream.listener.lost(error);
    }
    if (this.#streams.size === 0) this.#end();
  }

  // --- its life -------------------------------------------------------------------------------------------------

  #ping(): void {
    if (this.#pongTimer !== undefined) return;
    this.#output.frame(FrameType.ping, 0, 0, new Uint8Array(8));
    this.#pongTimer = setTimeout(() => {
      // a pong may wait behind whatever held this program up until now: what has arrived is read first
      setImmediate(() => {
        if (this.#pongTimer !== undefined) this.#fail(new Error("the server does not answer pings"));
      });
    }, this.#times.pongMs);
  }

  #takePong(): void {
    clearTimeout(this.#pongTimer);
    this.#pongTimer = undefined;
  }

  #fail(error: Error): void {
    const first = this.#failure === undefined;
    this.#failure ??= error;
    this.#end();
    const streams = [...this.#streams.values(), ...this.#waiting.splice(0)];
    this.#streams.clear();
    if (first) this.#onGone();
    for (const stream of streams) {
      stream.closed = true;
      this.#uploads.forget(stream);
      stream.listener.lost(this.#failure);
    }
  }

  /** Lets what is written leave, and closes the socket. */
  #end(): void {
    clearTimeout(this.#connectTimer);
    clearInterval(this.#pingTimer);
    this.#takePong();
    this.#output.end();
    if (this.#socket.connecting) this.#socket.destroy();
    else this.#socket.end(() => this.#socket.destroy());
  }
}
