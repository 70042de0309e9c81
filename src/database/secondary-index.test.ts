import { expect, test } from "bun:test";
import fc from "fast-check";
import { ModelKeyValue } from "../../test/sim/model-key-value.ts";
import { type Bytes, compareBytes, utf8 } from "../lib/bytes.ts";
import { compareKeys, keyOrder } from "../model/keys.ts";
import { changedEntries, decodeIndexEntry, findIndexEntry, indexEntryKey, indexRange } from "./secondary-index.ts";
import { escapeKey } from "./session-key.ts";
import { COMPARISON } from "./validate.ts";

const orders = [keyOrder("hierarchical"), keyOrder("natural")];
const key = fc
  .array(fc.constantFrom(0x00, 0x01, 0x02, 0x2e, 0x2f, 0x30, 0x61, 0xfe, 0xff), { maxLength: 6 })
  .map((bytes) => Uint8Array.from(bytes));
const name = utf8("by/name");
const text = (bytes: Bytes | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes).toString());

test("an entry's key gives its secondary and primary key back", () => {
  fc.assert(
    fc.property(key, key, (secondary, primary) => {
      for (const order of orders) {
        const entry = indexEntryKey(order, { name, key: secondary }, primary);
        expect(decodeIndexEntry(order, name, entry)).toEqual({ secondary, primary });
      }
    }),
    { numRuns: 2000 },
  );
});

test("entries sort by secondary key in the shard's order, then by escaped primary", () => {
  fc.assert(
    fc.property(key, key, key, key, (s1, p1, s2, p2) => {
      for (const order of orders) {
        const ours = compareKeys(
          order,
          indexEntryKey(order, { name, key: s1 }, p1),
          indexEntryKey(order, { name, key: s2 }, p2),
        );
        const theirs = compareKeys(order, s1, s2) || compareBytes(escapeKey(p1), escapeKey(p2));
        expect(Math.sign(ours)).toBe(Math.sign(theirs));
      }
    }),
    { numRuns: 3000 },
  );
});

test("ranges and comparisons follow the reference's example, and stay in their index", () => {
  const order = keyOrder("hierarchical");
  const kv = new ModelKeyValue(order);
  for (const secondary of ["a", "b", "c", "a/z", "b/x"]) {
    kv.put(indexEntryKey(order, { name, key: utf8(secondary) }, utf8(`p-${secondary}`)), new Uint8Array(0));
    kv.put(indexEntryKey(order, { name: utf8("by"), key: utf8(secondary) }, utf8("other")), new Uint8Array(0));
    kv.put(indexEntryKey(order, { name: utf8("z"), key: utf8(secondary) }, utf8("other")), new Uint8Array(0));
  }
  const list = (start: string, end: string) => {
    const found: string[] = [];
    const query = { name, startInclusive: utf8(start), endExclusive: utf8(end) };
    const cursor = kv.cursor(indexRange(order, query));
    while (cursor.next()) found.push(text(decodeIndexEntry(order, name, cursor.key).secondary)!);
    return found;
  };
  expect(list("a", "z")).toEqual(["a", "b", "c"]);
  expect(list("a", "z/")).toEqual(["a", "b", "c", "a/z", "b/x"]);
  expect(list("", "")).toEqual(["a", "b", "c", "a/z", "b/x"]);
  const find = (secondary: string, comparison: number) =>
    text(findIndexEntry(kv, order, { name, secondary: utf8(secondary), comparison })?.secondary);
  expect(find("c", COMPARISON.HIGHER)).toBe("a/z");
  expect(find("b/x", COMPARISON.HIGHER)).toBeUndefined();
  expect(find("a", COMPARISON.LOWER)).toBeUndefined();
  expect(find("bb", COMPARISON.FLOOR)).toBe("b");
  expect(find("bb", COMPARISON.CEILING)).toBe("c");
  expect(find("bb", COMPARISON.EQUAL)).toBeUndefined();
});

test("of equal secondary keys each comparison picks the record that the reference picks", () => {
  const order = keyOrder("natural");
  const kv = new ModelKeyValue(order);
  for (const [secondary, primary] of ["l1", "l2", "m1", "m2", "n1", "n2"].map(
    (pair) => [pair[0], pair[1]] as [string, string],
  )) {
    kv.put(indexEntryKey(order, { name, key: utf8(secondary) }, utf8(primary)), new Uint8Array(0));
  }
  const find = (comparison: number) => {
    const entry = findIndexEntry(kv, order, { name, secondary: utf8("m"), comparison });
    return `${text(entry?.secondary)}${text(entry?.primary)}`;
  };
  expect([0, 1, 2, 3, 4].map(find)).toEqual(["m1", "m1", "m1", "l2", "n1"]);
});

test("a change takes away and adds only what differs, duplicates once", () => {
  const order = keyOrder("hierarchical");
  const index = (secondary: string) => ({ name, key: utf8(secondary) });
  const { removed, added } = changedEntries(
    order,
    utf8("p"),
    [index("a"), index("b")],
    [index("b"), index("c"), index("c")],
  );
  expect(removed).toEqual([indexEntryKey(order, index("a"), utf8("p"))]);
  expect(added).toEqual([indexEntryKey(order, index("c"), utf8("p"))]);
});

test("a change is what the sets of entries differ by", () => {
  const order = keyOrder("natural");
  const indexes = fc.array(key, { maxLength: 8 }).map((keys) => keys.map((secondary) => ({ name, key: secondary })));
  const hex = (keys: readonly Bytes[]) => keys.map((each) => Buffer.from(each).toString("hex"));
  fc.assert(
    fc.property(indexes, indexes, (before, after) => {
      const { removed, added } = changedEntries(order, utf8("p"), before, after);
      const keysOf = (each: typeof before) => new Set(hex(each.map((index) => indexEntryKey(order, index, utf8("p")))));
      expect(new Set(hex(removed))).toEqual(keysOf(before).difference(keysOf(after)));
      expect(new Set(hex(added))).toEqual(keysOf(after).difference(keysOf(before)));
      expect(removed.length + added.length).toBe(keysOf(before).symmetricDifference(keysOf(after)).size);
    }),
  );
});

test("a record with very many entries is overwritten in one go", () => {
  const order = keyOrder("hierarchical");
  const indexes = (from: number) => Array.from({ length: 50_000 }, (_, n) => ({ name, key: utf8(`${from + n}`) }));
  const { removed, added } = changedEntries(order, utf8("p"), indexes(100_000), indexes(125_000));
  expect([removed.length, added.length]).toEqual([25_000, 25_000]);
});
