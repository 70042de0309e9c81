/**
 * All planted bugs, each run until it is found: which checker found it, how, and after how many seeds. First runs of the
 * usual plan, unaided; then the mix of faults and the story that the bug names.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { MixName } from "./mixes.ts";
import { MUTANTS, type Mutant } from "./mutants.ts";
import { runWorkers } from "./workers.ts";

export interface FindOptions {
  /** Seeds after which the bug is given up. */
  readonly seedsMax: number;
  readonly steps: number;
  readonly workers: number;
}

export interface MutantRunOptions extends FindOptions {
  /** Seeds of the usual plan after which the mix or the story is tried. */
  readonly unaidedMax: number;
  readonly only: string | undefined;
  readonly writeTable: boolean;
}

/** What the bug is run with. */
type Way = { readonly kind: "random" } | { readonly kind: "mix"; readonly mix: MixName } | { readonly kind: "story" };

interface Found {
  readonly way: Way;
  readonly checker: string;
  readonly seed: number;
  readonly seeds: number;
}

interface Outcome {
  readonly mutant: Mutant;
  /** By way; undefined: not found in so many seeds. */
  readonly found: readonly Found[];
  readonly tried: number;
}

/** Whether all were found. */
export async function runMutants(options: MutantRunOptions): Promise<boolean> {
  const mutants = MUTANTS.filter(({ name }) => options.only === undefined || name === options.only);
  if (mutants.length === 0) throw new Error(`no such planted bug: ${options.only}`);
  console.log(HEAD);
  const outcomes: Outcome[] = [];
  for (const mutant of mutants) {
    const outcome = await runMutant(mutant, options);
    outcomes.push(outcome);
    console.log(rowOf(outcome));
  }
  const summary = summaryOf(outcomes);
  console.log(`\n${summary}`);
  if (options.writeTable) {
    const table = [INTRODUCTION, HEAD, ...outcomes.map(rowOf), "", summary, ""].join("\n");
    writeFileSync(TABLE, table);
    Bun.spawnSync([process.execPath, "x", "--bun", "biome", "format", "--write", TABLE]);
  }
  return outcomes.every(({ found }) => found.length > 0);
}

async function runMutant(mutant: Mutant, options: MutantRunOptions): Promise<Outcome> {
  const found: Found[] = [];
  let tried = 0;
  for (const { way, seedsMax } of waysOf(mutant, options)) {
    if (seedsMax === 0) continue;
    if (found.length > 0 && way.kind !== "random") break;
    const one = await findBug(mutant, way, { ...options, seedsMax });
    if (one !== undefined) found.push(one);
    else tried += seedsMax;
  }
  return { mutant, found, tried };
}

function waysOf(
  { mix, scenario }: Mutant,
  { unaidedMax, seedsMax }: MutantRunOptions,
): { way: Way; seedsMax: number }[] {
  const steered: { way: Way; seedsMax: number }[] = [];
  if (scenario !== undefined) steered.push({ way: { kind: "story" }, seedsMax: STORY_SEEDS });
  if (mix !== undefined) steered.push({ way: { kind: "mix", mix }, seedsMax });
  const isAided = steered.length > 0;
  return [{ way: { kind: "random" }, seedsMax: isAided ? unaidedMax : seedsMax }, ...steered];
}

/** A story is played with a few seeds only: it either shows the bug or does not. */
const STORY_SEEDS = 20;

/** Real files are slower. */
const SQLITE_STEPS = 2_000;

/** Runs seeds until a checker finds the bug. */
export async function findBug(mutant: Mutant, way: Way, options: FindOptions): Promise<Found | undefined> {
  const { seedsMax, workers } = options;
  const steps = Math.min(options.steps, mutant.lane === "sqlite" ? SQLITE_STEPS : options.steps);
  let next = 0;
  let seeds = 0;
  let found: Found | undefined;
  const request = (seed: number) => ({
    options: { seed, steps, mix: way.kind === "mix" ? way.mix : undefined },
    lane: mutant.lane,
    story: way.kind === "story" ? mutant.scenario : undefined,
    without: [],
    twice: false,
  });
  await runWorkers({
    count: way.kind === "story" ? 1 : Math.min(workers, seedsMax),
    mutant: mutant.name,
    next: () => (next < seedsMax ? request(next++) : undefined),
    done: ({ seed, violation }) => {
      seeds++;
      if (violation !== undefined) found = { way, checker: violation.checker, seed, seeds };
      return violation === undefined;
    },
  });
  return found;
}

const TABLE = join(import.meta.dir, "MUTANTS.md");
const HEAD = `| planted bug | rule | what it does | found by | in | seed | after seeds |
| --- | --- | --- | --- | --- | --- | --- |`;

const INTRODUCTION = `# Planted bugs

Written by \`bun run sim --mutants --write-table\`: each bug of \`mutants-*.ts\` takes one rule of replication away, and is
run until a checker finds it. "random" is the usual plan of faults, unaided; a mix (\`mixes.ts\`) or a scripted story
(\`../scenario\`) steers towards those that it rarely meets. Stories and mixes without a bug are clean. Bugs in the adapters
of real files are looked for in the lane "sqlite".
`;

function rowOf({ mutant, found, tried }: Outcome): string {
  const { name, rule, story } = mutant;
  const [first] = found;
  const outcome =
    first === undefined
      ? ["not found", "", "", tried]
      : [first.checker, wayOf(mutant, first.way), first.seed, first.seeds];
  return `| ${[name, rule, story, ...outcome].join(" | ")} |`;
}

function wayOf({ scenario, lane = "model" }: Mutant, way: Way): string {
  switch (way.kind) {
    case "random":
      return lane === "model" ? "random" : `random, lane ${lane}`;
    case "mix":
      return `mix ${way.mix}`;
    case "story":
      return `story: ${scenario}`;
  }
}

function summaryOf(outcomes: readonly Outcome[]): string {
  const found = outcomes.filter((outcome) => outcome.found.length > 0).length;
  const unaided = outcomes.filter((outcome) => outcome.found[0]?.way.kind === "random").length;
  return `${found} of ${outcomes.length} found, ${unaided} of them by random runs unaided.`;
}
