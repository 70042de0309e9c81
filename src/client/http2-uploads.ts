/**
 * What may leave of the streams of one connection, within three windows: the stream's, the connection's, and what the
 * system takes. Streams that have to wait take turns, a frame each.
 *
 * Invariant: a stream that has something to send and may is not waiting once a function here returns.
 *
 * Source: RFC 9113 §5.2, §6.9.
 */
import type { Bytes } from "../lib/bytes.ts";
import {
  Flag,
  FRAME_BYTES_DEFAULT,
  FrameType,
  Http2Error,
  Http2ProtocolError,
  WINDOW_BYTES_DEFAULT,
  WINDOW_BYTES_MAX,
} from "./http2-frames.ts";
import type { Http2Stream } from "./http2-stream.ts";

/** Where frames go. */
export interface FrameOutput {
  /** Whether DATA should wait; `pumpBlocked` is to be called when it need not any more. */
  readonly full: boolean;
  /** Copies `payload`. */
  frame(type: number, flags: number, stream: number, payload: Bytes): void;
}

export class Http2Uploads {
  frameBytesMax = FRAME_BYTES_DEFAULT;
  readonly #output: FrameOutput;
  #initialWindow = WINDOW_BYTES_DEFAULT;
  /** Bytes that the peer takes on the connection. */
  #window = WINDOW_BYTES_DEFAULT;
  /** Streams that have something to send and could not. */
  readonly #blocked = new Set<Http2Stream>();

  constructor(output: FrameOutput) {
    this.#output = output;
  }

  /** A stream was opened: sends what it has. */
  begin(stream: Http2Stream): void {
    stream.sendWindow = this.#initialWindow;
    this.pump(stream);
  }

  /** Sends what may be sent of a stream. */
  pump(stream: Http2Stream): void {
    while (stream.outbox.length > 0) {
      if (!this.#sendFrame(stream)) {
        this.#blocked.add(stream);
        return;
      }
    }
    this.#sent(stream);
  }

  /** Sends what may be sent now of all streams that wait. */
  pumpBlocked(): void {
    let moved = true;
    while (moved && this.#blocked.size > 0) {
      moved = false;
      for (const stream of [...this.#blocked]) {
        if (!this.#blocked.has(stream) || !this.#sendFrame(stream)) continue;
        moved = true;
        if (stream.outbox.length === 0) this.#sent(stream);
      }
    }
  }

  /** The peer's initial window: for streams to come, and the difference for those that are open. */
  setInitialWindow(bytes: number, open: Iterable<Http2Stream>): void {
    if (bytes > WINDOW_BYTES_MAX) throw new Http2ProtocolError(Http2Error.flowControl, "a window past its bound");
    for (const stream of open) stream.sendWindow += bytes - this.#initialWindow;
    this.#initialWindow = bytes;
  }

  /** The peer takes more: on a stream, or on the connection. */
  grow(stream: Http2Stream | undefined, bytes: number): void {
    if (stream === undefined) this.#window += bytes;
    else stream.sendWindow += bytes;
    if ((stream === undefined ? this.#window : stream.sendWindow) > WINDOW_BYTES_MAX) {
      throw new Http2ProtocolError(Http2Error.flowControl, "a window past its bound");
    }
    this.pumpBlocked();
  }

  /** Nothing more of the stream is sent. */
  forget(stream: Http2Stream): void {
    stream.outbox = [];
    this.#blocked.delete(stream);
  }

  /** Sends one DATA frame; false when it has to wait. */
  #sendFrame(stream: Http2Stream): boolean {
    const message = stream.outbox[0]!;
    const left = message.length - stream.sent;
    const bytes = Math.min(left, this.frameBytesMax, stream.sendWindow, this.#window);
    if (this.#output.full || (bytes <= 0 && left > 0)) return false;
    const whole = bytes === left;
    const last = whole && stream.ending && stream.outbox.length === 1;
    const part = bytes === message.length ? message : message.subarray(stream.sent, stream.sent + bytes);
    this.#output.frame(FrameType.data, last ? Flag.endStream : 0, stream.id, part);
    stream.sendWindow -= bytes;
    this.#window -= bytes;
    stream.ended ||= last;
    stream.sent += bytes;
    if (whole) {
      stream.outbox.shift();
      stream.sent = 0;
    }
    return true;
  }

  #sent(stream: Http2Stream): void {
    this.#blocked.delete(stream);
    if (!stream.owesDrained) return;
    stream.owesDrained = false;
    stream.listener.drained();
  }
}
