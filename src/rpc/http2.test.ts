import { afterEach, describe, expect, test } from "bun:test";
import * as grpc from "@grpc/grpc-js";
import { Code, Connection, frame, type Reply } from "../../test/harness/grpc.ts";
import {
  LEGACY_SERVICE,
  listenForTest,
  oxiaMethods,
  pathOf,
  type TestListener,
  until,
} from "../../test/harness/rpc-server.ts";
import { AssertionError } from "../lib/assert.ts";
import { type Bytes, EMPTY_BYTES, text, utf8 } from "../lib/bytes.ts";
import { Refusal } from "../model/refusal.ts";
import type { BidiControls, Call, Method } from "./method.ts";

const unary = (handle: (request: Bytes, call: Call) => Bytes | Promise<Bytes>): Method => ({ kind: "unary", handle });
const bytesOf = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31) % 251);

let open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of open.reverse()) await each.close();
  open = [];
});

async function listen(handlers: Parameters<typeof oxiaMethods>[0], options = {}): Promise<TestListener> {
  const listener = await listenForTest(oxiaMethods(handlers), options);
  open.push({ close: () => listener.close({ graceMs: 0 }) });
  return listener;
}

async function connect(listener: TestListener): Promise<Connection> {
  const connection = await Connection.open(listener.address);
  open.push(connection);
  return connection;
}

/** Calls Write of a listener whose Write is `handle`. */
async function callWrite(
  handle: (request: Bytes, call: Call) => Bytes | Promise<Bytes>,
  request: Bytes = EMPTY_BYTES,
  options: Parameters<Connection["call"]>[2] = {},
): Promise<Reply & { listener: TestListener }> {
  const listener = await listen({ write: unary(handle) });
  const reply = await (await connect(listener)).call(pathOf("write"), request, options);
  return { ...reply, listener };
}

describe("a unary call", () => {
  test("is answered with its one response and status OK", async () => {
    for (const size of [0, 1, 100, 16_379, 16_380, 70_000, 3_000_000]) {
      const reply = await callWrite((request) => request, bytesOf(size));
      expect(reply.code).toBe(Code.OK);
      expect(reply.messages).toEqual([bytesOf(size)]);
    }
  });

  test("is answered when its handler is asynchronous", async () => {
    const reply = await callWrite(async (request) => request, utf8("later"));
    expect(reply.messages.map(text)).toEqual(["later"]);
  });

  test("is served under both service names", async () => {
    const listener = await listen({ write: unary(() => utf8("x")) });
    const connection = await connect(listener);
    expect((await connection.call(`/${LEGACY_SERVICE}/Write`, EMPTY_BYTES)).code).toBe(Code.OK);
    expect((await connection.call(pathOf("write"), EMPTY_BYTES)).code).toBe(Code.OK);
  });
});

describe("what the handler sees", () => {
  test("header values one by one, the authority and the peer", async () => {
    let seen: unknown;
    await callWrite(
      (request, call) => {
        seen = [call.header("namespace"), call.header("absent"), call.authority, call.peer];
        return request;
      },
      EMPTY_BYTES,
      { headers: { namespace: ["a", "b, c"], ":authority": "example:1" } },
    );
    expect(seen).toEqual([["a", "b, c"], [], "example:1", "127.0.0.1"]);
  });

  test("response headers that it sets go out with the response", async () => {
    const listener = await listen({
      write: unary((request, call) => {
        call.setResponseHeader("x-shard", "7");
        return request;
      }),
    });
    const connection = await connect(listener);
    const stream = connection.session.request({
      ":method": "POST",
      ":path": pathOf("write"),
      "content-type": "application/grpc",
    });
    stream.end(frame(EMPTY_BYTES));
    const headers = await new Promise<Record<string, unknown>>((resolve) => stream.on("response", resolve));
    stream.resume();
    expect(headers["x-shard"]).toBe("7");
    expect(headers["content-type"]).toBe("application/grpc");
  });
});

describe("errors", () => {
  test("a refusal becomes its status, with ErrorInfo and the leader hint, in one Trailers-Only frame", async () => {
    const hint = { shard: 3, leader: "other:6648" };
    const listener = await listen({
      read: {
        kind: "server-stream",
        handle: () => Promise.reject(new Refusal("NODE_IS_NOT_LEADER", "shard 3", { hint })),
      },
    });
    const connection = await connect(listener);
    const reply = await connection.call(pathOf("read"), EMPTY_BYTES);
    expect(reply).toMatchObject({
      code: Code.ABORTED,
      message: "shard 3: oxia: node is not leader",
      reason: "NODE_IS_NOT_LEADER",
      metadata: { shard: "3", leader: "other:6648" },
    });
    let trailersOnly = false;
    const stream = connection.session.request({
      ":method": "POST",
      ":path": pathOf("read"),
      "content-type": "application/grpc",
    });
    stream.on("response", (headers) => {
      trailersOnly = headers["grpc-status"] === "10";
    });
    stream.end(frame(EMPTY_BYTES));
    stream.resume();
    await new Promise((resolve) => stream.on("close", resolve));
    expect(trailersOnly).toBe(true);
  });

  test("a message that is not ASCII arrives as it was", async () => {
    const message = "kein Schlüssel „ä“ 100 % \u{1F980}\n";
    const reply = await callWrite(() => {
      throw new Refusal("INVALID_ARGUMENT", message);
    });
    expect(reply).toMatchObject({ code: Code.INVALID_ARGUMENT, message, reason: undefined });
  });

  test("a fault is INTERNAL with a constant text, and is logged once with its method", async () => {
    const reply = await callWrite(() => {
      throw new AssertionError("key secret-4711", []);
    });
    expect(reply).toMatchObject({ code: Code.INTERNAL, message: "internal error" });
    expect(reply.listener.logged.map(({ level, fields }) => [level, fields.method])).toEqual([
      ["error", pathOf("write")],
    ]);
  });

  test("an error after a response comes after that response", async () => {
    const listener = await listen({
      read: {
        kind: "server-stream",
        handle: async (_request, _call, sink) => {
          sink.send(utf8("first"));
          throw new Refusal("ABORTED", "");
        },
      },
    });
    const reply = await (await connect(listener)).call(pathOf("read"), EMPTY_BYTES);
    expect(reply.messages.map(text)).toEqual(["first"]);
    expect(reply).toMatchObject({ code: Code.ABORTED, reason: "ABORTED", message: "oxia: operation was aborted" });
  });
});

describe("handlers with mistakes", () => {
  test("a response header that cannot be sent ends its call, and no other", async () => {
    let first = true;
    const listener = await listen({
      write: unary((request, call) => {
        if (first) call.setResponseHeader("bad header", "x");
        first = false;
        return request;
      }),
    });
    const connection = await connect(listener);
    const replies = await Promise.all([1, 2, 3].map(() => connection.call(pathOf("write"), EMPTY_BYTES)));
    expect(replies.map(({ lost, code }) => lost || code)).toEqual([true, Code.OK, Code.OK]);
    expect(listener.logged.map(({ message }) => message)).toEqual(["writing a reply failed"]);
  });

  test("a callback that throws at a cancellation keeps no other from being called", async () => {
    const told: number[] = [];
    const reply = await callWrite(
      (_request, call) => {
        call.onCancel(() => told.push(1));
        call.onCancel(() => {
          throw new Error("a bug");
        });
        call.onCancel(() => told.push(3));
        return new Promise(() => {});
      },
      EMPTY_BYTES,
      { headers: { "grpc-timeout": "5m" } },
    );
    expect([reply.code, told]).toEqual([Code.DEADLINE_EXCEEDED, [1, 3]]);
    expect(reply.listener.logged.map(({ message }) => message)).toEqual(["ending a cancelled call failed"]);
  });

  test("responses and ends after the end are dropped", async () => {
    let controls!: BidiControls;
    const listener = await listen({
      writeStream: {
        kind: "bidi",
        open: (_call, given) => {
          controls = given;
          return { message: () => true, end: () => given.end() };
        },
      },
    });
    const got: Bytes[] = [];
    const call = (await connect(listener)).open(pathOf("writeStream"), (message) => got.push(message));
    call.send(EMPTY_BYTES);
    call.halfClose();
    expect((await call.ended).code).toBe(Code.OK);
    expect(controls.send(EMPTY_BYTES)).toBe(false);
    controls.end();
    controls.fail(new Refusal("ABORTED", ""));
    controls.resume();
    await expect(controls.drained()).rejects.toThrow("aborted");
    expect(got).toEqual([]);
    expect(listener.stats().methods[0]!.handled.reduce((sum, count) => sum + count)).toBe(1);
  });
});

describe("malformed requests", () => {
  const cases: Record<string, { rawBody: Uint8Array; code: number; message: string }> = {
    "no message": { rawBody: EMPTY_BYTES, code: Code.UNIMPLEMENTED, message: "no request message" },
    "two messages": {
      rawBody: Buffer.concat([frame(utf8("a")), frame(utf8("b"))]),
      code: Code.UNIMPLEMENTED,
      message: "more than one request message",
    },
    "half a prefix": { rawBody: new Uint8Array(3), code: Code.INTERNAL, message: "the request ends within a message" },
    "half a message": {
      rawBody: frame(new Uint8Array(100)).subarray(0, 50),
      code: Code.INTERNAL,
      message: "the request ends within a message",
    },
    "a compressed flag without an encoding": {
      rawBody: frame(utf8("a"), 1),
      code: Code.INTERNAL,
      message: "compressed message without a grpc-encoding",
    },
    "an unknown flag": { rawBody: frame(utf8("a"), 7), code: Code.INTERNAL, message: "invalid compressed flag 7" },
    "a message past the limit": {
      rawBody: frame(new Uint8Array(1001)),
      code: Code.RESOURCE_EXHAUSTED,
      message: "message of 1001 bytes is larger than the maximum of 1000",
    },
    "the start of a message past the limit": {
      rawBody: Uint8Array.from([0, 0xff, 0xff, 0xff, 0xff]),
      code: Code.RESOURCE_EXHAUSTED,
      message: "message of 4294967295 bytes is larger than the maximum of 1000",
    },
  };
  for (const [name, { rawBody, code, message }] of Object.entries(cases)) {
    test(`${name} is refused, and the next call on the connection is served`, async () => {
      let calls = 0;
      const count = unary((request) => {
        calls++;
        return request;
      });
      const echo: Method = { kind: "bidi", open: (_call, controls) => echoing(controls) };
      const listener = await listen({ write: count, writeStream: echo }, { limits: { messageBytesMax: 1000 } });
      const connection = await connect(listener);
      expect(await connection.call(pathOf("write"), EMPTY_BYTES, { rawBody })).toMatchObject({ code, message });
      expect(calls).toBe(0);
      const asStream = await connection.call(pathOf("writeStream"), EMPTY_BYTES, { rawBody });
      if (code !== Code.UNIMPLEMENTED) expect(asStream).toMatchObject({ code, message });
      const largest = await connection.call(pathOf("write"), new Uint8Array(1000));
      expect(largest.code).toBe(Code.OK);
      expect(listener.stats().requestBytesInFlight).toBe(0);
    });
  }
});

function echoing(controls: BidiControls) {
  return {
    message(request: Bytes) {
      if (controls.send(request)) return true;
      controls.drained().then(controls.resume.bind(controls), () => {});
      return false;
    },
    end: () => controls.end(),
  };
}

describe("headers", () => {
  const call = (options: Parameters<Connection["call"]>[2], path = pathOf("write")) =>
    listen({ write: unary((request) => request) })
      .then(connect)
      .then((connection) => connection.call(path, EMPTY_BYTES, options));

  test("content types of gRPC with protobuf are served", async () => {
    for (const type of ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8"]) {
      expect((await call({ headers: { "content-type": type } })).code).toBe(Code.OK);
    }
  });

  test("another message format of gRPC is UNIMPLEMENTED, another content type 415, another HTTP method 405", async () => {
    expect((await call({ headers: { "content-type": "application/grpc+json" } })).code).toBe(Code.UNIMPLEMENTED);
    expect((await call({ headers: { "content-type": "text/plain" } })).httpStatus).toBe(415);
    expect((await call({ headers: { ":method": "PUT" } })).httpStatus).toBe(405);
  });

  test("an unknown method is UNIMPLEMENTED, also of a known service", async () => {
    for (const path of ["/io.oxia.proto.v1.OxiaClient/Nothing", "/a.B/C", "/", "/io.oxia.proto.v1.OxiaClient/write"]) {
      expect(await call({}, path)).toMatchObject({ code: Code.UNIMPLEMENTED, message: `unknown method ${path}` });
    }
  });

  test("an encoding is UNIMPLEMENTED and told which are accepted; identity is served", async () => {
    expect((await call({ headers: { "grpc-encoding": "identity" } })).code).toBe(Code.OK);
    const connection = await connect(await listen({ write: unary((request) => request) }));
    const stream = connection.session.request({
      ":method": "POST",
      ":path": pathOf("write"),
      "content-type": "application/grpc",
      "grpc-encoding": "gzip",
    });
    stream.end(frame(EMPTY_BYTES));
    stream.resume();
    const headers = await new Promise<Record<string, unknown>>((resolve) => stream.on("response", resolve));
    expect(headers).toMatchObject({ "grpc-status": "12", "grpc-accept-encoding": "identity" });
  });

  test("a malformed timeout is INVALID_ARGUMENT", async () => {
    for (const timeout of ["5", "S", "123456789S", "-1S", "1.5S", "1s"]) {
      expect((await call({ headers: { "grpc-timeout": timeout } })).code).toBe(Code.INVALID_ARGUMENT);
    }
  });
});

describe("deadlines and cancellation", () => {
  test("a call past its deadline is DEADLINE_EXCEEDED, and its handler is told", async () => {
    let cancelled = 0;
    const reply = await callWrite(
      (_request, call) => {
        call.onCancel(() => cancelled++);
        return new Promise(() => {});
      },
      EMPTY_BYTES,
      { headers: { "grpc-timeout": "20m" } },
    );
    expect(reply).toMatchObject({ code: Code.DEADLINE_EXCEEDED, message: "deadline exceeded" });
    expect(cancelled).toBe(1);
  });

  test("a timeout of nothing is past at once", async () => {
    const reply = await callWrite((request) => request, EMPTY_BYTES, { headers: { "grpc-timeout": "0n" } });
    expect(reply.code).toBe(Code.DEADLINE_EXCEEDED);
  });

  test("a timeout longer than a timer takes is none", async () => {
    const reply = await callWrite((request) => request, EMPTY_BYTES, { headers: { "grpc-timeout": "99999999H" } });
    expect(reply.code).toBe(Code.OK);
  });

  test("a handler is told once that its client has cancelled, or its connection is gone", async () => {
    for (const how of ["cancel", "connection"]) {
      const told: boolean[] = [];
      let started = false;
      const listener = await listen({
        write: unary((_request, call) => {
          started = true;
          call.onCancel(() => told.push(call.cancelled));
          return new Promise(() => {});
        }),
      });
      const connection = await connect(listener);
      const call = connection.open(pathOf("write"), () => {});
      call.send(EMPTY_BYTES);
      call.halfClose();
      await until(() => started, "the call");
      if (how === "cancel") call.cancel();
      else connection.session.destroy();
      await until(() => told.length > 0, "the cancellation");
      expect(told).toEqual([true]);
      expect(listener.stats().methods[0]!.handled[Code.CANCELLED]).toBe(1);
    }
  });

  test("a handler that registers after the cancellation is told at once", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let told = false;
    let started = false;
    const listener = await listen({
      write: unary(async (request, call) => {
        started = true;
        await promise;
        call.onCancel(() => {
          told = true;
        });
        return request;
      }),
    });
    const connection = await connect(listener);
    const call = connection.open(pathOf("write"), () => {});
    call.send(EMPTY_BYTES);
    call.halfClose();
    await until(() => started, "the call");
    call.cancel();
    await until(() => listener.stats().methods[0]!.handled[Code.CANCELLED] === 1, "the cancellation");
    resolve();
    await until(() => told, "the callback");
  });

  test("a handler that has ended is told of no cancellation", async () => {
    let told = 0;
    const reply = await callWrite((request, call) => {
      call.onCancel(() => told++);
      return request;
    });
    expect(reply.code).toBe(Code.OK);
    await reply.listener.close({ graceMs: 0 });
    expect(told).toBe(0);
  });
});

describe("streams", () => {
  test("a server stream sends all it has, and then its status", async () => {
    const sizes = [0, 5, 20_000, 100_000, 1, 2_000_000];
    const listener = await listen({
      read: {
        kind: "server-stream",
        handle: async (_request, _call, sink) => {
          for (const size of sizes) if (!sink.send(bytesOf(size))) await sink.drained();
        },
      },
    });
    const reply = await (await connect(listener)).call(pathOf("read"), EMPTY_BYTES);
    expect(reply.code).toBe(Code.OK);
    expect(reply.messages).toEqual(sizes.map(bytesOf));
  });

  test("a server stream without responses is OK", async () => {
    const listener = await listen({ read: { kind: "server-stream", handle: async () => {} } });
    const reply = await (await connect(listener)).call(pathOf("read"), EMPTY_BYTES);
    expect(reply).toMatchObject({ code: Code.OK, messages: [] });
  });

  test("a bidirectional stream hands over messages in order, however they are cut, and half-closes", async () => {
    const listener = await listen({ writeStream: { kind: "bidi", open: (_call, controls) => echoing(controls) } });
    const connection = await connect(listener);
    const sent = [0, 1, 3, 200, 20_000, 65_531, 65_532, 300_000, 7].map(bytesOf);
    const got: Uint8Array[] = [];
    const call = connection.open(pathOf("writeStream"), (message) => got.push(message));
    const whole = Buffer.concat(sent.map((message) => frame(message)));
    for (let at = 0, step = 1; at < whole.length; at += step, step = (step * 7 + 3) % 50_000) {
      call.sendRaw(whole.subarray(at, at + step));
    }
    call.halfClose();
    expect((await call.ended).code).toBe(Code.OK);
    expect(got.map((each) => Buffer.from(each))).toEqual(sent.map((each) => Buffer.from(each)));
  });

  test("a handler that wants no more is handed nothing until it resumes, and the end only after the last message", async () => {
    const events: string[] = [];
    let controls!: BidiControls;
    const listener = await listen({
      writeStream: {
        kind: "bidi",
        open: (_call, given) => {
          controls = given;
          return {
            message(message) {
              events.push(text(message));
              return false;
            },
            end() {
              events.push("end");
              given.end();
            },
          };
        },
      },
    });
    const call = (await connect(listener)).open(pathOf("writeStream"), () => {});
    for (const each of ["a", "b", "c"]) call.send(utf8(each));
    call.halfClose();
    await until(() => events.length > 0, "the first message");
    for (const expected of [["a"], ["a", "b"], ["a", "b", "c"]]) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(events).toEqual(expected);
      controls.resume();
    }
    expect((await call.ended).code).toBe(Code.OK);
    expect(events).toEqual(["a", "b", "c", "end"]);
  });

  test("a handler may resume, fail and end from within", async () => {
    const within = (act: (controls: BidiControls) => void): Method => ({
      kind: "bidi",
      open: (_call, controls) => ({
        message() {
          act(controls);
          return false;
        },
        end: () => controls.end(),
      }),
    });
    const results: number[] = [];
    for (const act of [
      (controls: BidiControls) => controls.resume(),
      (controls: BidiControls) => controls.end(),
      (controls: BidiControls) => controls.fail(new Refusal("ABORTED", "")),
    ]) {
      const listener = await listen({ writeStream: within(act) });
      const call = (await connect(listener)).open(pathOf("writeStream"), () => {});
      for (let i = 0; i < 3; i++) call.send(EMPTY_BYTES);
      call.halfClose();
      results.push((await call.ended).code);
    }
    expect(results).toEqual([Code.OK, Code.OK, Code.ABORTED]);
  });

  test("a handler that throws ends its stream: refused on opening, or a fault on a message", async () => {
    const refusing: Method = {
      kind: "bidi",
      open: () => {
        throw new Refusal("MISSING_METADATA", "no shard-id");
      },
    };
    const faulty: Method = {
      kind: "bidi",
      open: () => ({
        message: () => {
          throw new Error("a bug");
        },
        end: () => {},
      }),
    };
    for (const [method, code] of [
      [refusing, Code.UNKNOWN],
      [faulty, Code.INTERNAL],
    ] as const) {
      const listener = await listen({ writeStream: method });
      const call = (await connect(listener)).open(pathOf("writeStream"), () => {});
      call.send(EMPTY_BYTES);
      expect((await call.ended).code).toBe(code);
    }
  });

  test("a client that goes on sending to a call that has ended does not break its connection", async () => {
    const listener = await listen({
      writeStream: {
        kind: "bidi",
        open: (_call, controls) => ({
          message: () => {
            controls.fail(new Refusal("INVALID_ARGUMENT", "no"));
            return true;
          },
          end: () => {},
        }),
      },
      write: unary((request) => request),
    });
    const connection = await connect(listener);
    const call = connection.open(pathOf("writeStream"), () => {});
    for (let i = 0; i < 50; i++) call.send(bytesOf(10_000));
    expect((await call.ended).code).toBe(Code.INVALID_ARGUMENT);
    expect((await connection.call(pathOf("write"), EMPTY_BYTES)).code).toBe(Code.OK);
  });
});

test("counters say what was started, received, sent and handled", async () => {
  const listener = await listen({
    write: unary((request) => {
      if (request.length > 1) throw new Refusal("INVALID_ARGUMENT", "no");
      return request;
    }),
    writeStream: { kind: "bidi", open: (_call, controls) => echoing(controls) },
  });
  const connection = await connect(listener);
  await connection.call(pathOf("write"), EMPTY_BYTES);
  await connection.call(pathOf("write"), bytesOf(2));
  const call = connection.open(pathOf("writeStream"), () => {});
  for (let i = 0; i < 3; i++) call.send(EMPTY_BYTES);
  call.halfClose();
  await call.ended;
  const { methods, connections } = listener.stats();
  const [write, , stream] = methods;
  expect(write).toMatchObject({ service: "io.oxia.proto.v1.OxiaClient", method: "Write", type: "unary", started: 2 });
  expect([write!.messagesReceived, write!.messagesSent, write!.handled[Code.OK], write!.handled[3]]).toEqual([
    2, 1, 1, 1,
  ]);
  expect([stream!.messagesReceived, stream!.messagesSent, stream!.handled[Code.OK], stream!.active]).toEqual([
    3, 3, 1, 0,
  ]);
  expect(stream!.type).toBe("bidi_stream");
  expect(connections).toBe(1);
});

describe("grpc-js as the client", () => {
  const raw = (bytes: Buffer) => bytes;
  const definition = (name: "write" | "read" | "writeStream", requestStream: boolean, responseStream: boolean) => ({
    path: pathOf(name),
    requestStream,
    responseStream,
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw,
  });
  const Client = grpc.makeGenericClientConstructor(
    {
      write: definition("write", false, false),
      read: definition("read", false, true),
      writeStream: definition("writeStream", true, true),
    },
    "OxiaClient",
  );

  test("makes unary, server-stream and bidirectional calls, and sees errors with their details", async () => {
    const listener = await listen({
      write: unary((request) => {
        if (request.length === 0) throw new Refusal("SESSION_NOT_FOUND", "");
        return request;
      }),
      read: {
        kind: "server-stream",
        handle: async (request, _call, sink) => {
          for (let i = 0; i < 3; i++) sink.send(request);
        },
      },
      writeStream: { kind: "bidi", open: (_call, controls) => echoing(controls) },
    });
    const client = new Client(listener.address, grpc.credentials.createInsecure()) as grpc.Client &
      Record<string, (...args: unknown[]) => never>;
    open.push(client);
    const call = (request: Buffer) =>
      new Promise((resolve) => client.write!(request, (error: unknown, reply: unknown) => resolve(error ?? reply)));
    expect(await call(Buffer.from("hello"))).toEqual(Buffer.from("hello"));
    const error = (await call(Buffer.alloc(0))) as grpc.ServiceError;
    expect([error.code, error.details]).toEqual([grpc.status.NOT_FOUND, "oxia: session not found"]);
    expect(error.metadata.get("grpc-status-details-bin")).toHaveLength(1);

    const collected = (stream: grpc.ClientReadableStream<Buffer>) =>
      new Promise<string[]>((resolve, reject) => {
        const all: string[] = [];
        stream.on("data", (each: Buffer) => all.push(each.toString()));
        stream.on("error", reject);
        stream.on("end", () => resolve(all));
      });
    expect(await collected(client.read!(Buffer.from("x")))).toEqual(["x", "x", "x"]);
    const stream: grpc.ClientDuplexStream<Buffer, Buffer> = client.writeStream!();
    for (let i = 0; i < 100; i++) stream.write(Buffer.from(String(i)));
    stream.end();
    expect(await collected(stream)).toEqual(Array.from({ length: 100 }, (_, i) => String(i)));
  });
});
