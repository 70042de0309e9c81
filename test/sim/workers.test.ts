import { expect, test } from "bun:test";
import { join } from "node:path";
import type { SeedResult } from "./run-seed.ts";
import { DOES_NOT_END, runWorkers } from "./workers.ts";

/** Runs seeds 1 … `last`, of which every fifth does not end. */
async function runSeeds(last: number, isEnough: (done: readonly SeedResult[]) => boolean): Promise<SeedResult[]> {
  const done: SeedResult[] = [];
  let next = 1;
  await runWorkers({
    count: 2,
    seedMsMax: 500,
    script: join(import.meta.dir, "endless-worker.ts"),
    next: () => {
      if (next > last) return undefined;
      return { options: { seed: next++, steps: 1 }, without: [], twice: false };
    },
    done: (result) => {
      done.push(result);
      return !isEnough(done);
    },
  });
  return done;
}

test("a seed that does not end is counted as failed, and all others are run", async () => {
  const done = await runSeeds(12, () => false);
  const seeds = done.map(({ seed }) => seed).sort((a, b) => a - b);
  expect(seeds).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  const failed = done.filter(({ violation }) => violation !== undefined);
  expect(failed.map(({ seed }) => seed).sort((a, b) => a - b)).toEqual([5, 10]);
  for (const { violation } of failed) expect(violation!.checker).toBe(DOES_NOT_END);
}, 30_000);

test("who has seen enough stops them all, one that does not end too", async () => {
  const done = await runSeeds(1_000, (all) => all.some(({ violation }) => violation !== undefined));
  expect(done.filter(({ violation }) => violation !== undefined)).toHaveLength(1);
}, 30_000);
