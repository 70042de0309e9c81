/**
 * One swap of an ensemble's member for another, from what is stored and what the replicas report: which step is due.
 *
 *     prepare ─> observe ─> catch-up ─> freeze ─> settle ─> store-joint ═> elect ═> store-result ─> delete ─> done
 *                                        └─ a lapse leads back to catch-up       └─ turn-round ═> elect
 *
 * Only what lies between the double lines is stored: `formerMembers` is not empty exactly while the change is in doubt.
 * So there is no step to remember. A coordinator that comes new, or comes back, asks again what is due: before the joint
 * CAS a swap leaves an observer and a freeze that lapses; after it every election needs both majorities; after the result
 * the removed copies wait in `pendingDeletes`. One change is in doubt at a time.
 *
 * Source: safety.md §2, §9; semantics.md §9.4 (whose swap is forgotten with its coordinator: acknowledged writes are lost).
 */
import { assert } from "../lib/assert.ts";
import { type Head, NO_TERM, type Offset, type ReplicaId, type Term } from "../model/ids.ts";
import { majority, type Slot, type StoredEnsembles } from "./election.ts";
import { type Member, NO_REPLICA, type ReplicaStatus, sameHead } from "./replica-state.ts";

/** A freeze ends by itself this long after it was last asked for, so that no dead coordinator leaves a shard read-only. */
export const FREEZE_LAPSE_MS = 3_000;
/** A freeze is asked for again after this long: two renewals may be lost. */
export const FREEZE_RENEW_MS = 1_000;
/** A swap holds writes back no longer than this; then it thaws and catches up again. */
export const FREEZE_TOTAL_MS_MAX = 10_000;

/** A shard as the coordinator's store has it. */
export interface StoredShard extends StoredEnsembles {
  readonly leader: Member | undefined;
  /** Copies that were removed and not deleted yet. */
  readonly pendingDeletes: readonly Member[];
}

/** What is wanted: `added` in the place of `removed`. Kept in memory: a swap that is not stored may be forgotten. */
export interface Swap {
  readonly removed: Member;
  /** `replicaId` is NO_REPLICA until NewTerm has answered it. */
  readonly added: Member;
}

/** GetStatus of one replica. */
export interface ObservedReplica {
  readonly replicaId: ReplicaId;
  readonly status: ReplicaStatus;
  readonly promise: Term;
  readonly head: Head;
  readonly commitOffset: Offset;
  /** How far it has acked to the leader of `promise`. */
  readonly verifiedOffset: Offset;
}

/** A freeze that the leader has granted, until it lapses or is thawed. All times in ms of one clock that never goes back. */
export interface Freeze {
  /** When the request that began it was sent; a renewal in time leaves it. */
  readonly firstAskedMs: number;
  /** When the last granted request was sent. */
  readonly lastAskedMs: number;
  /** FreezeShard's answer. */
  readonly headOffset: Offset;
}

export interface Observed {
  /** By server; a replica that did not answer is absent. */
  readonly replicas: ReadonlyMap<string, ObservedReplica>;
  /** Whether the leader has taken the new server as an observer in this term. */
  readonly observing: boolean;
  readonly freeze: Freeze | undefined;
}

export type Step =
  /** NewTerm of the steady term, with id 0, to the new server: its answer has the id. */
  | { readonly due: "prepare" }
  /** AddFollower as an observer. */
  | { readonly due: "observe" }
  /** Ask for the statuses again, later. */
  | { readonly due: "catch-up"; readonly why: string }
  /** FreezeShard(true): for the first time, or again so that it does not lapse. */
  | { readonly due: "freeze" }
  /** Frozen: ask for the statuses again, soon. */
  | { readonly due: "settle"; readonly why: string }
  /** FreezeShard(false), and begin again with catching up. */
  | { readonly due: "thaw"; readonly why: string }
  /** One CAS of this document; its term is then won, and an election in it begins. */
  | { readonly due: "store-joint"; readonly next: StoredShard }
  /** Raise the term by CAS and elect: no leader is stored. */
  | { readonly due: "elect" }
  /** Not a swap for this ensemble any more. */
  | { readonly due: "forget"; readonly why: string };

/** What a swap needs next. It is asked again after each step, and by a new coordinator with what it has just read. */
export function nextStep(stored: StoredShard, swap: Swap, observed: Observed, nowMs: number): Step {
  const { members, formerMembers, leader } = stored;
  if (leader === undefined || formerMembers.length > 0) return { due: "elect" };
  const fits = members.some((slot) => isSame(slot, swap.removed));
  if (!fits) return { due: "forget", why: "the replica to remove is not in the ensemble" };
  if (members.some((slot) => slot.server === swap.added.server && slot.server !== swap.removed.server)) {
    return { due: "forget", why: "the server to add is in the ensemble" };
  }
  if (swap.added.replicaId === NO_REPLICA) return { due: "prepare" };
  const { freeze } = observed;
  const lapsed = freeze !== undefined && nowMs - freeze.lastAskedMs >= FREEZE_LAPSE_MS;
  if (freeze === undefined || lapsed) {
    if (!observed.observing) return { due: "observe" };
    const lag = behind(stored, swap, observed);
    return lag === "" ? { due: "freeze" } : { due: "catch-up", why: lag };
  }
  const apart = unsettled(stored, swap, observed, freeze);
  if (apart === "") return { due: "store-joint", next: jointDocument(stored, swap) };
  if (nowMs - freeze.firstAskedMs >= FREEZE_TOTAL_MS_MAX) return { due: "thaw", why: apart };
  return nowMs - freeze.lastAskedMs >= FREEZE_RENEW_MS ? { due: "freeze" } : { due: "settle", why: apart };
}

/** Whether a leader's freeze that was last asked for at `askedMs` has lapsed: it takes writes again. */
export function freezeLapsed(askedMs: number, nowMs: number): boolean {
  return nowMs - askedMs >= FREEZE_LAPSE_MS;
}

/** The next election of a shard as it is stored. Its term belongs to whoever gets a positive CAS reply for it (§3). */
export function nextTerm(stored: StoredShard): StoredShard {
  return { ...stored, term: stored.term + 1, leader: undefined };
}

/** The change, in doubt from here on: new term, both ensembles, no leader, in one CAS. */
export function jointDocument(stored: StoredShard, { removed, added }: Swap): StoredShard {
  assert(stored.formerMembers.length === 0, "one change in doubt at a time", stored.term);
  const slot: Slot = { ...added, countedTerm: NO_TERM };
  const members = stored.members.map((member) => (isSame(member, removed) ? slot : member));
  return { ...nextTerm(stored), members, formerMembers: stored.members };
}

/** The change taken back: the roles exchanged under the same joint rule, in a new term. It is not simply dropped. */
export function turnedRound(stored: StoredShard): StoredShard {
  assert(stored.formerMembers.length > 0, "no change is in doubt", stored.term);
  return { ...nextTerm(stored), members: stored.formerMembers, formerMembers: stored.members };
}

/** The election's result: the change is over, whichever way; what was removed waits to be deleted. */
export function resultDocument(stored: StoredShard, leader: Member): StoredShard {
  const { members, formerMembers } = stored;
  assert(
    members.some((slot) => isSame(slot, leader)),
    "the leader is a member",
    leader.replicaId,
  );
  const removed = formerMembers.filter((slot) => slot.replicaId !== NO_REPLICA);
  const pendingDeletes = [...stored.pendingDeletes, ...removed.map(({ server, replicaId }) => ({ server, replicaId }))]
    .filter((copy, index, all) => all.findIndex((other) => isSame(other, copy)) === index)
    // Where the server has a new id, the old one ended before that was minted.
    .filter((copy) => !members.some((slot) => slot.server === copy.server));
  return { ...stored, leader, everLed: true, formerMembers: [], pendingDeletes };
}

/**
 * Which removed copies may be deleted now: none before every member has acked the leader's own-term entry, for till then
 * a removed copy may be the only one beside the leader's. A leader that serves has committed that entry, so whoever has
 * acked its commit has acked it.
 */
export function deletable(stored: StoredShard, observed: Observed): readonly Member[] {
  const { leader, term, members, formerMembers, pendingDeletes } = stored;
  const leading = leader === undefined ? undefined : observed.replicas.get(leader.server);
  if (leader === undefined || formerMembers.length > 0 || leading === undefined) return [];
  const serves = isLeaderOf(leading, leader, term);
  const acked = (slot: Slot) =>
    isSame(slot, leader) || holds(observed.replicas.get(slot.server), slot, term, leading.commitOffset);
  return serves && members.every(acked) ? pendingDeletes : [];
}

/** After DeleteShard of `copy` has succeeded, or was refused because another id lives there. */
export function deletedDocument(stored: StoredShard, copy: Member): StoredShard {
  return { ...stored, pendingDeletes: stored.pendingDeletes.filter((other) => !isSame(other, copy)) };
}

/** Why the change may not start yet; empty: it may. What counts is what the new replica itself reports. */
function behind(stored: StoredShard, { added }: Swap, { replicas }: Observed): string {
  const leader = stored.leader && replicas.get(stored.leader.server);
  if (leader === undefined || !isLeaderOf(leader, stored.leader, stored.term)) return "the leader does not answer";
  const replica = replicas.get(added.server);
  if (replica?.head.term !== stored.term) return `${added.server} has no entry of term ${stored.term} yet`;
  const caughtUp = holds(replica, added, stored.term, leader.commitOffset);
  return caughtUp ? "" : `${added.server} is at ${replica.verifiedOffset} of ${leader.commitOffset}`;
}

/**
 * Why the joint CAS must wait while frozen; empty: every new member holds the frozen head, verified and durable. One
 * whose replica is gone for good is not waited for: it would hold up the change that is to replace it, or another one.
 */
function unsettled(stored: StoredShard, { removed, added }: Swap, { replicas }: Observed, freeze: Freeze): string {
  const leader = stored.leader && replicas.get(stored.leader.server);
  const frozen = leader?.status === "frozen" && isLeaderOf(leader, stored.leader, stored.term);
  if (leader === undefined || !frozen) return "the leader does not answer that it is frozen";
  if (leader.head.offset !== freeze.headOffset) return "the leader's head is not the frozen one";
  const staying = stored.members.filter((slot) => !isSame(slot, removed) && !isGone(slot, replicas));
  const coming = [added, ...staying];
  if (coming.length < majority(stored.members.length)) return "most of the new ensemble is gone";
  const late = coming.find((member) => {
    if (isSame(member, stored.leader)) return false;
    const replica = replicas.get(member.server);
    return !holds(replica, member, stored.term, freeze.headOffset) || !sameHead(replica!.head, leader.head);
  });
  return late === undefined ? "" : `${late.server} does not hold the frozen head ${freeze.headOffset} yet`;
}

/** Whether the server has answered that another replica lives there than the listed one, or none. */
export function isGone({ server, replicaId }: Member, replicas: Observed["replicas"]): boolean {
  const replica = replicas.get(server);
  return replicaId !== NO_REPLICA && replica !== undefined && replica.replicaId !== replicaId;
}

function holds(replica: ObservedReplica | undefined, { replicaId }: Member, term: Term, offset: Offset): boolean {
  return replica?.replicaId === replicaId && replica.promise === term && replica.verifiedOffset >= offset;
}

function isLeaderOf(replica: ObservedReplica, leader: Member | undefined, term: Term): boolean {
  const leads = replica.status === "leader" || replica.status === "frozen";
  return leads && replica.replicaId === leader?.replicaId && replica.promise === term;
}

function isSame(a: Member, b: Member | undefined): boolean {
  return a.server === b?.server && a.replicaId === b.replicaId;
}
