/**
 * How a leader's log and a follower's come to agree on an entry, from which the rest is sent: where the follower's head
 * is an entry of the leader's too, or after truncations, or by a snapshot.
 *
 *     head told ──> catchUp ──> attach: agreed
 *         ^            ├──────> Truncate; the head that is answered is compared again
 *         └────────────┘
 *                      └──────> snapshot: agreed at its last entry
 *
 * Heads that BecomeLeader names come without the chain's value: the follower is asked for it before anything is cut.
 * A reference follower cannot tell the term of its head but by NewTerm, and takes one Truncate after each (safety.md §11).
 *
 * Source: safety.md §6, §11; semantics.md §8.2, §8.6.
 */
import { EMPTY_HEAD, type Head, NO_OFFSET, type ReplicaId } from "../model/ids.ts";
import { PEER_CALL_MS_MAX, TRUNCATIONS_PER_ATTEMPT_MAX } from "../model/limits.ts";
import type { PeerHead, ShardTerm, TermOptions } from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { Followers } from "../ports.ts";
import { catchUp } from "../protocol/catch-up.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import type { EntryTail } from "./entry-tail.ts";
import type { OwnLog } from "./own-log.ts";

/** A follower as calls name it. */
export interface FollowerAddress extends ShardTerm {
  readonly server: string;
  /** NO_REPLICA, or undefined under a reference coordinator: it may be a reference server. */
  readonly replicaId: ReplicaId | undefined;
}

export interface AgreeContext {
  readonly log: OwnLog;
  readonly followers: Followers;
  readonly tail: EntryTail | undefined;
  readonly options: TermOptions;
  /** The leader's own shard: in a split the follower's is another one. */
  readonly shard: number;
  readonly signal: AbortSignal;
}

/** Whether the follower has an id that it answers by: a server of ours under a coordinator of ours. */
export function hasId({ replicaId }: FollowerAddress): boolean {
  return replicaId !== undefined && replicaId !== NO_REPLICA;
}

/** The last entry on which both logs agree, or that only a snapshot helps. `told`: the follower's head if it is known. */
export async function agree(
  context: AgreeContext,
  follower: FollowerAddress,
  told: PeerHead | undefined,
): Promise<Head | "snapshot"> {
  let head = told ?? (await askHead(context, follower));
  for (let truncations = 0; truncations < TRUNCATIONS_PER_ATTEMPT_MAX; truncations++) {
    const own = head.offset === NO_OFFSET ? undefined : await ownEntry(context, head.offset);
    const step = catchUp(await context.log.shape(context.shard), head, own);
    if (step.way === "snapshot") return "snapshot";
    if (step.way === "attach") return own ?? EMPTY_HEAD;
    head = await truncate(context, follower, head, step.keep);
  }
  throw new Refusal("RESOURCE_CONFLICT", `no agreement after ${TRUNCATIONS_PER_ATTEMPT_MAX} truncations`);
}

/** The leader's entry at an offset, also if its own log has not synced it yet. */
async function ownEntry({ log, shard, tail }: AgreeContext, offset: number): Promise<Head | undefined> {
  const held = tail?.at(offset);
  if (held === undefined) return log.at(shard, offset);
  return { term: held.entry.term, offset, crc: held.crc };
}

async function truncate(
  context: AgreeContext,
  follower: FollowerAddress,
  head: PeerHead,
  keep: { readonly term: number; readonly offset: number },
): Promise<PeerHead> {
  if (head.crc === undefined) {
    // What is cut must be what was compared: the head with its chain, which only a reference follower cannot tell.
    const full = await headInStatus(context, follower);
    if (full !== undefined && (full.term !== head.term || full.offset !== head.offset)) return full;
    if (full !== undefined) return truncate(context, follower, full, keep);
  }
  const { server, namespace, shard, term, replicaId } = follower;
  const expectedHead = head.crc === undefined ? undefined : { ...head, crc: head.crc };
  const request = { namespace, shard, term, keep, expectedHead, replicaId };
  const answer = await context.followers.truncate(server, request, limits(context)).catch((error: unknown) => {
    // it takes any Truncate while it is fenced: one that comes late may cut what it will have acked by then
    if (expectedHead !== undefined || !(error instanceof Unreachable)) throw error;
    throw new Refusal("INVALID_TERM", "a truncation may be under way still: out for this term", { cause: error });
  });
  const { entryTerm, headCrc } = answer;
  // a reference server answers with the request's term, whatever the entry's
  if (entryTerm === undefined || headCrc === undefined) return askHead(context, follower);
  return { term: entryTerm, offset: answer.head.offset, crc: headCrc };
}

/** The follower's durable head. A server that does not tell its term is a reference one: NewTerm, repeated, does. */
async function askHead(context: AgreeContext, follower: FollowerAddress): Promise<PeerHead> {
  const told = await headInStatus(context, follower);
  if (told !== undefined) return told;
  const { server, namespace, shard, term, replicaId } = follower;
  const { options } = context;
  const request = { namespace, shard, term, options, replicaId };
  const nothing = { countedTerm: undefined, confirmedStamp: undefined, adopt: undefined };
  return (await context.followers.newTerm(server, { ...request, ...nothing }, limits(context))).head;
}

/** The head with its term and chain, as servers of ours tell it; undefined from a reference server. */
async function headInStatus(context: AgreeContext, follower: FollowerAddress): Promise<Head | undefined> {
  const { server, shard, term, replicaId } = follower;
  const status = await context.followers.getStatus(server, { shard }, limits(context));
  const { headTerm, headOffset, headCrc } = status;
  if (headTerm === undefined || headCrc === undefined) {
    if (hasId(follower)) throw new Refusal("RESOURCE_CONFLICT", `${server} does not tell its head`);
    return undefined;
  }
  if (hasId(follower) && status.replicaId !== replicaId) {
    throw new Refusal("NODE_IS_NOT_MEMBER", `${server} holds another replica, or none`);
  }
  if ((status.promise ?? status.term) > term) throw new Refusal("INVALID_TERM", "a later term is promised");
  return { term: headTerm, offset: headOffset, crc: headCrc };
}

function limits({ signal }: AgreeContext) {
  return { timeoutMs: PEER_CALL_MS_MAX, signal };
}
