/** One stream of an HTTP/2 connection: what its connection keeps about it, and the handle of whoever opened it. */
import type { Bytes } from "../lib/bytes.ts";
import type { Headers } from "./hpack.ts";

/** The connection, as a stream sees it. */
export interface StreamOwner {
  /** Sends what the windows allow. */
  pump(stream: Http2Stream): void;
  /** Lets the peer send on, if there is reason to. */
  giveBack(stream: Http2Stream): void;
  cancel(stream: Http2Stream, errorCode: number): void;
}

/** What a stream hears. Nothing more comes after `reset`, `lost`, or headers or data with `last`. */
export interface StreamListener {
  headers(headers: Headers, last: boolean): void;
  data(bytes: Bytes, last: boolean): void;
  /** Everything handed to `send` has left, after a `send` that returned false. */
  drained(): void;
  reset(errorCode: number): void;
  /** The connection is no more, or takes no more calls. */
  lost(error: Error): void;
}

export class Http2Stream {
  readonly #connection: StreamOwner;
  readonly listener: StreamListener;
  readonly headerBlock: Bytes;
  /** 0 until the connection has room for it. */
  id = 0;
  /** Bytes that the peer takes on this stream; may be negative after it has lowered its initial window. */
  sendWindow = 0;
  /** Bytes that came and were not given back yet. */
  received = 0;
  paused = false;
  /** Messages that wait to leave; of the first, `sent` bytes have. */
  outbox: Bytes[] = [];
  sent = 0;
  /** The last message has been handed over. */
  ending = false;
  /** The peer has been told that nothing more comes. */
  ended = false;
  /** Neither side has anything more to say. */
  closed = false;
  owesDrained = false;

  constructor(connection: StreamOwner, headerBlock: Bytes, listener: StreamListener) {
    this.#connection = connection;
    this.headerBlock = headerBlock;
    this.listener = listener;
  }

  /** Sends bytes, the last ones of the stream with `last`. False: not all have left yet, and `drained` will tell when they have. */
  send(bytes: Bytes, last: boolean): boolean {
    if (this.closed) return true;
    this.outbox.push(bytes);
    this.ending ||= last;
    // drained is for those that were told to wait
    this.owesDrained = false;
    this.#connection.pump(this);
    this.owesDrained = this.outbox.length > 0;
    return !this.owesDrained;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.#connection.giveBack(this);
  }

  /** Ends the stream; the listener hears nothing more. */
  cancel(errorCode: number): void {
    this.#connection.cancel(this, errorCode);
  }
}
