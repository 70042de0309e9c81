/** Clients that ask for much and mean no harm: they are served, where those of abuse.test.ts are cut off. */
import { describe, expect, test } from "bun:test";
import { Code, frame } from "../../test/harness/grpc.ts";
import { FrameType, http2Frame } from "../../test/harness/raw-http2.ts";
import { closeAfterEach, connect, connectRaw, listen } from "../../test/harness/rpc-fixture.ts";
import { pathOf, until } from "../../test/harness/rpc-server.ts";
import { EMPTY_BYTES } from "../lib/bytes.ts";
import { PING_STRIKES_MAX, STREAMS_PER_CONNECTION_MAX } from "../model/limits.ts";
import type { Method } from "./method.ts";

closeAfterEach();

const WRITE = pathOf("write");
const echo: Method = { kind: "unary", handle: (request) => request };
const hanging: Method = { kind: "unary", handle: () => new Promise(() => {}) };

const ping = http2Frame(FrameType.PING, 0, 0, new Uint8Array(8));

describe("clients that are merely busy", () => {
  test("keep their connection over more cancellations than Bun allows by default", async () => {
    const listener = await listen({ write: hanging, read: { kind: "server-stream", handle: async () => {} } });
    const connection = await connect(listener);
    for (let round = 0; round < 30; round++) {
      const calls = Array.from({ length: 100 }, () => connection.open(WRITE, () => {}));
      for (const call of calls) call.send(EMPTY_BYTES);
      await until(() => listener.stats().methods[0]!.started === (round + 1) * 100, "the calls");
      for (const call of calls) call.cancel();
      await Promise.all(calls.map((call) => call.ended));
    }
    expect((await connection.call(pathOf("read"), EMPTY_BYTES)).code).toBe(Code.OK);
  });

  test("may ping as often as gRPC's servers allow", async () => {
    const listener = await listen({ write: echo });
    const raw = await connectRaw(listener);
    for (let i = 0; i <= PING_STRIKES_MAX; i++) raw.send(ping);
    raw.call(WRITE, frame(EMPTY_BYTES));
    await until(() => listener.stats().methods[0]!.handled[Code.OK] === 1, "the answer");
    expect(listener.connections()).toBe(1);
  });

  test("read large replies in parallel", async () => {
    const reply = new Uint8Array(200_000);
    const listener = await listen({ write: { kind: "unary", handle: () => reply } });
    const connection = await connect(listener);
    const replies = await Promise.all(Array.from({ length: 200 }, () => connection.call(WRITE, EMPTY_BYTES)));
    expect(replies.filter(({ code, messages }) => code === Code.OK && messages[0]!.length === 200_000)).toHaveLength(
      200,
    );
  });

  test("that open more streams than one connection may have get those refused, and keep the others", async () => {
    const listener = await listen({ write: hanging, read: { kind: "server-stream", handle: async () => {} } });
    const raw = await connectRaw(listener);
    for (let i = 0; i < STREAMS_PER_CONNECTION_MAX + 300; i++) raw.call(WRITE, frame(EMPTY_BYTES));
    const [stats] = listener.stats().methods;
    await until(() => stats!.started === STREAMS_PER_CONNECTION_MAX, "the streams");
    const before = raw.received;
    raw.send(ping);
    await until(() => raw.received > before, "a sign of life");
    expect([stats!.active, listener.connections()]).toEqual([STREAMS_PER_CONNECTION_MAX, 1]);
  });
});
