import { expect, test } from "bun:test";
import { SimRandom } from "./random.ts";

const draws = (random: SimRandom, count = 20) => Array.from({ length: count }, () => random.bits32());

test("one seed gives one sequence, and seeds that differ in any bit give others", () => {
  expect(draws(new SimRandom(17))).toEqual(draws(new SimRandom(17)));
  const seeds = [0, 1, 2, 17, 2 ** 31, 2 ** 32, 2 ** 32 + 17, Number.MAX_SAFE_INTEGER];
  expect(new Set(seeds.map((seed) => draws(new SimRandom(seed)).join())).size).toBe(seeds.length);
});

test("a child depends on seed and label, not on what was drawn", () => {
  const early = new SimRandom(5).split("network");
  const parent = new SimRandom(5);
  draws(parent, 100);
  expect(draws(parent.split("network"))).toEqual(draws(early));
  expect(draws(new SimRandom(5).split("disk"))).not.toEqual(draws(new SimRandom(5).split("network")));
  expect(draws(new SimRandom(5).split("a").split("b"))).not.toEqual(draws(new SimRandom(5).split("b").split("a")));
  const labels = Array.from({ length: 2_000 }, (_, n) => draws(new SimRandom(5).split(`node ${n}`), 2).join());
  expect(new Set(labels).size).toBe(2_000);
});

test("numbers fill their range evenly", () => {
  const random = new SimRandom(1);
  const counts = new Array(10).fill(0);
  for (let i = 0; i < 100_000; i++) counts[random.int(0, 10)]++;
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  const hits = Array.from({ length: 100_000 }, () => random.chance(0.03)).filter(Boolean).length;
  expect(Math.abs(hits - 3_000)).toBeLessThan(300);
  expect([random.chance(0), random.chance(1)]).toEqual([false, true]);
});

test("an order drawn holds every item once, and each comes first equally often", () => {
  const random = new SimRandom(2);
  const first = new Array(5).fill(0);
  for (let i = 0; i < 20_000; i++) {
    const order = random.shuffled([0, 1, 2, 3, 4]);
    expect([...order].sort()).toEqual([0, 1, 2, 3, 4]);
    first[order[0]!]++;
  }
  for (const count of first) expect(Math.abs(count - 4_000)).toBeLessThan(300);
});

test("a rate is off in every third run, else between a hundredth of its bound and the bound", () => {
  const rates = Array.from({ length: 3_000 }, (_, seed) => new SimRandom(seed).split("drop").rate(0.3));
  expect(Math.abs(rates.filter((rate) => rate === 0).length - 1_000)).toBeLessThan(150);
  expect(rates.filter((rate) => rate !== 0).every((rate) => rate >= 0.003 && rate <= 0.3)).toBe(true);
});

test("durations are mostly typical, sometimes long, never past their bound", () => {
  const random = new SimRandom(3);
  const took = Array.from({ length: 10_000 }, () =>
    random.duration({ minMs: 1, typicalMs: 5, maxMs: 500, tailChance: 0.1 }),
  );
  expect(took.every((ms) => ms >= 1 && ms <= 500)).toBe(true);
  expect(Math.abs(took.filter((ms) => ms > 5).length - 1_000)).toBeLessThan(150);
  expect(took.some((ms) => ms > 300)).toBe(true);
});

test("replica ids are 63 bits and not 0", () => {
  const random = new SimRandom(4);
  const ids = Array.from({ length: 1_000 }, () => random.bits63());
  expect(ids.every((id) => id > 0n && id < 1n << 63n)).toBe(true);
  expect(new Set(ids).size).toBe(1_000);
});
