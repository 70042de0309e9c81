/** A transport and servers that a test plays: with node:http2, or frame by frame. */
import { afterEach } from "bun:test";
import { createServer, type Http2Server, type ServerHttp2Stream, type Settings } from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import type { CallStatus } from "../../src/client/call-status.ts";
import { Http2Transport } from "../../src/client/http2-transport.ts";
import type { Call } from "../../src/client/transport.ts";
import { http2Frame } from "./raw-http2.ts";

export const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

export const TIMES = { connectMs: 5000, pingIntervalMs: 5000, pongMs: 5000 };
export const HEADERS = { ":status": 200, "content-type": "application/grpc" };

export function framed(text: string): Uint8Array {
  const body = new TextEncoder().encode(text);
  const bytes = new Uint8Array(5 + body.length);
  new DataView(bytes.buffer).setUint32(1, body.length);
  bytes.set(body, 5);
  return bytes;
}

/** A server that hands each stream to `handle`. */
export async function serve(
  handle: (stream: ServerHttp2Stream, headers: Record<string, unknown>) => void,
  settings: Settings = {},
) {
  const sockets = new Set<Socket>();
  const server: Http2Server = createServer({ settings });
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.on("session", (session) => session.on("error", () => {}));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    handle(stream as ServerHttp2Stream, headers as Record<string, unknown>);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, sockets };
}

export function transport(connectionsPerServer = 1): Http2Transport {
  const it = new Http2Transport({ connectionsPerServer });
  cleanups.push(() => it.close());
  return it;
}

export interface Heard {
  readonly call: Call;
  readonly messages: string[];
  readonly ended: Promise<CallStatus>;
}

export function open(
  over: Http2Transport,
  address: string,
  path = "/s/M",
  onMessage?: () => void,
  message?: Uint8Array,
): Heard {
  const messages: string[] = [];
  const { promise, resolve } = Promise.withResolvers<CallStatus>();
  const call = over.open(
    { address, path, headers: { extra: "yes" }, timeoutMs: 1500, ...(message === undefined ? {} : { message }) },
    {
      message: (message) => {
        messages.push(new TextDecoder().decode(message));
        onMessage?.();
      },
      drained: () => {},
      ended: resolve,
    },
  );
  return { call, messages, ended: promise };
}

export function endWith(stream: ServerHttp2Stream, trailers: Record<string, string>): void {
  stream.respond(HEADERS, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
}

/** A server by hand: it tells what DATA has come on each stream, and lets more come only when told to. */
export async function serveByHand() {
  const received = new Map<number, number>();
  const windows: number[] = [];
  const awaited = { count: Number.POSITIVE_INFINITY, resolve: () => {} };
  const came = new Map<number, { bytes: number; resolve: () => void }>();
  const { promise: connected, resolve: connect } = Promise.withResolvers<Socket>();
  const server = createTcpServer((socket) => {
    socket.on("error", () => {});
    cleanups.push(() => socket.destroy());
    let rest = Buffer.alloc(0);
    let preface = PREFACE_BYTES;
    socket.on("data", (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      if (preface > 0) {
        if (rest.length < preface) return;
        rest = rest.subarray(preface);
        preface = 0;
        socket.write(http2Frame(4, 0, 0, new Uint8Array(0)));
        connect(socket);
      }
      while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
        const length = rest.readUIntBE(0, 3);
        const stream = rest.readUInt32BE(5);
        if (rest[3] === 0) received.set(stream, (received.get(stream) ?? 0) + length);
        if (rest[3] === 8 && stream === 0) windows.push(rest.readUInt32BE(9));
        if (windows.length >= awaited.count) awaited.resolve();
        rest = rest.subarray(9 + length);
      }
      for (const [stream, { bytes, resolve }] of came) if ((received.get(stream) ?? 0) >= bytes) resolve();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  cleanups.push(() => server.close());
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** Resolves once `bytes` of DATA have come on `stream`. */
    has: (stream: number, bytes: number) =>
      new Promise<void>((resolve) => {
        came.set(stream, { bytes, resolve });
        if ((received.get(stream) ?? 0) >= bytes) resolve();
      }),
    received: (stream: number) => received.get(stream) ?? 0,
    /** What the client has given back of the connection's window, in turn. */
    windows,
    /** Resolves once it has given back so many times. */
    givenBack: (count: number) =>
      new Promise<void>((resolve) => {
        Object.assign(awaited, { count, resolve });
        if (windows.length >= count) resolve();
      }),
    async send(type: number, flags: number, stream: number, payload: Uint8Array): Promise<void> {
      (await connected).write(http2Frame(type, flags, stream, payload));
    },
    grant(stream: number, bytes: number): Promise<void> {
      const increment = Buffer.alloc(4);
      increment.writeUInt32BE(bytes);
      return this.send(8, 0, stream, increment);
    },
    /** Raises or lowers the window that every stream starts with. */
    setInitialWindow(bytes: number): Promise<void> {
      const setting = Buffer.alloc(6);
      setting.writeUInt16BE(4);
      setting.writeUInt32BE(bytes, 2);
      return this.send(4, 0, 0, setting);
    },
  };
}

export const PREFACE_BYTES = 24;
/** `:status 200`, by its index in the static table. */
export const RESPONSE_HEADERS = Uint8Array.of(0x88);
export const WINDOW_BYTES = 65_535;
