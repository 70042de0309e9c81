import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Bytes, concatBytes, EMPTY_BYTES, utf8 } from "./bytes.ts";
import { chainCrc, crc32c, crc32cByte, mask } from "./crc32c.ts";

/** The slow, obvious one: bit by bit. */
function bitwise(bytes: Bytes): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test("the published vectors hold", () => {
  expect(crc32c(utf8("123456789"))).toBe(0xe306_9283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a91_36aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8_ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd_794e);
  expect(crc32c(EMPTY_BYTES)).toBe(0);
});

test("the masked chain has the values that the reference writes", () => {
  const first = chainCrc(0, utf8("hello"));
  expect(first).toBe(421_273_531);
  expect(chainCrc(first, utf8("world"))).toBe(3_698_670_120);
});

test("it agrees with the bitwise definition on every length and range", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), fc.nat(100), (bytes, a, b) => {
      const start = Math.min(a, b, bytes.length);
      const end = Math.min(Math.max(a, b), bytes.length);
      expect(crc32c(bytes, start, end)).toBe(bitwise(bytes.subarray(start, end)));
    }),
  );
});

test("a CRC continued over pieces is the CRC of the whole", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.uint8Array({ maxLength: 64 }), (a, b) => {
      const whole = crc32c(concatBytes(a, b));
      expect(crc32c(b, 0, b.length, crc32c(a))).toBe(whole);
      expect(b.reduce(crc32cByte, crc32c(a))).toBe(whole);
    }),
  );
});

test("every value is an unsigned 32-bit number", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      for (const value of [crc32c(bytes), mask(crc32c(bytes)), chainCrc(0xffff_ffff, bytes)]) {
        expect(value >>> 0).toBe(value);
      }
    }),
  );
});
