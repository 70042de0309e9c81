/** What the checkers of a simulated cluster say, and what they know of the coordinators' store. */
import type { ReplicaId, Term } from "../../src/model/ids.ts";

/** One of the checkers has found that what must hold does not. */
export class Violation extends Error {
  override readonly name = "Violation";
  readonly checker: string;

  constructor(checker: string, message: string) {
    super(`${checker}: ${message}`);
    this.checker = checker;
  }
}

export interface StoredSlot {
  readonly server: string;
  readonly replicaId: ReplicaId;
}

/** What the coordinators' store says of a shard. */
export interface StoredEnsemble {
  readonly term: Term;
  readonly leader: string | undefined;
  readonly members: readonly StoredSlot[];
  readonly formerMembers: readonly StoredSlot[];
}
