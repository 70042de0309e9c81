/** Plays one story by its name, as a run of the simulator. */
import type { SeedResult } from "../sim/run-seed.ts";

export function runStory(name: string, seed: number): SeedResult {
  throw new Error(`no such story: ${name} ${seed}`);
}
