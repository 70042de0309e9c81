/**
 * What a server sends of one answer in one go: frames as gRPC-Web puts them, messages with flag 0 and the end with flag
 * 0x80, plus the headers with flag 0x81, which HTTP/2 has a frame of its own for. One chunk is one message of the
 * simulated network, as what a server says in one turn is one write to its socket.
 */
import { assert } from "../../../src/lib/assert.ts";
import { type Bytes, concatBytes, text, utf8 } from "../../../src/lib/bytes.ts";

export type Fields = Readonly<Record<string, string>>;

export interface ChunkReader {
  headers(headers: Fields): void;
  message(message: Bytes): void;
  trailers(trailers: Fields): void;
}

const MESSAGE = 0;
const TRAILERS = 0x80;
const HEADERS = 0x81;
const PREFIX_BYTES = 5;

export function messageFrame(message: Bytes): Bytes {
  return frame(MESSAGE, message);
}

export function trailersFrame(trailers: Fields): Bytes {
  return frame(TRAILERS, fieldBytes(trailers));
}

export function headersFrame(headers: Fields): Bytes {
  return frame(HEADERS, fieldBytes(headers));
}

export function chunkOf(frames: readonly Bytes[]): Bytes {
  return frames.length === 1 ? frames[0]! : concatBytes(...frames);
}

/** Hands over what is in a chunk, in order. Messages are views of it. */
export function readChunk(chunk: Bytes, reader: ChunkReader): void {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
  for (let at = 0; at < chunk.length; ) {
    const flag = chunk[at]!;
    const end = at + PREFIX_BYTES + view.getUint32(at + 1);
    assert(end <= chunk.length, "a frame that is longer than its chunk", end, chunk.length);
    const content = chunk.subarray(at + PREFIX_BYTES, end);
    if (flag === MESSAGE) reader.message(content);
    else if (flag === TRAILERS) reader.trailers(JSON.parse(text(content)) as Fields);
    else reader.headers(JSON.parse(text(content)) as Fields);
    at = end;
  }
}

function fieldBytes(fields: Fields): Bytes {
  return utf8(JSON.stringify(fields));
}

function frame(flag: number, content: Bytes): Bytes {
  const bytes = new Uint8Array(PREFIX_BYTES + content.length);
  bytes[0] = flag;
  new DataView(bytes.buffer).setUint32(1, content.length);
  bytes.set(content, PREFIX_BYTES);
  return bytes;
}
