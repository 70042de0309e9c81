import { expect, test } from "bun:test";
import { errorOf, ONE_SHARD, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import { readAnswer, refusal, version } from "../../test/harness/fake-transport.ts";
import { utf8 } from "../lib/bytes.ts";
import { CLIENT_READS_IN_FLIGHT_MAX } from "../model/limits.ts";
import { plainStatus } from "./call-status.ts";
import { RequestTimeoutError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";

const UNAVAILABLE = plainStatus(GrpcCode.unavailable, "gone");
const found = (value: string) => ({ version: version(1), value: utf8(value) });

test("gets of one run share a call, and its answers may come in pieces", async () => {
  const { client, ports } = await openFakeClient();
  const gets = Promise.all([client.get("a"), client.get("b"), client.get("c")]);
  ports.clock.advance(5);
  const call = ports.transport.last("Read");
  expect([call.gets(), call.request.timeoutMs]).toEqual([["a", "b", "c"], 29_995]);
  call.answer(readAnswer([found("1"), { status: 1 }]));
  call.answer(readAnswer([found("3")]));
  call.end();
  const [a, b, c] = await gets;
  expect([a?.key, b, c?.key]).toEqual(["a", undefined, "c"]);
  expect(c?.value).toEqual(utf8("3"));
});

test("a call that fails is made again, with the hint at once", async () => {
  const { client, ports } = await openFakeClient();
  const get = client.get("a");
  ports.clock.advance(5);
  ports.transport.last("Read").end(UNAVAILABLE);
  ports.clock.advance(20);
  const hint = refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { shard: "0", leader: "other:1" });
  ports.transport.last("Read").end(hint);
  const call = ports.transport.last("Read");
  expect(call.request.address).toBe("other:1");
  call.answer(readAnswer([found("1")]));
  call.end();
  expect((await get)?.value).toEqual(utf8("1"));
});

test("a call that ends well without all its answers is made again", async () => {
  const { client, ports } = await openFakeClient();
  const gets = Promise.all([client.get("a"), client.get("b")]);
  ports.clock.advance(5);
  ports.transport.last("Read").answer(readAnswer([found("1")]));
  ports.transport.last("Read").end();
  ports.clock.advance(20);
  ports.transport.last("Read").answer(readAnswer([found("1"), found("2")]));
  ports.transport.last("Read").end();
  expect((await gets).map((record) => record?.key)).toEqual(["a", "b"]);
});

test("an error that is not retried fails the gets of that call only", async () => {
  const { client, ports } = await openFakeClient();
  const get = errorOf(client.get("a"));
  ports.clock.advance(5);
  ports.transport.last("Read").end(plainStatus(GrpcCode.permissionDenied, "no"));
  expect(await get).toBeInstanceOf(ServerError);
});

test("more answers than gets are a fault of the server", async () => {
  const { client, ports } = await openFakeClient();
  const get = errorOf(client.get("a"));
  ports.clock.advance(5);
  ports.transport.last("Read").answer(readAnswer([found("1"), found("2")]));
  expect(await get).toBeInstanceOf(ServerError);
});

test("time runs over retries, and the call is given up", async () => {
  const { client, ports } = await openFakeClient(ONE_SHARD, { requestTimeoutMs: 100 });
  const get = errorOf(client.get("a"));
  ports.clock.advance(5);
  ports.transport.last("Read").end(UNAVAILABLE);
  ports.clock.advance(95);
  const error = await get;
  expect(error).toBeInstanceOf(RequestTimeoutError);
  expect(error.message).toContain("gone");
  expect(ports.transport.last("Read").cancelled).toBe(true);
});

test("no more than the bound of calls is in flight to a shard", async () => {
  const { client, ports } = await openFakeClient();
  const gets: Promise<unknown>[] = [];
  for (let i = 0; i < CLIENT_READS_IN_FLIGHT_MAX + 3; i++) {
    gets.push(client.get(`k${i}`));
    ports.clock.advance(5);
  }
  expect(ports.transport.of("Read")).toHaveLength(CLIENT_READS_IN_FLIGHT_MAX);
  for (let i = 0; i <= CLIENT_READS_IN_FLIGHT_MAX; i++) {
    const call = ports.transport.of("Read")[i]!;
    call.answer(readAnswer(call.gets().map(() => found("x"))));
    call.end();
  }
  await Promise.all(gets);
});

test("the nearest key is sought on all shards, and the best one wins", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const near = async (comparison: "floor" | "ceiling" | "lower" | "higher", zero?: string, one?: string) => {
    const get = client.get("k", { comparison });
    ports.clock.advance(5);
    for (const [call, key] of [
      [ports.transport.of("Read").at(-2)!, zero],
      [ports.transport.of("Read").at(-1)!, one],
    ] as const) {
      call.answer(readAnswer([key === undefined ? { status: 1 } : { ...found("x"), key: utf8(key) }]));
      call.end();
    }
    return (await get)?.key;
  };
  expect(await near("floor", "a", "b")).toBe("b");
  expect(await near("lower", "b", "a")).toBe("b");
  expect(await near("ceiling", "x", "y")).toBe("x");
  expect(await near("higher", undefined, "y")).toBe("y");
  expect(await near("floor")).toBeUndefined();
});

test("with a partition key the nearest key is sought on its shard alone", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const get = client.get("k", { comparison: "floor", partitionKey: "p@100" });
  ports.clock.advance(5);
  expect(ports.transport.of("Read").map(({ request }) => request.address)).toEqual(["one:1"]);
  ports.transport.last("Read").answer(readAnswer([{ ...found("x"), key: utf8("j") }]));
  ports.transport.last("Read").end();
  expect((await get)?.key).toBe("j");
});

test("gets of a shard that was split go to its children, the nearest ones to all", async () => {
  const { client, ports, assign } = await openFakeClient();
  const gets = Promise.all([client.get("a@1"), client.get("b@100"), client.get("k", { comparison: "floor" })]);
  ports.clock.advance(5);
  assign([
    { id: 7, leader: "left:1", min: 0, max: 99 },
    { id: 8, leader: "right:1", min: 100, max: 0xffff_ffff },
  ]);
  ports.transport.last("Read").end(refusal(GrpcCode.notFound, "SHARD_NOT_FOUND"));
  ports.clock.advance(20);
  const [left, right] = ports.transport.of("Read").slice(-2);
  expect([left!.gets(), right!.gets()]).toEqual([
    ["a@1", "k"],
    ["b@100", "k"],
  ]);
  left!.answer(readAnswer([found("1"), { ...found("x"), key: utf8("c") }]));
  right!.answer(readAnswer([found("2"), { ...found("x"), key: utf8("d") }]));
  left!.end();
  right!.end();
  expect((await gets).map((record) => record?.key)).toEqual(["a@1", "b@100", "d"]);
});
