import { describe, expect, test } from "bun:test";
import * as grpc from "@grpc/grpc-js";
import { Code, frame } from "../../test/harness/grpc.ts";
import {
  bytesOf,
  callWrite,
  closeAfterEach,
  closeLater,
  connect,
  echoing,
  listen,
  unary,
} from "../../test/harness/rpc-fixture.ts";
import { pathOf, until } from "../../test/harness/rpc-server.ts";
import { EMPTY_BYTES, text, utf8 } from "../lib/bytes.ts";
import { Refusal } from "../model/refusal.ts";
import type { BidiControls, Method } from "./method.ts";

closeAfterEach();

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
    closeLater(client);
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
