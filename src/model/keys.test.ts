import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Bytes, compareBytes, equalBytes, utf8 } from "../lib/bytes.ts";
import { compareKeys, INTERNAL_PREFIX, isInternal, keyOrder, orderKeyOf, tieOf } from "./keys.ts";

const hierarchical = keyOrder("hierarchical");
const natural = keyOrder("natural");
/** Keys made of what the encodings treat specially. */
const key = fc
  .array(fc.constantFrom(0x2f, 0xff, 0x61, 0x00, 0x5f, 0x80, 0xfe), { maxLength: 12 })
  .map((b) => Uint8Array.from(b));

function hex(bytes: Bytes): string {
  return Buffer.from(bytes).toString("hex");
}

test("the hierarchical prefix counts slashes as the reference does", () => {
  const prefixes: [string, string][] = [
    ["a", "0000"],
    ["a/", "0001"],
    ["/a", "0001"],
    ["/", "0001"],
    ["//", "0001"],
    ["/a/x", "0002"],
    ["/a/", "0002"],
    ["/a//", "0002"],
    ["/a/x/1", "0003"],
    ["__oxia/term", "8001"],
    ["", "0000"],
  ];
  for (const [text, prefix] of prefixes) expect(hex(orderKeyOf(hierarchical, utf8(text))).slice(0, 4)).toBe(prefix);
  expect(hex(orderKeyOf(hierarchical, utf8("a/b")))).toBe("000161ff62");
});

test("the number of slashes is capped at 32,767", () => {
  for (const slashes of [32_766, 32_767, 32_768, 65_536]) {
    const orderKey = orderKeyOf(hierarchical, utf8(`${"/".repeat(slashes)}a`));
    expect((orderKey[0]! << 8) | orderKey[1]!).toBe(Math.min(slashes, 32_767));
  }
});

test("keys sort as in the reference's sample, internal ones last", () => {
  const sorted = "a b z ~ é a/ a/b / /a /b // /a/ /a/x /a/y /a// /b/x /a/x/1 /c/d/e __oxia/term".split(" ");
  for (let i = 1; i < sorted.length; i++) {
    expect(compareKeys(hierarchical, utf8(sorted[i - 1]!), utf8(sorted[i]!))).toBeLessThan(0);
  }
});

test("natural order is bytewise, with internal keys after every user key", () => {
  expect(compareKeys(natural, utf8("a/b"), utf8("a0"))).toBeLessThan(0);
  expect(compareKeys(natural, Uint8Array.of(0xff, 0xff, 0xff), INTERNAL_PREFIX)).toBeLessThan(0);
});

test("in both orders every internal key is at or after the internal prefix, and every user key before it", () => {
  fc.assert(
    fc.property(key, (tail) => {
      for (const order of [hierarchical, natural]) {
        const internal = Uint8Array.from([...INTERNAL_PREFIX, ...tail]);
        expect(isInternal(internal)).toBe(true);
        expect(compareKeys(order, internal, INTERNAL_PREFIX)).toBeGreaterThanOrEqual(0);
        expect(compareBytes(orderKeyOf(order, internal), order.internalStart)).toBeGreaterThanOrEqual(0);
        if (!isInternal(tail)) {
          expect(compareKeys(order, tail, INTERNAL_PREFIX)).toBeLessThan(0);
          expect(compareBytes(orderKeyOf(order, tail), order.internalStart)).toBeLessThan(0);
        }
      }
    }),
  );
});

test("order key and tie give every key back, and no two keys share both", () => {
  fc.assert(
    fc.property(key, key, (a, b) => {
      for (const order of [hierarchical, natural]) {
        expect(order.decode(orderKeyOf(order, a), tieOf(order, a))).toEqual(a);
        const same =
          equalBytes(orderKeyOf(order, a), orderKeyOf(order, b)) && equalBytes(tieOf(order, a), tieOf(order, b));
        expect(same).toBe(equalBytes(a, b));
      }
    }),
    { numRuns: 2000 },
  );
});

test("ordering by (order key, tie) is ordering by (order key, raw key)", () => {
  fc.assert(
    fc.property(key, key, (a, b) => {
      const byTie =
        compareBytes(orderKeyOf(hierarchical, a), orderKeyOf(hierarchical, b)) ||
        compareBytes(tieOf(hierarchical, a), tieOf(hierarchical, b));
      expect(Math.sign(byTie)).toBe(Math.sign(compareKeys(hierarchical, a, b)));
    }),
    { numRuns: 5000 },
  );
});

test("the children of a folder are one range", () => {
  const inRange = (text: string) =>
    compareKeys(hierarchical, utf8(text), utf8("/a/")) >= 0 && compareKeys(hierarchical, utf8(text), utf8("/a//")) < 0;
  expect(["/a/", "/a/x", "/a/~", "/a/x/1", "/b/x", "/a", "/a//"].map(inRange)).toEqual([
    true,
    true,
    true,
    false,
    false,
    false,
    false,
  ]);
});

test("a raw key is compared with an order key as its own order key would be, wherever it lies", () => {
  const internal = fc
    .tuple(fc.constant(INTERNAL_PREFIX), key)
    .map(([prefix, rest]) => Uint8Array.of(...prefix, ...rest));
  const any = fc.oneof({ weight: 4, arbitrary: key }, internal);
  fc.assert(
    fc.property(any, any, fc.constantFrom(hierarchical, natural), fc.nat(5), (a, b, order, before) => {
      const source = new Uint8Array(before + b.length + 3).fill(0x2f);
      source.set(b, before);
      const compared = order.compareWithRaw(orderKeyOf(order, a), tieOf(order, a), source, before, before + b.length);
      expect(Math.sign(compared)).toBe(Math.sign(compareKeys(order, a, b)));
    }),
    { numRuns: 3000 },
  );
});
