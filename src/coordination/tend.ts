/**
 * A shard that has a leader, looked after: one step at a time, whatever is due first.
 *
 *     freeze     a leader that shall take no writes is told so again, before it takes any
 *     verify     the replicas say what they are; a leader that does not lead means an election
 *     attach     members that their leader may not know
 *     replace    a member whose replica has ended is refilled under a new id and swapped in; a swap that is asked for
 *     delete     copies that were removed
 *
 * All that it remembers may be forgotten: it is found out again.
 *
 * Source: semantics.md §9.2, §9.3 (step 7), §9.4; safety.md §1, §2.
 */
import type { Offset, Term } from "../model/ids.ts";
import {
  LEADER_SILENCES_MAX,
  OBSERVER_ORPHANED_MS,
  SHARD_FREEZE_MS_MAX,
  SHARD_STEP_RETRY_MS_MIN,
  SHARD_VERIFY_MS,
  SHARD_VERIFY_PAUSE_MS,
  STATUS_CALL_MS_MAX,
  SWAP_POLL_MS,
} from "../model/limits.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import { FREEZE_RENEW_MS, nextTerm, type StoredShard } from "../protocol/ensemble-change.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import { attachMember } from "./attach.ts";
import { type Cluster, shardFields } from "./cluster.ts";
import { deleteRemoved } from "./deletes.ts";
import { Move } from "./move.ts";
import { askStatuses, isRefusal, requireServer } from "./replica-calls.ts";
import type { EndedReplica, FreezeReport, SwapReport } from "./report.ts";
import { wordsOf } from "./server-link.ts";
import type { ElectionCause } from "./stats.ts";
import type { Member, ShardMetadata } from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";
import { steadinessOf } from "./steady.ts";
import { storedShard } from "./stored-shard.ts";
import { type Backoff, stepBackoff, unlessInterrupted } from "./wait.ts";

export type Tended =
  /** Nothing is due for so long. */
  | { readonly kind: "wait"; readonly ms: number }
  /** The shard needs an election, in this document's term. */
  | {
      readonly kind: "elect";
      readonly next: StoredShard;
      readonly why: string;
      readonly cause: ElectionCause;
      /** For whose sake it is held. */
      readonly awaited?: string | undefined;
      /** Who shall lead. */
      readonly heir?: string | undefined;
    };

export type SwapResult = { readonly done: true } | { readonly done: false; readonly why: string };

interface Due {
  dueMs: number;
  readonly backoff: Backoff;
  why: string;
}

interface Swapping extends Due {
  readonly move: Move;
  /** Both ensembles were to be stored: the next leader shows what came of it. */
  joint: boolean;
  /** Told what became of it; undefined when nobody has asked for it. */
  readonly settle: ((result: SwapResult) => void) | undefined;
}

/** Writes that are held back by request. */
interface Frozen extends Due {
  untilMs: number;
}

export class Tending {
  readonly #cluster: Cluster;
  readonly #ref: ShardRef;
  #verifyDueMs = 0;
  #silences = 0;
  /** The leader does not do its part, in words; empty: it does. */
  #trouble = "";
  readonly #missing = new Map<string, Due>();
  readonly #ended = new Map<string, EndedReplica>();
  #swapping: Swapping | undefined;
  #replaceDueMs = 0;
  readonly #replaced: Backoff;
  #deletes: Due;
  #orphans: { readonly term: Term; readonly dueMs: number } | undefined;
  /** A swap of this coordinator's was given up: nobody else fills what is listed. */
  #leavesOrphans = false;
  #frozen: Frozen | undefined;

  constructor(cluster: Cluster, ref: ShardRef) {
    this.#cluster = cluster;
    this.#ref = ref;
    this.#replaced = stepBackoff(cluster.random);
    this.#deletes = this.#due(0);
  }

  get ended(): readonly EndedReplica[] {
    return [...this.#ended.values()];
  }

  get swap(): SwapReport | undefined {
    if (this.#swapping === undefined) return undefined;
    const { removed, added } = this.#swapping.move.swap;
    return { removed: removed.server, added: added.server, why: this.#swapping.why };
  }

  /** Undefined: writes are not to be held back, or not any more. */
  get frozen(): FreezeReport | undefined {
    const leftMs = (this.#frozen?.untilMs ?? 0) - this.#nowMs;
    return this.#frozen === undefined || leftMs <= 0 ? undefined : { leftMs, why: this.#frozen.why };
  }

  /** What is wrong with a shard that has a leader. */
  get troubles(): readonly string[] {
    const missing = [...this.#missing].map(([server, { why }]) => `${server}: ${why}`);
    const ended = this.ended.map(({ server, why }) => `${server}: its replica has ended: ${why}`);
    return [...(this.#trouble === "" ? [] : [this.#trouble]), ...missing, ...ended];
  }

  /** A process that runs on one of its servers is another one, or the store says something new: look soon. */
  verifySoon(): void {
    this.#verifyDueMs = 0;
    for (const due of this.#missing.values()) {
      due.backoff.reset();
      due.dueMs = 0;
    }
    if (this.#swapping !== undefined) this.#swapping.dueMs = 0;
    this.#deletes.dueMs = 0;
  }

  /** A leader was elected; these members it knows as its followers. */
  led(shard: ShardMetadata, named: ReadonlySet<string>): void {
    this.#silences = 0;
    this.#trouble = "";
    this.#verifyDueMs = this.#nowMs + this.#verifyMs;
    for (const { internal } of shard.ensemble) {
      if (named.has(internal) || internal === shard.leader?.internal) this.#missing.delete(internal);
      else this.#miss(internal, "has not voted", 0);
    }
    this.#deletes = this.#due(this.#nowMs + SWAP_POLL_MS);
    if (this.#frozen !== undefined) this.#frozen.dueMs = 0;
    if (this.#swapping?.joint === true && !this.#swapping.move.isDone(shard)) {
      this.#endSwap({ done: false, why: "the change was turned round, or could not be stored" });
    }
  }

  /** Asks for a swap. It resolves once that is stored, or not wanted any more. Throws when it makes no sense. */
  requestSwap(shard: ShardMetadata, from: string, to: string): Promise<SwapResult> {
    const removed = shard.ensemble.find(({ internal }) => internal === from);
    if (removed === undefined) throw new Refusal("INVALID_ARGUMENT", `${from} is not in the shard's ensemble`);
    if (to !== from && shard.ensemble.some(({ internal }) => internal === to)) {
      throw new Refusal("INVALID_ARGUMENT", `${to} is in the shard's ensemble already`);
    }
    if (this.#swapping?.settle !== undefined)
      throw new Refusal("RESOURCE_CONFLICT", "the shard is being moved already");
    if (this.frozen !== undefined) throw new Refusal("RESOURCE_CONFLICT", "the shard is frozen");
    return new Promise((settle) => this.#beginSwap(removed, to, settle));
  }

  /** One step. */
  async step(shard: ShardMetadata, signal: AbortSignal): Promise<Tended> {
    this.#forgetOthers(shard);
    if (this.#swapping?.move.isDone(shard) === true) this.#endSwap({ done: true });
    const nowMs = this.#nowMs;
    if (this.#frozen !== undefined && this.#frozen.dueMs <= nowMs) return this.#keepFrozen(shard, this.#frozen, signal);
    if (this.#verifyDueMs <= nowMs) return this.#verify(shard, signal);
    const missing = shard.ensemble.find((member) => this.#mayAttach(member, nowMs));
    if (missing !== undefined) return this.#attach(shard, missing, signal);
    if (this.#deletesDue(shard) && this.#deletes.dueMs <= nowMs) return this.#delete(shard, signal);
    this.#replaceEnded(shard, nowMs);
    if (this.#swapping !== undefined && this.#swapping.dueMs <= nowMs) {
      return this.#moveOn(shard, this.#swapping, signal);
    }
    if (this.#orphaned(shard, nowMs)) return this.#dropObservers(shard);
    return { kind: "wait", ms: this.#nextDueMs(shard) - nowMs };
  }

  get #nowMs(): number {
    return this.#cluster.clock.monotonicMs();
  }

  /** Where there are many shards each is verified less often: what all of them cost together has a bound. */
  get #verifyMs(): number {
    return Math.max(SHARD_VERIFY_MS, this.#cluster.leaders.size * SHARD_VERIFY_PAUSE_MS);
  }

  // --- verify ---------------------------------------------------------------------------------------------------

  async #verify(shard: ShardMetadata, signal: AbortSignal): Promise<Tended> {
    const { store, random, elections } = this.#cluster;
    const servers = shard.ensemble.map(({ internal }) => internal);
    const ask = () => askStatuses(this.#cluster, this.#ref, servers, signal);
    const found = steadinessOf(shard, await elections.hold(ask));
    this.#verifyDueMs = this.#nowMs + this.#verifyMs * (0.75 + random.fraction() / 2);
    this.#trouble = found.leader === "leads" ? "" : found.why;
    if (found.promiseAbove !== undefined) {
      await store.refresh();
      if (store.shard(this.#ref) !== shard) return this.#now();
      const { server, promise } = found.promiseAbove;
      this.#trouble = `${server} has promised term ${promise}, the store has term ${shard.term}`;
    }
    for (const { internal } of found.following) this.#missing.delete(internal);
    for (const { internal, replicaId } of found.missing) {
      if (this.#ended.get(internal)?.replicaId !== replicaId)
        this.#miss(internal, "does not follow", SHARD_STEP_RETRY_MS_MIN);
    }
    if (found.leader === "lost") return this.#elect(shard, found.why, "leader-lost");
    this.#silences = found.leader === "silent" ? this.#silences + 1 : 0;
    if (this.#silences >= LEADER_SILENCES_MAX) return this.#elect(shard, found.why, "leader-lost");
    if (found.leader === "silent") this.#verifyDueMs = this.#nowMs + SWAP_POLL_MS;
    return this.#now();
  }

  #elect(shard: ShardMetadata, why: string, cause: ElectionCause): Tended & { readonly kind: "elect" } {
    return { kind: "elect", next: nextTerm(storedShard(shard)), why, cause };
  }

  #now(): Tended {
    return { kind: "wait", ms: 0 };
  }

  // --- attach ---------------------------------------------------------------------------------------------------

  #miss(server: string, why: string, inMs: number): void {
    const before = this.#missing.get(server);
    if (before === undefined) this.#missing.set(server, { ...this.#due(this.#nowMs + inMs), why });
    else before.why = why;
  }

  #mayAttach({ internal }: Member, nowMs: number): boolean {
    const due = this.#missing.get(internal);
    return due !== undefined && due.dueMs <= nowMs && this.#isAttachable(internal);
  }

  /** Whether a member may be attached as soon as that is due: one that a swap refills is not. */
  #isAttachable(server: string): boolean {
    return this.#swapping?.move.swap.added.server !== server && this.#cluster.servers.isAvailable(server);
  }

  async #attach(shard: ShardMetadata, member: Member, signal: AbortSignal): Promise<Tended> {
    const server = member.internal;
    const due = this.#missing.get(server)!;
    // Whatever comes of it, the next try is later.
    due.dueMs = this.#nowMs + due.backoff.nextMs();
    const attached = await attachMember(this.#cluster, { ref: this.#ref, shard, member }, signal);
    switch (attached.kind) {
      case "attached":
        this.#missing.delete(server);
        break;
      case "ended":
        this.#missing.delete(server);
        this.#ended.set(server, { server, replicaId: member.replicaId ?? NO_REPLICA, why: attached.why });
        this.#cluster.logger.warn(shardFields(this.#ref, { server, why: attached.why }), "replica has ended");
        break;
      case "slot can be filled":
        return { ...this.#elect(shard, `${server} has no part in the shard yet`, "new-member"), awaited: server };
      case "overtaken":
        await this.#cluster.store.refresh();
        this.#verifyDueMs = Math.min(this.#verifyDueMs, this.#nowMs + SWAP_POLL_MS);
        break;
      case "again":
        due.why = attached.why;
        break;
    }
    return this.#now();
  }

  // --- swaps ----------------------------------------------------------------------------------------------------

  #beginSwap(removed: Member, to: string, settle: Swapping["settle"]): void {
    const copy = { server: removed.internal, replicaId: removed.replicaId ?? NO_REPLICA };
    this.#swapping = { ...this.#due(0), move: new Move(this.#cluster, this.#ref, copy, to), joint: false, settle };
  }

  /** Ends a swap to this server, unless its change is stored already: then the election decides. */
  giveUpSwap(to: string, why: string): void {
    if (this.#swapping?.move.swap.added.server === to && !this.#swapping.joint) this.#endSwap({ done: false, why });
  }

  #endSwap(result: SwapResult): void {
    const swapping = this.#swapping;
    if (swapping === undefined) return;
    this.#swapping = undefined;
    const { removed, added } = swapping.move.swap;
    const fields = shardFields(this.#ref, { removed: removed.server, added: added.server });
    if (result.done) this.#replaced.reset();
    else {
      this.#replaceDueMs = this.#nowMs + this.#replaced.nextMs();
      this.#leavesOrphans = true;
      this.#verifyDueMs = 0; // a replica that was asked for its id does not follow any more
    }
    this.#cluster.logger.info(
      { ...fields, ...(result.done ? {} : { why: result.why }) },
      result.done ? "replica moved" : "swap given up",
    );
    swapping.settle?.(result);
  }

  /** Refills the place of a replica that has ended, at the same server. */
  #replaceEnded(shard: ShardMetadata, nowMs: number): void {
    if (this.#swapping !== undefined || this.#frozen !== undefined || this.#replaceDueMs > nowMs) return;
    const member = shard.ensemble.find(({ internal }) => this.#ended.has(internal));
    if (member !== undefined) this.#beginSwap(member, member.internal, undefined);
  }

  async #moveOn(shard: ShardMetadata, swapping: Swapping, signal: AbortSignal): Promise<Tended> {
    const { move } = swapping;
    swapping.dueMs = this.#nowMs + SWAP_POLL_MS;
    swapping.joint = false;
    try {
      const step = await move.step(shard, signal);
      if (step.kind === "elect") {
        swapping.joint = true;
        return { kind: "elect", next: step.next, why: "its ensemble changes", cause: "ensemble-change" };
      }
      if (step.kind === "forget") this.#endSwap({ done: false, why: step.why });
      if (step.kind === "again") {
        swapping.backoff.reset();
        swapping.why = step.why;
        swapping.dueMs = this.#nowMs + step.afterMs;
      }
    } catch (error) {
      if (!(error instanceof Refusal) && !(error instanceof Unreachable)) throw error;
      swapping.why = wordsOf(error);
      swapping.dueMs = this.#nowMs + swapping.backoff.nextMs();
      if (isRefusal(error, "INVALID_TERM")) this.#verifyDueMs = Math.min(this.#verifyDueMs, swapping.dueMs);
    }
    return this.#now();
  }

  // --- delete ---------------------------------------------------------------------------------------------------

  #deletesDue({ pendingDeleteShardNodes }: ShardMetadata): boolean {
    return pendingDeleteShardNodes.length > 0;
  }

  async #delete(shard: ShardMetadata, signal: AbortSignal): Promise<Tended> {
    this.#deletes.dueMs = this.#nowMs + this.#deletes.backoff.nextMs();
    const deleted = await deleteRemoved(this.#cluster, this.#ref, shard, signal);
    this.#deletes.why = deleted.kind === "waits" ? deleted.why : "";
    if (deleted.kind === "deleted") this.#deletes = this.#due(0);
    return this.#now();
  }

  /** Copies that are listed as being filled while nobody here fills them: a swap that its coordinator has forgotten. */
  #orphaned({ observers, term }: ShardMetadata, nowMs: number): boolean {
    if (this.#swapping !== undefined) {
      this.#orphans = undefined;
      return false;
    }
    const isOwn = this.#leavesOrphans;
    this.#leavesOrphans = false;
    if (observers.length === 0) {
      this.#orphans = undefined;
      return false;
    }
    if (isOwn) this.#orphans = { term, dueMs: nowMs };
    else if (this.#orphans?.term !== term) this.#orphans = { term, dueMs: nowMs + OBSERVER_ORPHANED_MS };
    return this.#orphans.dueMs <= nowMs;
  }

  async #dropObservers(shard: ShardMetadata): Promise<Tended> {
    const { observers, ensemble, pendingDeleteShardNodes } = shard;
    const strange = observers.filter(({ internal }) => !ensemble.some((member) => member.internal === internal));
    const next = { ...shard, observers: [], pendingDeleteShardNodes: [...pendingDeleteShardNodes, ...strange] };
    await this.#cluster.store.updateShard(this.#ref, shard, next);
    this.#orphans = undefined;
    return this.#now();
  }

  // --- freeze ---------------------------------------------------------------------------------------------------

  /**
   * Holds writes back for so long, whoever leads. Resolves to the last offset that was taken before. A leader that is
   * elected meanwhile may take some until it is told; a coordinator that ends lets them lapse.
   */
  async freeze(shard: ShardMetadata, forMs: number, signal: AbortSignal): Promise<Offset> {
    if (!(forMs > 0 && forMs <= SHARD_FREEZE_MS_MAX)) {
      throw new Refusal("INVALID_ARGUMENT", `a shard is frozen for more than 0 and at most ${SHARD_FREEZE_MS_MAX} ms`);
    }
    if (this.#swapping !== undefined) throw new Refusal("RESOURCE_CONFLICT", "a replica of the shard is being moved");
    const headOffset = await this.#askFreeze(shard, true, signal);
    const untilMs = this.#nowMs + forMs;
    this.#frozen = { ...this.#due(this.#freezeDueMs(untilMs)), untilMs };
    return headOffset;
  }

  /** Lets writes go on. Where the leader does not hear of it, they go on when its freeze lapses. */
  async thaw(shard: ShardMetadata, signal: AbortSignal): Promise<void> {
    if (this.#frozen === undefined) return;
    this.#frozen.untilMs = 0;
    await this.#keepFrozen(shard, this.#frozen, signal);
  }

  /** It is renewed, or it is over. */
  #freezeDueMs(untilMs: number): number {
    return Math.min(this.#nowMs + FREEZE_RENEW_MS, untilMs);
  }

  async #keepFrozen(shard: ShardMetadata, frozen: Frozen, signal: AbortSignal): Promise<Tended> {
    const isOver = frozen.untilMs <= this.#nowMs;
    frozen.dueMs = this.#freezeDueMs(frozen.untilMs);
    if (isOver) this.#frozen = undefined;
    try {
      await this.#askFreeze(shard, !isOver, signal);
      frozen.why = "";
    } catch (error) {
      if (!(error instanceof Refusal) && !(error instanceof Unreachable)) throw error;
      frozen.why = wordsOf(error);
    }
    return this.#now();
  }

  async #askFreeze({ leader, term }: ShardMetadata, frozen: boolean, signal: AbortSignal): Promise<Offset> {
    if (leader === undefined) throw new Refusal("RESOURCE_UNAVAILABLE", "the shard has no leader");
    requireServer(this.#cluster, leader.internal);
    const request = { ...this.#ref, term, frozen };
    const limits = { timeoutMs: STATUS_CALL_MS_MAX };
    const call = this.#cluster.dataServers.freezeShard(leader.internal, request, limits);
    return (await unlessInterrupted(call, signal)).headOffset;
  }

  // --- what is due ----------------------------------------------------------------------------------------------

  #due(dueMs: number): Due {
    return { dueMs, backoff: stepBackoff(this.#cluster.random), why: "" };
  }

  #nextDueMs(shard: ShardMetadata): number {
    const missing = [...this.#missing].filter(([server]) => this.#isAttachable(server));
    const dues = [this.#verifyDueMs, ...missing.map(([, { dueMs }]) => dueMs)];
    if (this.#deletesDue(shard)) dues.push(this.#deletes.dueMs);
    if (this.#swapping !== undefined) dues.push(this.#swapping.dueMs);
    else if (this.#ended.size > 0) dues.push(this.#replaceDueMs);
    if (this.#orphans !== undefined) dues.push(this.#orphans.dueMs);
    if (this.#frozen !== undefined) dues.push(this.#frozen.dueMs);
    return Math.max(Math.min(...dues), this.#nowMs);
  }

  /** What concerns servers and ids that the ensemble does not name any more; and no leader is missing to itself. */
  #forgetOthers({ ensemble, leader }: ShardMetadata): void {
    for (const server of this.#missing.keys()) {
      const follows = server !== leader?.internal && ensemble.some(({ internal }) => internal === server);
      if (!follows) this.#missing.delete(server);
    }
    for (const { server, replicaId } of this.#ended.values()) {
      const listed = ensemble.find(({ internal }) => internal === server);
      if (listed?.replicaId !== replicaId) this.#ended.delete(server);
    }
  }
}
