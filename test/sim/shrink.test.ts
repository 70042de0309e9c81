import { expect, test } from "bun:test";
import { shrink } from "./shrink.ts";

const all = Array.from({ length: 23 }, (_, nth) => nth);

test("what a failure needs is left, whatever it is", () => {
  for (const needed of [[], [0], [22], [3, 17], [5, 6, 7], all]) {
    const fails = (kept: readonly number[]) => needed.every((one) => kept.includes(one));
    expect(shrink(all, fails)).toEqual([...needed]);
  }
});

test("runs are bounded, and what is left then still fails", () => {
  let runs = 0;
  const needed = [1, 9, 20];
  const fails = (kept: readonly number[]) => {
    runs++;
    return needed.every((one) => kept.includes(one));
  };
  const kept = shrink(all, fails, 7);
  expect(runs).toBeLessThanOrEqual(7);
  expect(needed.every((one) => kept.includes(one))).toBe(true);
});
