/**
 * What the coordinator asks of one replica, with the answers in the words of the decisions. A server that is not there
 * is not asked: the process that comes next must be greeted before anything reaches it.
 */

import { EMPTY_HEAD, NO_OFFSET, NO_TERM, type ReplicaId, type ShardId, type Term } from "../model/ids.ts";
import { FENCE_CALL_MS_MAX, STATUS_CALL_MS_MAX } from "../model/limits.ts";
import type { GetStatusResponse, NewTermResponse } from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { Answer, Slot } from "../protocol/election.ts";
import type { ObservedReplica } from "../protocol/ensemble-change.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import type { Cluster } from "./cluster.ts";
import { optionsOf } from "./cluster-config.ts";
import type { ShardReport } from "./report.ts";
import { wordsOf } from "./server-link.ts";
import type { ShardRef } from "./status-store.ts";
import { observedReplica } from "./stored-shard.ts";
import { unlessInterrupted } from "./wait.ts";

export type StatusAnswer =
  | { readonly kind: "status"; readonly response: GetStatusResponse }
  /** Nothing lives there, nor has anything that ended. */
  | { readonly kind: "none" }
  /** It did not answer, or not to this question. */
  | { readonly kind: "silent"; readonly why: string };

/** Rejects with Unreachable when the server is not there. */
export function requireServer({ servers }: Cluster, server: string): void {
  if (!servers.isAvailable(server)) throw new Unreachable(`${server} is not available: ${servers.why(server)}`);
}

export interface Fence {
  readonly term: Term;
  readonly slot: Pick<Slot, "server" | "replicaId" | "countedTerm">;
  /** `recover` only. */
  readonly adopt?: boolean;
}

/** NewTerm; rejects with what the server answered, or with Unreachable. */
export async function newTerm(cluster: Cluster, ref: ShardRef, fence: Fence): Promise<NewTermResponse> {
  const { term, slot, adopt = false } = fence;
  const { server, replicaId, countedTerm } = slot;
  requireServer(cluster, server);
  const confirmedStamp = cluster.stamps.confirmed(server);
  const options = optionsOf(cluster.config, ref.namespace);
  const request = { ...ref, term, options, replicaId, countedTerm, confirmedStamp, adopt };
  return cluster.dataServers.newTerm(server, request, { timeoutMs: FENCE_CALL_MS_MAX });
}

/** NewTerm as an election takes it. */
export async function askForVote(cluster: Cluster, ref: ShardRef, fence: Fence): Promise<Answer> {
  try {
    const { head, replicaId, ended, mintedTerm } = await newTerm(cluster, ref, fence);
    const counted = { term: head.term, offset: head.offset, crc: head.crc ?? EMPTY_HEAD.crc };
    return { kind: "fenced", replicaId, mintedTerm: mintedTerm ?? NO_TERM, head: counted, ended: ended ?? "" };
  } catch (error) {
    const why = wordsOf(error);
    const promise = isRefusal(error, "INVALID_TERM") ? await promiseOf(cluster, ref, fence.slot.server) : NO_TERM;
    return promise > fence.term ? { kind: "promised", promise } : { kind: "failed", why };
  }
}

export async function askStatus(cluster: Cluster, ref: ShardRef, server: string): Promise<StatusAnswer> {
  try {
    requireServer(cluster, server);
    const limits = { timeoutMs: STATUS_CALL_MS_MAX };
    return { kind: "status", response: await cluster.dataServers.getStatus(server, { shard: ref.shard }, limits) };
  } catch (error) {
    if (isRefusal(error, "NODE_IS_NOT_MEMBER")) return { kind: "none" };
    return { kind: "silent", why: wordsOf(error) };
  }
}

/** GetStatus of each, at once. */
export async function askStatuses(
  cluster: Cluster,
  ref: ShardRef,
  servers: readonly string[],
  signal: AbortSignal,
): Promise<Map<string, StatusAnswer>> {
  const asked = [...new Set(servers)].map(async (server): Promise<[string, StatusAnswer]> => {
    return [server, await askStatus(cluster, ref, server)];
  });
  return new Map(await unlessInterrupted(Promise.all(asked), signal));
}

/** GetStatus of all replicas of these shards, at once: how they get there is the adapter's matter. */
export async function askAll(
  cluster: Cluster,
  shards: readonly ShardReport[],
): Promise<Map<ShardId, Map<string, StatusAnswer>>> {
  const answers = new Map<ShardId, Map<string, StatusAnswer>>();
  const asking = shards.flatMap(({ namespace, shard, status, ensemble, formerEnsemble, observers }) => {
    const answered = new Map<string, StatusAnswer>();
    answers.set(shard, answered);
    if (status === "Deleting") return [];
    const servers = new Set([...ensemble, ...formerEnsemble, ...observers].map(({ server }) => server));
    const ask = async (server: string) => {
      answered.set(server, await askStatus(cluster, { namespace, shard }, server));
    };
    return [...servers].map((server) => ask(server));
  });
  await Promise.all(asking);
  return answers;
}

const NOTHING_THERE: ObservedReplica = {
  replicaId: NO_REPLICA,
  status: "not-member",
  promise: NO_TERM,
  head: EMPTY_HEAD,
  commitOffset: NO_OFFSET,
  verifiedOffset: NO_OFFSET,
};

/** Those that answered, as decisions see them. */
export function observedOf(answers: ReadonlyMap<string, StatusAnswer>): Map<string, ObservedReplica> {
  const observed = new Map<string, ObservedReplica>();
  for (const [server, answer] of answers) {
    if (answer.kind === "status") observed.set(server, observedReplica(answer.response));
    if (answer.kind === "none") observed.set(server, NOTHING_THERE);
  }
  return observed;
}

/** The term that a replica has promised, as far as it says. */
export function promised({ promise, term }: GetStatusResponse): Term {
  return promise ?? term;
}

export function isRefusal(error: unknown, reason: Refusal["reason"]): boolean {
  return error instanceof Refusal && error.reason === reason;
}

/**
 * Whether the replica that answers is the one that is listed. One that has ended answers no id; `ended` may also say why
 * the one before has. A reference server has no ids.
 */
export function isReplica({ replicaId }: GetStatusResponse, listed: ReplicaId): boolean {
  return replicaId === undefined || replicaId === listed;
}

async function promiseOf(cluster: Cluster, ref: ShardRef, server: string): Promise<Term> {
  const answer = await askStatus(cluster, ref, server);
  return answer.kind === "status" ? promised(answer.response) : NO_TERM;
}
