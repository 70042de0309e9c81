/** Seeds of each mix: what holds there (mixes.ts) holds, and the cluster serves again once faults have stopped. */
import { describe, expect, test } from "bun:test";
import { type Mix, MixedCluster } from "./mixed-cluster.ts";
import { MIXES } from "./mixes.ts";

const SEEDS = 200;

function run(mix: Mix, seed: number): MixedCluster {
  const cluster = new MixedCluster(seed, mix);
  try {
    cluster.run();
  } catch (error) {
    const { message } = error as Error;
    throw new Error(`${mix.name}, seed ${seed}: ${message}`, { cause: error });
  }
  return cluster;
}

describe.each(MIXES.map((mix) => [mix.name, mix] as const))("%s", (_, mix) => {
  test("every seed is judged right", () => {
    const answered = new Set<string>();
    let judged = 0;
    for (let seed = 0; seed < SEEDS; seed++) {
      const cluster = run(mix, seed);
      for (const kind of cluster.answered) answered.add(kind);
      if (cluster.isJudged) judged++;
    }
    expect(answered).toEqual(new Set(mix.servers));
    expect(judged).toBeGreaterThan(SEEDS / 2);
  }, 120_000);
});

test("each seed runs the same way twice", () => {
  for (const mix of MIXES) {
    for (let seed = 0; seed < 10; seed++) {
      const hash = run(mix, seed).scheduler.trace.hash;
      expect(run(mix, seed).scheduler.trace.hash).toBe(hash);
    }
  }
}, 120_000);
