/**
 * HPACK, the header compression of HTTP/2: a whole decoder, and an encoder that only ever writes literals, so that it
 * has no state.
 *
 * The Huffman code is canonical: codes of one length ascend with their symbols, and shorter codes come before longer
 * ones, so the lengths say it all.
 *
 * Source: RFC 7541; the tables are its appendices A and B.
 */
import { type Bytes, utf8 } from "../lib/bytes.ts";
import type { Writer } from "../wire/writer.ts";

/** Header names (lower case) and values, in order of arrival; of repeated names the last one counts. */
export type Headers = Record<string, string>;

/** The peer broke the compression: its connection cannot be read any further. */
export class HpackError extends Error {
  override readonly name = "HpackError";
}

/** What we let a peer keep; the protocol's default. */
const TABLE_BYTES_MAX = 4096;
/** What an entry counts beyond its name and value. */
const ENTRY_OVERHEAD_BYTES = 32;

const STATIC_TABLE: readonly (readonly [string, string])[] = (
  ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|" +
  ":status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|" +
  "accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|" +
  "content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|" +
  "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|" +
  "last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|" +
  "server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
  .split("|")
  .map((entry) => {
    const space = entry.indexOf(" ");
    return space < 0 ? [entry, ""] : [entry.slice(0, space), entry.slice(space + 1)];
  });

const STATIC_NAMES: ReadonlyMap<string, number> = new Map(
  STATIC_TABLE.map(([name], at): [string, number] => [name, at + 1]).reverse(),
);

// --- encoding -------------------------------------------------------------------------------------------------

/** Appends one header as a literal that no table keeps. */
export function writeHeader(block: Writer, name: string, value: string): void {
  const index = STATIC_NAMES.get(name) ?? 0;
  writeInteger(block, 0, 4, index);
  if (index === 0) writeText(block, name);
  writeText(block, value);
}

function writeText(block: Writer, text: string): void {
  const bytes = utf8(text);
  writeInteger(block, 0, 7, bytes.length);
  block.raw(bytes);
}

/** An integer whose first byte has `bits` bits for it, below the bits of `first`. */
function writeInteger(block: Writer, first: number, bits: number, value: number): void {
  const max = (1 << bits) - 1;
  if (value < max) block.byte(first | value);
  else {
    block.byte(first | max);
    block.varint(value - max);
  }
}

// --- decoding -------------------------------------------------------------------------------------------------

/** Reads the header blocks of one connection: all of them, in order. */
export class HpackDecoder {
  /** The newest first. */
  readonly #table: (readonly [string, string])[] = [];
  #tableBytes = 0;
  #tableBytesMax = TABLE_BYTES_MAX;
  #block: Bytes = new Uint8Array(0);
  #pos = 0;

  /** Throws HpackError. */
  decode(block: Bytes): Headers {
    this.#block = block;
    this.#pos = 0;
    const headers: Headers = Object.create(null);
    while (this.#pos < block.length) {
      const first = block[this.#pos]!;
      if ((first & 0x80) !== 0) {
        const [name, value] = this.#entry(this.#integer(7));
        headers[name] = value;
      } else if ((first & 0xe0) === 0x20) {
        const bytes = this.#integer(5);
        if (bytes > TABLE_BYTES_MAX) throw new HpackError("a table larger than was offered");
        this.#tableBytesMax = bytes;
        this.#evict();
      } else {
        const keep = (first & 0x40) !== 0;
        const index = this.#integer(keep ? 6 : 4);
        const name = index === 0 ? this.#text() : this.#entry(index)[0];
        const value = this.#text();
        headers[name] = value;
        if (keep) this.#add(name, value);
      }
    }
    return headers;
  }

  #entry(index: number): readonly [string, string] {
    const entry = index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : this.#table[index - STATIC_TABLE.length - 1];
    if (entry === undefined) throw new HpackError(`no entry ${index}`);
    return entry;
  }

  #add(name: string, value: string): void {
    this.#table.unshift([name, value]);
    this.#tableBytes += name.length + value.length + ENTRY_OVERHEAD_BYTES;
    this.#evict();
  }

  #evict(): void {
    while (this.#tableBytes > this.#tableBytesMax) {
      const [name, value] = this.#table.pop()!;
      this.#tableBytes -= name.length + value.length + ENTRY_OVERHEAD_BYTES;
    }
  }

  #integer(bits: number): number {
    const max = (1 << bits) - 1;
    let value = this.#byte() & max;
    if (value < max) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new HpackError("an integer of more than four bytes");
  }

  /** Bytes as latin1, so that a character is a byte. */
  #text(): string {
    const huffman = ((this.#block[this.#pos] ?? 0) & 0x80) !== 0;
    const length = this.#integer(7);
    const end = this.#pos + length;
    if (end > this.#block.length) throw new HpackError("a text past the end of the block");
    const bytes = this.#block.subarray(this.#pos, end);
    this.#pos = end;
    return huffman ? huffmanDecode(bytes) : Buffer.from(bytes).toString("latin1");
  }

  #byte(): number {
    const byte = this.#block[this.#pos++];
    if (byte === undefined) throw new HpackError("the block ends within a header");
    return byte;
  }
}

// --- Huffman --------------------------------------------------------------------------------------------------

/** Code lengths of the symbols 0 to 255 and of the end, as runs: length x count. */
const CODE_LENGTHS =
  "13 23 28x7 24 30 28x2 30 28x8 30 28x9 6 10x2 12 13 6 8 11 10x2 8 11 8 6x3 5x3 6x7 7 8 15 6 12 10 13 6 7x22 8 7 8 " +
  "13 19 13 14 6 15 5 6 5 6 5 6x3 5 7x2 6x3 5 6 7 6 5x2 6 7x5 15 11 14 13 28 20 22 20x2 22x3 23 22 23x5 24 23 24x2 22 " +
  "23 24 23x4 21 22 23 22 23x2 24 22 21 20 22x2 23x2 21 23 22x2 24 21 22 23x2 21x2 22 21 23 22 23x2 20 22x3 23 22x2 " +
  "23 26x2 20 19 22 23 22 25 26x3 27x2 26 24 25 19 21 26 27x2 26 27 24 21x2 26x2 28 27x3 20 24 20 21 22 21x2 23 22x2 " +
  "25x2 24x2 26 23 26 27 26x2 27x5 28 27x5 26 30";
const CODE_BITS_MAX = 30;
const END_SYMBOL = 256;

/** By length: the first code of that length, how many there are, and where their symbols start in SYMBOLS. */
const FIRST_CODES: number[] = [];
const COUNTS: number[] = [];
const STARTS: number[] = [];
const SYMBOLS: number[] = [];

{
  const lengths = CODE_LENGTHS.split(" ").flatMap((run) => {
    const [length, count] = run.split("x").map(Number);
    return Array.from({ length: count ?? 1 }, () => length!);
  });
  let code = 0;
  for (let length = 0; length <= CODE_BITS_MAX; length++) {
    const symbols = lengths.flatMap((its, symbol) => (its === length && length > 0 ? [symbol] : []));
    FIRST_CODES.push(code);
    COUNTS.push(symbols.length);
    STARTS.push(SYMBOLS.length);
    SYMBOLS.push(...symbols);
    code = (code + symbols.length) * 2;
  }
}

function huffmanDecode(bytes: Bytes): string {
  let text = "";
  let code = 0;
  let length = 0;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      code = (code << 1) | ((byte >> bit) & 1);
      length++;
      const at = code - FIRST_CODES[length]!;
      if (at >= 0 && at < COUNTS[length]!) {
        const symbol = SYMBOLS[STARTS[length]! + at]!;
        if (symbol === END_SYMBOL) throw new HpackError("the end symbol within a text");
        text += String.fromCharCode(symbol);
        code = 0;
        length = 0;
      } else if (length === CODE_BITS_MAX) throw new HpackError("no such code");
    }
  }
  // the last byte is filled up with ones
  if (length > 7 || code !== (1 << length) - 1) throw new HpackError("a text that ends within a code");
  return text;
}
