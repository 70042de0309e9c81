/**
 * Seeds that have found something in long campaigns, by what it was: they find nothing any more. What a seed plays
 * depends on the simulator's menu, so each finding has a test of its own too; these are kept beside them for ever.
 */
import { expect, test } from "bun:test";
import { runInLane } from "../sim/lane.ts";

const STEPS = 5_000;

const KEPT: Readonly<Record<string, number>> = {
  "a follower that refuses is tried again after a minute": 50080260,
  "what a paused machine has held comes behind what is due when it goes on": 50083404,
  "an earlier stream is judged by what came later": 61002228,
  "a second word of an older disk ends the id that was minted meanwhile": 73002903,
  "an id that was never told of is found on an older copy of its disk": 73004355,
  "a subscriber is not told of what was trimmed while it was held up": 74107971,
  "what a disk that was set back answers to an election that is over is nobody's vote": 77018826,
  "nor where its own term is the one that stands": 77034796,
  "the checker does not search on where a read cannot fit any more": 74175864,
  "the same, behind deletes and puts of which nobody knows whether they happened": 74011995,
};

for (const [name, seed] of Object.entries(KEPT)) {
  test(`not any more: ${name} (seed ${seed})`, () => {
    const { violation } = runInLane("model", { seed, steps: STEPS });
    expect(violation).toBeUndefined();
  });
}
