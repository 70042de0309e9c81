/** A process that runs seeds, one after the other, as its parent sends them: see workers.ts. */
import { runStory } from "../scenario/run-story.ts";
import { type Lane, runInLane } from "./lane.ts";
import type { SeedOptions } from "./run-seed.ts";

export interface WorkerRequest {
  readonly options: Omit<SeedOptions, "without" | "newStorage">;
  /** Default: "model". */
  readonly lane?: Lane | undefined;
  readonly without: readonly number[];
  /** Run it twice, and say whether both were the same run. */
  readonly twice: boolean;
  /** A scripted story in the place of the seed's plan. */
  readonly story?: string | undefined;
}

if (process.send !== undefined) {
  // it comes to all processes of a terminal: the parent decides when this one ends
  process.on("SIGINT", () => {});
  process.on("message", ({ options, lane = "model", without, twice, story }: WorkerRequest) => {
    const run = () =>
      story === undefined ? runInLane(lane, { ...options, without: new Set(without) }) : runStory(story, options.seed);
    const result = run();
    const again = twice ? run().trace : result.trace;
    process.send!({ result, again });
  });
  process.send({ ready: true });
}
