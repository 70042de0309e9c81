import { expect, test } from "bun:test";
import { Code, type StatusError } from "./code.ts";
import { parseTimeout } from "./timeout.ts";

test("a timeout is up to eight digits and a unit", () => {
  expect(parseTimeout("2H")).toBe(7_200_000);
  expect(parseTimeout("3M")).toBe(180_000);
  expect(parseTimeout("29S")).toBe(29_000);
  expect(parseTimeout("100m")).toBe(100);
  expect(parseTimeout("99999999u")).toBeCloseTo(99_999.999);
  expect(parseTimeout("1000000n")).toBeCloseTo(1);
  expect(parseTimeout("0S")).toBe(0);
});

test("a timeout longer than a timer takes is none", () => {
  expect(parseTimeout("2147483S")).toBe(2_147_483_000);
  expect(parseTimeout("2147484S")).toBeUndefined();
  expect(parseTimeout("99999999H")).toBeUndefined();
});

test("anything else is refused", () => {
  for (const value of ["", "S", "1", "123456789S", "-1S", "1.5S", "1 S", "1s", "0x1S", "１S"]) {
    try {
      parseTimeout(value);
      throw new Error(`accepted ${value}`);
    } catch (error) {
      expect((error as StatusError).code).toBe(Code.INVALID_ARGUMENT);
    }
  }
});
