/**
 * The way out of a connection: frames gathered and written together, once a turn of the event loop, so that a hundred
 * small calls leave in one write.
 */
import type { Socket } from "node:net";
import type { Bytes } from "../lib/bytes.ts";
import { Writer } from "../wire/writer.ts";

/** Bytes after which what is gathered is written without waiting for the turn to end. */
const WRITE_BYTES = 256 * 1024;
const CAPACITY_BYTES = 4 * 1024;

export class Http2Output {
  readonly #socket: Socket;
  readonly #onRoom: () => void;
  #out = new Writer(CAPACITY_BYTES);
  #scheduled = false;
  /** The system takes no more for now. */
  #full = false;
  #ended = false;

  /** Calls `onRoom` when there is room again after `full`. */
  constructor(socket: Socket, onRoom: () => void) {
    this.#socket = socket;
    this.#onRoom = onRoom;
    socket.on("drain", () => {
      this.#full = false;
      this.#onRoom();
    });
  }

  /** Whether DATA should wait for `onRoom`. Other frames are small and may always go. */
  get full(): boolean {
    return this.#full || this.#out.length >= WRITE_BYTES;
  }

  raw(bytes: Bytes): void {
    this.#out.raw(bytes);
    this.#schedule();
  }

  /** Copies `payload`. */
  frame(type: number, flags: number, stream: number, payload: Bytes): void {
    const out = this.#out;
    const { length } = payload;
    out.reserve(9 + length);
    const { bytes } = out;
    const at = out.length;
    bytes[at] = length >>> 16;
    bytes[at + 1] = length >>> 8;
    bytes[at + 2] = length;
    bytes[at + 3] = type;
    bytes[at + 4] = flags;
    bytes[at + 5] = stream >>> 24;
    bytes[at + 6] = stream >>> 16;
    bytes[at + 7] = stream >>> 8;
    bytes[at + 8] = stream;
    bytes.set(payload, at + 9);
    out.length = at + 9 + length;
    this.#schedule();
  }

  /** Writes what is gathered, and then nothing more. */
  end(): void {
    this.#flush();
    this.#ended = true;
  }

  #schedule(): void {
    if (this.#scheduled || this.#ended) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const out = this.#out;
    if (out.length === 0 || this.#ended) return;
    const wasFull = this.full;
    // the socket keeps the bytes until they are written: the next ones go elsewhere
    this.#out = new Writer(Math.max(CAPACITY_BYTES, Math.min(out.length, WRITE_BYTES)));
    if (!this.#socket.write(out.finish())) this.#full = true;
    else if (wasFull && !this.#full) this.#onRoom();
  }
}
