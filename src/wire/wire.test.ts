import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  ListRequestSchema,
  ReadRequestSchema,
  VersionSchema,
  WriteRequestSchema,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { LogEntryValueSchema } from "../gen/bytes/proto/storage_pb.ts";
import { Refusal } from "../model/refusal.ts";
import { decodeEntryValue, encodeOwnTermEntry, encodeWriteEntry } from "./log-entry.ts";
import { type Int64, Reader } from "./reader.ts";
import { decodeRangeRead, decodeRead, decodeWrite } from "./requests.ts";
import { int64Size, varintSize, Writer } from "./writer.ts";

const bytes = fc.uint8Array({ maxLength: 40 });
const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.integer().map(BigInt),
  fc.constantFrom(0n, -1n, 2n ** 53n - 1n, 2n ** 53n, -(2n ** 53n) + 1n, -(2n ** 53n), 2n ** 63n - 1n, -(2n ** 63n)),
);
const uint64 = int64.map((value) => BigInt.asUintN(64, value));
const put = fc.record(
  {
    key: bytes,
    value: bytes,
    expectedVersionId: int64,
    sessionId: int64,
    clientIdentity: fc.string({ unit: "grapheme", maxLength: 10 }),
    partitionKey: bytes,
    sequenceKeyDelta: fc.array(uint64, { maxLength: 3 }),
    secondaryIndexes: fc.array(fc.record({ indexName: bytes, secondaryKey: bytes }), { maxLength: 3 }),
    overrideVersionId: int64,
    overrideModificationsCount: int64,
  },
  { requiredKeys: [] },
);
const write = fc.record(
  {
    shard: int64,
    puts: fc.array(put, { maxLength: 4 }),
    deletes: fc.array(fc.record({ key: bytes, expectedVersionId: int64, partitionKey: bytes }, { requiredKeys: [] })),
    deleteRanges: fc.array(fc.record({ startInclusive: bytes, endExclusive: bytes })),
  },
  { requiredKeys: [] },
);

/** What a decoder of ours makes of a generated optional 64-bit field. */
function number(value: bigint | undefined): Int64 | undefined {
  if (value === undefined) return undefined;
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

test("a WriteRequest decodes as the generated schema decodes it", () => {
  fc.assert(
    fc.property(write, (init) => {
      const message = create(WriteRequestSchema, init as never);
      const decoded = decodeWrite(toBinary(WriteRequestSchema, message));
      expect(decoded.shard).toBe(number(message.shard));
      expect(decoded.puts.length).toBe(message.puts.length);
      decoded.puts.forEach((ours, index) => {
        const theirs = message.puts[index]!;
        expect(Buffer.from(ours.key)).toEqual(Buffer.from(theirs.key));
        expect(Buffer.from(ours.value)).toEqual(Buffer.from(theirs.value));
        expect(ours.expectedVersionId).toBe(number(theirs.expectedVersionId));
        expect(ours.sessionId).toBe(number(theirs.sessionId));
        expect(ours.overrideVersionId).toBe(number(theirs.overrideVersionId));
        expect(ours.overrideModificationsCount).toBe(number(theirs.overrideModificationsCount));
        const identity = ours.clientIdentity;
        expect(identity === undefined ? undefined : Buffer.from(identity).toString()).toBe(theirs.clientIdentity);
        expect(ours.partitionKey === undefined).toBe(theirs.partitionKey === undefined);
        expect(ours.sequenceKeyDeltas ?? []).toEqual(theirs.sequenceKeyDelta.map((delta) => number(delta)!));
        expect((ours.secondaryIndexes ?? []).map(({ name, key }) => [Buffer.from(name), Buffer.from(key)])).toEqual(
          theirs.secondaryIndexes.map((index) => [Buffer.from(index.indexName), Buffer.from(index.secondaryKey)]),
        );
      });
      expect(decoded.deletes.map((remove) => [Buffer.from(remove.key), remove.expectedVersionId])).toEqual(
        message.deletes.map((remove) => [Buffer.from(remove.key), number(remove.expectedVersionId)]),
      );
      expect(decoded.deleteRanges.map((r) => [Buffer.from(r.startInclusive), Buffer.from(r.endExclusive)])).toEqual(
        message.deleteRanges.map((r) => [Buffer.from(r.startInclusive), Buffer.from(r.endExclusive)]),
      );
    }),
  );
});

test("reads and range reads decode as the generated schemas decode them", () => {
  const get = fc.record({ key: bytes, includeValue: fc.boolean(), comparisonType: fc.integer({ min: 0, max: 4 }) });
  fc.assert(
    fc.property(fc.array(get), bytes, bytes, fc.boolean(), (gets, from, to, internal) => {
      const read = decodeRead(
        toBinary(ReadRequestSchema, create(ReadRequestSchema, { shard: 3n, gets: gets as never })),
      );
      expect(read.shard).toBe(3);
      expect(read.gets.map((g) => [Buffer.from(g.key), g.includeValue, g.comparison])).toEqual(
        gets.map((g) => [Buffer.from(g.key), g.includeValue, g.comparisonType]),
      );
      const request = create(ListRequestSchema, {
        shard: 1n,
        startInclusive: from,
        endExclusive: to,
        includeInternalKeys: internal,
      });
      const list = decodeRangeRead(toBinary(ListRequestSchema, request));
      expect([Buffer.from(list.startInclusive), Buffer.from(list.endExclusive), list.includeInternalKeys]).toEqual([
        Buffer.from(from),
        Buffer.from(to),
        internal,
      ]);
    }),
  );
});

test("any bytes are either decoded or refused with INVALID_ARGUMENT", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (message) => {
      for (const decode of [decodeWrite, decodeRead, decodeRangeRead, decodeEntryValue]) {
        try {
          decode(message);
        } catch (error) {
          expect(error).toBeInstanceOf(Refusal);
          expect((error as Refusal).reason).toBe("INVALID_ARGUMENT");
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test("a message cut anywhere inside a field is refused, never read past its end", () => {
  fc.assert(
    fc.property(write, fc.nat(), (init, seed) => {
      const message = toBinary(WriteRequestSchema, create(WriteRequestSchema, init as never));
      const cut = message.subarray(0, seed % (message.length + 1));
      let theirs = true;
      try {
        fromBinary(WriteRequestSchema, cut);
      } catch {
        theirs = false;
      }
      if (theirs) decodeWrite(cut);
      else expect(() => decodeWrite(cut)).toThrow(Refusal);
    }),
  );
});

test("64-bit integers survive writing and reading, and their size is what was written", () => {
  fc.assert(
    fc.property(int64, (value) => {
      const writer = new Writer(1);
      const mine = number(value)!;
      writer.int64(mine);
      expect(int64Size(mine)).toBe(writer.length);
      expect(new Reader(writer.finish()).int64()).toBe(mine);
      const fixed = new Writer(1);
      const unsigned = number(BigInt.asUintN(64, value))!;
      fixed.fixed64(unsigned);
      expect(new Reader(fixed.finish()).fixed64()).toBe(unsigned);
    }),
    { numRuns: 1000 },
  );
});

test("varint sizes hold at every power of two", () => {
  for (let bits = 0; bits < 53; bits++) {
    for (const value of [2 ** bits - 1, 2 ** bits]) {
      const writer = new Writer(1);
      writer.varint(value);
      expect(varintSize(value)).toBe(writer.length);
      expect(new Reader(writer.finish()).int64()).toBe(value);
    }
  }
});

test("what the writer makes is what the generated schema reads", () => {
  const writer = new Writer(1);
  writer.byte(0x08);
  writer.int64(-1);
  writer.byte(0x19);
  writer.fixed64(1_700_000_000_123);
  writer.field(0x32, new TextEncoder().encode("me"));
  expect(fromBinary(VersionSchema, writer.finish())).toMatchObject({
    versionId: -1n,
    createdTimestamp: 1_700_000_000_123n,
    clientIdentity: "me",
  });
});

test("a log entry carries the request byte for byte and is a LogEntryValue to the generated schema", () => {
  const request = toBinary(
    WriteRequestSchema,
    create(WriteRequestSchema, { shard: 1n, puts: [{ key: Uint8Array.of(0xff) }] }),
  );
  const value = encodeWriteEntry(request);
  const theirs = fromBinary(LogEntryValueSchema, value);
  expect(theirs.value.case).toBe("requests");
  const entry = decodeEntryValue(value);
  expect(entry.kind === "write" && entry.writes[0]!.puts[0]!.key).toEqual(Uint8Array.of(0xff));
  expect(encodeWriteEntry(new Uint8Array(0))).toEqual(Uint8Array.of(0x0a, 2, 0x0a, 0));
});

test("a leader's own-term entry asks for a checksum where all know it, else it writes nothing", () => {
  const control = encodeOwnTermEntry(["VARIA_SAFETY", "DB_CHECKSUM"]);
  const theirs = fromBinary(LogEntryValueSchema, control);
  expect(theirs.value.case === "controlRequest" && theirs.value.value.value.case).toBe("recordChecksum");
  expect(decodeEntryValue(control).kind).toBe("control");
  const plain = encodeOwnTermEntry(["VARIA_SAFETY"]);
  expect(fromBinary(LogEntryValueSchema, plain).value).toMatchObject({ case: "requests", value: { writes: [{}] } });
  expect(decodeEntryValue(plain)).toMatchObject({
    kind: "write",
    writes: [{ puts: [], deletes: [], deleteRanges: [] }],
  });
});
