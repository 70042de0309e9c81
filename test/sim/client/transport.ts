/**
 * The client's Transport over the simulated network, as client/http2-transport.ts is it over HTTP/2: a call that breaks
 * ends UNAVAILABLE, one that the server ends has the status of its trailers, and deadlines are the server's business.
 */
import { type CallStatus, plainStatus, statusFromTrailers } from "../../../src/client/call-status.ts";
import { GrpcCode } from "../../../src/client/grpc-code.ts";
import type { Call, CallHandler, CallRequest, Transport } from "../../../src/client/transport.ts";
import type { Bytes } from "../../../src/lib/bytes.ts";
import { CallError } from "../call-error.ts";
import type { Channel } from "../network.ts";
import type { DuplexStream } from "../stream-call.ts";
import { type ChunkReader, type Fields, readChunk } from "./chunk.ts";

/** What is told of each call, for whoever watches what a client does. */
export interface TransportTap {
  opened?(call: TappedCall): void;
  /** A message of a call that was opened without one, without its prefix. */
  sent?(call: TappedCall, message: Bytes): void;
  headers?(call: TappedCall, headers: Fields): void;
  answered?(call: TappedCall, message: Bytes): void;
  /** Without a status when the client gave it up. */
  ended?(call: TappedCall, status: CallStatus | undefined): void;
}

/** Tells each of them. */
export function allOf(taps: readonly TransportTap[]): TransportTap {
  return {
    opened: (call) => {
      for (const tap of taps) tap.opened?.(call);
    },
    sent: (call, message) => {
      for (const tap of taps) tap.sent?.(call, message);
    },
    headers: (call, headers) => {
      for (const tap of taps) tap.headers?.(call, headers);
    },
    answered: (call, message) => {
      for (const tap of taps) tap.answered?.(call, message);
    },
    ended: (call, status) => {
      for (const tap of taps) tap.ended?.(call, status);
    },
  };
}

export interface TappedCall {
  readonly request: CallRequest;
  /** True time. */
  readonly openedMs: number;
}

const PREFIX_BYTES = 5;
const OK_HEADERS: Fields = { ":status": "200", "content-type": "application/grpc" };

export class SimTransport implements Transport {
  readonly channel: Channel;
  readonly tap: TransportTap;
  readonly nowMs: () => number;
  readonly calls = new Set<ClientCall>();
  #closed = false;

  constructor(channel: Channel, nowMs: () => number, tap: TransportTap = {}) {
    this.channel = channel;
    this.nowMs = nowMs;
    this.tap = tap;
  }

  open(request: CallRequest, handler: CallHandler): Call {
    const call = new ClientCall(this, request, handler);
    if (this.#closed) call.refuse();
    else call.start();
    return call;
  }

  close(): void {
    this.#closed = true;
    for (const call of [...this.calls]) call.cancel();
  }
}

class ClientCall implements Call, TappedCall, ChunkReader {
  readonly request: CallRequest;
  readonly openedMs: number;
  readonly #transport: SimTransport;
  readonly #handler: CallHandler;
  #stream: DuplexStream | undefined;
  /** Nothing more is told to the handler. */
  #over = false;
  #heard = false;
  #paused: PromiseWithResolvers<void> | undefined;
  #waitsForRoom = false;

  constructor(transport: SimTransport, request: CallRequest, handler: CallHandler) {
    this.#transport = transport;
    this.request = request;
    this.#handler = handler;
    this.openedMs = transport.nowMs();
  }

  start(): void {
    const { address, path, message, timeoutMs, headers = {} } = this.request;
    const deadline = timeoutMs === undefined ? {} : { "grpc-timeout": `${Math.max(1, Math.ceil(timeoutMs))}m` };
    this.#transport.calls.add(this);
    this.#stream = this.#transport.channel.stream(address, path, { headers: { ...headers, ...deadline } });
    this.#transport.tap.opened?.(this);
    if (message !== undefined) this.#stream.send(message.subarray(PREFIX_BYTES));
    void this.#read(this.#stream);
  }

  /** For a transport that is closed. */
  refuse(): void {
    queueMicrotask(() => this.#end(plainStatus(GrpcCode.cancelled, "the client is closed")));
  }

  // --- Call -----------------------------------------------------------------------------------------------------

  send(framed: Bytes): boolean {
    if (this.#over || this.#stream === undefined) return true;
    const message = framed.subarray(PREFIX_BYTES);
    const hasRoom = this.#stream.send(message);
    this.#transport.tap.sent?.(this, message);
    if (!hasRoom) this.#tellDrained(this.#stream);
    return hasRoom;
  }

  halfClose(): void {
    this.#stream?.closeSend();
  }

  pause(): void {
    this.#paused ??= Promise.withResolvers<void>();
  }

  resume(): void {
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  cancel(): void {
    if (!this.#over) this.#transport.tap.ended?.(this, undefined);
    this.#stop();
    this.#stream?.cancel();
  }

  // --- ChunkReader ----------------------------------------------------------------------------------------------

  headers(headers: Fields): void {
    if (this.#over || this.#heard) return;
    this.#heard = true;
    this.#transport.tap.headers?.(this, headers);
    this.#handler.headers?.({ ...OK_HEADERS, ...headers });
  }

  message(message: Bytes): void {
    this.headers({});
    if (this.#over) return;
    this.#transport.tap.answered?.(this, message);
    this.#handler.message(message);
  }

  trailers(trailers: Fields): void {
    this.#end(statusFromTrailers(trailers) ?? this.#unavailable("the call ended without a status"));
  }

  // --- inside ---------------------------------------------------------------------------------------------------

  async #read(stream: DuplexStream): Promise<void> {
    try {
      while (!this.#over) {
        if (this.#paused !== undefined) await this.#paused.promise;
        const chunk = (await stream.next()) as Bytes | undefined;
        if (this.#over) return;
        if (chunk === undefined) this.#end(this.#unavailable("the call ended without a status"));
        else readChunk(chunk, this);
      }
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.#end(this.#unavailable(error.message));
    }
  }

  #tellDrained(stream: DuplexStream): void {
    if (this.#waitsForRoom) return;
    this.#waitsForRoom = true;
    void stream.drained().then(() => {
      this.#waitsForRoom = false;
      if (!this.#over) this.#handler.drained();
    });
  }

  #unavailable(why: string): CallStatus {
    return plainStatus(GrpcCode.unavailable, `${this.request.address}: ${why}`);
  }

  #end(status: CallStatus): void {
    if (this.#over) return;
    this.#stop();
    this.#transport.tap.ended?.(this, status);
    this.#handler.ended(status);
  }

  #stop(): void {
    this.#over = true;
    this.#transport.calls.delete(this);
    this.resume();
  }
}
