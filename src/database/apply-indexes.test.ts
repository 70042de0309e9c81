import { describe, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AppliedState, index, put, range } from "../../test/harness/applied-state.ts";
import { bytesOf, keyOf } from "../../test/harness/client.ts";
import {
  KeyComparisonType,
  ListRequestSchema,
  ListResponseSchema,
  RangeScanResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  Status,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { type KeySorting, keyOrder } from "../model/keys.ts";
import { decodeRangeRead, decodeRead } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { answerGet, fillIndexList, fillIndexScan } from "./read.ts";
import { indexRange } from "./secondary-index.ts";

const { EQUAL, FLOOR, CEILING, LOWER, HIGHER } = KeyComparisonType;
const sortings: KeySorting[] = ["hierarchical", "natural"];
const indexed = (key: string, ...indexes: [name: string, key: string][]) =>
  put(key, {
    value: bytesOf(`value of ${key}`),
    secondaryIndexes: indexes.map(([name, secondary]) => index(name, secondary)),
  });
const entries = (state: AppliedState) => state.keys("__oxia/idx/").length;

/** A list and a range scan over an index, which must agree. */
async function list(state: AppliedState, name: string, from = "", to = ""): Promise<string[]> {
  const order = keyOrder(state.sorting);
  const request = create(ListRequestSchema, {
    startInclusive: bytesOf(from),
    endExclusive: bytesOf(to),
    secondaryIndexName: bytesOf(name),
  });
  const { secondaryIndexName, startInclusive, endExclusive } = decodeRangeRead(toBinary(ListRequestSchema, request));
  const query = indexRange(order, { name: secondaryIndexName!, startInclusive, endExclusive });
  const snapshot = await state.kv.snapshot();
  const read = { order, name: secondaryIndexName!, snapshot };
  const [keys, records] = [new Writer(), new Writer()];
  fillIndexList(read, snapshot.cursor(query), keys);
  fillIndexScan(read, snapshot.cursor(query), records);
  const listed = fromBinary(ListResponseSchema, keys.finish()).keys.map(keyOf);
  const scanned = fromBinary(RangeScanResponseSchema, records.finish()).records;
  expect(scanned.map(({ key }) => keyOf(key!))).toEqual(listed);
  for (const { status, value, key } of scanned) {
    expect(status).toBe(Status.OK);
    expect(keyOf(value!)).toBe(`value of ${keyOf(key!)}`);
  }
  return listed;
}

/** What a get over an index finds: `secondary→primary`. */
function get(state: AppliedState, name: string, key: string, comparisonType: KeyComparisonType): string {
  const gets = [{ key: bytesOf(key), comparisonType, secondaryIndexName: bytesOf(name), includeValue: true }];
  const { gets: decoded } = decodeRead(toBinary(ReadRequestSchema, create(ReadRequestSchema, { gets })));
  const reply = new Writer();
  answerGet({ kv: state.kv, order: keyOrder(state.sorting), bookkeeping: () => [] }, decoded[0]!, reply);
  const [found] = fromBinary(ReadResponseSchema, reply.finish()).gets;
  if (found!.status === Status.KEY_NOT_FOUND) return "nothing";
  return `${keyOf(found!.secondaryIndexKey!)}→${keyOf(found!.key!)}`;
}

describe.each(sortings)("in %s order", (sorting) => {
  test("a put replaces the record's entries, and one without any takes them away", async () => {
    const state = new AppliedState(sorting);
    state.put(indexed("p", ["i", "1"], ["i", "2"], ["j", "1"]));
    state.put(indexed("p", ["i", "2"], ["i", "3"]));
    expect(await list(state, "i")).toEqual(["p", "p"]);
    expect(await list(state, "i", "1", "2")).toEqual([]);
    expect(await list(state, "j")).toEqual([]);
    state.put(indexed("p"));
    expect(state.keys()).toEqual(["p"]);
  });

  test("entries named twice in one record are one", async () => {
    const state = new AppliedState(sorting);
    state.put(indexed("p", ["i", "1"], ["i", "1"]));
    expect(await list(state, "i")).toEqual(["p"]);
    state.put(indexed("p", ["i", "1"]));
    expect(await list(state, "i")).toEqual(["p"]);
    state.delete("p");
    expect(state.keys()).toEqual([]);
  });

  test("records with the same secondary key are all listed, by primary key", async () => {
    const state = new AppliedState(sorting);
    state.put(indexed("c", ["i", "s"]), indexed("a", ["i", "s"]), indexed("b", ["i", "s"], ["i", "t"]));
    expect(await list(state, "i")).toEqual(["a", "b", "c", "b"]);
  });

  test("delete, delete-range and a failed put: entries are those of the records", async () => {
    const state = new AppliedState(sorting);
    state.put(indexed("a", ["i", "1"]), indexed("b", ["i", "2"]), indexed("c", ["i", "3"]));
    state.put({ ...indexed("c", ["i", "9"]), expectedVersionId: 77n });
    state.delete("a");
    state.write({ deletes: [{ key: bytesOf("b"), expectedVersionId: 77n }] });
    expect(await list(state, "i")).toEqual(["b", "c"]);
    state.write({ deleteRanges: [range("b", "c")] });
    expect(await list(state, "i")).toEqual(["c"]);
    expect(entries(state)).toBe(1);
  });

  test("an index keeps to itself, whatever its name and whatever the others' are", async () => {
    const names = ["", "/", "//", "a", "a/", "a/b", "b", "\x01", "\x00", "\xff", "%", "%2F", "idx", ".", "~"];
    const state = new AppliedState(sorting);
    state.startSession();
    state.put(...names.map((name) => indexed(`in ${name}`, [name, "s"], [name, ""], [name, "x/y"])));
    for (const name of names) {
      const own = [`in ${name}`, `in ${name}`, `in ${name}`];
      expect([name, await list(state, name)]).toEqual([name, own]);
      expect(await list(state, name, "s", "s\x00")).toEqual([`in ${name}`]);
      expect(get(state, name, "", LOWER)).toBe("nothing");
      expect(get(state, name, "", FLOOR)).toBe(`→in ${name}`);
      expect(get(state, name, "s", LOWER)).toBe(`→in ${name}`);
      expect(get(state, name, "x/y", HIGHER)).toBe("nothing");
      expect(get(state, name, "z/z", CEILING)).toBe("nothing");
    }
    expect(await list(state, "none")).toEqual([]);
    expect(get(state, "none", "s", CEILING)).toBe("nothing");
  });

  test("secondary and primary keys of any bytes are found, and come back as they are", async () => {
    const keys = ["", "/", "//", "a/", "\x00", "\x01", "\x01\x01", "\x02", ".", "\xfe", "\xff", "\xff/\xff", "é"];
    const state = new AppliedState(sorting);
    for (const key of keys) state.put(indexed(key, ["i", key]));
    for (const key of keys) expect(get(state, "i", key, EQUAL)).toBe(`${key}→${key}`);
    // secondary keys are in the order of the records themselves
    expect(await list(state, "i")).toEqual(state.userKeys());
    for (const [at, key] of state.userKeys().entries()) {
      const next = state.userKeys()[at + 1];
      expect(get(state, "i", key, HIGHER)).toBe(next === undefined ? "nothing" : `${next}→${next}`);
      if (next !== undefined) expect(get(state, "i", next, LOWER)).toBe(`${key}→${key}`);
    }
  });

  test("of several records with one secondary key each comparison picks the spec's", () => {
    const state = new AppliedState(sorting);
    for (const secondary of ["l", "m", "n"])
      for (const n of [1, 2]) state.put(indexed(`${secondary}${n}`, ["i", secondary]));
    const found = (key: string) =>
      [EQUAL, FLOOR, CEILING, LOWER, HIGHER].map((comparison) => get(state, "i", key, comparison));
    expect(found("m")).toEqual(["m→m1", "m→m1", "m→m1", "l→l2", "n→n1"]);
    expect(found("mm")).toEqual(["nothing", "m→m2", "n→n1", "m→m2", "n→n1"]);
    expect(found("a")).toEqual(["nothing", "nothing", "l→l1", "nothing", "l→l1"]);
    expect(found("z")).toEqual(["nothing", "n→n2", "nothing", "n→n2", "nothing"]);
  });

  test("entries count as internal: user reads step over them and a delete-range leaves those of others", async () => {
    const state = new AppliedState(sorting);
    state.put(indexed("a", ["i", "1"]), indexed("z", ["i", "2"]));
    state.write({ deleteRanges: [range("b", "")] });
    expect(await list(state, "i")).toEqual(["a"]);
  });
});
