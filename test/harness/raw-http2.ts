/**
 * HTTP/2 by hand over a TCP socket, for what no client library would send: streams that are reset as soon as they are
 * opened, responses that are never read, half of a frame and then silence. Only the client's side, only what the
 * tests need; headers are HPACK literals without indexing or Huffman coding.
 *
 * Source: RFC 9113 §4 and §6; RFC 7541 §6.2.2.
 */
import net from "node:net";

export const FrameType = {
  DATA: 0,
  HEADERS: 1,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
} as const;
export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;
export const ACK = 0x1;
export const PREFACE: Uint8Array = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export function http2Frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(9 + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, 9);
  return bytes;
}

/** A header block of literals. */
export function headerBlock(headers: Readonly<Record<string, string>>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [name, value] of Object.entries(headers)) {
    parts.push(Uint8Array.of(0), lengthAndText(name), lengthAndText(value));
  }
  return Buffer.concat(parts);
}

function lengthAndText(text: string): Uint8Array {
  const bytes = Buffer.from(text, "latin1");
  const length: number[] = [];
  if (bytes.length < 127) length.push(bytes.length);
  else {
    length.push(127);
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Uint8Array.from(length), bytes]);
}

/** A TCP connection that speaks HTTP/2 only as far as it is told to. */
export class RawConnection {
  readonly socket: net.Socket;
  /** Resolves when the peer has ended the connection, or it broke. */
  readonly closed: Promise<void>;
  /** Bytes received so far. */
  received = 0;
  #nextStream = 1;
  readonly #authority: string;

  private constructor(socket: net.Socket, authority: string) {
    this.socket = socket;
    this.#authority = authority;
    this.closed = new Promise((resolve) => {
      socket.on("close", () => resolve());
      socket.on("end", () => resolve());
    });
    socket.on("error", () => {}); // a broken connection is what many of these tests are after
    socket.on("data", (chunk) => {
      this.received += chunk.length;
    });
  }

  /** Connects; sends nothing yet. */
  static open(address: string): Promise<RawConnection> {
    const [host, port] = [
      address.slice(0, address.lastIndexOf(":")),
      Number(address.slice(address.lastIndexOf(":") + 1)),
    ];
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host, port }, () => resolve(new RawConnection(socket, address)));
      socket.once("error", reject);
    });
  }

  /** Preface and empty SETTINGS: the initial window of 65,535 bytes stands, and is never widened. */
  greet(): void {
    this.send(PREFACE);
    this.send(http2Frame(FrameType.SETTINGS, 0, 0, new Uint8Array()));
    this.send(http2Frame(FrameType.SETTINGS, ACK, 0, new Uint8Array()));
  }

  send(bytes: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(bytes);
  }

  /** Opens a gRPC call and returns its stream id; `body` is sent as the whole request. */
  call(path: string, body?: Uint8Array, headers: Readonly<Record<string, string>> = {}): number {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    this.send(http2Frame(FrameType.HEADERS, END_HEADERS, stream, this.headersOf(path, headers)));
    if (body !== undefined) this.send(http2Frame(FrameType.DATA, END_STREAM, stream, body));
    return stream;
  }

  headersOf(path: string, headers: Readonly<Record<string, string>> = {}): Uint8Array {
    return headerBlock({
      ":method": "POST",
      ":scheme": "http",
      ":path": path,
      ":authority": this.#authority,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
  }

  reset(stream: number): void {
    const code = Buffer.alloc(4);
    code.writeUInt32BE(8); // CANCEL
    this.send(http2Frame(FrameType.RST_STREAM, 0, stream, code));
  }

  close(): void {
    this.socket.destroy();
  }
}
