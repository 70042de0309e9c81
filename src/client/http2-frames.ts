/** Frames of HTTP/2: their types, flags and settings, and cutting a connection's bytes into them. Source: RFC 9113 §4, §6, §7. */
import { type Bytes, concatBytes } from "../lib/bytes.ts";

export const FRAME_HEADER_BYTES = 9;
export const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

export const FrameType = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const Flag = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const Setting = { enablePush: 2, maxConcurrentStreams: 3, initialWindowSize: 4, maxFrameSize: 5 } as const;

export const Http2Error = {
  noError: 0,
  protocol: 1,
  flowControl: 3,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
} as const;

/** Window of a stream and of a connection before anybody says otherwise. */
export const WINDOW_BYTES_DEFAULT = 65_535;
export const WINDOW_BYTES_MAX = 0x7fff_ffff;
/** The largest frame that every peer takes, and that we take. */
export const FRAME_BYTES_DEFAULT = 16_384;

/** The peer broke the protocol: its connection ends with this code. */
export class Http2ProtocolError extends Error {
  override readonly name = "Http2ProtocolError";
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export type TakeFrame = (type: number, flags: number, stream: number, payload: Bytes) => void;

/** Cuts what comes on a connection into frames. Payloads are views of the chunks, or of copies of theirs. */
export class FrameCutter {
  #rest: Bytes | undefined;

  /** Hands each whole frame to `take`. Throws Http2ProtocolError at one larger than was allowed. */
  push(chunk: Bytes, take: TakeFrame): void {
    const bytes = this.#rest === undefined ? chunk : concatBytes(this.#rest, chunk);
    let pos = 0;
    while (bytes.length - pos >= FRAME_HEADER_BYTES) {
      const length = (bytes[pos]! << 16) | (bytes[pos + 1]! << 8) | bytes[pos + 2]!;
      if (length > FRAME_BYTES_DEFAULT)
        throw new Http2ProtocolError(Http2Error.frameSize, `a frame of ${length} bytes`);
      const end = pos + FRAME_HEADER_BYTES + length;
      if (end > bytes.length) break;
      const stream = readUint32(bytes, pos + 5) & 0x7fff_ffff;
      const start = pos + FRAME_HEADER_BYTES;
      pos = end;
      this.#rest = undefined;
      take(bytes[start - 6]!, bytes[start - 5]!, stream, bytes.subarray(start, end));
    }
    this.#rest = pos === bytes.length ? undefined : bytes.subarray(pos);
  }
}

/** The payload without the padding around it. */
export function unpadded(flags: number, payload: Bytes): Bytes {
  if ((flags & Flag.padded) === 0) return payload;
  const padding = payload[0] ?? 0;
  if (padding >= payload.length) throw new Http2ProtocolError(Http2Error.protocol, "padding past the end of a frame");
  return payload.subarray(1, payload.length - padding);
}

export function readUint32(bytes: Bytes, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function uint32(...values: number[]): Bytes {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value);
  return bytes;
}

/** A SETTINGS payload. */
export function settingsPayload(settings: readonly (readonly [number, number])[]): Bytes {
  const bytes = new Uint8Array(6 * settings.length);
  const view = new DataView(bytes.buffer);
  for (const [i, [id, value]] of settings.entries()) {
    view.setUint16(6 * i, id);
    view.setUint32(6 * i + 2, value);
  }
  return bytes;
}
