import { Database } from "bun:sqlite";
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { put, range } from "../../test/harness/applied-state.ts";
import { bytesOf, keyOf, SERVICE } from "../../test/harness/client.ts";
import { Code, type Connection, frame } from "../../test/harness/grpc.ts";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { FrameType, http2Frame, RawConnection } from "../../test/harness/raw-http2.ts";
import { until } from "../../test/harness/rpc-server.ts";
import {
  createSession,
  notifications,
  type ShardServer,
  type ShardServerOptions,
  startShards,
  write,
  written,
} from "../../test/harness/shard-server.ts";
import {
  type NotificationBatch,
  NotificationBatchSchema,
  NotificationsRequestSchema,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { STREAM_UNSENT_BYTES_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { trimNotifications } from "../storage/key-value/notification-store.ts";

let server: ShardServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function start(options: ShardServerOptions = {}): Promise<Connection> {
  server = await startShards(options);
  return server.connect();
}

const feed = () => server!.shards[0]!.notifications;
const applied = () => server!.shards[0]!.kv.applied.offset;
const offsets = (batches: readonly NotificationBatch[]) => batches.map(({ offset }) => Number(offset));
const keys = (batches: readonly NotificationBatch[]) =>
  batches.flatMap((batch) => batch.notifications.map(({ key }) => keyOf(key!)));

/** Puts `count` keys, one after the other, an entry each. */
async function putMany(connection: Connection, count: number, name = "k"): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, n) => written(connection, { puts: [put(`${name}${n}`)] })));
}

describe("without a start", () => {
  test("the first message says where the shard stands, and everything after it follows", async () => {
    const connection = await start();
    await putMany(connection, 3, "before");
    const stand = applied();
    const subscription = notifications(connection);
    await until(() => subscription.received.length === 1, "the first message");
    expect(subscription.received[0]).toMatchObject({
      shard: 0n,
      offset: BigInt(stand),
      timestamp: 0n,
      notifications: [],
    });
    await written(connection, { puts: [put("a")] });
    await written(connection, { deletes: [{ key: bytesOf("a") }], deleteRanges: [range("b", "c")] });
    await until(() => subscription.received.length === 3, "what follows");
    expect(offsets(subscription.received)).toEqual([stand, stand + 1, stand + 2]);
    expect(keys(subscription.received)).toEqual(["a", "a", "b"]);
    expect(subscription.received[1]!.timestamp).toBeGreaterThan(0n);
  });

  test("entries that changed nothing are told too: failed puts, sessions", async () => {
    const connection = await start();
    const subscription = notifications(connection);
    await until(() => subscription.received.length === 1, "the first message");
    await written(connection, { puts: [put("a", { expectedVersionId: 5n })] });
    await createSession(connection, 10_000);
    await until(() => subscription.received.length === 3, "both");
    expect(keys(subscription.received)).toEqual([]);
  });
});

describe("with a start", () => {
  test.each(["-1", "-5", `${-(2n ** 63n)}`])(
    "%s gives all that there is, and no first message of its own",
    async (text) => {
      const from = BigInt(text);
      const connection = await start();
      await putMany(connection, 250);
      const subscription = notifications(connection, from);
      await until(() => subscription.received.length === 250, "all batches");
      // the leader's own entry, offset 0, told nothing
      expect(offsets(subscription.received)).toEqual(Array.from({ length: 250 }, (_, at) => at + 1));
      expect(subscription.headers["varia-first-offset"]).toBeUndefined();
      expect(feed().skipped).toBe(0);
    },
  );

  test("it is exclusive", async () => {
    const connection = await start();
    await putMany(connection, 5);
    const subscription = notifications(connection, 3n);
    await until(() => subscription.received.length === 2, "two batches");
    expect(offsets(subscription.received)).toEqual([4, 5]);
  });

  test("beyond the end it waits, and delivers from there on", async () => {
    const connection = await start();
    const subscription = notifications(connection, 4n);
    const other = notifications(connection, 0n);
    await until(() => feed().subscribers === 2, "both subscribers");
    await putMany(connection, 6);
    await until(() => other.received.length === 6 && subscription.received.length === 2, "what is behind the start");
    expect(offsets(subscription.received)).toEqual([5, 6]);
  });

  test("at the largest offset it waits for ever, and can be cancelled", async () => {
    const connection = await start();
    const subscription = notifications(connection, 2n ** 63n - 1n);
    await until(() => feed().subscribers === 1, "the subscriber");
    await putMany(connection, 3);
    const other = notifications(connection, 0n);
    await until(() => other.received.length === 3, "the other");
    expect(subscription.received).toEqual([]);
    subscription.call.cancel();
    await until(() => feed().subscribers === 1, "its end");
  });

  test("in what was trimmed away it begins with the rest, says so in a header and counts it", async () => {
    const clock = new ManualClock();
    let connection = await start({ clock, notificationsRetentionMs: 10_000 });
    await putMany(connection, 5);
    const { kv } = server!.shards[0]!;
    clock.advance(20_000);
    await until(() => {
      clock.advance(1_000);
      return kv.notificationsTrimmed === 5;
    }, "the trimming");
    await putMany(connection, 2, "later");
    const check = async () => {
      const subscription = notifications(connection, 1n);
      await until(() => subscription.received.length >= 2, "the rest");
      expect(offsets(subscription.received).slice(0, 2)).toEqual([6, 7]);
      expect(subscription.headers["varia-first-offset"]).toBe("6");
      expect(feed().skipped).toBe(1);
      const whole = notifications(connection, 5n);
      await until(() => whole.received.length >= 2, "the rest");
      expect(whole.headers["varia-first-offset"]).toBeUndefined();
      expect(feed().skipped).toBe(1);
    };
    await check();
    server = await server!.restart();
    connection = await server.connect();
    await check();
  });

  test("what is trimmed while a subscriber is held up ends its stream: it is told of the gap when it asks again", async () => {
    const clock = new ManualClock();
    const connection = await start({ clock, notificationsRetentionMs: 10_000 });
    const [shard] = server!.shards;
    const { promise: goOn, resolve: release } = Promise.withResolvers<void>();
    const held = spyOn(shard!, "nextTurn").mockImplementationOnce(() => goOn);
    await putMany(connection, 2);
    const subscription = notifications(connection, 0n);
    await until(() => subscription.received.length === 2 && held.mock.calls.length === 1, "the first batches");
    await putMany(connection, 3, "meanwhile");
    await until(() => {
      clock.advance(20_000);
      return shard!.kv.notificationsTrimmed === 5;
    }, "the trimming");
    await putMany(connection, 1, "later");
    release();
    expect(await subscription.ended).toMatchObject({ code: Code.UNAVAILABLE, reason: "RESOURCE_UNAVAILABLE" });
    expect(offsets(subscription.received)).toEqual([1, 2]);
    const again = notifications(connection, 2n);
    await until(() => again.received.length === 1, "the rest");
    expect([offsets(again.received), again.headers["varia-first-offset"]]).toEqual([[6], "6"]);
  });

  test("what is removed from the file without the leader having heard of it yet ends the stream too", async () => {
    const connection = await start();
    const [shard] = server!.shards;
    await putMany(connection, 4);
    const { kv } = shard!;
    const path = (kv as unknown as { readonly path: string }).path;
    await kv.flush();
    const read = kv.notifications.bind(kv);
    const trimming = spyOn(kv, "notifications").mockImplementationOnce((after) => {
      using database = new Database(path);
      trimNotifications(database, Number.MAX_SAFE_INTEGER, 3);
      return read(after);
    });
    const subscription = notifications(connection, 0n);
    expect(await subscription.ended).toMatchObject({ code: Code.UNAVAILABLE, reason: "RESOURCE_UNAVAILABLE" });
    expect([trimming.mock.calls.length, subscription.received]).toEqual([1, []]);
    const again = notifications(connection, 0n);
    await until(() => again.received.length > 0, "the rest");
    expect([offsets(again.received), again.headers["varia-first-offset"]]).toEqual([[4], "4"]);
  });

  test("batches survive a restart, with gaps where leaders began", async () => {
    let connection = await start();
    await putMany(connection, 3);
    server = await server!.restart();
    connection = await server.connect();
    await putMany(connection, 2);
    const subscription = notifications(connection, -1n);
    await until(() => subscription.received.length === 5, "all batches");
    expect(offsets(subscription.received)).toEqual([1, 2, 3, 5, 6]);
  });
});

describe("refusals and ends", () => {
  test("a namespace without notifications", async () => {
    const connection = await start({ notificationsEnabled: false });
    for (const from of [undefined, -1n, 5n]) {
      const outcome = await notifications(connection, from).ended;
      expect(outcome).toMatchObject({ code: Code.FAILED_PRECONDITION, reason: "NOTIFICATIONS_NOT_ENABLED" });
      expect(outcome.message).toBe("oxia: notifications not enabled on namespace");
    }
    expect(feed().subscribers).toBe(0);
  });

  test("a shard that is not here", async () => {
    const connection = await start();
    for (const shard of [1n, -1n, 2n ** 62n]) {
      expect(await notifications(connection, undefined, shard).ended).toMatchObject({
        code: Code.ABORTED,
        reason: "NODE_IS_NOT_LEADER",
      });
    }
  });

  test("at shutdown streams that wait end with RESOURCE_UNAVAILABLE, after all that was told", async () => {
    const connection = await start();
    const subscriptions = [notifications(connection), notifications(connection, -1n), notifications(connection, 100n)];
    await until(() => feed().subscribers === 3, "the subscribers");
    await putMany(connection, 3);
    server!.api.close(new Refusal("RESOURCE_UNAVAILABLE", "the server is shutting down"));
    for (const { ended } of subscriptions) {
      expect(await ended).toMatchObject({ code: Code.UNAVAILABLE, reason: "RESOURCE_UNAVAILABLE", lost: false });
    }
    expect(subscriptions.map(({ received }) => received.length)).toEqual([4, 3, 0]);
    expect(feed().subscribers).toBe(0);
    // whoever comes now is told the same
    expect(await notifications(connection).ended).toMatchObject({
      code: Code.UNAVAILABLE,
      reason: "RESOURCE_UNAVAILABLE",
    });
  });

  test("subscribers that cancel or lose their connection leave nothing behind", async () => {
    const connection = await start();
    const other = await server!.connect();
    const cancelled = Array.from({ length: 50 }, () => notifications(connection));
    for (let n = 0; n < 50; n++) notifications(other, BigInt(n));
    await until(() => feed().subscribers === 100, "the subscribers");
    for (const { call } of cancelled) call.cancel();
    await until(() => feed().subscribers === 50, "the ends of those that cancelled");
    await other.close();
    await until(() => feed().subscribers === 0, "the ends of the others");
    await putMany(connection, 3);
    expect(feed().batchesRead).toBe(0);
  });

  test("a write that fails as a whole is told as an entry that changed nothing", async () => {
    const connection = await start();
    const subscription = notifications(connection, 0n);
    const sequence = (...deltas: bigint[]) => put("s", { sequenceKeyDelta: deltas, partitionKey: bytesOf("p") });
    await written(connection, { puts: [sequence(1n, 1n)] });
    expect((await write(connection, { puts: [put("a"), sequence(1n)] })).code).toBe(Code.INVALID_ARGUMENT);
    await until(() => subscription.received.length === 2, "both entries");
    expect(subscription.received[1]!.notifications).toEqual([]);
  });
});

test("1,000 subscribers of one shard all get the same", async () => {
  const connection = await start();
  const connections = await Promise.all(Array.from({ length: 4 }, () => server!.connect()));
  const subscriptions = connections.flatMap((each) => Array.from({ length: 250 }, () => notifications(each)));
  await until(() => subscriptions.every(({ received }) => received.length === 1), "the first messages");
  expect(feed().subscribers).toBe(1_000);
  await putMany(connection, 5);
  await until(() => subscriptions.every(({ received }) => received.length === 6), "the batches");
  for (const { received } of subscriptions) expect(received).toEqual(subscriptions[0]!.received);
  expect(feed().batchesRead).toBe(5_000);
  for (const each of connections) await each.close();
  await until(() => feed().subscribers === 0, "their ends");
}, 60_000);

/** Collects the gRPC messages that come in DATA frames on a raw connection. */
function collect(raw: RawConnection): { readonly batches: NotificationBatch[] } {
  const batches: NotificationBatch[] = [];
  let bytes = Buffer.alloc(0);
  let body = Buffer.alloc(0);
  raw.socket.on("data", (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const length = bytes.readUIntBE(0, 3);
      if (bytes[3] === FrameType.DATA) body = Buffer.concat([body, bytes.subarray(9, 9 + length)]);
      bytes = bytes.subarray(9 + length);
    }
    while (body.length >= 5 && body.length >= 5 + body.readUInt32BE(1)) {
      const length = body.readUInt32BE(1);
      batches.push(fromBinary(NotificationBatchSchema, body.subarray(5, 5 + length)));
      body = body.subarray(5 + length);
    }
  });
  return { batches };
}

test("a subscriber that does not read costs a bounded amount of memory, and misses nothing once it reads", async () => {
  const connection = await start();
  const raw = await RawConnection.open(server!.address);
  const { batches } = collect(raw);
  raw.greet();
  const init = { shard: 0n, startOffsetExclusive: 0n };
  const request = toBinary(NotificationsRequestSchema, create(NotificationsRequestSchema, init));
  const stream = raw.call(`${SERVICE}/GetNotifications`, frame(request));
  await until(() => feed().subscribers === 1, "the slow subscriber");
  const long = "x".repeat(10_000);
  await putMany(connection, 1_500, long);
  // another one reads all of it meanwhile
  const fast = notifications(connection, 0n);
  await until(() => fast.received.length === 1_500, "the fast subscriber");
  const all = fast.received.reduce((sum, { notifications: [entry] }) => sum + entry!.key!.length, 0);
  expect(all).toBeGreaterThan(15_000_000);
  const readBySlow = feed().bytesRead - all;
  expect(readBySlow).toBeLessThan(2 * STREAM_UNSENT_BYTES_MAX + 1024 * 1024);
  expect(batches.length).toBeLessThan(10);
  const window = Buffer.alloc(4);
  window.writeUInt32BE(100_000_000);
  for (const widened of [0, stream]) raw.send(http2Frame(FrameType.WINDOW_UPDATE, 0, widened, window));
  await until(() => batches.length === 1_500, "the rest", 30_000);
  expect(batches).toEqual(fast.received);
  raw.close();
  await until(() => feed().subscribers === 1, "its end");
}, 60_000);
