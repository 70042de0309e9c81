import { afterEach, describe, expect, test } from "bun:test";
import { connect as connectHttp2 } from "node:http2";
import type net from "node:net";
import { Code, Connection, frame } from "../../test/harness/grpc.ts";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { FrameType, http2Frame, PREFACE, RawConnection } from "../../test/harness/raw-http2.ts";
import { listenForTest, oxiaMethods, pathOf, type TestListener, until } from "../../test/harness/rpc-server.ts";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import {
  HANDSHAKE_MS_MAX,
  HTTP1_IDLE_MS,
  HTTP1_REQUEST_MS_MAX,
  REQUEST_BYTES_PER_S_MIN,
  REQUEST_MS_MAX,
} from "../model/limits.ts";
import type { Method } from "./method.ts";

const echo: Method = { kind: "unary", handle: (request) => request };

let open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of open.reverse()) await each.close();
  open = [];
});

async function listen(options: Parameters<typeof listenForTest>[1] = {}, write = echo): Promise<TestListener> {
  const listener = await listenForTest(oxiaMethods({ write }), options);
  open.push({ close: () => listener.close({ graceMs: 0 }) });
  return listener;
}

async function grpcTo(listener: TestListener): Promise<Connection> {
  const connection = await Connection.open(listener.address);
  open.push(connection);
  return connection;
}

async function rawTo(listener: TestListener): Promise<RawConnection> {
  const connection = await RawConnection.open(listener.address);
  open.push(connection);
  return connection;
}

const isClosed = (connection: RawConnection) => {
  const state = { closed: false };
  connection.closed.then(() => {
    state.closed = true;
  });
  return state;
};

async function expectServed(listener: TestListener): Promise<void> {
  const connection = await Connection.open(listener.address);
  expect((await connection.call(pathOf("write"), EMPTY_BYTES)).code).toBe(Code.OK);
  await connection.close();
}

/** An HTTP/1.1 request of a JSON call. */
const HTTP1_CALL = `POST ${pathOf("write")} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`;

/** Sends bytes one by one, each in a packet of its own. */
async function trickle(socket: net.Socket, bytes: Bytes): Promise<void> {
  socket.setNoDelay(true);
  for (const byte of bytes) {
    socket.write(Uint8Array.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("the first bytes of a connection", () => {
  test("are recognised as HTTP/2 even when they come one by one", async () => {
    const raw = await rawTo(await listen());
    await trickle(raw.socket, PREFACE);
    raw.send(http2Frame(FrameType.SETTINGS, 0, 0, EMPTY_BYTES));
    raw.call(pathOf("write"), frame(EMPTY_BYTES));
    await until(() => raw.received > 60, "the answer");
  });

  test("are recognised as HTTP/1.1 even when they come one by one, also if they begin like HTTP/2", async () => {
    const listener = await listen();
    for (const method of ["POST", "PR"]) {
      const raw = await rawTo(listener);
      let text = "";
      raw.socket.on("data", (chunk) => {
        text += chunk;
      });
      await trickle(raw.socket, Buffer.from(HTTP1_CALL.replace("POST", method)));
      await until(() => text.startsWith("HTTP/1.1 "), "the answer");
      expect(text).toStartWith(method === "POST" ? "HTTP/1.1 200 " : "HTTP/1.1 400 ");
    }
  });

  test("that are neither end the connection", async () => {
    const listener = await listen();
    for (const bytes of [
      Uint8Array.of(0x16, 3, 1, 2, 0, 1),
      Buffer.from("hello\r\n\r\n"),
      Buffer.from("PRI * nonsense"),
    ]) {
      const raw = await rawTo(listener);
      raw.send(bytes);
      raw.socket.resume();
      if (bytes[0] === 0x50) raw.socket.end(Buffer.alloc(24));
      await raw.closed;
    }
    await expectServed(listener);
  });

  test("have a time to come, and so has the client's SETTINGS frame", async () => {
    const clock = new ManualClock();
    const listener = await listen({ clock });
    const silent = [await rawTo(listener), await rawTo(listener), await rawTo(listener)];
    silent[1]!.send(PREFACE.subarray(0, 3));
    silent[2]!.send(PREFACE);
    const greeted = await rawTo(listener);
    greeted.greet();
    const http1 = await rawTo(listener);
    http1.send(Buffer.from(HTTP1_CALL));
    await until(() => listener.connections() === 5 && greeted.received > 0 && http1.received > 0, "the connections");
    greeted.call(pathOf("write"), frame(EMPTY_BYTES));
    const before = greeted.received;
    await until(() => greeted.received > before, "the first answer");
    clock.advance(HANDSHAKE_MS_MAX - 1);
    expect(listener.connections()).toBe(5);
    clock.advance(1);
    await Promise.all(silent.map((raw) => raw.closed));
    await until(() => listener.connections() === 2, "the others to stay");
  });
});

test("connections past the limit are closed, and places become free", async () => {
  const listener = await listen({ limits: { connectionsMax: 3 } });
  const kept = [await grpcTo(listener), await grpcTo(listener), await grpcTo(listener)];
  for (const connection of kept) expect((await connection.call(pathOf("write"), EMPTY_BYTES)).code).toBe(Code.OK);
  const extra = await rawTo(listener);
  await extra.closed;
  expect(listener.connections()).toBe(3);
  await kept[0]!.close();
  await until(() => listener.connections() === 2, "a free place");
  await expectServed(listener);
});

test("two methods at one path are refused, and an address that is taken rejects", async () => {
  const methods = oxiaMethods({ write: echo });
  await expect(listenForTest([...methods, ...methods])).rejects.toThrow("two methods are served at");
  const listener = await listen();
  await expect(listenForTest(methods, { port: listener.port })).rejects.toThrow();
});

describe("HTTP/1.1 connections", () => {
  test("are closed when they are idle for too long, or send half of their headers", async () => {
    const clock = new ManualClock();
    const listener = await listen({ clock });
    const idle = await rawTo(listener);
    idle.send(Buffer.from(HTTP1_CALL));
    const half = await rawTo(listener);
    half.send(Buffer.from("POST /x HTTP/1.1\r\nHo"));
    await until(() => idle.received > 0 && listener.connections() === 2, "the answer");
    const states = [isClosed(idle), isClosed(half)];
    clock.advance(HTTP1_IDLE_MS);
    await expectServed(listener);
    expect(states.map(({ closed }) => closed)).toEqual([false, false]);
    clock.advance(10_000);
    await Promise.all([idle.closed, half.closed]);
  });

  test("are closed when a request takes too long to arrive, but not while a response goes out", async () => {
    const clock = new ManualClock();
    const stream: Method = {
      kind: "server-stream",
      handle: (_request, call, sink) => {
        sink.send(EMPTY_BYTES);
        return new Promise((resolve) => call.onCancel(resolve));
      },
    };
    const listener = await listenForTest(oxiaMethods({ write: echo, list: stream }), { clock });
    open.push({ close: () => listener.close({ graceMs: 0 }) });
    const slow = await rawTo(listener);
    slow.send(Buffer.from(HTTP1_CALL.replace("Length: 2", "Length: 2000")));
    const watching = await rawTo(listener);
    const body = Buffer.concat([frame(EMPTY_BYTES)]);
    watching.send(
      Buffer.concat([
        Buffer.from(
          `POST ${pathOf("list")} HTTP/1.1\r\nHost: x\r\nContent-Type: application/connect+proto\r\nContent-Length: ${body.length}\r\n\r\n`,
        ),
        body,
      ]),
    );
    await until(() => watching.received > 0, "the first response");
    const state = isClosed(watching);
    clock.advance(HTTP1_REQUEST_MS_MAX + 10_000);
    await slow.closed;
    await expectServed(listener);
    expect(state.closed).toBe(false);
  });
});

describe("a request that takes too long to arrive", () => {
  const bidi: Method = {
    kind: "bidi",
    open: (_call, controls) => ({
      message: (message) => controls.send(message),
      end: () => controls.end(),
    }),
  };

  for (const [name, body] of [
    ["no message", EMPTY_BYTES],
    ["half a prefix", Uint8Array.of(0, 0)],
    ["half a message", frame(new Uint8Array(100)).subarray(0, 50)],
    ["a message without an end", frame(new Uint8Array(100))],
  ] as const) {
    test(`is ended: ${name}`, async () => {
      const clock = new ManualClock();
      const listener = await listen({ clock });
      const call = (await grpcTo(listener)).open(pathOf("write"), () => {});
      call.sendRaw(body);
      await until(() => listener.stats().methods[0]!.started === 1, "the call");
      clock.advance(REQUEST_MS_MAX + 10_000);
      expect((await call.ended).code).toBe(Code.DEADLINE_EXCEEDED);
      expect(listener.stats().requestBytesInFlight).toBe(0);
    });
  }

  test("is ended on a bidirectional stream, whose silence between messages may last", async () => {
    const clock = new ManualClock();
    const listener = await listenForTest(oxiaMethods({ writeStream: bidi }), { clock });
    open.push({ close: () => listener.close({ graceMs: 0 }) });
    const got: Bytes[] = [];
    const call = (await grpcTo(listener)).open(pathOf("writeStream"), (message) => got.push(message));
    for (let i = 1; i <= 3; i++) {
      call.send(EMPTY_BYTES);
      await until(() => got.length === i, "the answer");
      clock.advance(REQUEST_MS_MAX * 10);
    }
    call.sendRaw(frame(new Uint8Array(100)).subarray(0, 50));
    await until(() => listener.stats().requestBytesInFlight > 0, "half a message");
    clock.advance(REQUEST_MS_MAX + 10_000);
    expect((await call.ended).code).toBe(Code.DEADLINE_EXCEEDED);
  });

  test("has more time the longer it is", async () => {
    const clock = new ManualClock();
    const listener = await listen({ clock });
    const length = 10 * REQUEST_BYTES_PER_S_MIN;
    const call = (await grpcTo(listener)).open(pathOf("write"), () => {});
    const whole = frame(new Uint8Array(length));
    call.sendRaw(whole.subarray(0, 100));
    await until(() => listener.stats().requestBytesInFlight > 0, "the first bytes");
    clock.advance(REQUEST_MS_MAX + 5_000);
    call.sendRaw(whole.subarray(100));
    call.halfClose();
    expect((await call.ended).code).toBe(Code.OK);
  });
});

describe("closing", () => {
  test("takes no new connections, lets open calls end, and ends their connections", async () => {
    const { promise, resolve } = Promise.withResolvers<Bytes>();
    const listener = await listen({}, { kind: "unary", handle: () => promise });
    const connection = await grpcTo(listener);
    const call = connection.call(pathOf("write"), EMPTY_BYTES);
    const idle = await grpcTo(listener);
    await until(() => listener.stats().methods[0]!.started === 1, "the call");
    let closed = false;
    const closing = listener.close({ graceMs: 60_000 }).then(() => {
      closed = true;
    });
    await idle.closed;
    await expect(Connection.open(listener.address)).rejects.toThrow();
    expect(closed).toBe(false);
    resolve(EMPTY_BYTES);
    expect((await call).code).toBe(Code.OK);
    await closing;
    expect(listener.connections()).toBe(0);
  });

  test("cuts what has not ended in time, and tells its handlers", async () => {
    let cancelled = false;
    const hanging: Method = {
      kind: "unary",
      handle: (_request, call) => {
        call.onCancel(() => {
          cancelled = true;
        });
        return new Promise(() => {});
      },
    };
    const listener = await listen({}, hanging);
    const connection = await grpcTo(listener);
    const call = connection.call(pathOf("write"), EMPTY_BYTES);
    const silent = await rawTo(listener);
    await until(() => listener.stats().methods[0]!.started === 1 && listener.connections() === 2, "the call");
    await listener.close({ graceMs: 20 });
    expect((await call).lost).toBe(true);
    await silent.closed;
    expect(cancelled).toBe(true);
    expect(listener.connections()).toBe(0);
  });

  test("without connections is done at once, also twice", async () => {
    const listener = await listen();
    await listener.close({ graceMs: 60_000 });
    await listener.close({ graceMs: 60_000 });
  });

  test("tells clients which of their calls were taken", async () => {
    const listener = await listen({}, { kind: "unary", handle: () => new Promise(() => {}) });
    const session = connectHttp2(`http://${listener.address}`);
    session.on("error", () => {});
    open.push({ close: () => session.destroy() });
    const stream = session.request({ ":method": "POST", ":path": pathOf("write"), "content-type": "application/grpc" });
    stream.on("error", () => {});
    stream.end(frame(EMPTY_BYTES));
    await until(() => listener.stats().methods[0]!.started === 1, "the call");
    const goaway = new Promise((resolve) => session.on("goaway", (code, last) => resolve([code, last])));
    const closing = listener.close({ graceMs: 50 });
    expect(await goaway).toEqual([0, 1]);
    await closing;
  });
});
