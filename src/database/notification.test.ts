import { expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { NotificationBatchSchema, NotificationType } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import { encodeBatch, encodeStartBatch, Notifications } from "./notification.ts";

const at = { term: 1, offset: 7, timestamp: 1234 };

test("a batch has one entry a key, the last operation on it, sorted by key bytes", () => {
  const notifications = new Notifications();
  notifications.put(utf8("b"), 4, true);
  notifications.put(utf8("a/z"), 2 ** 60, false);
  notifications.put(utf8("b"), 5, false);
  notifications.deleted(utf8("é"));
  notifications.rangeDeleted(utf8("c"), utf8("d"));
  notifications.rangeDeleted(utf8("c"), utf8("e"));
  const batch = fromBinary(NotificationBatchSchema, encodeBatch(3, at, notifications.take()));
  expect(batch).toMatchObject({ shard: 3n, offset: 7n, timestamp: 1234n });
  expect(
    batch.notifications.map(({ key, value }) => [Buffer.from(key!).toString(), value!.type, value!.versionId]),
  ).toEqual([
    ["a/z", NotificationType.KEY_MODIFIED, BigInt(2 ** 60)],
    ["b", NotificationType.KEY_MODIFIED, 5n],
    ["c", NotificationType.KEY_RANGE_DELETED, undefined],
    ["é", NotificationType.KEY_DELETED, undefined],
  ]);
  expect(Buffer.from(batch.notifications[2]!.value!.keyRangeLast!).toString()).toBe("e");
});

test("the first version id and an empty key are sent, not left out", () => {
  const notifications = new Notifications();
  notifications.put(new Uint8Array(0), 0, true);
  const [entry] = fromBinary(
    NotificationBatchSchema,
    encodeBatch(0, { ...at, offset: 0 }, notifications.take()),
  ).notifications;
  expect(entry!.key).toEqual(new Uint8Array(0));
  expect(entry!.value).toMatchObject({ type: NotificationType.KEY_CREATED, versionId: 0n });
});

test("an entry that changed nothing still has a batch, and a subscription starts with a bare one", () => {
  expect(fromBinary(NotificationBatchSchema, encodeBatch(0, at, new Notifications().take())).notifications).toEqual([]);
  expect(fromBinary(NotificationBatchSchema, encodeStartBatch(2, -1))).toMatchObject({
    shard: 2n,
    offset: -1n,
    timestamp: 0n,
  });
});
