/**
 * A leader that is well gives its place to another member: writes are held back until that one holds all of them, as it
 * reports itself. Only then does the election that follows find it among the best heads; and it is over at once.
 *
 *     is it close? ─> FreezeShard(true) ─> its verified head is the frozen one ─> an election (the keeper's)
 *                                        └─ not in time: FreezeShard(false), unless it is frozen by request
 *
 * It is a matter of speed alone: the election stands by its own rules, and a freeze that is forgotten lapses.
 *
 * Source: semantics.md §9.7; safety.md §2 (freeze).
 */
import {
  HAND_OVER_LAG_ENTRIES_MAX,
  HAND_OVER_MS_MAX,
  STATUS_CALL_MS_MAX,
  SWAP_SETTLE_POLL_MS,
} from "../model/limits.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { ObservedReplica } from "../protocol/ensemble-change.ts";
import type { Cluster } from "./cluster.ts";
import { askStatuses, observedOf, requireServer } from "./replica-calls.ts";
import { wordsOf } from "./server-link.ts";
import type { ShardMetadata } from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";
import { Interrupted, sleep, unlessInterrupted } from "./wait.ts";

export interface HandOver {
  readonly ref: ShardRef;
  readonly shard: ShardMetadata;
  readonly heir: string;
  /** Writes are held back by request, whatever comes of it. */
  readonly staysFrozen: boolean;
}

/**
 * Holds writes back until `heir`, a member, holds all that the leader does. Answers why it does not come to that, with
 * writes going on as before; empty: it has.
 */
export async function settleHeir(
  cluster: Cluster,
  { ref, shard, heir, staysFrozen }: HandOver,
  signal: AbortSignal,
): Promise<string> {
  const { clock } = cluster;
  try {
    const lag = await lagOf(cluster, ref, shard, heir, signal);
    if (lag === undefined) return `${heir} does not follow`;
    if (lag > HAND_OVER_LAG_ENTRIES_MAX) return `${heir} is ${lag} entries behind`;
    const untilMs = clock.monotonicMs() + HAND_OVER_MS_MAX;
    await freeze(cluster, ref, shard, true, signal);
    for (;;) {
      if ((await lagOf(cluster, ref, shard, heir, signal)) === 0) return "";
      if (clock.monotonicMs() >= untilMs) break;
      await sleep(clock, SWAP_SETTLE_POLL_MS, signal);
    }
    if (!staysFrozen) await freeze(cluster, ref, shard, false, signal);
    return `${heir} did not hold all entries in ${HAND_OVER_MS_MAX} ms`;
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    if (!(error instanceof Refusal) && !(error instanceof Unreachable)) throw error;
    return wordsOf(error);
  }
}

/** Entries that the leader holds and `heir` has not verified; undefined: one of them is not what it should be. */
async function lagOf(
  cluster: Cluster,
  ref: ShardRef,
  { term, leader, ensemble }: ShardMetadata,
  heir: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  const leading = leader!.internal;
  const replicas = observedOf(await askStatuses(cluster, ref, [leading, heir], signal));
  const [from, to] = [replicas.get(leading), replicas.get(heir)];
  const isOf = (server: string, replica: ObservedReplica | undefined) =>
    replica?.promise === term && ensemble.find(({ internal }) => internal === server)?.replicaId === replica.replicaId;
  if (!isOf(leading, from) || !isOf(heir, to) || to!.status !== "following") return undefined;
  return Math.max(0, from!.head.offset - to!.verifiedOffset);
}

async function freeze(
  cluster: Cluster,
  ref: ShardRef,
  { term, leader }: ShardMetadata,
  frozen: boolean,
  signal: AbortSignal,
): Promise<void> {
  requireServer(cluster, leader!.internal);
  const limits = { timeoutMs: STATUS_CALL_MS_MAX };
  const call = cluster.dataServers.freezeShard(leader!.internal, { ...ref, term, frozen }, limits);
  await unlessInterrupted(call, signal);
}
