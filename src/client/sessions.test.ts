import { expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { errorOf, ONE_SHARD, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import { type FakeCall, type FakePorts, refusal, sessionAnswer, settle } from "../../test/harness/fake-transport.ts";
import {
  CloseSessionRequestSchema,
  CreateSessionRequestSchema,
  SessionHeartbeatSchema,
  WriteRequestSchema,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { plainStatus } from "./call-status.ts";
import type { VariaClient } from "./client.ts";
import { InvalidArgumentError, RequestTimeoutError, ServerError, SessionDoesNotExistError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import { resolveOptions } from "./options.ts";
import type { SessionLost } from "./sessions.ts";

const EPHEMERAL = { ephemeral: true };
const EMPTY = new Uint8Array(0);
const UNAVAILABLE = plainStatus(GrpcCode.unavailable, "gone");
const NOT_FOUND = refusal(GrpcCode.notFound, "SESSION_NOT_FOUND");

function confirm(call: FakeCall, answer: Uint8Array = EMPTY): void {
  call.answer(answer);
  call.end();
}

/** Puts one ephemeral record and answers everything that it takes. */
async function putEphemeral(client: VariaClient, ports: FakePorts, key = "a", id = 7): Promise<void> {
  const put = client.put(key, "x", EPHEMERAL);
  confirm(ports.transport.last("CreateSession"), sessionAnswer(id));
  await settle();
  ports.clock.advance(5);
  ports.transport.last("WriteStream").answerWrite();
  await put;
}

const sentPuts = (call: FakeCall, n: number) => fromBinary(WriteRequestSchema, call.sent[n]!).puts;
const lostOf = (client: VariaClient) => {
  const lost: SessionLost[] = [];
  client.onSessionLost((it) => lost.push(it));
  return lost;
};

test("the first ephemeral put makes the shard's session, and all of the shard share it", async () => {
  const options = { sessionTimeoutMs: 20_000, clientIdentity: "me" };
  const { client, ports } = await openFakeClient(TWO_SHARDS, options);
  const puts = Promise.all([client.put("a@1", "x", EPHEMERAL), client.put("b@2", "x", EPHEMERAL)]);
  expect(ports.transport.of("CreateSession")).toHaveLength(1);
  const create = ports.transport.last("CreateSession");
  expect(create.request.address).toBe("zero:1");
  expect(fromBinary(CreateSessionRequestSchema, create.sent[0]!)).toMatchObject({
    shard: 0n,
    sessionTimeoutMs: 20_000,
    clientIdentity: "me",
  });
  confirm(create, sessionAnswer(7));
  await settle();
  ports.clock.advance(5);
  const write = ports.transport.last("WriteStream");
  expect(sentPuts(write, 0).map((put) => [put.sessionId, put.clientIdentity])).toEqual([
    [7n, "me"],
    [7n, "me"],
  ]);
  write.answerWrite();
  await puts;
  const other = client.put("c@100", "x", EPHEMERAL);
  expect(ports.transport.last("CreateSession").request.address).toBe("one:1");
  confirm(ports.transport.last("CreateSession"), sessionAnswer(3));
  await settle();
  ports.clock.advance(5);
  ports.transport.last("WriteStream").answerWrite();
  await other;
});

test("no write of the shard overtakes a put that waits for its session", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const waiting = [
    client.put("a@1", "1", EPHEMERAL),
    client.put("a@1", "2"),
    client.delete("b@1"),
    client.deleteRange("c", "d", { partitionKey: "p@1" }),
  ];
  const elsewhere = client.put("e@100", "x");
  ports.clock.advance(5);
  const [other] = ports.transport.of("WriteStream");
  expect([other!.request.address, ports.transport.of("WriteStream").length]).toEqual(["one:1", 1]);
  other!.answerWrite();
  await elsewhere;
  confirm(ports.transport.last("CreateSession"), sessionAnswer(7));
  await settle();
  ports.clock.advance(5);
  const write = ports.transport.last("WriteStream");
  expect(sentPuts(write, 0).map(({ sessionId }) => sessionId)).toEqual([7n, undefined]);
  write.answerWrite();
  await Promise.all(waiting);
});

test("bytes of a put that waits may be changed by their owner", async () => {
  const { client, ports } = await openFakeClient();
  const [one, two] = [Uint8Array.of(1), Uint8Array.of(2)];
  const puts = [client.put("a", one, EPHEMERAL), client.put("b", two)];
  one[0] = 9;
  two[0] = 9;
  confirm(ports.transport.last("CreateSession"), sessionAnswer(7));
  await settle();
  ports.clock.advance(5);
  const write = ports.transport.last("WriteStream");
  expect(sentPuts(write, 0).map(({ value }) => [...value])).toEqual([[1], [2]]);
  write.answerWrite();
  await Promise.all(puts);
});

test("a put fails when there is no session to be had; what waited behind it does not", async () => {
  const { client, ports } = await openFakeClient();
  const refused = errorOf(client.put("a", "x", EPHEMERAL));
  const behind = client.put("b", "x");
  ports.transport.last("CreateSession").end(refusal(GrpcCode.invalidArgument, "INVALID_SESSION_TIMEOUT"));
  expect(await refused).toBeInstanceOf(ServerError);
  ports.clock.advance(5);
  expect(ports.transport.last("WriteStream").puts(0)).toEqual(["b"]);
  ports.transport.last("WriteStream").answerWrite();
  await behind;
});

test("creating a session is tried again, at the leader that is named, until time is up", async () => {
  const { client, ports } = await openFakeClient(ONE_SHARD, { requestTimeoutMs: 1000 });
  const put = errorOf(client.put("a", "x", EPHEMERAL));
  const hint = refusal(GrpcCode.aborted, "UNKNOWN", { shard: "0", leader: "other:1" });
  ports.transport.last("CreateSession").end(hint);
  ports.clock.advance(20);
  expect(ports.transport.last("CreateSession").request.address).toBe("other:1");
  ports.clock.advance(1000);
  expect(ports.transport.last("CreateSession").cancelled).toBe(true);
  expect(await put).toBeInstanceOf(RequestTimeoutError);
});

test("heartbeats go out every tenth of the timeout, but not more often than every two seconds", async () => {
  for (const [sessionTimeoutMs, heartbeatMs] of [
    [15_000, 2_000],
    [100_000, 10_000],
    [4_000, 1_000],
  ] as const) {
    const { client, ports } = await openFakeClient(ONE_SHARD, { sessionTimeoutMs });
    await putEphemeral(client, ports);
    const beats = () => ports.transport.of("KeepAlive");
    ports.clock.advance(heartbeatMs - 10);
    expect(beats()).toHaveLength(0);
    ports.clock.advance(10);
    expect(beats()).toHaveLength(1);
    expect(fromBinary(SessionHeartbeatSchema, beats()[0]!.sent[0]!)).toMatchObject({ shard: 0n, sessionId: 7n });
    confirm(beats()[0]!);
    ports.clock.advance(heartbeatMs);
    expect(beats()).toHaveLength(2);
  }
});

test("a heartbeat that fails is sent again soon, and one that hangs is given up for the next", async () => {
  const { client, ports } = await openFakeClient();
  await putEphemeral(client, ports);
  ports.clock.advance(2000);
  ports.transport.last("KeepAlive").end(UNAVAILABLE);
  ports.clock.advance(20);
  expect(ports.transport.of("KeepAlive")).toHaveLength(2);
  ports.clock.advance(2000);
  const [, hanging, next] = ports.transport.of("KeepAlive");
  expect([hanging!.cancelled, next!.cancelled]).toEqual([true, false]);
});

test("a session that the server does not know is lost, and the next put makes another", async () => {
  const { client, ports } = await openFakeClient();
  const lost = lostOf(client);
  await putEphemeral(client, ports);
  ports.clock.advance(2000);
  ports.transport.last("KeepAlive").end(NOT_FOUND);
  expect(lost).toEqual([{ shard: 0, sessionId: 7, reason: "expired" }]);
  ports.clock.advance(60_000);
  expect(ports.transport.of("KeepAlive")).toHaveLength(1);
  await putEphemeral(client, ports, "b", 8);
  expect(ports.transport.of("CreateSession")).toHaveLength(2);
});

test("a server that no longer leads is not believed when it does not know the session", async () => {
  const { client, ports, assign } = await openFakeClient();
  const lost = lostOf(client);
  await putEphemeral(client, ports);
  ports.clock.advance(2000);
  const old = ports.transport.last("KeepAlive");
  assign([{ ...ONE_SHARD[0]!, leader: "other:1" }]);
  old.end(NOT_FOUND);
  expect(lost).toEqual([]);
  ports.clock.advance(20);
  expect(ports.transport.last("KeepAlive").request.address).toBe("other:1");
});

test("a session whose heartbeats are not confirmed for its timeout is lost", async () => {
  const { client, ports } = await openFakeClient(ONE_SHARD, { sessionTimeoutMs: 10_000 });
  const lost = lostOf(client);
  await putEphemeral(client, ports);
  ports.clock.advance(2000);
  confirm(ports.transport.last("KeepAlive"));
  ports.clock.advance(9990);
  expect(lost).toEqual([]);
  ports.clock.advance(10);
  expect(lost).toEqual([{ shard: 0, sessionId: 7, reason: "unconfirmed" }]);
});

test("a put that is refused for its session says so, and the session is given up", async () => {
  const { client, ports } = await openFakeClient();
  const lost = lostOf(client);
  await putEphemeral(client, ports);
  const put = errorOf(client.put("b", "x", EPHEMERAL));
  ports.clock.advance(5);
  ports.transport.last("WriteStream").answerWriteWith({ puts: [{ status: 3 }] });
  expect(await put).toBeInstanceOf(SessionDoesNotExistError);
  expect(lost).toHaveLength(1);
  await putEphemeral(client, ports, "b", 8);
});

test("a session of a shard that is split lives on in both children", async () => {
  const { client, ports, assign } = await openFakeClient();
  await putEphemeral(client, ports);
  assign(TWO_SHARDS.map((shard) => ({ ...shard, id: shard.id + 10 })));
  ports.clock.advance(0);
  const beats = ports.transport.of("KeepAlive").map(({ sent, request }) => {
    const { shard, sessionId } = fromBinary(SessionHeartbeatSchema, sent[0]!);
    return [request.address, shard, sessionId];
  });
  expect(beats).toEqual([
    ["zero:1", 10n, 7n],
    ["one:1", 11n, 7n],
  ]);
  const put = client.put("c@100", "x", EPHEMERAL);
  ports.clock.advance(5);
  expect(sentPuts(ports.transport.last("WriteStream"), 0)[0]!.sessionId).toBe(7n);
  ports.transport.last("WriteStream").answerWrite();
  await put;
});

test("closing the client closes its sessions, and does not wait for ever", async () => {
  const { client, ports } = await openFakeClient();
  await putEphemeral(client, ports);
  const closing = client.close();
  await settle();
  const call = ports.transport.last("CloseSession");
  expect(fromBinary(CloseSessionRequestSchema, call.sent[0]!)).toMatchObject({ shard: 0n, sessionId: 7n });
  expect(ports.transport.closed).toBe(false);
  ports.clock.advance(30_000);
  await closing;
  expect(ports.transport.closed).toBe(true);
  expect(ports.transport.of("KeepAlive")).toHaveLength(0);
});

test("closing waits for puts that wait for their session", async () => {
  const { client, ports } = await openFakeClient();
  const put = client.put("a", "x", EPHEMERAL);
  const closing = client.close();
  confirm(ports.transport.last("CreateSession"), sessionAnswer(7));
  await settle();
  ports.clock.advance(5);
  ports.transport.last("WriteStream").answerWrite();
  await put;
  await settle();
  confirm(ports.transport.last("CloseSession"));
  await closing;
});

test("a timeout that servers refuse is refused before", () => {
  for (const sessionTimeoutMs of [0, 1999, 300_001, Number.NaN]) {
    expect(() => resolveOptions({ sessionTimeoutMs })).toThrow(InvalidArgumentError);
  }
});
