/**
 * `recover --accept-loss`: a shard whose majority is lost for good goes on with replicas that the operator names.
 *
 *     plan ─> one CAS: a term above every promise, these servers alone ─> NewTerm with `adopt`: new ids ─> CAS of the ids
 *                                                                                       └─> ordinary elections
 *
 * After the first CAS no old id is listed any more, wherever a crash leaves it: empty slots are filled by an ordinary
 * election as well. The server with the best head is the "former" ensemble until a leader is stored: no election among
 * the others can leave behind what it alone holds.
 *
 * Source: safety.md §1, "a lost majority is never guessed around".
 */
import { type Head, NO_TERM, type ReplicaId, type Term } from "../model/ids.ts";
import { Refusal } from "../model/refusal.ts";
import type { Slot } from "../protocol/election.ts";
import type { StoredShard } from "../protocol/ensemble-change.ts";
import { type Member as Copy, compareHeads, NO_REPLICA } from "../protocol/replica-state.ts";
import { type Cluster, shardFields } from "./cluster.ts";
import { askStatuses, newTerm, promised, type StatusAnswer } from "./replica-calls.ts";
import { wordsOf } from "./server-link.ts";
import type { Member, ShardMetadata } from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";
import { observedReplica, serversOf, shardDocument, storedShard } from "./stored-shard.ts";

export interface Choice {
  readonly ref: ShardRef;
  /** Internal addresses of servers whose replicas are to be the shard. */
  readonly chosen: readonly string[];
}

export interface FoundReplica {
  readonly server: string;
  readonly chosen: boolean;
  /** NO_REPLICA: none lives there, or nobody knows. */
  readonly replicaId: ReplicaId;
  /** Undefined: it did not answer. */
  readonly head: Head | undefined;
  readonly promise: Term;
  /** Why it did not answer, or why its id has ended; empty: neither. */
  readonly why: string;
}

export interface LossPlan {
  /** The term that the shard gets: above the stored one and every promise that was told. */
  readonly term: Term;
  readonly replicas: readonly FoundReplica[];
  /** The replica to begin with: the best head among the chosen ones. */
  readonly best: FoundReplica;
  /** Entries that may be given up with them, in words for the operator. */
  readonly losses: readonly string[];
  /** Replicas that are given up for ever, in words. */
  readonly dropped: readonly string[];
}

export interface Accepted {
  readonly plan: LossPlan;
  /** Servers that could not take a new id yet: an election will count what they then have. */
  readonly pending: readonly string[];
}

/** Asks all replicas. Throws when the choice makes no sense. */
export async function planLoss(cluster: Cluster, { ref, chosen }: Choice, signal: AbortSignal): Promise<LossPlan> {
  const shard = shardOf(cluster, ref);
  if (chosen.length === 0 || new Set(chosen).size !== chosen.length) {
    throw new Refusal("INVALID_ARGUMENT", "name the servers whose replicas are to be the shard, each once");
  }
  const servers = [...new Set([...serversOf(shard), ...chosen])];
  const answers = await askStatuses(cluster, ref, servers, signal);
  const replicas = servers.map((server) => found(server, chosen.includes(server), answers.get(server)!));
  const able = replicas.filter((replica) => replica.chosen && replica.head !== undefined);
  const silent = replicas.find((replica) => replica.chosen && replica.head === undefined);
  if (silent !== undefined) throw new Refusal("RESOURCE_UNAVAILABLE", `${silent.server}: ${silent.why}`);
  const best = able.reduce((a, b) => (compareHeads(b.head!, a.head!) > 0 ? b : a));
  const term = Math.max(shard.term, ...replicas.map(({ promise }) => promise)) + 1;
  return { term, replicas, best, ...givenUp(shard, replicas, best) };
}

/** Carries it out. Rejects when the shard was changed meanwhile: look again. */
export async function acceptLoss(cluster: Cluster, choice: Choice, signal: AbortSignal): Promise<Accepted> {
  const { ref, chosen } = choice;
  const { store, logger, config } = cluster;
  const plan = await planLoss(cluster, choice, signal);
  const shard = shardOf(cluster, ref);
  const claim = shardDocument({ ...shard, adoptedTerm: undefined, observers: [] }, chosenAlone(shard, choice, plan), {
    servers: config.servers,
  });
  if (!(await store.updateShard(ref, shard, claim))) throw changed(ref);
  logger.warn(shardFields(ref, { term: plan.term, chosen, losses: plan.losses }), "loss accepted");

  const minted = new Map<string, ReplicaId>();
  const pending: string[] = [];
  for (const server of chosen) {
    const slot = { server, replicaId: NO_REPLICA, countedTerm: NO_TERM };
    try {
      const { replicaId } = await newTerm(cluster, ref, { term: plan.term, slot, adopt: true });
      minted.set(server, replicaId ?? NO_REPLICA);
    } catch (error) {
      pending.push(`${server}: ${wordsOf(error)}`);
    }
  }
  const named = (member: Member): Member => {
    const replicaId = minted.get(member.internal);
    return replicaId === undefined || replicaId === NO_REPLICA
      ? member
      : { ...member, replicaId, mintedTerm: plan.term };
  };
  const next = { ...claim, ensemble: claim.ensemble.map(named), formerEnsemble: claim.formerEnsemble?.map(named) };
  if (!(await store.updateShard(ref, claim, next))) throw changed(ref);
  return { plan, pending };
}

/** All slots empty: no old id is listed. */
function chosenAlone(shard: ShardMetadata, { chosen }: Choice, { term, best }: LossPlan): StoredShard {
  const stored = storedShard(shard);
  const slot = (server: string): Slot => ({ server, replicaId: NO_REPLICA, countedTerm: NO_TERM });
  const dropped: Copy[] = [
    ...stored.members,
    ...stored.formerMembers,
    ...shard.observers.map(copyOf),
    ...stored.pendingDeletes,
  ];
  return {
    ...stored,
    term,
    leader: undefined,
    members: chosen.map(slot),
    formerMembers: [slot(best.server)],
    pendingDeletes: dropped
      .filter(({ server, replicaId }) => replicaId !== NO_REPLICA && !chosen.includes(server))
      .map(({ server, replicaId }) => ({ server, replicaId })),
  };
}

function copyOf({ internal, replicaId }: Member): Copy {
  return { server: internal, replicaId: replicaId ?? NO_REPLICA };
}

function shardOf({ store }: Cluster, ref: ShardRef): ShardMetadata {
  const shard = store.shard(ref);
  if (shard === undefined || shard.status === "Deleting") {
    throw new Refusal("SHARD_NOT_FOUND", `namespace ${ref.namespace} has no shard ${ref.shard}`);
  }
  return shard;
}

function changed({ shard }: ShardRef): Refusal {
  return new Refusal("RESOURCE_CONFLICT", `shard ${shard} was changed by another coordinator meanwhile`);
}

function found(server: string, chosen: boolean, answer: StatusAnswer): FoundReplica {
  const nothing = { server, chosen, replicaId: NO_REPLICA, head: undefined, promise: NO_TERM };
  if (answer.kind === "silent") return { ...nothing, why: answer.why };
  if (answer.kind === "none") return { ...nothing, why: "no replica lives there" };
  const { head, replicaId } = observedReplica(answer.response);
  const promise = promised(answer.response);
  if (answer.response.status === "NOT_MEMBER") return { ...nothing, promise, why: answer.response.ended ?? "" };
  return { server, chosen, replicaId, head, promise, why: "" };
}

function givenUp(
  shard: ShardMetadata,
  replicas: readonly FoundReplica[],
  best: FoundReplica,
): Pick<LossPlan, "losses" | "dropped"> {
  const losses: string[] = [];
  const dropped: string[] = [];
  const listed = new Set([...shard.ensemble, ...(shard.formerEnsemble ?? [])].map(({ internal }) => internal));
  for (const { server, chosen, head, why, replicaId } of replicas) {
    if (chosen || !listed.has(server)) continue;
    if (head === undefined) losses.push(`${server} cannot be asked (${why}): what it alone holds is lost`);
    else if (compareHeads(head, best.head!) > 0) {
      const words = ({ term, offset }: Head) => `term ${term}, offset ${offset}`;
      losses.push(
        `${server} holds entries up to ${words(head)}, ${best.server} up to ${words(best.head!)}: the difference is lost`,
      );
    }
    const replica = replicaId === NO_REPLICA ? "the replica" : `replica ${replicaId}`;
    dropped.push(`${replica} at ${server} never counts again, and is deleted`);
  }
  return { losses, dropped };
}
