/**
 * A steady shard's replicas, from what GetStatus answers: whether the stored leader leads, and which members do not
 * follow it. Pure: what is to be done about it is the keeper's.
 *
 * Source: semantics.md §9.2 (verification; its [BUG]: a server that restarts faster than it is missed).
 */
import type { Term } from "../model/ids.ts";
import { isReplica, promised, type StatusAnswer } from "./replica-calls.ts";
import type { Member, ShardMetadata } from "./status-document.ts";

export interface Steadiness {
  /** "silent": it did not answer. "lost": it says that it does not lead this term. */
  readonly leader: "leads" | "silent" | "lost";
  /** Why it does not lead; empty when it does. */
  readonly why: string;
  /** Members that answered that they do not follow this term's leader. */
  readonly missing: readonly Member[];
  /** Members that follow. */
  readonly following: readonly Member[];
  /** A promise above the stored term: the store is not up to date, or somebody else has gone on. */
  readonly promiseAbove: { readonly server: string; readonly promise: Term } | undefined;
}

export function steadinessOf(shard: ShardMetadata, answers: ReadonlyMap<string, StatusAnswer>): Steadiness {
  const { leader, ensemble, term } = shard;
  const leading = ensemble.find(({ internal }) => internal === leader?.internal);
  const others = ensemble.filter((member) => member !== leading);
  const follows = (member: Member) => isOf(member, "FOLLOWER", term, answers.get(member.internal));
  const answered = ({ internal }: Member) => (answers.get(internal)?.kind ?? "silent") !== "silent";
  return {
    ...leadership(leading, term, leading === undefined ? undefined : answers.get(leading.internal)),
    missing: others.filter((member) => answered(member) && !follows(member)),
    following: others.filter(follows),
    promiseAbove: promiseAbove(term, answers),
  };
}

function leadership(
  leading: Member | undefined,
  term: Term,
  answer: StatusAnswer | undefined,
): Pick<Steadiness, "leader" | "why"> {
  if (leading === undefined) return { leader: "lost", why: "the leader is not in the ensemble" };
  if (answer === undefined || answer.kind === "silent") {
    return { leader: "silent", why: `${leading.internal}: ${answer?.why ?? "was not asked"}` };
  }
  if (answer.kind === "none") return { leader: "lost", why: `no replica lives at ${leading.internal} any more` };
  if (isOf(leading, "LEADER", term, answer)) return { leader: "leads", why: "" };
  const { status, ended } = answer.response;
  const more = (ended ?? "") === "" ? "" : `, its replica has ended: ${ended}`;
  return { leader: "lost", why: `${leading.internal} is ${status} in term ${promised(answer.response)}${more}` };
}

function isOf(
  { replicaId }: Member,
  status: "LEADER" | "FOLLOWER",
  term: Term,
  answer: StatusAnswer | undefined,
): boolean {
  if (answer?.kind !== "status" || replicaId === undefined) return false;
  const { response } = answer;
  return response.status === status && promised(response) === term && isReplica(response, replicaId);
}

function promiseAbove(term: Term, answers: ReadonlyMap<string, StatusAnswer>): Steadiness["promiseAbove"] {
  for (const [server, answer] of answers) {
    if (answer.kind !== "status") continue;
    const promise = promised(answer.response);
    if (promise > term) return { server, promise };
  }
  return undefined;
}
