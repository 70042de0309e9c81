/**
 * What must hold of the coordinators' store and of what follows from it, checked at each change of a shard's document
 * and at each call that rests on one:
 *
 *     EnsembleChange      an ensemble becomes another one only by way of both: stored together in a new term, in doubt
 *                         until a leader of that term is stored, taken back only by exchanging them
 *     SettledFirst        it begins when every new member holds the head that the frozen leader has answered
 *     ResultIsStoredLast  a leader is stored that has led that term; clients are told of stored leaders only
 *     RemovedCopyIsNeeded a removed copy is deleted when every member holds an entry of the term, and struck off when it
 *                         is gone; what is deleted is no member
 *
 * Source: safety.md §1, §2, §9.
 */
import type { Offset, ReplicaId, ShardId, Term } from "../../src/model/ids.ts";
import type { DeleteShardRequest, ShardAssignments } from "../../src/model/peer-messages.ts";
import { NO_REPLICA } from "../../src/protocol/replica-state.ts";
import type { Line } from "./entry-history.ts";
import type { ShardInvariants } from "./shard-invariants.ts";
import { type StoredSlot, Violation } from "./violation.ts";

/** A shard's document, as far as it is looked at. */
export interface ShardDocument {
  readonly term: Term;
  readonly leader: { readonly server: string; readonly publicAddress: string } | undefined;
  readonly members: readonly StoredSlot[];
  readonly formerMembers: readonly StoredSlot[];
  readonly observers: readonly StoredSlot[];
  readonly pendingDeletes: readonly StoredSlot[];
}

interface ShardChanges {
  document: ShardDocument | undefined;
  /** By term: the head that FreezeShard has answered first. */
  readonly frozen: Map<Term, Offset>;
  /** Public addresses of all that were ever stored as leaders. */
  readonly leaders: Set<string>;
}

export class ChangeInvariants {
  readonly #of: (shard: ShardId) => ShardInvariants;
  readonly #fail: (violation: Violation) => void;
  readonly #shards = new Map<ShardId, ShardChanges>();

  constructor(of: (shard: ShardId) => ShardInvariants, fail: (violation: Violation) => void) {
    this.#of = of;
    this.#fail = fail;
  }

  /** The store holds this of a shard from now on. */
  stored(shard: ShardId, after: ShardDocument): void {
    const changes = this.#changes(shard);
    const { document: before } = changes;
    changes.document = after;
    if (after.leader !== undefined) changes.leaders.add(after.leader.publicAddress);
    if (before === undefined) return;
    this.#checkEnsemble(shard, before, after);
    this.#checkResult(shard, before, after);
    this.#checkStruckOff(shard, before, after);
  }

  /** An operator has changed the store by hand, or has accepted a loss: what comes next is compared with nothing. */
  forget(shard: ShardId): void {
    this.#changes(shard).document = undefined;
  }

  /** A leader has answered that it is frozen. */
  frozen(shard: ShardId, term: Term, headOffset: Offset): void {
    const { frozen } = this.#changes(shard);
    if (!frozen.has(term)) frozen.set(term, headOffset);
  }

  /** DeleteShard has succeeded. */
  deleted(server: string, { shard, term, replicaId }: DeleteShardRequest, lived: ReplicaId | undefined): void {
    const { document } = this.#changes(shard);
    if (document === undefined || lived === undefined) return;
    const listed = [...document.members, ...document.formerMembers].some((slot) => slot.replicaId === lived);
    if (listed) this.#violated("RemovedCopyIsNeeded", shard, `${lived} at ${server}, a member, is deleted`);
    if (lived !== replicaId) {
      this.#violated("RemovedCopyIsNeeded", shard, `${lived} at ${server} is deleted, ${replicaId} was meant`);
    }
    const late = document.members.find((slot) => !this.#hasHeld(shard, slot, ({ head }) => head!.term >= term));
    if (late === undefined) return;
    const what = `${lived} at ${server} is deleted in term ${term}, of which ${late.server} has no entry`;
    this.#violated("RemovedCopyIsNeeded", shard, what);
  }

  /** A server was told who leads what. */
  assigned({ namespaces }: ShardAssignments): void {
    for (const shards of namespaces.values()) {
      for (const { shard, leader } of shards) {
        if (leader === "" || this.#changes(shard).leaders.has(leader)) continue;
        this.#violated("ResultIsStoredLast", shard, `clients are told that ${leader} leads, which was never stored`);
      }
    }
  }

  // --- the store ------------------------------------------------------------------------------------------------

  #checkEnsemble(shard: ShardId, before: ShardDocument, after: ShardDocument): void {
    const isSame = same(before.members, after.members) && same(before.formerMembers, after.formerMembers);
    if (isSame) return;
    const was = before.formerMembers.length > 0;
    const is = after.formerMembers.length > 0;
    const begins = !was && is && same(before.members, after.formerMembers) && after.leader === undefined;
    const turnsRound =
      was && is && same(before.members, after.formerMembers) && same(before.formerMembers, after.members);
    const ends = was && !is && same(before.members, after.members) && after.leader !== undefined;
    const isNewTerm = after.term > before.term;
    if (!(ends || (isNewTerm && (begins || turnsRound)))) {
      const what = `${describe(before)} becomes ${describe(after)}`;
      this.#violated("EnsembleChange", shard, what);
    }
    if (begins) this.#checkSettled(shard, before, after);
  }

  #checkSettled(shard: ShardId, { term }: ShardDocument, { members }: ShardDocument): void {
    const frozen = this.#changes(shard).frozen.get(term);
    if (frozen === undefined) {
      this.#violated("SettledFirst", shard, `its ensemble changes, and the leader of ${term} was never frozen`);
      return;
    }
    const late = members.find(
      (slot) =>
        !this.#hasHeld(shard, slot, ({ durable, head }) => {
          return durable > frozen && (frozen < 0 || head!.term >= term);
        }),
    );
    if (late === undefined) return;
    this.#violated("SettledFirst", shard, `its ensemble changes, and ${late.server} has not held the frozen ${frozen}`);
  }

  #checkResult(shard: ShardId, before: ShardDocument, { term, leader }: ShardDocument): void {
    if (leader === undefined || (before.leader?.server === leader.server && before.term === term)) return;
    const led = this.#of(shard).leaderOf(term);
    if (led === leader.server) return;
    this.#violated(
      "ResultIsStoredLast",
      shard,
      `${leader.server} is stored as the leader of ${term}: ${led ?? "nobody"} leads`,
    );
  }

  #checkStruckOff(shard: ShardId, before: ShardDocument, after: ShardDocument): void {
    const listed = [...after.members, ...after.formerMembers, ...after.observers, ...after.pendingDeletes];
    for (const copy of before.pendingDeletes) {
      if (copy.replicaId === NO_REPLICA || listed.some(({ replicaId }) => replicaId === copy.replicaId)) continue;
      if (this.#of(shard).livingAt(copy.server) !== copy.replicaId) continue;
      this.#violated("RemovedCopyIsNeeded", shard, `${copy.replicaId} at ${copy.server} is struck off, and lives`);
    }
  }

  /** Whether an id has had such a log; one that faults have taken something from may have had. */
  #hasHeld(shard: ShardId, { replicaId }: StoredSlot, had: (line: Line) => boolean): boolean {
    const trace = this.#of(shard).replica(replicaId);
    if (trace === undefined || trace.lost) return true;
    const isHeld = (line: Line) => line.head !== undefined && had(line);
    return isHeld(trace.line) || trace.before.some(isHeld);
  }

  #changes(shard: ShardId): ShardChanges {
    let changes = this.#shards.get(shard);
    if (changes === undefined) {
      changes = { document: undefined, frozen: new Map(), leaders: new Set() };
      this.#shards.set(shard, changes);
    }
    return changes;
  }

  #violated(checker: string, shard: ShardId, what: string): void {
    this.#fail(new Violation(checker, `shard ${shard}: ${what}`));
  }
}

/** Whether both name the same replicas; an empty slot may have been filled. */
function same(before: readonly StoredSlot[], after: readonly StoredSlot[]): boolean {
  const stays = ({ server, replicaId }: StoredSlot) =>
    after.some((slot) => slot.server === server && (slot.replicaId === replicaId || replicaId === NO_REPLICA));
  return before.length === after.length && before.every(stays);
}

function describe({ term, members, formerMembers }: ShardDocument): string {
  const words = (slots: readonly StoredSlot[]) =>
    slots.map(({ server, replicaId }) => `${server}/${replicaId}`).join(" ");
  return `term ${term} [${words(members)}] before [${words(formerMembers)}]`;
}
