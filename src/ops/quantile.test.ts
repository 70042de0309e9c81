import { expect, test } from "bun:test";
import { Histogram } from "../lib/histogram.ts";
import { CountsSince, quantileOf, summed } from "./quantile.ts";

test("a quantile is the bound of its bucket; above all bounds it is the highest", () => {
  const bounds = [1, 10, 100];
  expect([0.5, 0.9, 0.99, 1].map((quantile) => quantileOf(quantile, bounds, [50, 40, 9, 1]))).toEqual([
    1, 10, 100, 100,
  ]);
  expect(quantileOf(0.5, bounds, [0, 0, 0, 7])).toBe(100);
  expect(quantileOf(0.001, bounds, [0, 5, 0, 0])).toBe(10);
  expect([quantileOf(0.5, bounds, [0, 0, 0, 0]), quantileOf(0.5, [], [3])]).toEqual([0, 0]);
});

test("counts are what has grown since the last look; what has begun anew does not fall below nothing", () => {
  const counts = new CountsSince();
  expect(counts.of([1, 2])).toEqual([1, 2]);
  expect(counts.of(Float64Array.of(4, 2))).toEqual([3, 0]);
  expect(counts.of([1, 3])).toEqual([0, 1]);
  expect(counts.of([2, 3])).toEqual([1, 0]);
});

test("histograms of the same bounds are one", () => {
  const [a, b] = [new Histogram([1, 10]), new Histogram([1, 10])];
  for (const value of [0.5, 5, 50]) a.record(value);
  b.record(5);
  expect(summed([a, b])).toEqual({ bounds: [1, 10], counts: Float64Array.of(1, 2, 1) });
  expect(summed([])).toEqual({ bounds: [], counts: Float64Array.of(0) });
});
