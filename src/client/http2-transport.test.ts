import { expect, test } from "bun:test";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import {
  cleanups,
  endWith,
  framed,
  HEADERS,
  open,
  serve,
  serveByHand,
  TIMES,
  transport,
} from "../../test/harness/http2-peer.ts";
import type { CallStatus } from "./call-status.ts";
import { GrpcCode } from "./grpc-code.ts";
import { Http2Transport } from "./http2-transport.ts";

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
