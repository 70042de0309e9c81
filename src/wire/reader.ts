/**
 * Protobuf decoding for the hot messages: one cursor over borrowed bytes, no reflection, no allocation but the views
 * that a field needs. The generated schemas decode everything else; wire.test.ts compares the two on random messages.
 *
 * 64-bit integers are numbers when they are safe integers, else bigints: never rounded (architecture.md, Traps).
 *
 * Source: the protocol buffers encoding specification.
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { Refusal } from "../model/refusal.ts";

/** A 64-bit integer: a number when safe, else a bigint, so that equal values are always `===`. */
export type Int64 = number | bigint;

const TWO_32 = 0x1_0000_0000;
/** Groups and fixed32/64 aside, nesting in the hot messages is at most three deep; this bounds a skipped group. */
const GROUP_DEPTH_MAX = 32;

export function malformed(what: string): Refusal {
  return new Refusal("INVALID_ARGUMENT", `malformed message: ${what}`);
}

export class Reader {
  readonly bytes: Bytes;
  pos: number;
  end: number;

  /** Reads `bytes` from `start` inclusive to `end` exclusive. Throws INVALID_ARGUMENT at whatever is not protobuf. */
  constructor(bytes: Bytes, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.pos = start;
    this.end = end;
  }

  more(): boolean {
    return this.pos < this.end;
  }

  /** A field tag, `number << 3 | wireType`. */
  tag(): number {
    const tag = this.uint32();
    if (tag >>> 3 === 0) throw malformed("field number 0");
    return tag;
  }

  /** A varint's low 32 bits, unsigned. */
  uint32(): number {
    const bytes = this.bytes;
    let pos = this.pos;
    if (pos < this.end) {
      const first = bytes[pos]!;
      if (first < 0x80) {
        this.pos = pos + 1;
        return first;
      }
    }
    let result = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (pos >= this.end) throw malformed("truncated varint");
      const byte = bytes[pos++]!;
      if (shift < 32) result |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        this.pos = pos;
        return result >>> 0;
      }
    }
    throw malformed("varint longer than 10 bytes");
  }

  bool(): boolean {
    return this.int64() !== 0;
  }

  /** A varint as a signed 64-bit integer. */
  int64(): Int64 {
    const { low, high } = this.#varint64();
    // a safe integer: high word within 21 bits, or the same below zero
    if (high < 0x20_0000) return high * TWO_32 + low;
    const signed = high | 0;
    if (signed < 0 && signed >= -0x20_0000) {
      const value = signed * TWO_32 + low;
      if (Number.isSafeInteger(value)) return value;
    }
    return BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));
  }

  /** A varint as an unsigned 64-bit integer. */
  uint64(): Int64 {
    const { low, high } = this.#varint64();
    if (high < 0x20_0000) return high * TWO_32 + low;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  /** Eight little-endian bytes, unsigned. */
  fixed64(): Int64 {
    const low = this.fixed32();
    const high = this.fixed32();
    if (high < 0x20_0000) return high * TWO_32 + low;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  fixed32(): number {
    const pos = this.#take(4);
    const bytes = this.bytes;
    return (bytes[pos]! | (bytes[pos + 1]! << 8) | (bytes[pos + 2]! << 16) | (bytes[pos + 3]! << 24)) >>> 0;
  }

  /** A length-delimited field as a view of the message. */
  view(): Bytes {
    const length = this.uint32();
    if (length === 0) return EMPTY_BYTES;
    const pos = this.#take(length);
    return this.bytes.subarray(pos, pos + length);
  }

  /** Enters a length-delimited message: returns its exclusive end. Read until `pos` reaches it. */
  messageEnd(): number {
    const length = this.uint32();
    const end = this.pos + length;
    if (end > this.end) throw malformed("length past the end of the message");
    return end;
  }

  /** Steps over a field of no interest: unknown fields are tolerated. */
  skip(tag: number): void {
    this.#skip(tag, 0);
  }

  #skip(tag: number, depth: number): void {
    switch (tag & 7) {
      case 0:
        this.#varint64();
        return;
      case 1:
        this.#take(8);
        return;
      case 2:
        this.#take(this.uint32());
        return;
      case 3: {
        if (depth >= GROUP_DEPTH_MAX) throw malformed("groups nested too deep");
        for (;;) {
          const inner = this.tag();
          if ((inner & 7) === 4) {
            if (inner >>> 3 !== tag >>> 3) throw malformed("group ends with another number");
            return;
          }
          this.#skip(inner, depth + 1);
        }
      }
      case 5:
        this.#take(4);
        return;
      default:
        throw malformed(`wire type ${tag & 7}`);
    }
  }

  #take(length: number): number {
    const pos = this.pos;
    if (length > this.end - pos) throw malformed("length past the end of the message");
    this.pos = pos + length;
    return pos;
  }

  #varint64(): { low: number; high: number } {
    const bytes = this.bytes;
    let low = 0;
    let high = 0;
    let pos = this.pos;
    for (let shift = 0; shift < 70; shift += 7) {
      if (pos >= this.end) throw malformed("truncated varint");
      const byte = bytes[pos++]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high |= bits >> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) break;
      if (shift === 63) throw malformed("varint longer than 10 bytes");
    }
    this.pos = pos;
    words.low = low >>> 0;
    words.high = high >>> 0;
    return words;
  }
}

/** The two halves of the last varint read: one object for all, so that reading a field allocates nothing. */
const words = { low: 0, high: 0 };
