/**
 * Some planted bugs are found within a few seeds, and each that names a story does not survive it: the whole table is
 * `bun run sim --mutants`.
 */
import { expect, test } from "bun:test";
import { findBug } from "./mutant-table.ts";
import { findMutant, MUTANTS } from "./mutants.ts";

const SEEDS = 10;
const STEPS = 5_000;
const TIMEOUT_MS = 120_000;

/** One of each rule, but for those that only a story shows. */
const SAMPLE = [
  "ids stored with the result",
  "half-done swap forgotten",
  "ended replica is not refilled",
  "NewTerm leaves the leadership running",
  "ack before fsync",
  "prior-term commit",
  "snapshot without its log",
  "log trimmed whoever needs it",
  "version reused",
  "assignments before the result is stored",
];

for (const name of SAMPLE) {
  test(
    `found within ${SEEDS} seeds: ${name}`,
    async () => {
      const options = { seedsMax: SEEDS, steps: STEPS, workers: 1 };
      expect(await findBug(findMutant(name), { kind: "random" }, options)).toBeDefined();
    },
    TIMEOUT_MS,
  );
}

for (const mutant of MUTANTS) {
  const { name, scenario } = mutant;
  if (scenario === undefined) continue;
  test(
    `it does not survive its story: ${name}`,
    async () => {
      const options = { seedsMax: SEEDS, steps: 0, workers: 1 };
      expect(await findBug(mutant, { kind: "story" }, options)).toBeDefined();
    },
    TIMEOUT_MS,
  );
}
