/**
 * One election: from the stored ensembles and the NewTerm answers so far, who leads, or what to do instead.
 *
 *     steady              majority of `members`
 *     a change in doubt   majority of `members` (the new ones) AND majority of `formerMembers` (the old ones)
 *
 * A vote belongs to a replica id, never to an address. The best head is sought over all counted answers of both
 * ensembles, and only a member of the new one that holds it may lead: without that the only live copy of an acknowledged
 * entry sits where no candidate is.
 *
 * The caller has won this term by its own CAS (safety.md §3), stores `members`, `formerMembers` and `term` of a verdict
 * by another CAS, and only then sends BecomeLeader, once. Any other outcome of it means the next term.
 *
 * Source: safety.md §1, §2, §5, §9, §11; semantics.md §9.3.
 */
import { type Head, NO_OFFSET, type ReplicaId, type Term } from "../model/ids.ts";
import { compareHeads, type Member, NO_REPLICA, sameHead } from "./replica-state.ts";

/** A place in a stored ensemble. */
export interface Slot extends Member {
  /** Last term in which this id was made part of a majority, or added; NO_TERM: never. */
  readonly countedTerm: Term;
}

/** What the store says of a shard, as far as an election needs it. */
export interface StoredEnsembles {
  readonly term: Term;
  /** The ensemble; while a change is in doubt, the new one. */
  readonly members: readonly Slot[];
  /** The old ensemble while a change is in doubt, else empty. */
  readonly formerMembers: readonly Slot[];
  /** Whether any leader was ever elected. */
  readonly everLed: boolean;
  /** The term that an Oxia status document was adopted with; undefined for a shard of our own. */
  readonly adoptedTerm: Term | undefined;
}

/** What came back from NewTerm, by server. No entry: nothing has come yet. */
export type Answer =
  | {
      readonly kind: "fenced";
      /** Undefined from a reference server. */
      readonly replicaId: ReplicaId | undefined;
      readonly mintedTerm: Term;
      readonly head: Head;
      /** Why the id that was asked for has ended; empty: it counts. */
      readonly ended: string;
    }
  /** It has promised a higher term. */
  | { readonly kind: "promised"; readonly promise: Term }
  /** Refused otherwise, or out of reach. It may be asked again. */
  | { readonly kind: "failed"; readonly why: string };

export interface Election {
  readonly stored: StoredEnsembles;
  /** The term in the store as read again after the last answer; higher when another coordinator has gone on. */
  readonly termInStore: Term;
  readonly answers: ReadonlyMap<string, Answer>;
  /** Replicas whose BecomeLeader failed since the last leader. */
  readonly failedLeaders: ReadonlySet<ReplicaId>;
}

/** Whether one slot's answer counts, for `status`. */
export interface Standing {
  readonly slot: Slot;
  readonly former: boolean;
  readonly counted: boolean;
  /** Why it does not count; empty if it does. */
  readonly why: string;
}

export interface Candidate extends Member {
  readonly head: Head;
}

export type Verdict =
  | {
      readonly kind: "elect";
      /** All members that hold the best head, those whose BecomeLeader failed before last; the caller prefers among the rest. */
      readonly candidates: readonly Candidate[];
      /** Other counted members, for BecomeLeader: none has a better head. */
      readonly followers: readonly Candidate[];
      /** To be stored before BecomeLeader: empty slots filled, `countedTerm` raised for all that counted. */
      readonly members: readonly Slot[];
      readonly formerMembers: readonly Slot[];
    }
  /** More answers may come. */
  | { readonly kind: "wait"; readonly why: string }
  /** Everybody has answered or failed: raise the term and ask again. */
  | { readonly kind: "next-term"; readonly why: string }
  /** The best head is with a former member only: exchange the roles (ensemble-change.ts), under the same joint rule. */
  | { readonly kind: "turn-round"; readonly why: string }
  /** Another coordinator holds a later term: do nothing more in this one. */
  | { readonly kind: "superseded"; readonly termInStore: Term }
  /** A promise above the store's term: the store went back in time. No election; the operator decides. */
  | { readonly kind: "store-rolled-back"; readonly server: string; readonly promise: Term; readonly termInStore: Term }
  /** Two counted logs differ at one (term, offset): a disk lies. No election; the operator decides. */
  | { readonly kind: "diverged"; readonly why: string };

/** Judges the answers so far. Call it again with each that comes in, and once the grace for stragglers has passed. */
export function judge(election: Election): Verdict {
  const { stored, termInStore, answers } = election;
  for (const [server, answer] of answers) {
    if (answer.kind !== "promised" || answer.promise <= termInStore) continue;
    return { kind: "store-rolled-back", server, promise: answer.promise, termInStore };
  }
  if (termInStore > stored.term) return { kind: "superseded", termInStore };

  const votes = votesOf(election);
  const diverged = divergence(votes);
  if (diverged !== undefined) return { kind: "diverged", why: diverged };
  // A candidate that could not lead is left out while the others form the majorities (safety.md §5).
  const able = votes.filter((vote) => !election.failedLeaders.has(vote.replicaId));
  return elect(election, able, votes) ?? elect(election, votes, votes) ?? nobody(election, votes);
}

/** Each slot of both ensembles: whether it counts and why not. */
export function standings(election: Election): Standing[] {
  const { members, formerMembers } = election.stored;
  const standing = (former: boolean) => (slot: Slot) => {
    const why = whyNot(election, slot);
    return { slot, former, counted: why === "", why };
  };
  return [...members.map(standing(false)), ...formerMembers.map(standing(true))];
}

/**
 * Which id NewTerm asks each server for, with the last term in which that id was counted. A server that is in both
 * ensembles is sent the new id (safety.md §1, re-entry).
 */
export function slotsToFence({ members, formerMembers }: StoredEnsembles): Slot[] {
  const added = new Set(members.map(({ server }) => server));
  return [...members, ...formerMembers.filter(({ server }) => !added.has(server))];
}

export function majority(size: number): number {
  return Math.floor(size / 2) + 1;
}

/** An answer that counts for at least one slot. */
interface Vote extends Candidate {
  /** Whether it counts for a slot of the new ensemble. */
  readonly member: boolean;
}

function votesOf(election: Election): Vote[] {
  const counted = standings(election).filter((standing) => standing.counted);
  const votes = new Map<string, Vote>();
  for (const { slot, former } of counted) {
    const answer = election.answers.get(slot.server);
    if (answer?.kind !== "fenced") continue;
    const member = !former || votes.get(slot.server)?.member === true;
    const replicaId = answer.replicaId ?? NO_REPLICA;
    votes.set(slot.server, { server: slot.server, replicaId, head: answer.head, member });
  }
  return [...votes.values()];
}

/** `votes` form the majorities; of `all`, those who could not lead may follow. */
function elect(election: Election, votes: readonly Vote[], all: readonly Vote[]): Verdict | undefined {
  const { stored } = election;
  if (!majorities(election, votes)) return undefined;
  const best = bestOf(votes);
  const members = votes.filter((vote) => vote.member);
  const holders = members.filter(({ head }) => compareHeads(head, best) === 0);
  if (holders.length === 0) return undefined;
  // One that reaches the leader may be the only one that does. A better head than the leader's must not follow it (§5).
  const named = all.filter(({ head }) => compareHeads(head, best) <= 0);
  const failed = ({ replicaId }: Vote) => Number(election.failedLeaders.has(replicaId));
  const fill = (slots: readonly Slot[]) => slots.map((slot) => counted(slot, stored.term, named, election));
  return {
    kind: "elect",
    candidates: holders.sort((a, b) => failed(a) - failed(b)).map(candidate),
    followers: named.filter((vote) => vote.member).map(candidate),
    members: fill(stored.members),
    formerMembers: fill(stored.formerMembers),
  };
}

function nobody(election: Election, votes: readonly Vote[]): Verdict {
  const { stored, answers } = election;
  const silent = slotsToFence(stored).filter(({ server }) => !answers.has(server));
  const complete = majorities(election, votes);
  const why = complete ? "no member of the new ensemble holds the best head" : shortage(election);
  if (silent.length > 0) return { kind: "wait", why };
  return { kind: complete && stored.formerMembers.length > 0 ? "turn-round" : "next-term", why };
}

/** Both majorities while a change is in doubt. One of their union would let two disjoint halves acknowledge. */
function majorities(election: Election, votes: readonly Vote[]): boolean {
  const { members, formerMembers } = election.stored;
  const among = (slots: readonly Slot[]) => slots.filter((slot) => votesFor(election, slot, votes)).length;
  return (
    among(members) >= majority(members.length) &&
    (formerMembers.length === 0 || among(formerMembers) >= majority(formerMembers.length))
  );
}

function votesFor(election: Election, slot: Slot, votes: readonly Vote[]): boolean {
  return votes.some(({ server }) => server === slot.server) && whyNot(election, slot) === "";
}

function whyNot({ stored, answers }: Election, slot: Slot): string {
  const answer = answers.get(slot.server);
  if (answer === undefined) return "has not answered yet";
  if (answer.kind === "failed") return answer.why;
  if (answer.kind === "promised") return `has promised term ${answer.promise}`;
  if (answer.ended !== "") return answer.ended;
  const { replicaId, head, mintedTerm } = answer;
  if (slot.replicaId !== NO_REPLICA) {
    if (replicaId === undefined) return `answers without a replica id, listed is ${slot.replicaId}`;
    return replicaId === slot.replicaId ? "" : `replica ${replicaId} lives there, listed is ${slot.replicaId}`;
  }
  if (replicaId === undefined) {
    // It may have lost its disk and would not say so (safety.md §11).
    const unknown = head.offset === NO_OFFSET && stored.everLed && !allAnswered(stored, answers);
    return unknown ? "an empty reference server does not count before every listed member has answered" : "";
  }
  const young = stored.adoptedTerm !== undefined && mintedTerm > stored.adoptedTerm;
  return young ? `minted in term ${mintedTerm}, after the shard was adopted in term ${stored.adoptedTerm}` : "";
}

function allAnswered(stored: StoredEnsembles, answers: ReadonlyMap<string, Answer>): boolean {
  return slotsToFence(stored).every(({ server }) => answers.get(server)?.kind === "fenced");
}

function counted(slot: Slot, term: Term, votes: readonly Vote[], election: Election): Slot {
  const vote = votes.find(({ server }) => server === slot.server);
  if (vote === undefined || whyNot(election, slot) !== "") return slot;
  return { ...slot, replicaId: vote.replicaId, countedTerm: term };
}

function bestOf(votes: readonly Vote[]): Head {
  return votes.map(({ head }) => head).reduce((best, head) => (compareHeads(head, best) > 0 ? head : best));
}

function divergence(votes: readonly Vote[]): string | undefined {
  const varia = votes.filter(({ replicaId }) => replicaId !== NO_REPLICA);
  for (const [index, a] of varia.entries()) {
    const b = varia.slice(index + 1).find(({ head }) => compareHeads(head, a.head) === 0 && !sameHead(head, a.head));
    if (b !== undefined) return `${a.server} and ${b.server} differ at term ${a.head.term}, offset ${a.head.offset}`;
  }
  return undefined;
}

function shortage(election: Election): string {
  const missing = standings(election).filter((standing) => !standing.counted);
  return `no majority: ${missing.map(({ slot, why }) => `${slot.server}: ${why}`).join("; ")}`;
}

function candidate({ server, replicaId, head }: Vote): Candidate {
  return { server, replicaId, head };
}
