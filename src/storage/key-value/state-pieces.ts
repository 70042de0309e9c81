/**
 * The pieces in which a state is sent to another server. They carry one run of bytes, cut anywhere: the items of
 * state-items.ts one behind the other, so that a record larger than a piece needs no form of its own.
 *
 *     0     "VKV", version of the format
 *     4     CRC-32 of all that follows
 *     8     number of the piece, from 0
 *     12    the run's bytes
 *
 * Numbers are 32 bits, little endian.
 */
import type { Bytes } from "../../lib/bytes.ts";
import { Refusal } from "../../model/refusal.ts";

export const PIECE_HEADER_BYTES = 12;
const FORMAT = 0x01_56_4b_56;

/** Cuts a run of bytes into pieces. */
export class PieceWriter {
  readonly #parts: Iterator<Bytes>;
  readonly #bytesMax: number;
  /** What of the last part did not fit. */
  #rest: Bytes | undefined;
  #number = 0;

  /** `bytesMax` is that of a whole piece. */
  constructor(parts: Iterator<Bytes>, bytesMax: number) {
    this.#parts = parts;
    this.#bytesMax = bytesMax;
  }

  /** The next piece, in bytes of its own; undefined at the end. Throws what reading a part throws. */
  next(): Bytes | undefined {
    let piece = new Uint8Array(this.#bytesMax);
    let length = PIECE_HEADER_BYTES;
    while (length < piece.length) {
      const part = this.#rest ?? this.#nextPart();
      if (part === undefined) break;
      const taken = Math.min(part.length, piece.length - length);
      piece.set(part.subarray(0, taken), length);
      length += taken;
      this.#rest = taken < part.length ? part.subarray(taken) : undefined;
    }
    if (length === PIECE_HEADER_BYTES) return undefined;
    if (length < piece.length) piece = piece.slice(0, length);
    const view = new DataView(piece.buffer);
    view.setUint32(0, FORMAT, true);
    view.setUint32(8, this.#number++, true);
    view.setUint32(4, Bun.hash.crc32(piece.subarray(8)), true);
    return piece;
  }

  #nextPart(): Bytes | undefined {
    const next = this.#parts.next();
    return next.done === true ? undefined : next.value;
  }
}

/** Checks pieces as they come. */
export class PieceReader {
  #number = 0;

  /** What of the run the next piece carries, a view of it. Throws INVALID_ARGUMENT when it is not the next piece, or not whole. */
  add(piece: Bytes): Bytes {
    if (piece.length <= PIECE_HEADER_BYTES) throw this.#refusal("it is too short");
    const view = new DataView(piece.buffer, piece.byteOffset, piece.byteLength);
    if (view.getUint32(0, true) !== FORMAT) throw this.#refusal("it is of no format that is known here");
    if (view.getUint32(4, true) !== Bun.hash.crc32(piece.subarray(8)))
      throw this.#refusal("it has another checksum than it was sent with");
    const number = view.getUint32(8, true);
    if (number !== this.#number) throw this.#refusal(`piece ${number} came in its place`);
    this.#number++;
    return piece.subarray(PIECE_HEADER_BYTES);
  }

  #refusal(what: string): Refusal {
    return new Refusal("INVALID_ARGUMENT", `piece ${this.#number} of a state: ${what}`);
  }
}
