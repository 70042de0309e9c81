import { afterEach, expect, test } from "bun:test";
import { createServer, type Http2Server, type ServerHttp2Stream, type Settings } from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { http2Frame } from "../../test/harness/raw-http2.ts";
import type { CallStatus } from "./call-status.ts";
import { GrpcCode } from "./grpc-code.ts";
import { Http2Transport } from "./http2-transport.ts";
import type { Call } from "./transport.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

const TIMES = { connectMs: 5000, pingIntervalMs: 5000, pongMs: 5000 };
const HEADERS = { ":status": 200, "content-type": "application/grpc" };

function framed(text: string): Uint8Array {
  const body = new TextEncoder().encode(text);
  const bytes = new Uint8Array(5 + body.length);
  new DataView(bytes.buffer).setUint32(1, body.length);
  bytes.set(body, 5);
  return bytes;
}

/** A server that hands each stream to `handle`. */
async function serve(
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

function transport(connectionsPerServer = 1): Http2Transport {
  const it = new Http2Transport({ connectionsPerServer });
  cleanups.push(() => it.close());
  return it;
}

interface Heard {
  readonly call: Call;
  readonly messages: string[];
  readonly ended: Promise<CallStatus>;
}

function open(
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

function endWith(stream: ServerHttp2Stream, trailers: Record<string, string>): void {
  stream.respond(HEADERS, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
}

test("messages go both ways, and trailers say how it ended", async () => {
  const { address } = await serve((stream, headers) => {
    endWith(stream, { "grpc-status": "9", "grpc-message": "caf%C3%A9" });
    const { te, extra, ":path": path, ":authority": authority, "grpc-timeout": timeout } = headers;
    stream.write(framed(JSON.stringify({ te, extra, path, authority, timeout })));
    let bytes = 0;
    stream.on("data", (chunk) => {
      stream.write(chunk);
      bytes += chunk.length;
      if (bytes === 2 * framed("one").length) stream.end();
    });
  });
  const { call, messages, ended } = open(transport(), address);
  call.send(framed("one"));
  call.send(framed("two"));
  expect(await ended).toMatchObject({ code: 9, message: "café" });
  const [first, ...echoes] = messages;
  expect(JSON.parse(first!)).toEqual({
    te: "trailers",
    extra: "yes",
    path: "/s/M",
    authority: address,
    timeout: "1500m",
  });
  expect(echoes).toEqual(["one", "two"]);
});

test("the only message of a call is sent, and then no more", async () => {
  const { address } = await serve((stream) => {
    endWith(stream, { "grpc-status": "0" });
    stream.on("data", (chunk) => stream.write(chunk));
    stream.on("end", () => stream.end());
  });
  const over = transport();
  const calls = ["a", "b".repeat(300_000), "c"].map((text) => open(over, address, "/s/M", undefined, framed(text)));
  expect((await Promise.all(calls.map(({ ended }) => ended))).map(({ code }) => code)).toEqual([0, 0, 0]);
  expect(calls.map(({ messages }) => messages[0]!.length)).toEqual([1, 300_000, 1]);
});

test("a call that streams its messages ends its side when it says so, and not before", async () => {
  const { address } = await serve((stream) => {
    endWith(stream, { "grpc-status": "0" });
    stream.on("data", (chunk) => stream.write(chunk));
    stream.on("end", () => stream.end(framed("ended")));
  });
  const { call, messages, ended } = open(transport(), address);
  call.send(framed("one"));
  call.send(framed("two"));
  call.halfClose();
  expect(await ended).toMatchObject({ code: 0 });
  expect(messages).toEqual(["one", "two", "ended"]);
  const empty = open(transport(), address);
  empty.call.halfClose();
  expect(await empty.ended).toMatchObject({ code: 0 });
  expect(empty.messages).toEqual(["ended"]);
});

/** A server by hand: it tells what DATA has come on each stream, and lets more come only when told to. */
async function serveByHand() {
  const received = new Map<number, number>();
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

const PREFACE_BYTES = 24;
const WINDOW_BYTES = 65_535;

test("a stream that is held back by its server does not hold up another", async () => {
  const server = await serveByHand();
  const over = transport();
  expect(open(over, server.address).call.send(new Uint8Array(100_000))).toBe(false);
  await server.has(1, WINDOW_BYTES);
  await server.grant(0, 1000);
  open(over, server.address).call.send(new Uint8Array(1000));
  await server.has(3, 1000);
  expect(server.received(1)).toBe(WINDOW_BYTES);
});

test("a raise of the initial window counts for open streams too, whatever they were granted before", async () => {
  const server = await serveByHand();
  const { call } = open(transport(), server.address);
  call.send(new Uint8Array(1_000_000));
  await server.has(1, WINDOW_BYTES);
  await server.grant(1, 100_000);
  await server.setInitialWindow(131_070);
  await server.grant(0, 900_000);
  await server.has(1, 131_070 + 100_000);
  await server.setInitialWindow(200_000);
  await server.has(1, 300_000);
  // lowered, it must be granted back before anything leaves
  await server.setInitialWindow(100_000);
  await server.grant(1, 150_000);
  await server.has(1, 350_000);
  expect(server.received(1)).toBe(350_000);
});

test("a server that says goodbye lets what it has seen end, and the rest goes elsewhere", async () => {
  const server = await serveByHand();
  const over = transport();
  const seen = open(over, server.address, "/s/M", undefined, framed("a"));
  await server.has(1, 6);
  const unseen = open(over, server.address, "/s/M", undefined, framed("b"));
  await server.send(7, 0, 0, Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0));
  expect((await unseen.ended).message).toContain("closing");
  // trailers: grpc-status 0, as a literal
  const block = Uint8Array.of(0x88, 0x00, 11, ...new TextEncoder().encode("grpc-status"), 1, 0x30);
  await server.send(1, 0x5, 1, block);
  expect((await seen.ended).code).toBe(GrpcCode.ok);
});

test("a server that breaks the protocol loses the connection", async () => {
  for (const [what, type, payload] of [
    ["push", 5, new Uint8Array(10)],
    ["continuation", 9, new Uint8Array(1)],
    ["window", 8, Uint8Array.of(0x7f, 0xff, 0xff, 0xff)],
    ["no entry", 1, Uint8Array.of(0xff)],
    ["frame of", 1, new Uint8Array(20_000)],
  ] as const) {
    const server = await serveByHand();
    const { call, ended } = open(transport(), server.address);
    call.send(framed("x"));
    await server.has(1, 6);
    await server.send(type, type === 1 ? 4 : 0, type === 8 ? 0 : 1, payload);
    const status = await ended;
    expect([status.code, status.message.includes(what) || status.message.includes("block")]).toEqual([
      GrpcCode.unavailable,
      true,
    ]);
  }
});

test("headers past their bound are refused", async () => {
  const server = await serveByHand();
  const { call, ended } = open(transport(), server.address);
  call.send(framed("x"));
  await server.has(1, 6);
  await server.send(1, 0, 1, new Uint8Array(16_000));
  for (let i = 0; i < 5; i++) await server.send(9, 0, 1, new Uint8Array(16_000));
  expect((await ended).message).toContain("headers of more than");
});

test("no more calls are open than the server allows, and the others come after", async () => {
  const settings = { maxConcurrentStreams: 3 };
  let open_ = 0;
  let most = 0;
  const { address } = await serve((stream) => {
    most = Math.max(most, ++open_);
    endWith(stream, { "grpc-status": "0" });
    stream.on("data", () => {});
    stream.on("end", () => {
      open_--;
      stream.end();
    });
  }, settings);
  const over = transport();
  await open(over, address, "/s/M", undefined, framed("x")).ended;
  const calls = Array.from({ length: 20 }, () => open(over, address, "/s/M", undefined, framed("x")).ended);
  expect((await Promise.all(calls)).every(({ code }) => code === GrpcCode.ok)).toBe(true);
  expect(most).toBeLessThanOrEqual(3);
});

test("many busy uploads on one connection all come to an end", async () => {
  const { address } = await serve((stream) => {
    endWith(stream, { "grpc-status": "0" });
    let bytes = 0;
    stream.on("data", (chunk) => {
      bytes += chunk.length;
      if (bytes === 40 * 30_005) stream.end();
    });
  });
  const over = transport();
  const ended = Array.from({ length: 14 }, () => {
    const { promise, resolve } = Promise.withResolvers<CallStatus>();
    let left = 40;
    const go = () => {
      while (left > 0) {
        left--;
        if (!call.send(framed("x".repeat(30_000)))) return;
      }
    };
    const call = over.open({ address, path: "/s/M" }, { message: () => {}, drained: go, ended: resolve });
    go();
    return promise;
  });
  expect((await Promise.all(ended)).every(({ code }) => code === GrpcCode.ok)).toBe(true);
});

test("an error without any message comes in the headers", async () => {
  const { address } = await serve((stream) => stream.respond({ ...HEADERS, "grpc-status": "5" }, { endStream: true }));
  expect((await open(transport(), address).ended).code).toBe(5);
});

test("what is no gRPC, a reset, and an end without a status have codes of their own", async () => {
  const { address } = await serve((stream, { ":path": path }) => {
    if (path === "/proxy") stream.respond({ ":status": 503 }, { endStream: true });
    else {
      stream.respond(HEADERS);
      stream.end();
    }
  });
  const over = transport();
  expect((await open(over, address, "/proxy").ended).code).toBe(GrpcCode.unavailable);
  expect((await open(over, address, "/nothing").ended).code).toBe(GrpcCode.unavailable);
  const byHand = await serveByHand();
  const reset = open(over, byHand.address);
  reset.call.send(framed("x"));
  await byHand.has(1, 6);
  await byHand.send(3, 0, 1, Uint8Array.of(0, 0, 0, 11));
  expect((await reset.ended).code).toBe(GrpcCode.resourceExhausted);
});

test("a compressed message ends the call", async () => {
  const { address } = await serve((stream) => {
    stream.respond(HEADERS);
    stream.write(Uint8Array.of(1, 0, 0, 0, 1, 7));
  });
  expect((await open(transport(), address).ended).code).toBe(GrpcCode.internal);
});

test("headers of the answer come before its messages; of a call that fails at once there are none", async () => {
  const { address } = await serve((stream, { ":path": path }) => {
    if (path === "/fails") return stream.respond({ ...HEADERS, "grpc-status": "5" }, { endStream: true });
    endWith(stream, { "grpc-status": "0", "x-late": "no" });
    stream.write(framed("hello"));
    stream.end();
  });
  const over = transport();
  for (const [path, expected] of [
    ["/s/M", ["application/grpc", "message", "ended 0"]],
    ["/fails", ["ended 5"]],
  ] as const) {
    const { promise, resolve } = Promise.withResolvers<readonly string[]>();
    const heard: string[] = [];
    const call = over.open(
      { address, path },
      {
        headers: (headers) => heard.push(headers["content-type"] ?? "none"),
        message: () => heard.push("message"),
        drained: () => {},
        ended: ({ code }) => resolve([...heard, `ended ${code}`]),
      },
    );
    call.send(framed("x"));
    expect(await promise).toEqual(expected);
  }
});

test("nobody listening is UNAVAILABLE, and says where", async () => {
  const status = await open(transport(), "127.0.0.1:1").ended;
  expect(status.code).toBe(GrpcCode.unavailable);
  expect(status.message).toContain("127.0.0.1:1");
});

test("an address that cannot be one is UNAVAILABLE too", async () => {
  expect((await open(transport(), "256.256.256.256.:99999").ended).code).toBe(GrpcCode.unavailable);
});

test("a connection that is lost ends its calls, and the next call makes another", async () => {
  let calls = 0;
  const { address, sockets } = await serve((stream) => {
    calls++;
    endWith(stream, { "grpc-status": "0" });
    stream.write(framed("hello"));
    if (calls > 1) stream.end();
  });
  const over = transport();
  const { promise, resolve } = Promise.withResolvers<void>();
  const first = open(over, address, "/s/M", resolve);
  await promise;
  for (const socket of sockets) socket.destroy();
  expect((await first.ended).code).toBe(GrpcCode.unavailable);
  expect((await open(over, address).ended).code).toBe(GrpcCode.ok);
});

test("a server that does not answer pings is given up", async () => {
  const silent = createTcpServer((socket) => {
    socket.on("error", () => {});
    // the empty SETTINGS of a server, and then nothing more
    socket.write(Uint8Array.of(0, 0, 0, 4, 0, 0, 0, 0, 0));
    cleanups.push(() => socket.destroy());
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", () => resolve()));
  cleanups.push(() => silent.close());
  const over = new Http2Transport({ times: { ...TIMES, pingIntervalMs: 20, pongMs: 20 } });
  cleanups.push(() => over.close());
  const status = await open(over, `127.0.0.1:${(silent.address() as AddressInfo).port}`).ended;
  expect(status.code).toBe(GrpcCode.unavailable);
  expect(status.message).toContain("pings");
});

test("a server that takes the connection and says nothing is given up", async () => {
  const silent = createTcpServer((socket) => {
    cleanups.push(() => socket.destroy());
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", () => resolve()));
  cleanups.push(() => silent.close());
  const over = new Http2Transport({ times: { ...TIMES, connectMs: 50 } });
  cleanups.push(() => over.close());
  const status = await open(over, `127.0.0.1:${(silent.address() as AddressInfo).port}`).ended;
  expect(status.code).toBe(GrpcCode.unavailable);
  expect(status.message).toContain("connecting");
});

test("a server that answers pings is kept", async () => {
  const { address } = await serve((stream) => {
    stream.respond({ ...HEADERS });
    stream.write(framed("hello"));
    setTimeout(() => stream.close(), 300);
  });
  const over = new Http2Transport({ times: { connectMs: 100, pingIntervalMs: 10, pongMs: 100 } });
  cleanups.push(() => over.close());
  expect((await open(over, address).ended).message).not.toContain("pings");
});

test("calls are spread over the connections", async () => {
  const { address, sockets } = await serve((stream) => {
    endWith(stream, { "grpc-status": "0" });
    stream.end();
  });
  const over = transport(3);
  await Promise.all(Array.from({ length: 9 }, () => open(over, address, "/s/M", undefined, framed("x")).ended));
  expect(sockets.size).toBe(3);
});

test("a paused call holds the server back, and nothing is lost", async () => {
  const total = 400;
  let written = 0;
  const { address } = await serve((stream) => {
    endWith(stream, { "grpc-status": "0" });
    const message = framed("x".repeat(20_000));
    const more = () => {
      while (written < total) {
        written++;
        if (!stream.write(message)) {
          stream.once("drain", more);
          return;
        }
      }
      stream.end();
    };
    more();
  });
  const over = transport();
  const heard = open(over, address, "/s/M", () => {
    if (heard.messages.length === 1) heard.call.pause();
  });
  // another call on the same connection goes on, and shows that the paused one had its time
  const other = open(over, address, "/s/M");
  written = 0;
  expect((await other.ended).code).toBe(GrpcCode.ok);
  expect(heard.messages.length).toBeLessThan(total);
  heard.call.resume();
  expect((await heard.ended).code).toBe(GrpcCode.ok);
});

test("nothing is heard of a cancelled call", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { address } = await serve((stream) => {
    stream.respond(HEADERS);
    stream.write(framed("hello"));
    stream.on("close", resolve);
  });
  const heard = open(transport(), address, "/s/M", () => heard.call.cancel());
  heard.ended.then(() => {
    throw new Error("it was heard");
  });
  await promise;
  expect(heard.messages).toEqual(["hello"]);
});

test("a closed transport makes no calls", async () => {
  const over = transport();
  over.close();
  expect((await open(over, "127.0.0.1:1").ended).code).toBe(GrpcCode.cancelled);
});
