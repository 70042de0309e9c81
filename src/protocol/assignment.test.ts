import { expect, test } from "bun:test";
import { initialRanges } from "./assignment.ts";

test("two and three shards get the reference's ranges", () => {
  expect(initialRanges(2)).toEqual([
    { minInclusive: 0, maxInclusive: 2147483647 },
    { minInclusive: 2147483648, maxInclusive: 4294967295 },
  ]);
  expect(initialRanges(3).map((range) => range.maxInclusive)).toEqual([1431655765, 2863311531, 4294967295]);
});

test("any number of shards covers every hash once", () => {
  for (const count of [1, 2, 3, 4, 5, 7, 16, 100, 1000, 4096]) {
    const ranges = initialRanges(count);
    let next = 0;
    for (const range of ranges) {
      expect(range.minInclusive).toBe(next);
      expect(range.maxInclusive).toBeGreaterThanOrEqual(range.minInclusive);
      next = range.maxInclusive + 1;
    }
    expect(next).toBe(2 ** 32);
  }
});
