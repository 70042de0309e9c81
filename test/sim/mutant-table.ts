/** All planted bugs, each run until it is found: a table of which checker found it, and after how many seeds. */
import { MUTANTS, type Mutant } from "./mutants.ts";
import { runWorkers } from "./workers.ts";

export interface MutantRunOptions {
  readonly seedsMax: number;
  readonly steps: number;
  readonly workers: number;
}

interface Found {
  readonly checker: string;
  readonly seed: number;
  readonly seeds: number;
}

/** Whether all were found. */
export async function runMutants(options: MutantRunOptions): Promise<boolean> {
  console.log("| planted bug | rule | found by | seed | after seeds |");
  console.log("| --- | --- | --- | --- | --- |");
  let missed = 0;
  for (const mutant of MUTANTS) {
    const found = await findMutant(mutant, options);
    if (found === undefined) missed++;
    const columns =
      found === undefined ? ["not found", "", String(options.seedsMax)] : [found.checker, found.seed, found.seeds];
    console.log(`| ${[mutant.name, mutant.rule, ...columns].join(" | ")} |`);
  }
  console.log(`\n${MUTANTS.length - missed} of ${MUTANTS.length} found`);
  return missed === 0;
}

async function findMutant(mutant: Mutant, { seedsMax, steps, workers }: MutantRunOptions): Promise<Found | undefined> {
  let next = 0;
  let seeds = 0;
  let found: Found | undefined;
  await runWorkers({
    count: workers,
    mutant: mutant.name,
    next: () => (next < seedsMax ? { options: { seed: next++, steps }, without: [], twice: false } : undefined),
    done: ({ seed, violation }) => {
      seeds++;
      if (violation !== undefined) found = { checker: violation.checker, seed, seeds };
      return violation === undefined;
    },
  });
  return found;
}
