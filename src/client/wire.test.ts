import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  ListRequestSchema,
  ListResponseSchema,
  RangeScanResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  WriteRequestSchema,
  WriteResponseSchema,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import type { Int64 } from "../wire/reader.ts";
import { Writer } from "../wire/writer.ts";
import { decodeWriteAnswer, RecordDecoder, Status } from "./answers.ts";
import { keyBytes, keyText, wireKey } from "./keys.ts";
import { beginFrame, endFrame, rangeFrame, writeDelete, writeDeleteRange, writeGet, writePut } from "./requests.ts";

const key = fc.oneof(
  fc.string({ unit: "binary-ascii", maxLength: 200 }).map(wireKey),
  fc.uint8Array({ maxLength: 200 }).map(wireKey),
);
const int64 = fc.oneof(
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(normal),
  fc.constant(-1),
);
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const value = fc.uint8Array({ maxLength: 300 });

/** A number when safe, as the client has them. */
function normal(int: bigint): Int64 {
  return Number.isSafeInteger(Number(int)) ? Number(int) : int;
}

const big = (int: Int64 | undefined) => (int === undefined ? undefined : BigInt(int));
const raw = (it: string | Uint8Array | undefined) => (it === undefined ? undefined : keyBytes(it));

/** The message in a frame whose prefix says what follows. */
function unframed(frame: Uint8Array): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  expect([view.getUint8(0), view.getUint32(1)]).toEqual([0, frame.length - 5]);
  return frame.subarray(5);
}

test("write requests are what the generated code reads", () => {
  const put = fc.record({
    key,
    value,
    expectedVersionId: optional(int64),
    partitionKey: optional(key),
    overrideVersionId: optional(int64),
    overrideModificationsCount: optional(int64),
    extras: optional(
      fc.record({
        sessionId: optional(int64),
        clientIdentity: optional(fc.string({ unit: "grapheme" }).map(wireKey)),
        sequenceKeysDeltas: fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(normal), { maxLength: 5 }),
        secondaryIndexes: fc.array(fc.record({ index: key, key }), { maxLength: 3 }),
      }),
    ),
  });
  const remove = fc.record({ key, expectedVersionId: optional(int64), partitionKey: optional(key) });
  const range = fc.record({ start: key, end: key });
  fc.assert(
    fc.property(fc.array(put), fc.array(remove), fc.array(range), fc.nat(), (puts, deletes, ranges, shard) => {
      const writer = new Writer(8);
      beginFrame(writer, shard);
      for (const it of puts) writePut(writer, it);
      for (const it of deletes) writeDelete(writer, it.key, it.expectedVersionId, it.partitionKey);
      for (const it of ranges) writeDeleteRange(writer, it.start, it.end);
      const read = fromBinary(WriteRequestSchema, unframed(endFrame(writer)));
      expect(read.shard).toBe(BigInt(shard));
      expect(read.puts.map((it) => [it.key, it.value, it.expectedVersionId, it.partitionKey])).toEqual(
        puts.map((it) => [raw(it.key)!, it.value, big(it.expectedVersionId), raw(it.partitionKey)]),
      );
      expect(read.puts.map((it) => [it.overrideVersionId, it.overrideModificationsCount])).toEqual(
        puts.map((it) => [big(it.overrideVersionId), big(it.overrideModificationsCount)]),
      );
      expect(read.puts.map((it) => [it.sessionId, it.clientIdentity, it.sequenceKeyDelta])).toEqual(
        puts.map(({ extras }) => [
          big(extras?.sessionId),
          extras?.clientIdentity === undefined ? undefined : keyText(extras.clientIdentity),
          (extras?.sequenceKeysDeltas ?? []).map(BigInt),
        ]),
      );
      expect(read.puts.map((it) => it.secondaryIndexes.map((entry) => [entry.indexName, entry.secondaryKey]))).toEqual(
        puts.map(({ extras }) => (extras?.secondaryIndexes ?? []).map((entry) => [raw(entry.index)!, raw(entry.key)!])),
      );
      expect(read.deletes.map((it) => [it.key, it.expectedVersionId, it.partitionKey])).toEqual(
        deletes.map((it) => [raw(it.key)!, big(it.expectedVersionId), raw(it.partitionKey)]),
      );
      expect(read.deleteRanges.map((it) => [it.startInclusive, it.endExclusive])).toEqual(
        ranges.map((it) => [raw(it.start)!, raw(it.end)!]),
      );
    }),
  );
});

test("read and range requests are what the generated code reads", () => {
  const get = fc.record({ key, includeValue: fc.boolean(), comparison: fc.nat({ max: 4 }), useIndex: optional(key) });
  fc.assert(
    fc.property(
      fc.array(get),
      fc.nat(),
      key,
      key,
      fc.boolean(),
      optional(key),
      (gets, shard, start, end, internal, useIndex) => {
        const writer = new Writer(8);
        beginFrame(writer, shard);
        for (const it of gets) writeGet(writer, it.key, it.includeValue, it.comparison, it.useIndex);
        const read = fromBinary(ReadRequestSchema, unframed(endFrame(writer)));
        expect(
          read.gets.map((it) => [it.key, it.includeValue, it.comparisonType as number, it.secondaryIndexName]),
        ).toEqual(gets.map((it) => [raw(it.key)!, it.includeValue, it.comparison, raw(it.useIndex)]));
        const range = { shard, startInclusive: start, endExclusive: end, includeInternalKeys: internal, useIndex };
        const list = fromBinary(ListRequestSchema, unframed(rangeFrame(new Writer(), range)));
        expect([
          list.shard,
          list.startInclusive,
          list.endExclusive,
          list.includeInternalKeys,
          list.secondaryIndexName,
        ]).toEqual([BigInt(shard), raw(start)!, raw(end)!, internal, raw(useIndex)]);
      },
    ),
  );
});

const versions = fc.record({
  versionId: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  modificationsCount: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  createdTimestamp: fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }),
  modifiedTimestamp: fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }),
  sessionId: optional(fc.bigInt({ min: 0n, max: 2n ** 62n })),
  clientIdentity: optional(fc.string({ unit: "grapheme" })),
});
type WireVersion = typeof versions extends fc.Arbitrary<infer V> ? V : never;

function versionOf(it: WireVersion) {
  return {
    versionId: normal(it.versionId),
    modificationsCount: normal(it.modificationsCount),
    createdTimestamp: Number(it.createdTimestamp),
    modifiedTimestamp: Number(it.modifiedTimestamp),
    sessionId: it.sessionId === undefined ? undefined : normal(it.sessionId),
    clientIdentity: it.clientIdentity,
  };
}

/** The generated code knows no properties that are undefined. */
function present<T extends object>(it: T): T {
  return Object.fromEntries(Object.entries(it).filter(([, field]) => field !== undefined)) as T;
}

test("write answers are read as the generated code writes them", () => {
  const status = fc.constantFrom(0, 1, 2, 3);
  const put = fc.record({ status, version: optional(versions), key: optional(fc.uint8Array({ maxLength: 40 })) });
  fc.assert(
    fc.property(fc.array(put), fc.array(status), fc.array(status), (puts, deletes, ranges) => {
      const response = create(WriteResponseSchema, {
        puts: puts.map((it) => present({ ...it, version: it.version && present(it.version) })),
        deletes: deletes.map((it) => ({ status: it })),
        deleteRanges: ranges.map((it) => ({ status: it })),
      });
      const read = decodeWriteAnswer(toBinary(WriteResponseSchema, response));
      expect(read.puts).toEqual(
        puts.map((it) => ({
          status: it.status,
          version: it.version && versionOf(it.version),
          key: it.key && wireKey(it.key),
        })) as typeof read.puts,
      );
      expect([read.deletes, read.deleteRanges]).toEqual([deletes, ranges]);
    }),
  );
});

test("records are read as the generated code writes them, and the asked key stands in for an absent one", () => {
  const record = fc.record({
    version: versions,
    value: optional(value),
    key: optional(fc.uint8Array({ maxLength: 40 })),
    secondaryIndexKey: optional(fc.string({ unit: "grapheme", maxLength: 40 })),
  });
  fc.assert(
    fc.property(fc.array(record), (records) => {
      const gets = records.map((it) =>
        present({
          ...it,
          version: present(it.version),
          secondaryIndexKey: it.secondaryIndexKey === undefined ? undefined : utf8(it.secondaryIndexKey),
        }),
      );
      const message = toBinary(ReadResponseSchema, create(ReadResponseSchema, { gets }));
      const read = new RecordDecoder(message).gets((index) => `asked ${index}`);
      expect(read.map(({ record: it }) => [it!.keyBytes, it!.value, it!.version, it!.secondaryIndexKey])).toEqual(
        records.map((it, i) => [
          it.key ?? utf8(`asked ${i}`),
          it.value ?? new Uint8Array(0),
          versionOf(it.version),
          it.secondaryIndexKey,
        ]),
      );
      // a scan's records all have keys
      const scanned = gets.filter((it) => it.key !== undefined);
      const scan = toBinary(RangeScanResponseSchema, create(RangeScanResponseSchema, { records: scanned }));
      expect(new RecordDecoder(scan).records().map(({ keyBytes: it }) => it)).toEqual(scanned.map((it) => it.key!));
      const list = toBinary(ListResponseSchema, create(ListResponseSchema, { keys: scanned.map((it) => it.key!) }));
      expect(new RecordDecoder(list).keys().map(keyBytes)).toEqual(scanned.map((it) => it.key!));
    }),
  );
});

test("a record that an index names and that is gone is passed over", () => {
  const message = toBinary(
    RangeScanResponseSchema,
    create(RangeScanResponseSchema, { records: [{ status: Status.keyNotFound, key: utf8("gone") }] }),
  );
  expect(new RecordDecoder(message).records()).toEqual([]);
});

test("values do not keep the message that they came in", () => {
  const message = toBinary(
    ReadResponseSchema,
    create(ReadResponseSchema, { gets: [{ version: { versionId: 1n }, value: utf8("v") }] }),
  );
  const { record } = new RecordDecoder(message).gets(() => "k")[0]!;
  expect(record!.value.buffer.byteLength).toBe(1);
});

test("no bytes make the decoders do anything but answer or refuse", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const decode of [
        () => decodeWriteAnswer(bytes),
        () => new RecordDecoder(bytes).gets(() => ""),
        () => new RecordDecoder(bytes).records(),
        () => new RecordDecoder(bytes).keys(),
      ]) {
        try {
          decode();
        } catch (error) {
          expect((error as Error).name).toBe("Refusal");
        }
      }
    }),
    { numRuns: 3000 },
  );
});
