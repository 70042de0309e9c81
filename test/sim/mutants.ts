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

export const MUTANTS: readonly Mutant[] = [
  {
    name: "a lost replica's server votes",
    rule: "§1",
    file: "src/protocol/election.ts",
    find: 'return replicaId === slot.replicaId ? "" :',
    replace: 'return replicaId !== NO_REPLICA ? "" :',
  },
  {
    name: "acks before fsync",
    rule: "§5",
    file: "src/replication/append-path.ts",
    find: "const offset = Math.min(this.#durable.offset, verified);",
    replace: "const offset = verified;",
  },
  {
    name: "reads without a round",
    rule: "§8",
    file: "src/replication/leader.ts",
    find: "return this.#tail === undefined ? undefined : this.#rounds.confirm();",
    replace: "return undefined;",
  },
  {
    name: "held entry acked unread",
    rule: "§6",
    file: "src/protocol/following.ts",
    find: "const contradicted = held !== undefined && !sameHead(entry, held);",
    replace: "const contradicted = held === undefined && sameHead(entry, entry) && false;",
  },
  {
    name: "read joins a round on its way",
    rule: "§8",
    file: "src/protocol/commit.ts",
    find: "round: leadership.roundSent + 1,",
    replace: "round: leadership.roundSent,",
  },
];

/** The file's text with the mutant's bug in it. */
export function mutated({ name, file, find, replace }: Mutant, text: string): string {
  const parts = text.split(find);
  if (parts.length !== 2)
    throw new Error(`mutant "${name}": its text is ${parts.length - 1} times in ${file}, not once`);
  return parts.join(replace);
}
