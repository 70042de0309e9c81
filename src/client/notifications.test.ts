import { expect, test } from "bun:test";
import { errorOf, ONE_SHARD, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import { type FakeCall, notificationBatch, refusal, settle } from "../../test/harness/fake-transport.ts";
import { CLIENT_NOTIFICATIONS_BYTES_MAX } from "../model/limits.ts";
import { plainStatus } from "./call-status.ts";
import { ClientClosedError, RequestTimeoutError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { Notifications } from "./notifications.ts";

const METHOD = "GetNotifications";
const UNAVAILABLE = plainStatus(GrpcCode.unavailable, "gone");
const CREATED = 0;
const DELETED = 2;
const RANGE_DELETED = 3;

/** A client with a reader that is subscribed on every shard, and the newest stream of each. */
async function subscribed(shards = ONE_SHARD, options?: { signal?: AbortSignal }) {
  const fake = await openFakeClient(shards);
  const opening = fake.client.notifications(options);
  await settle();
  const first = fake.ports.transport.of(METHOD);
  for (const call of first) call.answer(notificationBatch(4));
  const calls = () => fake.ports.transport.of(METHOD).slice(first.length);
  return { ...fake, reader: await opening, first, calls };
}

async function take(reader: Notifications, count: number): Promise<string[]> {
  const taken: string[] = [];
  while (taken.length < count) {
    const { value } = await reader.next();
    taken.push(value!.type === "missed" ? `missed ${value!.writesMax}` : `${value!.type} ${value!.key}`);
  }
  return taken;
}

const puts = (...keys: string[]) => Object.fromEntries(keys.map((key) => [key, { type: CREATED, versionId: 1 }]));

test("it is ready once every shard has told where it stands", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  let ready = false;
  const opening = client.notifications().then((reader) => {
    ready = true;
    return reader;
  });
  await settle();
  const [zero, one] = ports.transport.of(METHOD);
  expect([zero!.request.address, one!.request.address]).toEqual(["zero:1", "one:1"]);
  expect([zero!.startOffset(), one!.startOffset()]).toEqual([undefined, undefined]);
  zero!.answer(notificationBatch(-1));
  await settle();
  expect(ready).toBe(false);
  one!.answer(notificationBatch(9));
  await opening;
});

test("changes come as they are told, those of an empty write not at all", async () => {
  const { reader, first } = await subscribed();
  first[0]!.answer(notificationBatch(5));
  first[0]!.answer(
    notificationBatch(6, {
      a: { type: 1, versionId: 12 },
      b: { type: DELETED },
      c: { type: RANGE_DELETED, keyRangeLast: "d" },
    }),
  );
  const items = [(await reader.next()).value!, (await reader.next()).value!, (await reader.next()).value!];
  expect(items).toMatchObject([
    { type: "modified", key: "a", versionId: 12 },
    { type: "deleted", key: "b", versionId: undefined },
    { type: "rangeDeleted", key: "c", keyRangeLast: "d" },
  ]);
});

test("a broken stream goes on behind the last offset that came, wherever the leader is", async () => {
  const { reader, first, ports, calls } = await subscribed();
  first[0]!.answer(notificationBatch(7, puts("a")));
  const hint = refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { shard: "0", leader: "other:1" });
  first[0]!.end(hint);
  const next = calls()[0]!;
  expect([next.request.address, next.startOffset()]).toEqual(["other:1", 7n]);
  next.end(UNAVAILABLE);
  ports.clock.advance(1000);
  const third = calls()[1]!;
  expect(third.startOffset()).toBe(7n);
  // one that a server sends again all the same
  third.answer(notificationBatch(7, puts("a")));
  third.answer(notificationBatch(9, puts("b")));
  expect(await take(reader, 2)).toEqual(["created a", "created b"]);
});

test("an empty shard is gone on with from its start", async () => {
  const { client, ports } = await openFakeClient();
  const opening = client.notifications();
  await settle();
  ports.transport.last(METHOD).answer(notificationBatch(-1));
  const reader = await opening;
  ports.transport.last(METHOD).end(UNAVAILABLE);
  ports.clock.advance(1000);
  expect(ports.transport.last(METHOD).startOffset()).toBe(-1n);
  ports.transport.last(METHOD).answer(notificationBatch(0, puts("a")));
  expect(await take(reader, 1)).toEqual(["created a"]);
});

test("a change of leader moves the stream before it breaks", async () => {
  const { first, assign, calls } = await subscribed();
  assign([{ ...ONE_SHARD[0]!, leader: "" }]);
  expect(first[0]!.cancelled).toBe(false);
  assign([{ ...ONE_SHARD[0]!, leader: "other:1" }]);
  expect(first[0]!.cancelled).toBe(true);
  expect([calls()[0]!.request.address, calls()[0]!.startOffset()]).toEqual(["other:1", 4n]);
});

test("the children of a shard that is split go on from its offset", async () => {
  const { reader, first, assign, calls } = await subscribed();
  first[0]!.answer(notificationBatch(8, puts("a")));
  assign(TWO_SHARDS.map((shard) => ({ ...shard, id: shard.id + 10 })));
  const [zero, one] = calls() as [FakeCall, FakeCall];
  expect([zero.startOffset(), one.startOffset()]).toEqual([8n, 8n]);
  one.answer(notificationBatch(9, puts("b")));
  zero.answer(notificationBatch(9, puts("c")));
  expect(await take(reader, 3)).toEqual(["created a", "created b", "created c"]);
});

test("what the server no longer has is told of, in its place, and counted", async () => {
  const { reader, first, ports, calls } = await subscribed();
  first[0]!.answer(notificationBatch(5, puts("a")));
  first[0]!.end(UNAVAILABLE);
  ports.clock.advance(1000);
  const next = calls()[0]!;
  next.head({ "varia-first-offset": "106" });
  next.answer(notificationBatch(106, puts("b")));
  expect(await take(reader, 3)).toEqual(["created a", "missed 100", "created b"]);
  expect(reader.missedWrites).toBe(100);
  next.end(UNAVAILABLE);
  ports.clock.advance(1000);
  calls()[1]!.head({ "varia-first-offset": "106" });
  expect(reader.missedWrites).toBe(100);
});

test("a reader that does not read holds all servers back, until it has read half", async () => {
  const { reader, first, ports, calls } = await subscribed(TWO_SHARDS);
  const [zero, one] = first as [FakeCall, FakeCall];
  const key = "k".repeat(1024 * 1024);
  let sent = 0;
  while (!zero.paused) zero.answer(notificationBatch(10 + sent++, puts(key)));
  expect(sent).toBe(Math.ceil(CLIENT_NOTIFICATIONS_BYTES_MAX / (1024 * 1024)));
  expect(one.paused).toBe(true);
  // paused, a stream that ends is not opened again
  one.end(UNAVAILABLE);
  ports.clock.advance(10_000);
  expect(calls()).toHaveLength(0);
  await take(reader, 1);
  expect(zero.paused).toBe(true);
  await take(reader, sent - 1);
  expect([zero.paused] as boolean[]).toEqual([false]);
  expect(calls().map(({ request }) => request.address)).toEqual(["one:1"]);
});

test("a refusal for good rejects once what came has been read, and then there is the end", async () => {
  const { reader, first } = await subscribed(TWO_SHARDS);
  first[0]!.answer(notificationBatch(5, puts("a")));
  first[1]!.end(plainStatus(GrpcCode.permissionDenied, "no"));
  expect(first[0]!.cancelled).toBe(true);
  expect(await take(reader, 1)).toEqual(["created a"]);
  expect(await errorOf(reader.next())).toBeInstanceOf(ServerError);
  expect((await reader.next()).done).toBe(true);
});

test("a namespace without notifications, and a server that says nothing, fail the subscription", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS, { requestTimeoutMs: 100 });
  const disabled = errorOf(client.notifications());
  await settle();
  ports.transport.last(METHOD).end(refusal(9, "NOTIFICATIONS_NOT_ENABLED"));
  expect(await disabled).toMatchObject({ code: "SERVER", reason: "NOTIFICATIONS_NOT_ENABLED" });
  const silent = errorOf(client.notifications());
  await settle();
  ports.transport.last(METHOD).end(UNAVAILABLE);
  ports.clock.advance(100);
  const error = await silent;
  expect(error).toBeInstanceOf(RequestTimeoutError);
  expect(error.message).toContain("gone");
  expect(ports.transport.of(METHOD).every((call, i) => call.cancelled || i % 2 === 1)).toBe(true);
});

test("leaving the loop, the signal and closing the client end it", async () => {
  const left = await subscribed();
  left.first[0]!.answer(notificationBatch(5, puts("a", "b")));
  for await (const item of left.reader) {
    expect(item.type).toBe("created");
    break;
  }
  expect(left.first[0]!.cancelled).toBe(true);
  expect((await left.reader.next()).done).toBe(true);

  const controller = new AbortController();
  const aborted = await subscribed(ONE_SHARD, { signal: controller.signal });
  const waiting = aborted.reader.next();
  controller.abort();
  expect((await waiting).done).toBe(true);
  expect(aborted.first[0]!.cancelled).toBe(true);
  await expect(aborted.client.notifications({ signal: controller.signal })).rejects.toThrow();

  const closed = await subscribed();
  const last = closed.reader.next();
  await closed.client.close();
  expect((await last).done).toBe(true);
  expect(await errorOf(closed.client.notifications())).toBeInstanceOf(ClientClosedError);
});

test("a client that is closed while it subscribes says so", async () => {
  const { client } = await openFakeClient();
  const opening = errorOf(client.notifications());
  await settle();
  await client.close();
  expect(await opening).toBeInstanceOf(ClientClosedError);
});

test("a message that is none ends it", async () => {
  const { reader, first } = await subscribed();
  first[0]!.answer(Uint8Array.of(0x22, 0xff));
  expect(await errorOf(reader.next())).toBeInstanceOf(ServerError);
});
