import { expect, test } from "bun:test";
import { errorOf, ONE_SHARD, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import { assignments, fakePorts, refusal, settle } from "../../test/harness/fake-transport.ts";
import { plainStatus } from "./call-status.ts";
import { VariaClient } from "./client.ts";
import { InvalidArgumentError, NamespaceNotFoundError, RequestTimeoutError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import { resolveOptions } from "./options.ts";

const METHOD = "GetShardAssignments";

test("opening asks the service address for the namespace and waits for its shards", async () => {
  const ports = fakePorts();
  const opening = VariaClient.open(ports, resolveOptions({ serviceAddress: "any:6648", authToken: "secret" }));
  const call = ports.transport.last(METHOD);
  expect(call.request.address).toBe("any:6648");
  expect(call.request.headers).toEqual({ authorization: "Bearer secret" });
  call.answer(assignments(TWO_SHARDS));
  expect((await opening).shardCount).toBe(2);
});

test("an unknown namespace and a token that is not taken end opening at once", async () => {
  for (const [status, error] of [
    [refusal(GrpcCode.notFound, "NAMESPACE_NOT_FOUND"), NamespaceNotFoundError],
    [plainStatus(GrpcCode.unauthenticated, "empty token"), ServerError],
  ] as const) {
    const ports = fakePorts();
    const opening = errorOf(VariaClient.open(ports, resolveOptions({})));
    ports.transport.last(METHOD).end(status);
    expect(await opening).toBeInstanceOf(error);
    expect(ports.transport.closed).toBe(true);
  }
});

test("opening tries again until its time is up, and then says what failed", async () => {
  const ports = fakePorts();
  const opening = errorOf(VariaClient.open(ports, resolveOptions({ requestTimeoutMs: 100 })));
  ports.transport.last(METHOD).end(plainStatus(GrpcCode.unavailable, "nobody there"));
  ports.clock.advance(20);
  expect(ports.transport.of(METHOD)).toHaveLength(2);
  ports.transport.last(METHOD).end(plainStatus(GrpcCode.unavailable, "nobody there"));
  ports.clock.advance(80);
  const error = await opening;
  expect(error).toBeInstanceOf(RequestTimeoutError);
  expect(error.message).toContain("nobody there");
});

test("a set with gaps is passed over, and the one before stays in force", async () => {
  const { client, assign } = await openFakeClient(TWO_SHARDS);
  assign([{ ...TWO_SHARDS[0]!, min: 5 }]);
  expect(client.shardCount).toBe(2);
  assign(ONE_SHARD);
  expect(client.shardCount).toBe(1);
});

test("a stream that ends is opened again, at other servers too while the service address is silent", async () => {
  const { ports } = await openFakeClient(TWO_SHARDS, { serviceAddress: "any:1" });
  const addresses: string[] = [];
  for (let i = 0; i < 4; i++) {
    ports.transport.last(METHOD).end(plainStatus(GrpcCode.unavailable, ""));
    ports.clock.advance(1000);
    addresses.push(ports.transport.last(METHOD).request.address);
  }
  expect(addresses).toEqual(["any:1", "zero:1", "any:1", "one:1"]);
});

test("a message that is none ends the stream, and the next one is asked for", async () => {
  const { ports, client } = await openFakeClient(TWO_SHARDS);
  const first = ports.transport.last(METHOD);
  first.answer(Uint8Array.of(0x0a, 0xff));
  expect(first.cancelled).toBe(true);
  ports.clock.advance(1000);
  ports.transport.last(METHOD).answer(assignments(ONE_SHARD));
  expect(client.shardCount).toBe(1);
});

test("a closed client asks no more", async () => {
  const { ports, client } = await openFakeClient();
  await client.close();
  ports.clock.advance(10_000);
  await settle();
  expect(ports.transport.of(METHOD)).toHaveLength(1);
  expect(ports.transport.last(METHOD).cancelled).toBe(true);
});

test("options that cannot be meant are refused", () => {
  for (const serviceAddress of ["localhost", "http://localhost:1", "a b:1", ":1", "host:port", "host:1/path"]) {
    expect(() => resolveOptions({ serviceAddress })).toThrow(InvalidArgumentError);
  }
  for (const serviceAddress of ["localhost:1", "[::1]:6648", "10.0.0.1:65535"]) {
    expect(resolveOptions({ serviceAddress }).serviceAddress).toBe(serviceAddress);
  }
  expect(() => resolveOptions({ batchLingerMs: -1 })).toThrow(InvalidArgumentError);
  expect(() => resolveOptions({ requestTimeoutMs: 0 })).toThrow(InvalidArgumentError);
  expect(() => resolveOptions({ batchRequestsMax: Number.NaN })).toThrow(InvalidArgumentError);
});
