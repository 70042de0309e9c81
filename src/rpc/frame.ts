/**
 * gRPC message framing: each message has a prefix of five bytes.
 *
 *     compressed flag, 1 byte | length, 4 bytes big-endian | message
 *
 * The decoder takes chunks as they come. A message that lies within one chunk is a view of it; one that spans chunks
 * is copied once, into a buffer that grows with what has arrived, so that a declared length alone costs no memory.
 * A message past the limit is refused as soon as its prefix is read.
 *
 * Source: gRPC, doc/PROTOCOL-HTTP2.md (Length-Prefixed-Message).
 */
import type { Bytes } from "../lib/bytes.ts";
import { Code, StatusError } from "./code.ts";

/** Whoever accounts for the memory of messages. */
export interface Reserve {
  /**
   * Asks for `bytes` more for a message. False: not now; the decoder asks for the same again when `next` is called
   * again. May throw, to refuse.
   */
  reserve(bytes: number): boolean;
}

export const FRAME_PREFIX_BYTES = 5;
/** A message that spans chunks gets its whole buffer at once up to this size, and a growing one past it. */
const WHOLE_BUFFER_BYTES_MAX = 64 * 1024;
const NO_CHUNK = new Uint8Array(0);

export class FrameDecoder {
  readonly #messageBytesMax: number;
  readonly #reserve: Reserve;
  #chunk: Bytes = NO_CHUNK;
  #pos = 0;
  /** A prefix that was cut by the end of a chunk. Invariant: #prefixLength < FRAME_PREFIX_BYTES between calls. */
  #prefix: Bytes | undefined;
  #prefixLength = 0;
  /** Length of the message under way; -1 while its prefix was not read. */
  #length = -1;
  /** What is there of it, when it spans chunks. Invariant: #received <= #message.length <= #length. */
  #message: Bytes | undefined;
  #received = 0;

  /** Refuses messages of more than `messageBytesMax` bytes. */
  constructor(messageBytesMax: number, reserve: Reserve) {
    this.#messageBytesMax = messageBytesMax;
    this.#reserve = reserve;
  }

  /** Hands over the next chunk; messages are views of it. */
  push(chunk: Bytes): void {
    if (this.#pos < this.#chunk.length) {
      // not all of the chunk before was taken: its stream should be paused, but nothing is lost if it is not
      const rest = this.#chunk.subarray(this.#pos);
      const joined = new Uint8Array(rest.length + chunk.length);
      joined.set(rest);
      joined.set(chunk, rest.length);
      this.#chunk = joined;
    } else this.#chunk = chunk;
    this.#pos = 0;
  }

  /**
   * The next message; undefined when the chunks so far hold no further whole one, or no memory is to be had for it.
   * Throws StatusError: RESOURCE_EXHAUSTED past the limit, INTERNAL when the compressed flag is set (no encoding was
   * agreed on).
   */
  next(): Bytes | undefined {
    if (this.#length < 0 && !this.#readPrefix()) return undefined;
    return this.#message === undefined ? this.#begin() : this.#fill(this.#message);
  }

  /** Whether a message has begun and not ended. */
  get partial(): boolean {
    return this.#length >= 0 || this.#prefixLength > 0;
  }

  /** Declared bytes of the message under way; 0 while they are not known. */
  get partialLength(): number {
    return Math.max(0, this.#length);
  }

  /** Drops all that was not taken. */
  clear(): void {
    this.#chunk = NO_CHUNK;
    this.#pos = 0;
    this.#prefixLength = 0;
    this.#length = -1;
    this.#message = undefined;
  }

  #check(bytes: Bytes, at: number): number {
    const length = ((bytes[at + 1]! << 24) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!) >>> 0;
    const flag = bytes[at]!;
    if (flag !== 0) {
      throw new StatusError(
        Code.INTERNAL,
        flag === 1 ? "compressed message without a grpc-encoding" : `invalid compressed flag ${flag}`,
      );
    }
    if (length > this.#messageBytesMax) {
      throw new StatusError(
        Code.RESOURCE_EXHAUSTED,
        `message of ${length} bytes is larger than the maximum of ${this.#messageBytesMax}`,
      );
    }
    return length;
  }

  /** Reads the prefix of the next message into #length, as far as it is there; false while it is not whole. */
  #readPrefix(): boolean {
    const chunk = this.#chunk;
    const pos = this.#pos;
    if (this.#prefixLength === 0 && chunk.length - pos >= FRAME_PREFIX_BYTES) {
      this.#length = this.#check(chunk, pos);
      this.#pos = pos + FRAME_PREFIX_BYTES;
      return true;
    }
    this.#prefix ??= new Uint8Array(FRAME_PREFIX_BYTES);
    while (this.#prefixLength < FRAME_PREFIX_BYTES) {
      if (this.#pos >= chunk.length) return false;
      this.#prefix[this.#prefixLength++] = chunk[this.#pos++]!;
    }
    this.#length = this.#check(this.#prefix, 0);
    this.#prefixLength = 0;
    return true;
  }

  /** A message that lies within the chunk; else starts to gather it. */
  #begin(): Bytes | undefined {
    const length = this.#length;
    const start = this.#pos;
    if (this.#chunk.length - start >= length) {
      if (!this.#reserve.reserve(length)) return undefined;
      this.#length = -1;
      this.#pos = start + length;
      return this.#chunk.subarray(start, start + length);
    }
    if (start === this.#chunk.length) return undefined;
    const size = Math.min(length, WHOLE_BUFFER_BYTES_MAX);
    if (!this.#reserve.reserve(size)) return undefined;
    this.#message = Buffer.allocUnsafeSlow(size); // all of it is written before it is handed out
    this.#received = 0;
    return this.#fill(this.#message);
  }

  /** Moves what the chunk has of the message under way; the message once it is whole. */
  #fill(buffer: Bytes): Bytes | undefined {
    let message = buffer;
    const chunk = this.#chunk;
    const take = Math.min(chunk.length - this.#pos, this.#length - this.#received);
    const end = this.#received + take;
    if (end > message.length) {
      const size = Math.min(this.#length, Math.max(end, 2 * message.length));
      if (!this.#reserve.reserve(size - message.length)) return undefined;
      const grown = Buffer.allocUnsafeSlow(size);
      grown.set(message.subarray(0, this.#received));
      message = grown;
      this.#message = grown;
    }
    message.set(take === chunk.length ? chunk : chunk.subarray(this.#pos, this.#pos + take), this.#received);
    this.#pos += take;
    this.#received = end;
    if (end < this.#length) return undefined;
    this.#message = undefined;
    this.#length = -1;
    return message;
  }
}

/** Writes the prefix of a message of `length` bytes to `target` at `at`. */
export function writePrefix(target: Bytes, at: number, length: number): void {
  target[at] = 0;
  target[at + 1] = length >>> 24;
  target[at + 2] = length >>> 16;
  target[at + 3] = length >>> 8;
  target[at + 4] = length;
}

/** The prefix of a message of `length` bytes. */
export function prefixOf(length: number): Bytes {
  const prefix = new Uint8Array(FRAME_PREFIX_BYTES);
  writePrefix(prefix, 0, length);
  return prefix;
}

/** The messages with their prefixes, in one buffer; `bytes` is what that takes. */
export function frameAll(messages: readonly Bytes[], bytes: number): Bytes {
  const framed = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const message of messages) {
    writePrefix(framed, at, message.length);
    framed.set(message, at + FRAME_PREFIX_BYTES);
    at += FRAME_PREFIX_BYTES + message.length;
  }
  return framed;
}
