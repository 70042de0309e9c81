import { expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { errorOf, ONE_SHARD, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import { refusal, settle, version } from "../../test/harness/fake-transport.ts";
import { WriteRequestSchema } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { CLIENT_OLD_LEADER_MS_MAX, CLIENT_WRITES_IN_FLIGHT_MAX } from "../model/limits.ts";
import { plainStatus } from "./call-status.ts";
import {
  ClientClosedError,
  InvalidArgumentError,
  RequestTimeoutError,
  ServerError,
  SessionDoesNotExistError,
  UnexpectedVersionIdError,
  type VariaError,
} from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";

const STREAM = "WriteStream";
const UNAVAILABLE = plainStatus(GrpcCode.unavailable, "gone");
const notLeader = (leader: string, shard = 0) =>
  refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { shard: String(shard), leader });

test("puts of one run go to their shards' leaders, a request each", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const puts = Promise.all([client.put("a@1", "x"), client.put("b@100", "x"), client.put("c@2", "x")]);
  expect(ports.transport.of(STREAM)).toEqual([]);
  ports.clock.advance(5);
  const [zero, one] = ports.transport.of(STREAM);
  expect(zero!.request).toEqual({
    address: "zero:1",
    path: "/io.oxia.proto.v1.OxiaClient/WriteStream",
    headers: { namespace: "default", "shard-id": "0" },
  });
  expect([zero!.puts(0), one!.puts(0)]).toEqual([["a@1", "c@2"], ["b@100"]]);
  zero!.answerWrite();
  one!.answerWrite();
  expect((await puts).map(({ key }) => key)).toEqual(["a@1", "b@100", "c@2"]);
});

test("a partition key decides in place of the key, and the server is told", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const put = client.put("a@1", "x", { partitionKey: "p@100" });
  ports.clock.advance(5);
  const call = ports.transport.last(STREAM);
  expect(call.request.address).toBe("one:1");
  expect(fromBinary(WriteRequestSchema, call.sent[0]!).puts[0]!.partitionKey).toEqual(
    new TextEncoder().encode("p@100"),
  );
  call.answerWrite();
  await put;
});

test("conditions go out as the protocol has them", async () => {
  const { client, ports } = await openFakeClient();
  const writes = Promise.all([
    client.put("a", "x", { mustNotExist: true }),
    client.put("b", "x", { expectedVersionId: 2n ** 60n, overrideVersionId: 3, overrideModificationsCount: 0 }),
    client.delete("c", { expectedVersionId: 5 }),
  ]);
  ports.clock.advance(5);
  const call = ports.transport.last(STREAM);
  const { puts, deletes } = fromBinary(WriteRequestSchema, call.sent[0]!);
  expect(puts.map((put) => put.expectedVersionId)).toEqual([-1n, 2n ** 60n]);
  expect([puts[1]!.overrideVersionId, puts[1]!.overrideModificationsCount]).toEqual([3n, 0n]);
  expect(deletes[0]!.expectedVersionId).toBe(5n);
  call.answerWrite();
  expect((await writes)[2]).toBe(true);
});

test("each operation gets its own answer", async () => {
  const { client, ports } = await openFakeClient();
  const conflict = errorOf(client.put("a", "x", { expectedVersionId: 1 }));
  const ended = errorOf(client.put("b", "x"));
  const done = client.put("c", "x");
  const missing = client.delete("d");
  const range = client.deleteRange("e", "f");
  ports.clock.advance(5);
  ports.transport.last(STREAM).answerWriteWith({
    puts: [{ status: 2 }, { status: 3 }, { version: version(9) }],
    deletes: [{ status: 1 }],
    deleteRanges: [{}],
  });
  expect(await conflict).toBeInstanceOf(UnexpectedVersionIdError);
  expect(((await conflict) as VariaError).outcomeUnknown).toBe(false);
  expect(await ended).toBeInstanceOf(SessionDoesNotExistError);
  expect((await done).version.versionId).toBe(9);
  expect(await missing).toBe(false);
  await range;
});

test("a broken stream's requests go again, in order, before newer ones", async () => {
  const { client, ports } = await openFakeClient();
  const first = client.put("a", "x");
  ports.clock.advance(5);
  const second = client.put("b", "x");
  ports.clock.advance(5);
  const third = client.put("c", "x");
  ports.transport.last(STREAM).end(UNAVAILABLE);
  ports.clock.advance(20);
  const call = ports.transport.last(STREAM);
  expect(ports.transport.of(STREAM)).toHaveLength(2);
  expect([call.puts(0), call.puts(1), call.puts(2)]).toEqual([["a"], ["b"], ["c"]]);
  for (let i = 0; i < 3; i++) call.answerWrite();
  await Promise.all([first, second, third]);
});

test("an answer to a second sending says so, one to a first does not", async () => {
  const { client, ports } = await openFakeClient();
  const put = errorOf(client.put("a", "x", { expectedVersionId: 1 }));
  ports.clock.advance(5);
  ports.transport.last(STREAM).end(UNAVAILABLE);
  ports.clock.advance(20);
  ports.transport.last(STREAM).answerWriteWith({ puts: [{ status: 2 }] });
  expect(await put).toBeInstanceOf(UnexpectedVersionIdError);
  expect(((await put) as VariaError).outcomeUnknown).toBe(true);
});

test("a stream that ends well before its answers came is retried too", async () => {
  const { client, ports } = await openFakeClient();
  const put = client.put("a", "x");
  ports.clock.advance(5);
  ports.transport.last(STREAM).end();
  ports.clock.advance(20);
  ports.transport.last(STREAM).answerWrite();
  await put;
});

test("a leader hint is followed at once", async () => {
  const { client, ports } = await openFakeClient();
  const put = client.put("a", "x");
  ports.clock.advance(5);
  ports.transport.last(STREAM).end(notLeader("other:1"));
  expect(ports.transport.last(STREAM).request.address).toBe("other:1");
  ports.transport.last(STREAM).answerWrite();
  await put;
});

test("two servers that name each other are not asked without a pause", async () => {
  const { client, ports } = await openFakeClient();
  const put = client.put("a", "x");
  ports.clock.advance(5);
  for (let i = 0; i < 10; i++) ports.transport.last(STREAM).end(notLeader(i % 2 === 0 ? "other:1" : "zero:1"));
  expect(ports.transport.of(STREAM).length).toBeLessThan(5);
  ports.clock.advance(1000);
  ports.transport.last(STREAM).answerWrite();
  await put;
});

test("a shard without a leader is waited for", async () => {
  const { client, ports, assign } = await openFakeClient([{ ...ONE_SHARD[0]!, leader: "" }]);
  const put = client.put("a", "x");
  ports.clock.advance(5);
  expect(ports.transport.of(STREAM)).toEqual([]);
  assign(ONE_SHARD);
  ports.transport.last(STREAM).answerWrite();
  await put;
});

test("an error that is not retried fails the one request in flight, and says that nothing happened", async () => {
  const { client, ports } = await openFakeClient();
  const put = errorOf(client.put("a", "x"));
  ports.clock.advance(5);
  ports.transport.last(STREAM).end(plainStatus(GrpcCode.resourceExhausted, "disk full"));
  const error = (await put) as ServerError;
  expect(error).toBeInstanceOf(ServerError);
  expect([error.grpcCodeName, error.outcomeUnknown]).toEqual(["RESOURCE_EXHAUSTED", false]);
  // the next write opens a stream again
  const next = client.put("b", "x");
  ports.clock.advance(5);
  ports.transport.last(STREAM).answerWrite();
  await next;
});

test("an error that may be about any of several gives each its own verdict", async () => {
  const { client, ports } = await openFakeClient();
  const good = client.put("a", "x");
  ports.clock.advance(5);
  const bad = errorOf(client.put("bad", "x"));
  ports.clock.advance(5);
  const late = client.put("c", "x");
  ports.clock.advance(5);
  ports.transport.last(STREAM).end(plainStatus(GrpcCode.invalidArgument, "no"));
  const second = ports.transport.last(STREAM);
  expect(second.sent).toHaveLength(1);
  second.answerWrite();
  expect(second.puts(1)).toEqual(["bad"]);
  second.end(plainStatus(GrpcCode.invalidArgument, "no"));
  const third = ports.transport.last(STREAM);
  expect(third.puts(0)).toEqual(["c"]);
  third.answerWrite();
  expect(await bad).toBeInstanceOf(ServerError);
  await Promise.all([good, late]);
});

test("a write that ran out of time keeps its place, so that later answers find theirs", async () => {
  const { client, ports } = await openFakeClient(ONE_SHARD, { requestTimeoutMs: 100 });
  const late = errorOf(client.put("late", "x"));
  ports.clock.advance(95);
  const next = client.put("next", "x");
  ports.clock.advance(5);
  const error = (await late) as VariaError;
  expect(error).toBeInstanceOf(RequestTimeoutError);
  expect(error.outcomeUnknown).toBe(true);
  const call = ports.transport.last(STREAM);
  call.answerWriteWith({ puts: [{ version: version(1) }] });
  call.answerWriteWith({ puts: [{ version: version(2) }] });
  expect((await next).version.versionId).toBe(2);
});

test("a write that was never sent is known not to have happened", async () => {
  const { client, ports } = await openFakeClient([{ ...ONE_SHARD[0]!, leader: "" }], { requestTimeoutMs: 100 });
  const put = errorOf(client.put("a", "x"));
  ports.clock.advance(100);
  expect(((await put) as VariaError).outcomeUnknown).toBe(false);
  expect((await put).message).toContain("has no leader");
});

test("an answer that does not fit its request ends the stream, and the rest goes again", async () => {
  const { client, ports } = await openFakeClient();
  const odd = errorOf(client.put("a", "x"));
  ports.clock.advance(5);
  const next = client.put("b", "x");
  ports.clock.advance(5);
  const call = ports.transport.last(STREAM);
  call.answerWriteWith({ deletes: [{}] });
  expect(call.cancelled).toBe(true);
  expect(((await odd) as VariaError).outcomeUnknown).toBe(true);
  ports.clock.advance(20);
  ports.transport.last(STREAM).answerWrite();
  await next;
});

test("no more than the bound is in flight on a stream, and the rest gathers into larger requests", async () => {
  const { client, ports } = await openFakeClient();
  const puts: Promise<unknown>[] = [];
  for (let i = 0; i < CLIENT_WRITES_IN_FLIGHT_MAX + 20; i++) {
    puts.push(client.put(`k${i}`, "x"));
    ports.clock.advance(5);
  }
  const call = ports.transport.last(STREAM);
  expect(call.sent).toHaveLength(CLIENT_WRITES_IN_FLIGHT_MAX);
  for (let i = 0; i < CLIENT_WRITES_IN_FLIGHT_MAX; i++) call.answerWrite();
  expect(call.sent).toHaveLength(CLIENT_WRITES_IN_FLIGHT_MAX + 1);
  expect(call.puts(CLIENT_WRITES_IN_FLIGHT_MAX)).toHaveLength(20);
  call.answerWrite();
  await Promise.all(puts);
});

test("a connection that takes no more is waited for", async () => {
  const { client, ports } = await openFakeClient();
  const puts = [client.put("a", "x")];
  ports.clock.advance(5);
  const call = ports.transport.last(STREAM);
  call.takesMore = false;
  puts.push(client.put("b", "x"));
  ports.clock.advance(5);
  puts.push(client.put("c", "x"));
  ports.clock.advance(5);
  expect(call.sent).toHaveLength(2);
  call.drain();
  expect(call.sent).toHaveLength(3);
  for (let i = 0; i < 3; i++) call.answerWrite();
  await Promise.all(puts);
});

test("operations on one key take effect in the order in which they were given", async () => {
  const { client, ports } = await openFakeClient();
  const writes = [
    client.put("a", "1"),
    client.delete("a"), // after the put, as a request applies them
    client.put("b", "1"), // of another key: in the same request
    client.put("a", "2"), // would overtake the delete
    client.deleteRange("a", "c"),
    client.delete("b"), // would overtake the range
    client.put(Uint8Array.of(0xff), "1"),
    client.delete(Uint8Array.of(0xff)),
    client.put(Uint8Array.of(0xff), "2"),
  ];
  ports.clock.advance(5);
  const call = ports.transport.last(STREAM);
  const requests = call.sent.map((message) => {
    const { puts, deletes, deleteRanges } = fromBinary(WriteRequestSchema, message);
    return [puts.length, deletes.length, deleteRanges.length];
  });
  expect(requests).toEqual([
    [2, 1, 0],
    [1, 0, 1],
    [1, 2, 0],
    [1, 0, 0],
  ]);
  for (let i = 0; i < 4; i++) call.answerWrite();
  await Promise.all(writes);
});

test("after a change of leader the old one may answer what it has, and gets no more", async () => {
  const { client, ports, assign } = await openFakeClient();
  const sent = client.put("a", "x");
  ports.clock.advance(5);
  const old = ports.transport.last(STREAM);
  assign([{ ...ONE_SHARD[0]!, leader: "new:1" }]);
  const next = client.put("b", "x");
  ports.clock.advance(5);
  expect(ports.transport.of(STREAM)).toHaveLength(1);
  old.answerWrite();
  await sent;
  const call = ports.transport.last(STREAM);
  expect([call.request.address, call.puts(0)]).toEqual(["new:1", ["b"]]);
  call.answerWrite();
  await next;
});

test("an old leader that does not answer in its time is given up", async () => {
  const { client, ports, assign } = await openFakeClient();
  const sent = client.put("a", "x");
  ports.clock.advance(5);
  const old = ports.transport.last(STREAM);
  assign([{ ...ONE_SHARD[0]!, leader: "new:1" }]);
  ports.clock.advance(CLIENT_OLD_LEADER_MS_MAX);
  expect(old.cancelled).toBe(true);
  ports.clock.advance(20);
  expect(ports.transport.last(STREAM).request.address).toBe("new:1");
  ports.transport.last(STREAM).answerWrite();
  await sent;
});

test("an idle stream of an old leader is dropped", async () => {
  const { client, ports, assign } = await openFakeClient();
  const put = client.put("a", "x");
  ports.clock.advance(5);
  const old = ports.transport.last(STREAM);
  old.answerWrite();
  await put;
  assign([{ ...ONE_SHARD[0]!, leader: "new:1" }]);
  expect(old.cancelled).toBe(true);
});

test("what waited for a shard that was split goes to its children", async () => {
  const { client, ports, assign } = await openFakeClient();
  const writes = [client.put("a@1", "x"), client.put("b@100", "x"), client.deleteRange("c", "d")];
  ports.clock.advance(5);
  const parent = ports.transport.last(STREAM);
  assign([
    { id: 7, leader: "left:1", min: 0, max: 99 },
    { id: 8, leader: "right:1", min: 100, max: 0xffff_ffff },
  ]);
  parent.end(UNAVAILABLE);
  ports.clock.advance(20);
  const [left, right] = ports.transport.of(STREAM).slice(1);
  expect([left!.request.address, left!.puts(0)]).toEqual(["left:1", ["a@1"]]);
  expect([right!.request.address, right!.puts(0)]).toEqual(["right:1", ["b@100"]]);
  const ranges = [left!, right!].map((call) => fromBinary(WriteRequestSchema, call.sent[0]!).deleteRanges.length);
  expect(ranges).toEqual([1, 1]);
  expect(fromBinary(WriteRequestSchema, left!.sent[0]!).shard).toBe(7n);
  left!.answerWrite();
  let deleted = false;
  writes[2]!.then(() => {
    deleted = true;
  });
  await settle();
  expect(deleted).toBe(false);
  right!.answerWrite();
  await Promise.all(writes);
});

test("closing sends what is gathered, waits for its answers, and takes nothing more", async () => {
  const { client, ports } = await openFakeClient();
  const put = client.put("a", "x");
  const closing = client.close();
  expect(await errorOf(client.put("b", "x"))).toBeInstanceOf(ClientClosedError);
  expect(await errorOf(client.get("b"))).toBeInstanceOf(ClientClosedError);
  expect(ports.transport.closed).toBe(false);
  ports.transport.last(STREAM).answerWrite();
  await Promise.all([put, closing]);
  expect(ports.transport.closed).toBe(true);
  expect(client.close()).toBe(closing);
});

test("what cannot be sent is refused before anything is", async () => {
  const { client, ports } = await openFakeClient();
  for (const refused of [
    client.put("__oxia/term", "x"),
    client.delete("__oxia/term"),
    client.put("a", "x", { mustNotExist: true, expectedVersionId: 1 }),
    client.put("a", "x", { expectedVersionId: 1.5 }),
    client.put("a", "x", { overrideVersionId: 2n ** 63n }),
    client.put("a\udc00", "x"),
    client.put(7 as unknown as string, "x"),
    client.deleteRange("a", ""),
    client.get("a", { comparison: "near" as "equal" }),
  ]) {
    expect(await errorOf(refused)).toBeInstanceOf(InvalidArgumentError);
  }
  ports.clock.advance(5);
  expect(ports.transport.of(STREAM)).toEqual([]);
});
