/**
 * Clients that mean harm, or know no better: each is bounded or cut off, and the requests of others go on meanwhile.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Code, frame } from "../../test/harness/grpc.ts";
import { END_HEADERS, FrameType, http2Frame, RawConnection } from "../../test/harness/raw-http2.ts";
import { closeAfterEach, connect, connectRaw, listen } from "../../test/harness/rpc-fixture.ts";
import { pathOf, type TestListener, until } from "../../test/harness/rpc-server.ts";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import {
  CONNECTION_UNSENT_BYTES_MAX,
  HEADER_BYTES_MAX,
  STREAM_RESETS_BURST,
  STREAM_UNSENT_BYTES_MAX,
} from "../model/limits.ts";
import { requestBudget } from "./listener.ts";
import type { BidiControls, Method } from "./method.ts";

closeAfterEach();

const WRITE = pathOf("write");
const echo: Method = { kind: "unary", handle: (request) => request };
const hanging: Method = { kind: "unary", handle: () => new Promise(() => {}) };

const bidiEcho: Method = {
  kind: "bidi",
  open: (_call, controls) => ({
    message(message) {
      controls.send(message);
      return true;
    },
    end: () => controls.end(),
  }),
};

/** Makes calls one after the other while `attack` runs; all of them must be answered. */
async function expectOthersServed(listener: TestListener, attack: () => Promise<unknown>): Promise<void> {
  const connection = await connect(listener);
  let attacking = true;
  const others = (async () => {
    let calls = 0;
    do {
      const reply = await connection.call(WRITE, EMPTY_BYTES);
      if (reply.code !== Code.OK) throw new Error(`another client's call: ${reply.message}`);
      calls++;
    } while (attacking);
    return calls;
  })();
  try {
    await attack();
  } finally {
    attacking = false;
  }
  expect(await others).toBeGreaterThan(0);
}

/** Sends `parts`, not faster than the socket takes them, until the peer has closed it. True: it was closed before the end. */
async function flood(raw: RawConnection, parts: Iterable<Bytes>): Promise<boolean> {
  let closed = false;
  raw.closed.then(() => {
    closed = true;
  });
  raw.socket.on("close", () => {
    closed = true;
  });
  for (const part of parts) {
    if (closed || raw.socket.destroyed) return true;
    if (!raw.socket.write(part)) {
      await new Promise<void>((resolve) => {
        raw.socket.once("drain", resolve);
        raw.socket.once("close", resolve);
        raw.socket.once("end", resolve);
      });
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  return closed;
}

function* repeat(count: number, part: (i: number) => Bytes): Iterable<Bytes> {
  for (let i = 0; i < count; i++) yield part(i);
}

const times = (count: number, bytes: Bytes) => Buffer.concat(Array.from({ length: count }, () => bytes));
const ping = http2Frame(FrameType.PING, 0, 0, new Uint8Array(8));
const CONTINUATION = 9;

describe("floods", () => {
  test("of stream resets end their connection", async () => {
    const listener = await listen({ write: hanging, list: { kind: "server-stream", handle: async () => {} } });
    const others = await listen({ write: echo });
    await expectOthersServed(others, async () => {
      const raw = await connectRaw(listener);
      const headers = raw.headersOf(WRITE);
      const cancel = Uint8Array.of(0, 0, 0, 8);
      const openAndReset = (stream: number) =>
        Buffer.concat([
          http2Frame(FrameType.HEADERS, END_HEADERS, stream, headers),
          http2Frame(FrameType.RST_STREAM, 0, stream, cancel),
        ]);
      const hundred = (i: number) =>
        Buffer.concat(Array.from({ length: 100 }, (_, k) => openAndReset(1 + 2 * (i * 100 + k))));
      expect(await flood(raw, repeat((10 * STREAM_RESETS_BURST) / 100, hundred))).toBe(true);
    });
    const [stats] = listener.stats().methods;
    await until(() => stats!.active === 0, "the end of its calls");
  });

  test("of pings end their connection, whether they come at once or one by one", async () => {
    const listener = await listen({ write: echo });
    await expectOthersServed(listener, async () => {
      expect(
        await flood(
          await connectRaw(listener),
          repeat(100, () => times(1000, ping)),
        ),
      ).toBe(true);
      expect(
        await flood(
          await connectRaw(listener),
          repeat(1000, () => ping),
        ),
      ).toBe(true);
    });
  });

  test("of SETTINGS end their connection", async () => {
    const listener = await listen({ write: echo });
    const settings = http2Frame(FrameType.SETTINGS, 0, 0, EMPTY_BYTES);
    await expectOthersServed(listener, async () => {
      expect(
        await flood(
          await connectRaw(listener),
          repeat(100, () => times(1000, settings)),
        ),
      ).toBe(true);
    });
  });

  test("of CONTINUATION frames end their connection or their stream", async () => {
    const listener = await listen({ write: echo });
    await expectOthersServed(listener, async () => {
      const raw = await connectRaw(listener);
      raw.send(http2Frame(FrameType.HEADERS, 0, 1, raw.headersOf(WRITE)));
      const more = http2Frame(CONTINUATION, 0, 1, new Uint8Array(16_000));
      expect(
        await flood(
          raw,
          repeat(2000, () => more),
        ),
      ).toBe(true);
    });
  });

  test("of empty DATA frames end their connection or cost nothing", async () => {
    const listener = await listen({ write: echo });
    await expectOthersServed(listener, async () => {
      const raw = await connectRaw(listener);
      raw.call(WRITE);
      await flood(
        raw,
        repeat(100, () => times(1000, http2Frame(FrameType.DATA, 0, 1, EMPTY_BYTES))),
      );
    });
    expect(listener.stats().requestBytesInFlight).toBe(0);
  });

  test("of WINDOW_UPDATEs hurt nobody", async () => {
    const listener = await listen({ write: echo });
    const update = http2Frame(FrameType.WINDOW_UPDATE, 0, 0, Uint8Array.of(0, 0, 0, 1));
    await expectOthersServed(listener, async () => {
      await flood(
        await connectRaw(listener),
        repeat(50, () => times(1000, update)),
      );
    });
  });
});

describe("nonsense", () => {
  test("after the preface ends at most its own connection", async () => {
    const listener = await listen({ write: echo, writeStream: bidiEcho });
    const types = fc.integer({ min: 0, max: 12 });
    const frames = fc.array(
      fc.tuple(types, fc.nat(255), fc.integer({ min: 0, max: 7 }), fc.uint8Array({ maxLength: 60 })),
    );
    await expectOthersServed(listener, () =>
      fc.assert(
        fc.asyncProperty(frames, fc.boolean(), async (parts, asCall) => {
          const raw = await RawConnection.open(listener.address);
          raw.greet();
          if (asCall) raw.call(WRITE);
          for (const [type, flags, stream, payload] of parts) raw.send(http2Frame(type, flags, stream, payload));
          await new Promise((resolve) => setImmediate(resolve));
          raw.close();
        }),
        { numRuns: 150 },
      ),
    );
    await until(() => listener.connections() === 1, "the connections to go");
    expect(listener.stats().requestBytesInFlight).toBe(0);
    expect(listener.stats().methods.map(({ active }) => active)).toEqual([0, 0, 0, 0]);
    expect(listener.logged.filter(({ level }) => level === "error")).toEqual([]);
  });

  test("from the first byte on ends at most its own connection", async () => {
    const listener = await listen({ write: echo });
    await expectOthersServed(listener, () =>
      fc.assert(
        fc.asyncProperty(
          fc.uint8Array({ maxLength: 100 }),
          fc.constantFrom("", "PRI * ", "POST ", "GET / HTTP/1.1\r\n"),
          async (bytes, start) => {
            const raw = await RawConnection.open(listener.address);
            raw.send(Buffer.from(start));
            raw.send(bytes);
            await new Promise((resolve) => setImmediate(resolve));
            raw.close();
          },
        ),
        { numRuns: 150 },
      ),
    );
    await until(() => listener.connections() === 1, "the connections to go");
  });

  test("in headers is answered, over HTTP/2 and for every content type", async () => {
    const listener = await listen({ write: echo });
    const raw = await connectRaw(listener);
    const types = ["application/grpc", "application/proto", "application/grpc-web", "application/json", "", "\xff"];
    for (const type of types) {
      for (const value of ["\x80\xff", "\u0001", " a ", "%", "a,b", ""]) {
        raw.call(WRITE, frame(EMPTY_BYTES), { "content-type": type, filler: value, "grpc-timeout": value });
      }
      raw.call("no slash", frame(EMPTY_BYTES), { "content-type": type });
      raw.call("//[", frame(EMPTY_BYTES), { "content-type": type });
    }
    await expectOthersServed(listener, () => new Promise((resolve) => setTimeout(resolve, 50)));
    await until(() => listener.stats().methods.every(({ active }) => active === 0), "the calls to end");
  });
});

test("streams that their handler has paused do not hold up the other calls of their connection", async () => {
  const paused: Method = { kind: "bidi", open: () => ({ message: () => false, end: () => {} }) };
  const listener = await listen({ write: echo, writeStream: paused });
  const connection = await connect(listener);
  for (let i = 0; i < 20; i++) {
    const call = connection.open(pathOf("writeStream"), () => {});
    for (let k = 0; k < 20; k++) call.send(new Uint8Array(5_000));
  }
  await until(
    () => listener.stats().methods.some(({ method, active }) => method === "WriteStream" && active === 20),
    "the streams",
  );
  const reply = await connection.call(WRITE, new Uint8Array(300_000));
  expect([reply.code, reply.messages[0]!.length]).toEqual([Code.OK, 300_000]);
});

test("headers past the limit are refused, and the connection lives on", async () => {
  const listener = await listen({ write: echo });
  const connection = await connect(listener);
  const filler = "x".repeat(HEADER_BYTES_MAX);
  expect((await connection.call(WRITE, EMPTY_BYTES, { headers: { filler } })).lost).toBe(true);
  expect((await connection.call(WRITE, EMPTY_BYTES)).code).toBe(Code.OK);
});

describe("clients that do not read", () => {
  /** A handler that produces without end, at the pace that its sink allows, and says how much. */
  function endless(size: number) {
    const state = { produced: 0, open: 0, cancelled: 0 };
    const message = new Uint8Array(size);
    const method: Method = {
      kind: "server-stream",
      handle: async (_request, call, sink) => {
        state.open++;
        call.onCancel(() => state.cancelled++);
        while (!call.cancelled) {
          state.produced += size;
          if (!sink.send(message)) await sink.drained();
        }
      },
    };
    return { state, method };
  }

  test("a stream hold one stream's worth, and its handler waits", async () => {
    const { state, method } = endless(10_000);
    const listener = await listen({ write: echo, read: method });
    const raw = await connectRaw(listener);
    raw.call(pathOf("read"), frame(EMPTY_BYTES));
    await expectOthersServed(listener, () => new Promise((resolve) => setTimeout(resolve, 100)));
    expect(state.produced).toBeGreaterThan(65_535);
    expect(state.produced).toBeLessThan(2 * STREAM_UNSENT_BYTES_MAX);
    raw.close();
    await until(() => state.cancelled === 1, "the cancellation");
  });

  test("hundreds of streams hold one connection's worth", async () => {
    const { state, method } = endless(100_000);
    const listener = await listen({ write: echo, read: method });
    const raw = await connectRaw(listener);
    for (let i = 0; i < 500; i++) raw.call(pathOf("read"), frame(EMPTY_BYTES));
    await until(() => listener.stats().methods.find(({ method }) => method === "Read")!.started === 500, "the calls");
    await expectOthersServed(listener, () => new Promise((resolve) => setTimeout(resolve, 100)));
    expect(state.produced).toBeLessThan(CONNECTION_UNSENT_BYTES_MAX + 2 * STREAM_UNSENT_BYTES_MAX);
    expect(state.open).toBeLessThan(500);
    raw.close();
    await until(() => state.cancelled === state.open, "the cancellations");
  });

  test("the replies of unary calls get further calls answered once they have read", async () => {
    const reply = new Uint8Array(1 << 20);
    let handled = 0;
    const listener = await listen({
      write: {
        kind: "unary",
        handle: () => {
          handled++;
          return reply;
        },
      },
    });
    const connection = await connect(listener);
    const raw = await connectRaw(listener);
    for (let i = 0; i < 100; i++) raw.call(WRITE, frame(EMPTY_BYTES));
    await until(() => listener.stats().methods[0]!.started === 100, "the calls");
    expect((await connection.call(WRITE, EMPTY_BYTES)).code).toBe(Code.OK);
    expect(handled).toBeLessThan(30);
    // the same from one that reads: all 100 are answered, though no more than some may wait at a time
    const replies = await Promise.all(Array.from({ length: 100 }, () => connection.call(WRITE, EMPTY_BYTES)));
    expect(replies.every(({ code }) => code === Code.OK)).toBe(true);
  });

  test("a reply lose it at their deadline", async () => {
    const { state, method } = endless(10_000);
    const listener = await listen({ write: echo, read: method });
    const raw = await connectRaw(listener);
    raw.call(pathOf("read"), frame(EMPTY_BYTES), { "grpc-timeout": "50m" });
    await until(() => state.cancelled === 1, "the deadline");
    const read = listener.stats().methods.find(({ method }) => method === "Read")!;
    expect(read.handled[Code.DEADLINE_EXCEEDED]).toBe(1);
  });
});

describe("requests in flight", () => {
  const KiB = 1024;

  test("past the budget are refused when they are unary, and their bytes are free when they are answered", async () => {
    const answers: (() => void)[] = [];
    const method: Method = {
      kind: "unary",
      handle: () => new Promise((resolve) => answers.push(() => resolve(EMPTY_BYTES))),
    };
    const limits = { messageBytesMax: 100 * KiB };
    const listener = await listen(
      { write: method, read: { kind: "server-stream", handle: async () => {} } },
      {
        limits,
        budget: requestBudget(250 * KiB, limits.messageBytesMax),
      },
    );
    const connection = await connect(listener);
    const first = [0, 1].map(() => connection.call(WRITE, new Uint8Array(100 * KiB)));
    await until(() => answers.length === 2, "two calls");
    expect(listener.stats().requestBytesInFlight).toBe(200 * KiB);
    expect((await connection.call(WRITE, new Uint8Array(100 * KiB))).code).toBe(Code.RESOURCE_EXHAUSTED);
    expect((await connection.call(pathOf("read"), new Uint8Array(50 * KiB))).code).toBe(Code.OK);
    for (const answer of answers) answer();
    for (const reply of await Promise.all(first)) expect(reply.code).toBe(Code.OK);
    expect(listener.stats().requestBytesInFlight).toBe(0);
  });

  test("always have room for one message", async () => {
    const listener = await listen(
      { write: echo },
      {
        limits: { messageBytesMax: 300 * KiB },
        budget: requestBudget(10, 300 * KiB),
      },
    );
    const reply = await (await connect(listener)).call(WRITE, new Uint8Array(300 * KiB));
    expect(reply.code).toBe(Code.OK);
  });

  test("count on after a cancellation until their handler has ended", async () => {
    const { promise, resolve } = Promise.withResolvers<Bytes>();
    const listener = await listen({ write: { kind: "unary", handle: () => promise } });
    const connection = await connect(listener);
    const call = connection.open(WRITE, () => {});
    call.send(new Uint8Array(100));
    call.halfClose();
    await until(() => listener.stats().requestBytesInFlight === 100, "the call");
    call.cancel();
    await until(() => listener.stats().methods[0]!.handled[Code.CANCELLED] === 1, "the cancellation");
    expect(listener.stats().requestBytesInFlight).toBe(100);
    resolve(EMPTY_BYTES);
    await until(() => listener.stats().requestBytesInFlight === 0, "the handler");
  });

  /** A bidirectional handler that answers when told to, and ends at the client's end if it is to. */
  function manual({ ends = true } = {}) {
    const state = { got: 0, controls: undefined as BidiControls | undefined };
    const method: Method = {
      kind: "bidi",
      open: (_call, controls) => {
        state.controls = controls;
        return {
          message: () => {
            state.got++;
            return true;
          },
          end: () => ends && controls.end(),
        };
      },
    };
    return { state, method };
  }

  test("past the budget pause a stream, which goes on as its messages are answered", async () => {
    const { state, method } = manual();
    const limits = { messageBytesMax: 100 * KiB };
    const budget = requestBudget(400 * KiB, limits.messageBytesMax);
    const listener = await listen({ write: echo, writeStream: method }, { limits, budget });
    const call = (await connect(listener)).open(pathOf("writeStream"), () => {});
    for (let i = 0; i < 20; i++) call.send(new Uint8Array(100 * KiB));
    call.halfClose();
    await until(() => state.got === 4, "the first messages"); // the fourth goes beyond the share of streams, alone
    await expectOthersServed(listener, () => new Promise((resolve) => setTimeout(resolve, 30)));
    expect(state.got).toBe(4);
    for (let answered = 0; answered < 20; answered++) {
      await until(() => state.got > answered, "the next message");
      expect(budget.used).toBeLessThanOrEqual(450 * KiB);
      state.controls!.send(EMPTY_BYTES);
    }
    expect((await call.ended).code).toBe(Code.OK);
    state.controls!.send(EMPTY_BYTES); // an answer too many gives nothing back
    expect(budget.used).toBe(0);
  });

  test("of streams that each hold half a message do not block one another", async () => {
    const limits = { messageBytesMax: 200 * KiB };
    const budget = requestBudget(250 * KiB, limits.messageBytesMax);
    const listener = await listen({ writeStream: bidiEcho }, { limits, budget });
    const connections = await Promise.all(Array.from({ length: 6 }, () => connect(listener)));
    let answered = 0;
    const calls = connections.map((connection) => connection.open(pathOf("writeStream"), () => answered++));
    const whole = frame(new Uint8Array(200 * KiB));
    for (const call of calls) call.sendRaw(whole.subarray(0, 60 * KiB));
    await until(() => budget.used >= 240 * KiB, "halves of messages");
    for (const call of calls) call.sendRaw(whole.subarray(60 * KiB));
    await until(() => answered === calls.length, "all messages to be answered");
    expect(budget.used).toBe(0);
  });

  test("of a cancelled stream are free once it is answered to the end, or told to be over", async () => {
    const { state, method } = manual({ ends: false }); // a client of Bun's half-closes as it cancels
    const listener = await listen({ writeStream: method });
    const connection = await connect(listener);
    const call = connection.open(pathOf("writeStream"), () => {});
    for (let i = 0; i < 3; i++) call.send(new Uint8Array(100));
    await until(() => state.got === 3, "the messages");
    call.cancel();
    await until(() => listener.stats().methods[0]!.handled[Code.CANCELLED] === 1, "the cancellation");
    expect(listener.stats().requestBytesInFlight).toBe(300);
    state.controls!.send(EMPTY_BYTES);
    expect(listener.stats().requestBytesInFlight).toBe(200);
    state.controls!.end();
    expect(listener.stats().requestBytesInFlight).toBe(0);
  });
});
