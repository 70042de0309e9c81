/**
 * Cuts the bytes of a call's answer into messages. A message within one chunk is a view of it; one that spans chunks is
 * put together once it is whole, so that a declared length alone costs no memory.
 *
 * Source: gRPC, doc/PROTOCOL-HTTP2.md (Length-Prefixed-Message).
 */
import { type Bytes, concatBytes } from "../lib/bytes.ts";
import { FRAME_PREFIX_BYTES } from "./requests.ts";

/** What the bytes cannot be. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

export class FrameReader {
  readonly #messageBytesMax: number;
  /** Begun and not whole: prefix included. */
  #parts: Bytes[] = [];
  #partsBytes = 0;
  /** Bytes that the parts need to be whole: the prefix as long as the length is not known. */
  #needed = FRAME_PREFIX_BYTES;

  constructor(messageBytesMax: number) {
    this.#messageBytesMax = messageBytesMax;
  }

  /** Whether a message has begun and not ended. */
  get partial(): boolean {
    return this.#partsBytes > 0;
  }

  /** Hands each whole message to `take`, in order. Throws FrameError at a compressed or too large one. */
  push(chunk: Bytes, take: (message: Bytes) => void): void {
    let pos = 0;
    while (pos < chunk.length) {
      if (this.#partsBytes > 0) {
        pos = this.#continue(chunk, pos, take);
        continue;
      }
      if (chunk.length - pos < FRAME_PREFIX_BYTES) {
        this.#begin(chunk.subarray(pos), FRAME_PREFIX_BYTES);
        return;
      }
      const whole = FRAME_PREFIX_BYTES + this.#lengthAt(chunk, pos);
      if (chunk.length - pos < whole) {
        this.#begin(chunk.subarray(pos), whole);
        return;
      }
      take(chunk.subarray(pos + FRAME_PREFIX_BYTES, pos + whole));
      pos += whole;
    }
  }

  #begin(part: Bytes, needed: number): void {
    this.#parts = [part];
    this.#partsBytes = part.length;
    this.#needed = needed;
  }

  /** Adds to the message that has begun; returns where the chunk goes on. */
  #continue(chunk: Bytes, pos: number, take: (message: Bytes) => void): number {
    const end = Math.min(chunk.length, pos + this.#needed - this.#partsBytes);
    this.#parts.push(chunk.subarray(pos, end));
    this.#partsBytes += end - pos;
    if (this.#partsBytes < this.#needed) return end;
    const bytes = concatBytes(...this.#parts);
    if (this.#needed === FRAME_PREFIX_BYTES) {
      const length = this.#lengthAt(bytes, 0);
      if (length > 0) {
        this.#begin(bytes, FRAME_PREFIX_BYTES + length);
        return end;
      }
    }
    this.#parts = [];
    this.#partsBytes = 0;
    this.#needed = FRAME_PREFIX_BYTES;
    take(bytes.subarray(FRAME_PREFIX_BYTES));
    return end;
  }

  #lengthAt(bytes: Bytes, at: number): number {
    if (bytes[at] !== 0) throw new FrameError("a compressed message, which was not asked for");
    const length = ((bytes[at + 1]! << 24) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!) >>> 0;
    if (length > this.#messageBytesMax) throw new FrameError(`a message of ${length} bytes`);
    return length;
  }
}
