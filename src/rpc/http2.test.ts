import { describe, expect, test } from "bun:test";
import { Code, type Connection, frame } from "../../test/harness/grpc.ts";
import { bytesOf, callWrite, closeAfterEach, connect, echoing, listen, unary } from "../../test/harness/rpc-fixture.ts";
import { LEGACY_SERVICE, pathOf } from "../../test/harness/rpc-server.ts";
import { AssertionError } from "../lib/assert.ts";
import { type Bytes, EMPTY_BYTES, text, utf8 } from "../lib/bytes.ts";
import { Refusal } from "../model/refusal.ts";
import type { BidiControls, Method } from "./method.ts";

closeAfterEach();

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
