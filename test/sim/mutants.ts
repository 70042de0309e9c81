/**
 * Planted bugs: each takes one rule of replication away, by replacing pieces of source files (mutate.ts). A run with one
 * must be found out, or the rule is not held by any test. They stand by rule in mutants-*.ts.
 *
 * Where two checks stand behind one another, a bug takes both away: either alone is no violation. Most are planted in
 * src/; what the simulator has an adapter of its own for, in that.
 */
import type { Lane } from "./lane.ts";
import type { MixName } from "./mixes.ts";
import { DATA_MUTANTS } from "./mutants-data.ts";
import { ENSEMBLE_MUTANTS } from "./mutants-ensembles.ts";
import { FILE_MUTANTS } from "./mutants-files.ts";
import { MEMBERSHIP_MUTANTS } from "./mutants-membership.ts";
import { STRANGER_MUTANTS } from "./mutants-strangers.ts";
import { TERM_MUTANTS } from "./mutants-terms.ts";

export interface Edit {
  /** From the root of the repository. */
  readonly file: string;
  /** Must occur exactly once. */
  readonly find: string;
  readonly replace: string;
}

export interface Mutant {
  readonly name: string;
  /** The rule that it takes away: a section of safety.md. */
  readonly rule: string;
  /** What it does, in the end. */
  readonly story: string;
  readonly edits: readonly Edit[];
  /** The mix of faults that shows it soonest. */
  readonly mix?: MixName;
  /** A scripted story (test/scenario) that shows it, for those that random runs rarely meet. */
  readonly scenario?: string;
  /** Where servers keep their data; default: "model". */
  readonly lane?: Lane;
}

export const MUTANTS: readonly Mutant[] = [
  ...MEMBERSHIP_MUTANTS,
  ...ENSEMBLE_MUTANTS,
  ...TERM_MUTANTS,
  ...DATA_MUTANTS,
  ...STRANGER_MUTANTS,
  ...FILE_MUTANTS,
];

export function findMutant(name: string): Mutant {
  const mutant = MUTANTS.find((one) => one.name === name);
  if (mutant === undefined) throw new Error(`no such planted bug: ${name}`);
  return mutant;
}

/** The file's text with the edit made. */
export function mutated(text: string, { file, find, replace }: Edit): string {
  const parts = text.split(find);
  if (parts.length !== 2)
    throw new Error(`a piece of a planted bug stands ${parts.length - 1} times in ${file}: ${find}`);
  return parts.join(replace);
}
