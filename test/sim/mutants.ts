/**
 * Planted bugs: each takes one rule of replication away, by replacing a piece of one source file (mutate.ts). A run
 * with one must be found out, or the rule is not held by any test.
 */

export interface Mutant {
  readonly name: string;
  /** The rule that it takes away: a section of safety.md. */
  readonly rule: string;
  /** From the root of the repository. */
  readonly file: string;
  /** Must occur exactly once. */
  readonly find: string;
  readonly replace: string;
  /** A named scenario that shows it, for those that random runs rarely meet. */
  readonly scenario?: string;
}

export const MUTANTS: readonly Mutant[] = [];

/** The file's text with the mutant's bug in it. */
export function mutated({ name, file, find, replace }: Mutant, text: string): string {
  const parts = text.split(find);
  if (parts.length !== 2)
    throw new Error(`mutant "${name}": its text is ${parts.length - 1} times in ${file}, not once`);
  return parts.join(replace);
}
