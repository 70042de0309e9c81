import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { sequenceAnswer, sessionAnswer } from "../../test/harness/fake-transport.ts";
import { NotificationBatchSchema, type NotificationType } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { decodeNotificationBatch, decodeSequenceKey, decodeSessionId } from "./feed-answers.ts";
import { keyText, wireKey } from "./keys.ts";

const TYPES = ["created", "modified", "deleted", "rangeDeleted"] as const;

test("notification batches are read as the generated code writes them", () => {
  const key = fc.uint8Array({ maxLength: 60 });
  const entry = fc.record({
    key,
    type: fc.nat({ max: 3 }),
    versionId: fc.option(fc.maxSafeNat(), { nil: undefined }),
    keyRangeLast: fc.option(key, { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: -1 }), fc.array(entry), (shard, offset, entries) => {
      const notifications = entries.map(({ key: its, type, versionId, keyRangeLast }) => ({
        key: its,
        value: {
          type: type as NotificationType,
          ...(versionId === undefined ? {} : { versionId: BigInt(versionId) }),
          ...(keyRangeLast === undefined ? {} : { keyRangeLast }),
        },
      }));
      const batch = { shard: BigInt(shard), offset: BigInt(offset), timestamp: 5n, notifications };
      const read = decodeNotificationBatch(toBinary(NotificationBatchSchema, create(NotificationBatchSchema, batch)));
      expect([read.shard, read.offset]).toEqual([shard, offset]);
      expect(
        read.changes.map((it) => [it.type, it.key, it.keyBytes, it.versionId, it.keyRangeLast, it.keyRangeLastBytes]),
      ).toEqual(
        entries.map((it) => [
          TYPES[it.type]!,
          keyText(wireKey(it.key)),
          it.key,
          it.versionId,
          it.keyRangeLast === undefined ? undefined : keyText(wireKey(it.keyRangeLast)),
          it.keyRangeLast,
        ]),
      );
    }),
  );
});

test("a change of a kind that is not known is passed over", () => {
  const notifications = [{ key: Uint8Array.of(97), value: { type: 9 as NotificationType } }];
  const message = toBinary(NotificationBatchSchema, create(NotificationBatchSchema, { notifications }));
  expect(decodeNotificationBatch(message).changes).toEqual([]);
});

test("session ids and sequence keys are read", () => {
  expect(decodeSessionId(sessionAnswer(77))).toBe(77);
  expect(decodeSessionId(new Uint8Array(0))).toBe(0);
  expect(decodeSequenceKey(sequenceAnswer("a-1"))).toBe("a-1");
});

test("no bytes make the decoders do anything but answer or refuse", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const decode of [decodeNotificationBatch, decodeSequenceKey, decodeSessionId]) {
        try {
          decode(bytes);
        } catch (error) {
          expect((error as Error).name).toBe("Refusal");
        }
      }
    }),
    { numRuns: 2000 },
  );
});
