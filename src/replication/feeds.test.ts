import { expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ModelKeyValue } from "../../test/sim/model-key-value.ts";
import { Notifications } from "../database/notification.ts";
import { NotificationBatchSchema } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import { keyOrder } from "../model/keys.ts";
import { NOTIFICATION_BATCHES_ENCODED_MAX, NOTIFICATION_BATCHES_PER_READ_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { systemClock } from "../ops/clock.ts";
import { NotificationFeed, SequenceFeed } from "./feeds.ts";

const prefix = utf8("a");
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A callback that counts its calls. */
function counter() {
  const counted = Object.assign(() => void counted.calls++, { calls: 0 });
  return counted;
}

test("a watcher of a sequence is told once, and only of its own prefix", () => {
  const feed = new SequenceFeed();
  const told = counter();
  feed.onAdvance(prefix, told);
  feed.advanced(utf8("ab"));
  feed.advanced(utf8(""));
  expect(told.calls).toBe(0);
  feed.advanced(prefix);
  feed.advanced(prefix);
  expect(told.calls).toBe(1);
});

test("a watcher that took its callback back is not told", () => {
  const feed = new SequenceFeed();
  const [gone, stays] = [counter(), counter()];
  const takeBack = feed.onAdvance(prefix, gone);
  feed.onAdvance(prefix, stays);
  takeBack();
  feed.advanced(prefix);
  expect([gone.calls, stays.calls]).toEqual([0, 1]);
});

test("taking back a callback that was told already, or twice, takes nothing from who came after", () => {
  const feed = new SequenceFeed();
  const [first, second] = [counter(), counter()];
  const takeFirstBack = feed.onAdvance(prefix, first);
  feed.advanced(prefix);
  feed.onAdvance(prefix, second);
  takeFirstBack();
  takeFirstBack();
  feed.advanced(prefix);
  expect([first.calls, second.calls]).toEqual([1, 1]);
  feed.onAdvance(prefix, second);
  takeFirstBack();
  feed.end();
  expect(second.calls).toBe(2);
});

test("the end of a feed of sequences is told to all, and to who comes later at once", () => {
  const feed = new SequenceFeed();
  const [a, b, late] = [counter(), counter(), counter()];
  feed.onAdvance(prefix, a);
  feed.onAdvance(utf8("b"), b);
  feed.end();
  expect([a.calls, b.calls]).toEqual([1, 1]);
  feed.onAdvance(prefix, late);
  expect(late.calls).toBe(1);
});

/** A feed behind which entries are committed, each with one created key. */
function notificationFeed() {
  const kv = new ModelKeyValue(keyOrder("hierarchical"));
  const feed = new NotificationFeed(kv, 3, systemClock);
  const commit = (key = "k") => {
    const notifications = new Notifications();
    notifications.put(utf8(key), 1, true);
    const offset = kv.applied.offset + 1;
    kv.commit({ offset, term: 1, versionId: 1 }, { timestamp: 1_000 + offset, entries: notifications.take() });
    feed.applied();
  };
  return { kv, feed, commit };
}

test("batches are read behind an offset, and those at the same place share one encoding", () => {
  const { feed, commit } = notificationFeed();
  for (let n = 0; n < 3; n++) commit(`k${n}`);
  const mine = feed.read(0);
  const theirs = feed.read(0);
  expect(mine.map(({ offset }) => offset)).toEqual([1, 2]);
  expect(theirs.map(({ bytes }) => bytes)).toEqual(mine.map(({ bytes }) => bytes));
  for (const [at, { bytes }] of theirs.entries()) expect(bytes).toBe(mine[at]!.bytes);
  expect(fromBinary(NotificationBatchSchema, mine[1]!.bytes)).toMatchObject({
    shard: 3n,
    offset: 2n,
    timestamp: 1_002n,
  });
  expect(feed.batchesRead).toBe(4);
  expect(feed.bytesRead).toBe(2 * (mine[0]!.bytes.length + mine[1]!.bytes.length));
  expect(feed.read(2)).toEqual([]);
});

test("batches long past are encoded anew, and are the same", () => {
  const { feed, commit } = notificationFeed();
  const count = NOTIFICATION_BATCHES_ENCODED_MAX + NOTIFICATION_BATCHES_PER_READ_MAX;
  for (let n = 0; n < count; n++) commit(`k${n}`);
  const [before] = feed.read(-1);
  for (let after = -1; after < count - 1; after += NOTIFICATION_BATCHES_PER_READ_MAX) feed.read(after);
  const [again] = feed.read(-1);
  expect(again!.bytes).not.toBe(before!.bytes);
  expect(again).toEqual(before!);
});

test("batches kept encoded hold a bounded number of bytes", () => {
  const { feed, commit } = notificationFeed();
  const key = "x".repeat(1024 * 1024);
  Bun.gc(true);
  const before = process.memoryUsage().arrayBuffers;
  const own = 64;
  for (let n = 0; n < own; n++) {
    commit(`${key}${n}`);
    feed.read(n - 1);
  }
  Bun.gc(true);
  // what the entries hold themselves is one MiB each: as much again would be all of them encoded
  expect((process.memoryUsage().arrayBuffers - before) / (own * key.length)).toBeLessThan(1.5);
});

test("who waits is told once a turn, however many entries were applied", async () => {
  const { feed, commit } = notificationFeed();
  const told = counter();
  feed.onMore(told);
  for (let n = 0; n < 10; n++) commit();
  expect(told.calls).toBe(0);
  await settled();
  expect(told.calls).toBe(1);
  commit();
  await settled();
  expect(told.calls).toBe(1);
  feed.onMore(told);
  commit();
  await settled();
  expect(told.calls).toBe(2);
});

test("a feed that ends tells who waits and who comes later, and keeps its first reason", async () => {
  const { feed, commit } = notificationFeed();
  const [waiting, late, gone] = [counter(), counter(), counter()];
  feed.onMore(waiting);
  feed.onMore(gone)();
  const reason = new Refusal("RESOURCE_UNAVAILABLE", "closing");
  feed.end(reason);
  feed.end(new Refusal("ABORTED", "later"));
  feed.onMore(late);
  commit();
  await settled();
  expect([waiting.calls, late.calls, gone.calls]).toEqual([1, 1, 0]);
  expect(feed.ended).toBe(reason);
});
