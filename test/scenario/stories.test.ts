/** Every story comes to a good end while all rules are on. */
import { expect, test } from "bun:test";
import { MUTANTS } from "../sim/mutants.ts";
import { runStory } from "./run-story.ts";
import { STORIES } from "./stories.ts";

const SEEDS = 20;
const TIMEOUT_MS = 60_000;

for (const name of Object.keys(STORIES)) {
  test(
    name,
    () => {
      for (let seed = 0; seed < SEEDS; seed++) expect(runStory(name, seed).violation).toBeUndefined();
    },
    TIMEOUT_MS,
  );
}

test("every story that a planted bug names is there", () => {
  for (const { scenario } of MUTANTS) if (scenario !== undefined) expect(Object.keys(STORIES)).toContain(scenario);
});
