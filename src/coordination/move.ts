/**
 * Carries out one swap of an ensemble's member for another, step by step as ensemble-change.ts says what is due, up to
 * the document that stores both ensembles: the election in it is the keeper's. Nothing of a swap before that document
 * has to be remembered; only the copy that is being filled is listed with the shard, so that it can be deleted if
 * nothing comes of it.
 *
 * Source: safety.md §2; semantics.md §9.4.
 */
import { NO_TERM, type Term } from "../model/ids.ts";
import {
  FENCE_CALL_MS_MAX,
  SHARD_VERIFY_MS,
  STATUS_CALL_MS_MAX,
  SWAP_POLL_MS,
  SWAP_SETTLE_POLL_MS,
} from "../model/limits.ts";
import {
  type Freeze,
  freezeLapsed,
  isGone,
  nextStep,
  type Observed,
  type StoredShard,
  type Swap,
} from "../protocol/ensemble-change.ts";
import { type Member as Copy, NO_REPLICA } from "../protocol/replica-state.ts";
import { headInTerm } from "./attach.ts";
import type { Cluster } from "./cluster.ts";
import { askStatuses, isReplica, newTerm, observedOf, requireServer, type StatusAnswer } from "./replica-calls.ts";
import type { ShardMetadata } from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";
import { memberOf, storedShard } from "./stored-shard.ts";
import { type Backoff, stepBackoff, unlessInterrupted } from "./wait.ts";

export type MoveStep =
  | { readonly kind: "again"; readonly afterMs: number; readonly why: string }
  | { readonly kind: "elect"; readonly next: StoredShard }
  /** The shard was changed meanwhile: look at it anew. */
  | { readonly kind: "overtaken" }
  | { readonly kind: "forget"; readonly why: string };

export class Move {
  readonly #cluster: Cluster;
  readonly #ref: ShardRef;
  /** Each freeze that came to nothing gives writes a longer time before the next one. */
  readonly #thawed: Backoff;
  #swap: Swap;
  /** The leader of this term has taken the new copy as an observer. It is told again after a while: it may have let go. */
  #observing: { readonly term: Term; readonly untilMs: number } | undefined;
  #freeze: (Freeze & { readonly term: Term }) | undefined;

  constructor(cluster: Cluster, ref: ShardRef, removed: Copy, added: string) {
    this.#thawed = stepBackoff(cluster.random);
    this.#cluster = cluster;
    this.#ref = ref;
    this.#swap = { removed, added: { server: added, replicaId: NO_REPLICA } };
  }

  get swap(): Swap {
    return this.#swap;
  }

  /** Whether the stored ensemble is what the swap wanted. */
  isDone({ ensemble, formerEnsemble }: ShardMetadata): boolean {
    const { added } = this.#swap;
    const holds = ({ internal, replicaId }: ShardMetadata["ensemble"][number]) =>
      internal === added.server && replicaId === added.replicaId;
    return added.replicaId !== NO_REPLICA && formerEnsemble === undefined && ensemble.some(holds);
  }

  /** Does what is due now. Rejects with what a call was refused, with Unreachable or with Interrupted. */
  async step(shard: ShardMetadata, signal: AbortSignal): Promise<MoveStep> {
    const { clock } = this.#cluster;
    const stored = storedShard(shard);
    const answers = await this.#askAll(shard, signal);
    const nowMs = clock.monotonicMs();
    const ended = this.#whyEnded(answers.get(this.#swap.added.server));
    if (ended !== "") return this.#beginAgain(ended);
    const observed = this.#observed(shard, answers, nowMs);
    const step = nextStep(stored, this.#swap, observed, nowMs);
    switch (step.due) {
      case "prepare":
        return this.#prepare(shard, signal);
      case "observe":
        return this.#addObserver(shard, signal);
      case "freeze":
        return this.#settleable(shard, observed) ?? this.#askFreeze(shard, nowMs, signal);
      case "thaw":
        await this.#thaw(shard, signal);
        return { kind: "again", afterMs: this.#thawed.nextMs(), why: step.why };
      case "catch-up":
        return { kind: "again", afterMs: SWAP_POLL_MS, why: step.why };
      case "settle":
        return { kind: "again", afterMs: SWAP_SETTLE_POLL_MS, why: step.why };
      case "store-joint":
        return { kind: "elect", next: step.next };
      case "elect":
        return { kind: "overtaken" };
      case "forget":
        return { kind: "forget", why: step.why };
    }
  }

  /** Lets writes go on, if they are held back for this swap. A freeze that cannot be ended lapses. */
  async thaw(shard: ShardMetadata, signal: AbortSignal): Promise<void> {
    if (this.#freeze?.term === shard.term && shard.leader !== undefined) await this.#thaw(shard, signal);
  }

  #askAll(shard: ShardMetadata, signal: AbortSignal): Promise<Map<string, StatusAnswer>> {
    const servers = [...shard.ensemble.map(({ internal }) => internal), this.#swap.added.server];
    return askStatuses(this.#cluster, this.#ref, servers, signal);
  }

  #observed({ term }: ShardMetadata, answers: ReadonlyMap<string, StatusAnswer>, nowMs: number): Observed {
    const observing = this.#observing?.term === term && this.#observing.untilMs > nowMs;
    const freeze = this.#freeze?.term === term ? this.#freeze : undefined;
    return { replicas: observedOf(answers), observing: observing || freeze !== undefined, freeze };
  }

  /** Why the new copy that was made does not live any more; empty: it does, or it was not made yet, or does not say. */
  #whyEnded(answer: StatusAnswer | undefined): string {
    const { replicaId } = this.#swap.added;
    if (replicaId === NO_REPLICA || answer === undefined || answer.kind === "silent") return "";
    if (answer.kind === "none") return "no replica lives there any more";
    const { response } = answer;
    return isReplica(response, replicaId) ? "" : response.ended || "another replica lives there";
  }

  /** Writes are not held back while a member that has to settle does not follow at all. */
  #settleable({ ensemble, leader, term }: ShardMetadata, { replicas }: Observed): MoveStep | undefined {
    const { removed } = this.#swap;
    const apart = ensemble.find(({ internal, replicaId = NO_REPLICA }) => {
      if (internal === leader?.internal || (internal === removed.server && replicaId === removed.replicaId))
        return false;
      if (isGone({ server: internal, replicaId }, replicas)) return false;
      const replica = replicas.get(internal);
      return replica?.replicaId !== replicaId || replica?.promise !== term || replica.status !== "following";
    });
    if (apart === undefined) return undefined;
    return { kind: "again", afterMs: SWAP_POLL_MS, why: `${apart.internal} does not follow` };
  }

  /** Lists the new copy with the shard before it is made, and again with the id that it answers. */
  async #prepare(shard: ShardMetadata, signal: AbortSignal): Promise<MoveStep> {
    const { server } = this.#swap.added;
    if (server === shard.leader?.internal)
      return { kind: "forget", why: `${server} leads the shard: its replica lives` };
    if (!shard.observers.some(({ internal }) => internal === server)) {
      const listed = await this.#list(shard, this.#swap.added);
      return listed ? { kind: "again", afterMs: 0, why: "" } : { kind: "overtaken" };
    }
    const slot = { server, replicaId: NO_REPLICA, countedTerm: NO_TERM };
    const call = newTerm(this.#cluster, this.#ref, { term: shard.term, slot });
    const { replicaId } = await unlessInterrupted(call, signal);
    if (replicaId === undefined) return { kind: "forget", why: `${server} has no replica ids: it is none of ours` };
    if (replicaId === this.#swap.removed.replicaId) return { kind: "forget", why: `${server} holds that very replica` };
    const added: Copy = { server, replicaId };
    if (!(await this.#list(shard, added))) return { kind: "overtaken" };
    this.#swap = { ...this.#swap, added };
    return { kind: "again", afterMs: 0, why: "" };
  }

  /** Also takes it from the copies that wait to be deleted: an old copy that still lives there is filled up. */
  async #list(shard: ShardMetadata, added: Copy): Promise<boolean> {
    const other = ({ internal, replicaId }: { readonly internal: string; readonly replicaId: bigint | undefined }) =>
      internal !== added.server || replicaId !== added.replicaId;
    const member = memberOf(shard, added, { servers: this.#cluster.config.servers });
    const observers = [...shard.observers.filter(({ internal }) => internal !== added.server), member];
    const pendingDeleteShardNodes = shard.pendingDeleteShardNodes.filter(other);
    return this.#cluster.store.updateShard(this.#ref, shard, { ...shard, observers, pendingDeleteShardNodes });
  }

  /** A copy that stands in the term is not fenced once more: the leader may be filling it. */
  async #addObserver(shard: ShardMetadata, signal: AbortSignal): Promise<MoveStep> {
    const { term, leader } = shard;
    const { added } = this.#swap;
    let head = await unlessInterrupted(headInTerm(this.#cluster, this.#ref, term, added), signal);
    if (head === undefined) {
      const slot = { ...added, countedTerm: NO_TERM };
      const answer = await unlessInterrupted(newTerm(this.#cluster, this.#ref, { term, slot }), signal);
      if ((answer.ended ?? "") !== "") return this.#beginAgain(answer.ended!);
      head = answer.head;
    }
    requireServer(this.#cluster, leader!.internal);
    const request = { ...this.#ref, term, ...added, head, observer: true };
    const limits = { timeoutMs: FENCE_CALL_MS_MAX };
    await unlessInterrupted(this.#cluster.dataServers.addFollower(leader!.internal, request, limits), signal);
    this.#observing = { term, untilMs: this.#cluster.clock.monotonicMs() + SHARD_VERIFY_MS };
    return { kind: "again", afterMs: SWAP_SETTLE_POLL_MS, why: "" };
  }

  /** The new copy has ended before it entered: another one takes its place. */
  #beginAgain(why: string): MoveStep {
    this.#swap = { ...this.#swap, added: { server: this.#swap.added.server, replicaId: NO_REPLICA } };
    this.#observing = undefined;
    return { kind: "again", afterMs: SWAP_POLL_MS, why };
  }

  async #askFreeze(shard: ShardMetadata, nowMs: number, signal: AbortSignal): Promise<MoveStep> {
    const { term, leader } = shard;
    requireServer(this.#cluster, leader!.internal);
    const request = { ...this.#ref, term, frozen: true };
    const limits = { timeoutMs: STATUS_CALL_MS_MAX };
    const call = this.#cluster.dataServers.freezeShard(leader!.internal, request, limits);
    const { headOffset } = await unlessInterrupted(call, signal);
    const before = this.#freeze?.term === term ? this.#freeze : undefined;
    const standing = before !== undefined && !freezeLapsed(before.lastAskedMs, nowMs) ? before : undefined;
    this.#freeze = { term, firstAskedMs: standing?.firstAskedMs ?? nowMs, lastAskedMs: nowMs, headOffset };
    return { kind: "again", afterMs: 0, why: "" };
  }

  async #thaw({ term, leader }: ShardMetadata, signal: AbortSignal): Promise<void> {
    this.#freeze = undefined;
    requireServer(this.#cluster, leader!.internal);
    const request = { ...this.#ref, term, frozen: false };
    const limits = { timeoutMs: STATUS_CALL_MS_MAX };
    await unlessInterrupted(this.#cluster.dataServers.freezeShard(leader!.internal, request, limits), signal);
  }
}
