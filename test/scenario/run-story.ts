/** Plays one story by its name, as a run of the simulator. */
import { failureOf, type SeedResult } from "../sim/run-seed.ts";
import { STORIES } from "./stories.ts";

export function runStory(name: string, seed: number): SeedResult {
  const story = STORIES[name];
  if (story === undefined) throw new Error(`no such story: ${name}`);
  const nothing = { seed, steps: 0, simulatedMs: 0, trace: "", faults: {}, tally: {}, lines: [] };
  try {
    story(seed);
    return { ...nothing, violation: undefined };
  } catch (error) {
    return { ...nothing, violation: failureOf(error) };
  }
}
