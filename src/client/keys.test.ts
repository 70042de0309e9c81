import { expect, test } from "bun:test";
import fc from "fast-check";
import { compareBytes, utf8 } from "../lib/bytes.ts";
import { InvalidArgumentError } from "./errors.ts";
import { compareAcrossShards, equalKeys, isInternalKey, keyBytes, keyText, wireKey } from "./keys.ts";

/** Few characters, so that keys share parts; some beyond ASCII, some that order differently as UTF-16 and as bytes. */
const text = fc.string({
  unit: fc.constantFrom("a", "b", ".", "/", "0", "~", "é", "\u{ffff}", "\u{10000}"),
  maxLength: 8,
});
const bytes = fc.uint8Array({ maxLength: 8 });

/** As the specification tells it: part by part. */
function slowCompare(a: Uint8Array, b: Uint8Array): number {
  const parts = (key: Uint8Array) => Buffer.from(key).toString("latin1").split("/");
  const [partsA, partsB] = [parts(a), parts(b)];
  for (let i = 0; ; i++) {
    const [lastA, lastB] = [i === partsA.length - 1, i === partsB.length - 1];
    // a key that has run out is the shorter one
    const [emptyA, emptyB] = [lastA && partsA[i] === "", lastB && partsB[i] === ""];
    if (emptyA || emptyB) return Number(emptyB) - Number(emptyA);
    if (lastA !== lastB) return lastA ? -1 : 1;
    const order = compareBytes(
      new Uint8Array(Buffer.from(partsA[i]!, "latin1")),
      new Uint8Array(Buffer.from(partsB[i]!, "latin1")),
    );
    if (order !== 0 || lastA) return order;
  }
}

test("results of shards are merged as the specification says, whatever form the keys have", () => {
  fc.assert(
    fc.property(fc.oneof(text, bytes), fc.oneof(text, bytes), (a, b) => {
      const [wireA, wireB] = [wireKey(a), wireKey(b)];
      const expected = Math.sign(slowCompare(keyBytes(wireA), keyBytes(wireB)));
      expect(Math.sign(compareAcrossShards(wireA, wireB))).toBe(expected);
      expect(Math.sign(compareAcrossShards(wireB, wireA))).toBe(-expected + 0);
    }),
    { numRuns: 5000 },
  );
});

test("the merge order differs from a shard's order where it is known to", () => {
  const sorted = (...keys: string[]) => keys.sort((a, b) => compareAcrossShards(a, b));
  expect(sorted("/b/y", "/a/x/1")).toEqual(["/a/x/1", "/b/y"]);
  expect(sorted("a/b", "/")).toEqual(["/", "a/b"]);
  expect(sorted("b", "a/", "a", "a/b", "")).toEqual(["", "a", "b", "a/", "a/b"]);
});

test("a key has one form, so that equal keys are equal", () => {
  expect(wireKey("abc")).toBe("abc");
  expect(wireKey(utf8("abc"))).toBe("abc");
  expect(wireKey("é")).toEqual(utf8("é"));
  fc.assert(
    fc.property(fc.oneof(text, bytes), fc.oneof(text, bytes), (a, b) => {
      const same = compareBytes(keyBytes(wireKey(a)), keyBytes(wireKey(b))) === 0;
      expect(equalKeys(wireKey(a), wireKey(b))).toBe(same);
    }),
  );
});

test("text comes back as it went in", () => {
  fc.assert(fc.property(text, (key) => expect(keyText(wireKey(key))).toBe(key)));
});

test("bytes are copied: the caller may change theirs", () => {
  const key = Uint8Array.of(0xff, 1);
  const wire = wireKey(key);
  key[1] = 2;
  expect(keyBytes(wire)).toEqual(Uint8Array.of(0xff, 1));
});

test("half a surrogate pair has no UTF-8 and is refused", () => {
  expect(() => wireKey("a\ud800")).toThrow(InvalidArgumentError);
});

test("the server's own keys are told from others", () => {
  expect(["__oxia/", "__oxia/term"].map(isInternalKey)).toEqual([true, true]);
  expect(["__oxia", "_", "", "a__oxia/"].map(isInternalKey)).toEqual([false, false, false, false]);
  expect(isInternalKey(Uint8Array.of(...utf8("__oxia/"), 0xff))).toBe(true);
  expect(isInternalKey(Uint8Array.of(0xff))).toBe(false);
});
