import { beforeEach, describe, expect, test } from "bun:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { ModelKeyValue } from "../../test/sim/model-key-value.ts";
import {
  GetResponseSchema,
  ListResponseSchema,
  RangeScanRequestSchema,
  RangeScanResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  Status,
  WriteRequestSchema,
  type WriteResponse,
  WriteResponseSchema,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import { keyOrder } from "../model/keys.ts";
import { FEATURES } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import { encodeOwnTermEntry, encodeWriteEntry } from "../wire/log-entry.ts";
import { decodeRangeRead, decodeRead, decodeWrite } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { Applier } from "./apply.ts";
import { bookkeepingRecords } from "./bookkeeping.ts";
import { answerGet, fillList, fillRangeScan, rangeOf, withBookkeeping } from "./read.ts";
import { validateRead, validateWrite } from "./validate.ts";

type WriteInit = MessageInitShape<typeof WriteRequestSchema>;

let kv: ModelKeyValue;
let applier: Applier;
let now = 1000;

beforeEach(() => {
  kv = new ModelKeyValue(keyOrder("hierarchical"));
  applier = applierOf(kv);
  now = 1000;
});

function applierOf(of: ModelKeyValue): Applier {
  return new Applier(of, { order: keyOrder("hierarchical"), notificationsEnabled: true });
}

function encode(init: WriteInit): Uint8Array {
  return toBinary(WriteRequestSchema, create(WriteRequestSchema, init));
}

function write(init: WriteInit): WriteResponse {
  const decoded = decodeWrite(encode(init));
  validateWrite(decoded);
  const at = { term: 1, offset: kv.applied.offset + 1, timestamp: now };
  const response = applier.applyWrite(decoded, at);
  if (response instanceof Refusal) throw response;
  return fromBinary(WriteResponseSchema, response);
}

const put = (key: string, value = "", options: object = {}) => ({ key: utf8(key), value: utf8(value), ...options });

function read(...gets: { key: string; comparisonType?: number; includeValue?: boolean }[]) {
  const request = create(ReadRequestSchema, {
    gets: gets.map((get) => ({ includeValue: true, ...get, key: utf8(get.key) })) as never,
  });
  const decoded = decodeRead(toBinary(ReadRequestSchema, request));
  validateRead(decoded);
  const reply = new Writer();
  const state = { kv, order: keyOrder("hierarchical"), bookkeeping };
  for (const get of decoded.gets) answerGet(state, get, reply);
  return fromBinary(ReadResponseSchema, reply.finish()).gets;
}

const bookkeeping = () => bookkeepingRecords(kv.applied, 3, { notificationsEnabled: true, keySorting: "hierarchical" });
const text = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes).toString());

function scan(start: string, end: string, includeInternalKeys = false): string[] {
  const request = create(RangeScanRequestSchema, {
    startInclusive: utf8(start),
    endExclusive: utf8(end),
    includeInternalKeys,
  });
  const range = rangeOf(decodeRangeRead(toBinary(RangeScanRequestSchema, request)));
  const stored = kv.cursor(range);
  const order = keyOrder("hierarchical");
  const cursor = includeInternalKeys ? withBookkeeping(stored, bookkeeping(), range, order) : stored;
  const reply = new Writer();
  fillRangeScan(cursor, reply);
  return fromBinary(RangeScanResponseSchema, reply.finish()).records.map((record) => text(record.key)!);
}

describe("put", () => {
  test("the first put of a key gets version 0, modifications 0 and both timestamps of the entry", () => {
    const { puts } = write({ puts: [put("a", "x")] });
    expect(puts[0]!.status).toBe(Status.OK);
    expect(puts[0]!.version).toMatchObject({
      versionId: 0n,
      modificationsCount: 0n,
      createdTimestamp: 1000n,
      modifiedTimestamp: 1000n,
    });
    expect(puts[0]!.key).toBeUndefined();
  });

  test("an overwrite counts on, keeps the creation time and replaces everything else", () => {
    write({ puts: [put("a", "x", { clientIdentity: "me", partitionKey: utf8("p") })] });
    now = 2000;
    const { puts } = write({ puts: [put("a", "y")] });
    expect(puts[0]!.version).toMatchObject({
      versionId: 1n,
      modificationsCount: 1n,
      createdTimestamp: 1000n,
      modifiedTimestamp: 2000n,
    });
    expect(puts[0]!.version!.clientIdentity).toBeUndefined();
    expect(text(read({ key: "a" })[0]!.value)).toBe("y");
  });

  test("puts of one request get consecutive version ids and see each other", () => {
    const { puts } = write({ puts: [put("a"), put("b"), put("a", "2", { expectedVersionId: 0n })] });
    expect(puts.map((p) => p.version?.versionId)).toEqual([0n, 1n, 2n]);
    expect(puts[2]!.version!.modificationsCount).toBe(1n);
  });

  test("an expected version must match, -1 means absent, and a failed put consumes no version", () => {
    const first = write({ puts: [put("a", "", { expectedVersionId: -1n }), put("a", "", { expectedVersionId: -1n })] });
    expect(first.puts.map((p) => p.status)).toEqual([Status.OK, Status.UNEXPECTED_VERSION_ID]);
    const second = write({
      puts: [
        put("b", "", { expectedVersionId: 0n }),
        put("a", "", { expectedVersionId: 7n }),
        put("a", "", { expectedVersionId: 0n }),
      ],
    });
    expect(second.puts.map((p) => p.status)).toEqual([
      Status.UNEXPECTED_VERSION_ID,
      Status.UNEXPECTED_VERSION_ID,
      Status.OK,
    ]);
    expect(second.puts[2]!.version!.versionId).toBe(1n);
  });

  test("a put into a session that does not exist fails, after the version check", () => {
    write({ puts: [put("a")] });
    const { puts } = write({
      puts: [put("a", "", { sessionId: 9n }), put("a", "", { sessionId: 9n, expectedVersionId: 5n })],
    });
    expect(puts.map((p) => p.status)).toEqual([Status.SESSION_DOES_NOT_EXIST, Status.UNEXPECTED_VERSION_ID]);
  });

  test("overrides are stored verbatim, also past 2^53, and leave the counter alone", () => {
    const big = 2n ** 63n - 1n;
    const { puts } = write({
      puts: [
        put("a", "", { overrideVersionId: big, overrideModificationsCount: -5n }),
        put("b"),
        put("a", "", { expectedVersionId: big }),
      ],
    });
    expect(puts[0]!.version).toMatchObject({ versionId: big, modificationsCount: -5n });
    expect(puts[1]!.version!.versionId).toBe(0n);
    expect(puts[2]).toMatchObject({ status: Status.OK, version: { versionId: 1n, modificationsCount: -4n } });
  });

  test("keys are bytes: not UTF-8, empty, and with NUL come back as they went in", () => {
    for (const key of [Uint8Array.of(0xff, 0x2f, 0x00), new Uint8Array(0), Uint8Array.of(0x80)]) {
      write({ puts: [{ key, value: utf8("v") }] });
      expect(kv.get(key)).toBeDefined();
    }
    expect(kv.rowCount).toBe(3);
  });
});

describe("delete", () => {
  test("statuses follow the table of the spec", () => {
    write({ puts: [put("a"), put("b"), put("c")] });
    const { deletes } = write({
      deletes: [
        { key: utf8("none") },
        { key: utf8("none"), expectedVersionId: -1n },
        { key: utf8("none"), expectedVersionId: 3n },
        { key: utf8("a"), expectedVersionId: -1n },
        { key: utf8("a"), expectedVersionId: 9n },
        { key: utf8("a"), expectedVersionId: 0n },
        { key: utf8("b") },
        { key: utf8("b") },
      ],
    });
    expect(deletes.map((d) => d.status)).toEqual([1, 1, 2, 2, 2, 0, 0, 1]);
    expect(kv.rowCount).toBe(1);
  });

  test("a put after a delete starts over", () => {
    write({ puts: [put("a")] });
    write({ puts: [put("a")], deletes: [{ key: utf8("a") }] });
    now = 5000;
    expect(write({ puts: [put("a")] }).puts[0]!.version).toMatchObject({
      versionId: 2n,
      modificationsCount: 0n,
      createdTimestamp: 5000n,
    });
  });
});

describe("delete range", () => {
  test("takes [start, end) in key order, after the puts and deletes of its request", () => {
    write({ puts: ["a", "b", "c", "a/1", "d"].map((key) => put(key)) });
    const { deleteRanges } = write({
      puts: [put("bb")],
      deleteRanges: [{ startInclusive: utf8("b"), endExclusive: utf8("d") }],
    });
    expect(deleteRanges.map((r) => r.status)).toEqual([Status.OK]);
    expect(scan("", "")).toEqual(["a", "d", "a/1"]);
  });

  test("an empty end reaches to the last user key and no further", () => {
    kv.put(utf8("__oxia/session/1"), utf8("row"));
    write({ puts: ["a", "b", "/x/y"].map((key) => put(key)) });
    write({ deleteRanges: [{ startInclusive: utf8("b"), endExclusive: utf8("") }] });
    expect(scan("", "")).toEqual(["a"]);
    expect(kv.get(utf8("__oxia/session/1"))).toBeDefined();
  });

  test("removes more keys than one step holds, and matches nothing when start is past end", () => {
    write({ puts: Array.from({ length: 3000 }, (_, i) => put(`k${i}`)) });
    write({ deleteRanges: [{ startInclusive: utf8("z"), endExclusive: utf8("a") }] });
    expect(kv.rowCount).toBe(3000);
    write({ deleteRanges: [{ startInclusive: utf8("k"), endExclusive: utf8("l") }] });
    expect(kv.rowCount).toBe(0);
  });
});

describe("validation", () => {
  const refused = (init: WriteInit) => {
    try {
      write(init);
    } catch (error) {
      return (error as Refusal).reason;
    }
    return "taken";
  };

  test("internal keys cannot be written, deleted or range-deleted", () => {
    expect(refused({ puts: [put("__oxia/term")] })).toBe("INVALID_ARGUMENT");
    expect(refused({ deletes: [{ key: utf8("__oxia/term") }] })).toBe("INVALID_ARGUMENT");
    expect(refused({ deleteRanges: [{ startInclusive: utf8("__oxia/"), endExclusive: utf8("z") }] })).toBe(
      "INVALID_ARGUMENT",
    );
    expect(refused({ puts: [put("__oxia")] })).toBe("taken");
  });

  test("a sequence put without partition key or with a first delta of zero is refused before it is logged", () => {
    expect(refused({ puts: [put("a", "", { sequenceKeyDelta: [1n] })] })).toBe("INVALID_ARGUMENT");
    expect(refused({ puts: [put("a", "", { sequenceKeyDelta: [0n], partitionKey: utf8("p") })] })).toBe(
      "INVALID_ARGUMENT",
    );
  });

  test("a comparison type that does not exist is refused", () => {
    expect(() => read({ key: "a", comparisonType: 99 })).toThrow(Refusal);
    expect(() => read({ key: "a", comparisonType: -1 })).toThrow("comparison_type -1");
  });
});

describe("get", () => {
  beforeEach(() => {
    write({ puts: ["a", "c", "e", "/x/1"].map((key) => put(key, `value of ${key}`)) });
    kv.put(utf8("__oxia/session/1"), Uint8Array.of(0x12, 0, 0x1a, 1, 0x73));
  });

  test("every comparison finds its neighbour, and the key is sent for all but EQUAL", () => {
    const [EQUAL, FLOOR, CEILING, LOWER, HIGHER] = [0, 1, 2, 3, 4];
    const found = (key: string, comparisonType: number) => text(read({ key, comparisonType })[0]!.key);
    expect(read({ key: "c", comparisonType: EQUAL! })[0]!.key).toBeUndefined();
    expect(["c", "d", "a", "0"].map((key) => found(key, FLOOR!))).toEqual(["c", "c", "a", undefined]);
    expect(["c", "d", "f"].map((key) => found(key, CEILING!))).toEqual(["c", "e", "/x/1"]);
    expect(["c", "d", "a"].map((key) => found(key, LOWER!))).toEqual(["a", "c", undefined]);
    expect(["c", "d", "e", "/x/1"].map((key) => found(key, HIGHER!))).toEqual(["e", "e", "/x/1", undefined]);
  });

  test("a key that is not found has a status and nothing else", () => {
    expect(read({ key: "b" })[0]).toMatchObject({ status: Status.KEY_NOT_FOUND });
    expect(read({ key: "b" })[0]!.version).toBeUndefined();
  });

  test("the value comes only when asked for and not empty", () => {
    write({ puts: [put("empty")] });
    expect(read({ key: "a", includeValue: false })[0]!.value).toBeUndefined();
    expect(read({ key: "empty" })[0]!.value).toBeUndefined();
    expect(text(read({ key: "a" })[0]!.value)).toBe("value of a");
  });

  test("internal keys are read by EQUAL and an exact FLOOR, and stepped over by everything else", () => {
    expect(text(read({ key: "__oxia/session/1" })[0]!.value)).toBe("s");
    expect(text(read({ key: "__oxia/session/1", comparisonType: 1 })[0]!.key)).toBe("__oxia/session/1");
    expect(text(read({ key: "__oxia/session/2", comparisonType: 1 })[0]!.key)).toBe("/x/1");
    expect(text(read({ key: "__oxia/session/1", comparisonType: 3 })[0]!.key)).toBe("/x/1");
    expect(read({ key: "__oxia/a", comparisonType: 2 })[0]!.status).toBe(Status.KEY_NOT_FOUND);
    expect(read({ key: "/x/1", comparisonType: 4 })[0]!.status).toBe(Status.KEY_NOT_FOUND);
  });

  test("bookkeeping keys are made from the state and carry version -1", () => {
    const [offset, version, term] = read(
      { key: "__oxia/commit-offset" },
      { key: "__oxia/last-version-id" },
      { key: "__oxia/term" },
    );
    expect([text(offset!.value), text(version!.value), text(term!.value)]).toEqual(["0", "3", "3"]);
    expect(term!.version!.versionId).toBe(-1n);
    expect(JSON.parse(text(read({ key: "__oxia/term-options" })[0]!.value)!)).toEqual({
      NotificationsEnabled: true,
      KeySorting: 2,
    });
  });
});

describe("range reads", () => {
  beforeEach(() => {
    write({ puts: ["a", "b", "c", "/x/1", "/x/2", "/y/1"].map((key) => put(key, `v${key}`)) });
    kv.put(utf8("__oxia/session/1"), Uint8Array.of(0x12, 0));
    kv.put(utf8("__oxia/m"), Uint8Array.of(0x12, 0));
  });

  test("bounds are start inclusive and end exclusive, empty ones open", () => {
    expect(scan("", "")).toEqual(["a", "b", "c", "/x/1", "/x/2", "/y/1"]);
    expect(scan("b", "c")).toEqual(["b"]);
    expect(scan("/x/", "/x//")).toEqual(["/x/1", "/x/2"]);
    expect(scan("c", "a")).toEqual([]);
    expect(scan("b", "__oxia/zzz")).toEqual(["b", "c", "/x/1", "/x/2", "/y/1"]);
  });

  test("internal keys come when asked for, bookkeeping ones in their place", () => {
    expect(scan("/y/", "", true)).toEqual([
      "/y/1",
      "__oxia/commit-offset",
      "__oxia/last-version-id",
      "__oxia/m",
      "__oxia/term",
      "__oxia/term-options",
      "__oxia/session/1",
    ]);
    expect(scan("__oxia/l", "__oxia/n", true)).toEqual(["__oxia/last-version-id", "__oxia/m"]);
    expect(scan("a", "c", true)).toEqual(["a", "b"]);
  });

  test("a scan reply is cut at 1,000 records and a list at 256 KiB of keys", () => {
    write({ puts: Array.from({ length: 1500 }, (_, i) => put(`k${i}`)) });
    const cursor = kv.cursor({ from: utf8("k"), to: utf8("l") });
    const sizes: number[] = [];
    for (let more = true; more; ) {
      const reply = new Writer();
      more = fillRangeScan(cursor, reply);
      sizes.push(fromBinary(RangeScanResponseSchema, reply.finish()).records.length);
    }
    expect(sizes).toEqual([1000, 500]);
    const long = "x".repeat(60_000);
    write({ puts: Array.from({ length: 9 }, (_, i) => put(`m${i}${long}`)) });
    const keys = kv.cursor({ from: utf8("m"), to: utf8("n") });
    const reply = new Writer();
    expect(fillList(keys, reply)).toBe(true);
    expect(fromBinary(ListResponseSchema, reply.finish()).keys.length).toBe(5);
  });

  test("a scanned record has key, version and value", () => {
    const reply = new Writer();
    fillRangeScan(kv.cursor({ from: utf8("a"), to: utf8("b") }), reply);
    const [record] = fromBinary(RangeScanResponseSchema, reply.finish()).records;
    expect(record).toMatchObject(create(GetResponseSchema, { key: utf8("a"), value: utf8("va") }));
    expect(record!.version!.versionId).toBe(0n);
  });
});

describe("log entries", () => {
  test("replaying the log gives the very state that leading gave", () => {
    const requests = [
      encode({ puts: [put("a", "1"), put("b", "2", { clientIdentity: "me" })] }),
      encode({ puts: [put("a", "3", { expectedVersionId: 9n })], deletes: [{ key: utf8("b") }] }),
      encode({
        puts: [put("c", "", { partitionKey: utf8("p") })],
        deleteRanges: [{ startInclusive: utf8("a"), endExclusive: utf8("b") }],
      }),
    ];
    const replica = new ModelKeyValue(keyOrder("hierarchical"));
    const replicaApplier = applierOf(replica);
    requests.forEach((request, offset) => {
      const timestamp = 1000 + offset;
      applier.applyWrite(decodeWrite(request), { term: 2, offset, timestamp });
      replicaApplier.applyEntry({ term: 2, offset, timestamp, value: encodeWriteEntry(request) });
    });
    expect(replica.stateHash).toBe(kv.stateHash);
    expect(replica.applied).toEqual(kv.applied);
    replicaApplier.applyEntry({ term: 3, offset: 3, timestamp: 1, value: encodeOwnTermEntry(FEATURES) });
    expect(replica.applied).toEqual({ offset: 3, term: 3, versionId: kv.applied.versionId });
    expect(replica.stateHash).toBe(kv.stateHash);
  });

  test("an entry out of order is a bug, not a change", () => {
    expect(() => applier.applyEntry({ term: 1, offset: 5, timestamp: 1, value: encodeOwnTermEntry(FEATURES) })).toThrow(
      "out of order",
    );
  });
});
