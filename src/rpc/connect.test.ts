import { afterEach, describe, expect, test } from "bun:test";
import { request as httpRequest } from "node:http";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Connection } from "../../test/harness/grpc.ts";
import { listenForTest, oxiaMethods, pathOf, type TestListener, until } from "../../test/harness/rpc-server.ts";
import {
  OxiaClient as BinaryClient,
  ListRequestSchema as BinaryListRequest,
  ListResponseSchema as BinaryListResponse,
  WriteRequestSchema as BinaryWriteRequest,
  WriteResponseSchema as BinaryWriteResponse,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import { Refusal } from "../model/refusal.ts";
import type { Method } from "./method.ts";

let listener: TestListener | undefined;
afterEach(async () => {
  await listener?.close({ graceMs: 0 });
  listener = undefined;
});

async function listen(handlers: Parameters<typeof oxiaMethods>[0], options = {}): Promise<TestListener> {
  await listener?.close({ graceMs: 0 });
  listener = await listenForTest(oxiaMethods(handlers), options);
  return listener;
}

/** Answers a write with the keys of its puts, as a server that numbers keys would. */
const echoWrite: Method = {
  kind: "unary",
  handle(bytes) {
    const { puts } = fromBinary(BinaryWriteRequest, bytes);
    return toBinary(BinaryWriteResponse, create(BinaryWriteResponse, { puts: puts.map(({ key }) => ({ key })) }));
  },
};
/** Answers a list with three responses of one key each, the first of the range. */
const echoList: Method = {
  kind: "server-stream",
  async handle(bytes, _call, sink) {
    const { startInclusive } = fromBinary(BinaryListRequest, bytes);
    const reply = toBinary(BinaryListResponse, create(BinaryListResponse, { keys: [startInclusive] }));
    for (let i = 0; i < 3; i++) sink.send(reply);
  },
};
const echoWriteStream: Method = {
  kind: "bidi",
  open: (call, controls) => ({
    message(bytes) {
      controls.send(echoWrite.kind === "unary" ? (echoWrite.handle(bytes, call) as Uint8Array) : bytes);
      return true;
    },
    end: () => controls.end(),
  }),
};

type Version = "1.1" | "2";
const transports: Record<string, (baseUrl: string) => Transport> = {};
for (const httpVersion of ["1.1", "2"] as Version[]) {
  for (const useBinaryFormat of [true, false]) {
    const format = useBinaryFormat ? "binary" : "JSON";
    transports[`Connect ${format} over HTTP/${httpVersion}`] = (baseUrl) =>
      createConnectTransport({ baseUrl, httpVersion, useBinaryFormat });
    transports[`gRPC-Web ${format} over HTTP/${httpVersion}`] = (baseUrl) =>
      createGrpcWebTransport({ baseUrl, httpVersion, useBinaryFormat });
  }
}
transports["gRPC of Connect's own client"] = (baseUrl) => createGrpcTransport({ baseUrl });

for (const [name, transport] of Object.entries(transports)) {
  describe(name, () => {
    const binary = !name.includes("JSON");
    const clients = () => {
      const made = transport(`http://${listener!.address}`);
      return { text: createClient(OxiaClient, made), bytes: createClient(BinaryClient, made) };
    };

    test("makes unary and server-stream calls", async () => {
      await listen({ write: echoWrite, list: echoList });
      const { text } = clients();
      const { puts } = await text.write({ shard: 1n, puts: [{ key: "schlüssel" }, { key: "" }] });
      expect(puts.map(({ key }) => key)).toEqual(["schlüssel", ""]);
      const keys = [];
      for await (const response of text.list({ startInclusive: "a" })) keys.push(...response.keys);
      expect(keys).toEqual(["a", "a", "a"]);
      expect(listener!.stats().requestBytesInFlight).toBe(0);
    });

    if (binary) {
      test("carries keys that are not UTF-8 there and back", async () => {
        await listen({ write: echoWrite, list: echoList });
        const { bytes } = clients();
        const key = Uint8Array.of(0xff, 0x00, 0xc0, 0x2f, 0x80);
        const { puts } = await bytes.write({ puts: [{ key }] });
        expect(puts.map((put) => [...put.key!])).toEqual([[...key]]);
        for await (const response of bytes.list({ startInclusive: key }))
          expect([...response.keys[0]!]).toEqual([...key]);
      });
    } else {
      test("is told that a key of the response is not UTF-8", async () => {
        const reply = toBinary(
          BinaryWriteResponse,
          create(BinaryWriteResponse, { puts: [{ key: Uint8Array.of(0xff) }] }),
        );
        await listen({ write: { kind: "unary", handle: () => reply } });
        const error = await clients().text.write({}).catch(ConnectError.from);
        expect(error).toBeInstanceOf(ConnectError);
        expect((error as ConnectError).code).toBe(Code.InvalidArgument);
        expect((error as ConnectError).rawMessage).toContain("not UTF-8");
      });
    }

    test("sees refusals with their reason and leader hint, before and after a response", async () => {
      const refusal = new Refusal("NODE_IS_NOT_LEADER", "", { hint: { shard: 2, leader: "other:1" } });
      await listen({
        write: { kind: "unary", handle: () => Promise.reject(refusal) },
        list: {
          kind: "server-stream",
          async handle(_bytes, _call, sink) {
            sink.send(toBinary(BinaryListResponse, create(BinaryListResponse, { keys: [utf8("k")] })));
            throw refusal;
          },
        },
      });
      const { text } = clients();
      const expectHint = (error: unknown) => {
        const failure = error as ConnectError;
        expect([failure.code, failure.rawMessage]).toEqual([Code.Aborted, "oxia: node is not leader"]);
        const [info] = failure.findDetails(ErrorInfoSchema);
        expect([info?.reason, info?.domain, info?.metadata]).toEqual([
          "NODE_IS_NOT_LEADER",
          "oxia.io",
          { shard: "2", leader: "other:1" },
        ]);
      };
      expectHint(await text.write({}).catch(ConnectError.from));
      const keys: string[] = [];
      const broken = (async () => {
        for await (const response of text.list({})) keys.push(...response.keys);
      })();
      expectHint(await broken.catch(ConnectError.from));
      expect(keys).toEqual(["k"]);
    });

    test("sees a fault as INTERNAL with a constant text", async () => {
      await listen({ write: { kind: "unary", handle: () => Promise.reject(new Error("secret-4711")) } });
      const error = (await clients().text.write({}).catch(ConnectError.from)) as ConnectError;
      expect([error.code, error.rawMessage]).toEqual([Code.Internal, "internal error"]);
      expect(listener!.logged.filter(({ level }) => level === "error")).toHaveLength(1);
    });

    test("has a deadline, of which the handler is told", async () => {
      let cancelled = false;
      const method: Method = {
        kind: "unary",
        handle: (_bytes, call) => {
          call.onCancel(() => {
            cancelled = true;
          });
          return new Promise(() => {});
        },
      };
      await listen({ write: method });
      const error = (await clients().text.write({}, { timeoutMs: 30 }).catch(ConnectError.from)) as ConnectError;
      expect(error.code).toBe(Code.DeadlineExceeded);
      await until(() => cancelled, "the handler's cancellation");
      const [stats] = listener!.stats().methods;
      await until(() => stats!.active === 0, "the end of the call");
    });

    if (!name.includes("1.1")) {
      test("makes bidirectional calls", async () => {
        await listen({ writeStream: echoWriteStream });
        async function* requests() {
          for (let i = 0; i < 50; i++) yield { puts: [{ key: `k${i}` }] };
        }
        const keys: (string | undefined)[] = [];
        for await (const { puts } of clients().text.writeStream(requests())) keys.push(puts[0]!.key);
        expect(keys).toEqual(Array.from({ length: 50 }, (_, i) => `k${i}`));
        await until(() => listener!.stats().requestBytesInFlight === 0, "the budget");
      });
    }

    test("that leaves a stream cancels it", async () => {
      let cancelled = false;
      await listen({
        list: {
          kind: "server-stream",
          handle(_bytes, call, sink) {
            call.onCancel(() => {
              cancelled = true;
            });
            sink.send(toBinary(BinaryListResponse, create(BinaryListResponse, { keys: [utf8("k")] })));
            return new Promise(() => {});
          },
        },
      });
      const abort = new AbortController();
      const left = (async () => {
        for await (const response of clients().text.list({}, { signal: abort.signal })) {
          expect(response.keys).toEqual(["k"]);
          abort.abort();
        }
      })();
      expect(((await left.catch(ConnectError.from)) as ConnectError).code).toBe(Code.Canceled);
      await until(() => cancelled, "the cancellation");
    });
  });
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One HTTP/1.1 request. */
function post(path: string, body: string | Uint8Array, headers: Record<string, string>, method = "POST") {
  return new Promise<Answer>((resolve, reject) => {
    const request = httpRequest({ host: "127.0.0.1", port: listener!.port, path, method, headers }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode!, body: text }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

describe("over HTTP/1.1 by hand", () => {
  const json = { "content-type": "application/json" };

  test("a JSON call is a POST with curl", async () => {
    await listen({ write: echoWrite });
    const answer = await post(pathOf("write"), JSON.stringify({ shard: "1", puts: [{ key: "k" }] }), json);
    expect([answer.status, JSON.parse(answer.body)]).toEqual([200, { puts: [{ key: "k" }] }]);
  });

  test("malformed JSON is INVALID_ARGUMENT, malformed protobuf what Connect makes of it", async () => {
    await listen({ write: echoWrite });
    for (const body of ["{", '{"puts": 5}', '{"puts": [{"key": "\\ud800"}]}']) {
      const { status, body: text } = await post(pathOf("write"), body, json);
      expect([status, JSON.parse(text).code]).toEqual([400, "invalid_argument"]);
    }
    const binary = { "content-type": "application/proto" };
    const { status, body: text } = await post(pathOf("write"), Uint8Array.of(0x12, 0x05, 0x0a), binary);
    expect([status, JSON.parse(text)]).toEqual([500, { code: "internal", message: "parse binary: premature EOF" }]);
    expect(listener!.stats().requestBytesInFlight).toBe(0);
  });

  test("unknown paths are 404, other methods 405, other content types 415, native gRPC 505", async () => {
    await listen({ write: echoWrite });
    expect((await post("/no.Such/Method", "{}", json)).status).toBe(404);
    expect((await post("/", "", {}, "GET")).status).toBe(404);
    expect((await post(pathOf("write"), "", {}, "GET")).status).toBe(405);
    expect((await post(pathOf("write"), "{}", { "content-type": "text/plain" })).status).toBe(415);
    expect((await post(pathOf("write"), "", { "content-type": "application/grpc" })).status).toBe(505);
  });

  test("a message past the limit is RESOURCE_EXHAUSTED, also when its length is a lie", async () => {
    await listen({ write: echoWrite }, { limits: { messageBytesMax: 1000 } });
    const body = JSON.stringify({ puts: [{ key: "k".repeat(2000) }] });
    const { status, body: text } = await post(pathOf("write"), body, json);
    expect([status, JSON.parse(text).code]).toEqual([429, "resource_exhausted"]);
  });

  test("headers past the limit are 431", async () => {
    await listen({ write: echoWrite });
    expect((await post(pathOf("write"), "{}", { ...json, filler: "x".repeat(20_000) })).status).toBe(431);
  });
});

test("over HTTP/2, a body that goes on after the answer does not break the connection", async () => {
  await listen({ write: echoWrite });
  const connection = await Connection.open(listener!.address);
  const call = connection.open("/no.Such/Method", () => {}, { headers: { "content-type": "application/proto" } });
  for (let i = 0; i < 20; i++) call.sendRaw(new Uint8Array(10_000));
  expect((await call.ended).httpStatus).toBe(404);
  expect((await connection.call(pathOf("write"), new Uint8Array(0))).code).toBe(0);
  await connection.close();
});
