/**
 * Looks after one shard for as long as it stands in the store: one flow at a time, chosen anew after each by what is
 * stored. So a coordinator that comes new, or comes back, does the same as one that has been there all along.
 *
 *     Deleting              delete its copies, then the shard
 *     no leader stored      an election, in the next term; after a while again
 *     a leader stored       tend it (tend.ts)
 */
import { NO_TERM, type Offset } from "../model/ids.ts";
import {
  ELECTION_RETRY_MS_MAX,
  ELECTION_RETRY_MS_MIN,
  ELECTIONS_BEFORE_TURNING_ROUND,
  SHARD_STEP_RETRY_MS_MAX,
  SHARD_STEP_RETRY_MS_MIN,
} from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { majority } from "../protocol/election.ts";
import { nextTerm, type StoredShard, turnedRound } from "../protocol/ensemble-change.ts";
import { isForeign } from "./adopt-status.ts";
import { type Cluster, shardFields } from "./cluster.ts";
import { deleteShard } from "./deletes.ts";
import { ElectionHistory, elect } from "./elect.ts";
import { settleHeir } from "./hand-over.ts";
import { isRefusal } from "./replica-calls.ts";
import { type ServerState, wordsOf } from "./server-link.ts";
import type { ShardMetadata } from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";
import { serversOf, storedShard } from "./stored-shard.ts";
import { type SwapResult, type Tended, Tending } from "./tend.ts";
import { Backoff, Interrupted, stepBackoff, Wakeup } from "./wait.ts";

interface Job {
  readonly run: (signal: AbortSignal) => Promise<void>;
  readonly refuse: (error: Refusal) => void;
}

export interface LeaderMoved {
  /** Who leads now; undefined: nobody yet. */
  readonly leader: string | undefined;
  /** Why it is not the one that was wanted; empty: it is. */
  readonly why: string;
}

export class ShardKeeper {
  readonly ref: ShardRef;
  readonly #cluster: Cluster;
  readonly #stop = new AbortController();
  readonly #wakeup = new Wakeup();
  readonly #tending: Tending;
  readonly #history = new ElectionHistory();
  readonly #elections: Backoff;
  readonly #deletes: Backoff;
  readonly #jobs: Job[] = [];
  /** The flow that runs; a job is cut off by `stop` alone. */
  #step: { readonly controller: AbortController; readonly kind: "job" | "tends a leader" | "other" } | undefined;
  #failedTerms = 0;
  #turnRound = false;
  /** The document in which no election can be held. */
  #halted: ShardMetadata | undefined;
  #problem = "";
  /** Of a leader that is about to stop: why nobody has taken over yet, and when that is tried again. */
  #parting: { readonly dueMs: number; readonly why: string } | undefined;
  #ended = false;

  constructor(cluster: Cluster, ref: ShardRef) {
    this.#cluster = cluster;
    this.ref = ref;
    this.#tending = new Tending(cluster, ref);
    this.#elections = new Backoff(cluster.random, {
      firstMs: ELECTION_RETRY_MS_MIN,
      maxMs: ELECTION_RETRY_MS_MAX,
      factor: 1.5,
    });
    this.#deletes = stepBackoff(cluster.random);
  }

  /** Why the shard has no leader; empty: it has one, or is about to. */
  get problem(): string {
    return this.#problem;
  }

  get tending(): Tending {
    return this.#tending;
  }

  /** Until the shard is gone, or `stop`. Rejects with StoreLost. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const shard = this.#cluster.store.shard(this.ref);
      if (shard === undefined) break;
      const waitMs = await this.#uninterrupted(shard);
      if (waitMs > 0) await this.#wakeup.wait(this.#cluster.clock, waitMs, signal);
    }
    this.#ended = true;
    this.#refuseJobs();
    this.#cluster.leaders.set(this.ref.shard, undefined);
  }

  #refuseJobs(): void {
    const refusal = new Refusal("SHARD_NOT_FOUND", `shard ${this.ref.shard} is not looked after any more`);
    for (const job of this.#jobs.splice(0)) job.refuse(refusal);
  }

  stop(): void {
    this.#stop.abort();
    this.#step?.controller.abort();
  }

  /** One of its servers is there, or gone: what waits for that is tried again at once. */
  serverChanged(server: string, state: ServerState): void {
    const shard = this.#cluster.store.shard(this.ref);
    if (shard === undefined || !serversOf(shard).includes(server)) return;
    this.#elections.reset();
    this.#deletes.reset();
    this.#parting = undefined;
    if (state === "available") this.#tending.verifySoon();
    const isGoing = state === "unavailable" || state === "leaving";
    if (isGoing && shard.leader?.internal === server && this.#step?.kind === "tends a leader") {
      this.#step.controller.abort();
    }
    this.#wakeup.wake();
  }

  /** Somebody else has changed the shard, or another flow of this coordinator. */
  storeChanged(): void {
    this.#tending.verifySoon();
    this.#wakeup.wake();
  }

  /** Replaces `from` by `to` in the ensemble. Rejects when that makes no sense for the shard as it stands. */
  async swap(from: string, to: string): Promise<SwapResult> {
    const shard = this.#cluster.store.shard(this.ref);
    if (shard === undefined) return { done: false, why: "the shard is gone" };
    const result = this.#tending.requestSwap(shard, from, to);
    this.#wakeup.wake();
    return result;
  }

  /** Ends the swap to this server, if there is one and its change is not stored yet. */
  giveUpSwap(to: string, why: string): void {
    this.#tending.giveUpSwap(to, why);
    this.#wakeup.wake();
  }

  /**
   * Has `heir`, a member, lead in the place of a leader that is well. Resolves to who leads then, if anybody does, and
   * to why it is not the heir.
   */
  moveLeader(heir: string, cause: "balance" | "requested"): Promise<LeaderMoved> {
    const { store, logger } = this.#cluster;
    return this.perform(async (signal) => {
      const shard = store.shard(this.ref);
      if (shard?.leader === undefined || shard.status !== "SteadyState") {
        return { leader: undefined, why: "the shard has no leader" };
      }
      const leader = shard.leader.internal;
      if (leader === heir) return { leader, why: "" };
      if (this.#tending.frozen !== undefined) return { leader, why: "the shard is frozen" };
      const stays = await settleHeir(this.#cluster, { ref: this.ref, shard, heir, staysFrozen: false }, signal);
      if (stays !== "") {
        logger.info(shardFields(this.ref, { heir, why: stays }), "the leader stays");
        return { leader, why: stays };
      }
      const next = nextTerm(storedShard(shard));
      const why = cause === "balance" ? "leaders are spread" : "another leader is wanted";
      await this.#replaceLeader(shard, { next, why, cause, awaited: heir, heir }, signal);
      const led = store.shard(this.ref)?.leader?.internal;
      return { leader: led, why: led === heir ? "" : this.#problem || `${heir} was not among the best heads` };
    });
  }

  /** Has no write taken for so long. Resolves to the last offset before. */
  freeze(forMs: number): Promise<Offset> {
    return this.perform((signal) => this.#tending.freeze(this.#stored(), forMs, signal));
  }

  /** Lets writes go on again. */
  thaw(): Promise<void> {
    return this.perform((signal) => this.#tending.thaw(this.#stored(), signal));
  }

  /**
   * Runs `work` as this shard's only flow, after what was asked for before: what else runs is cut off, and goes on from
   * what is stored then. Rejects as `work` does, and with Interrupted on `stop`.
   */
  perform<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({ run: (signal) => work(signal).then(resolve, reject), refuse: reject });
      if (this.#ended) this.#refuseJobs();
      if (this.#step?.kind !== "job") this.#step?.controller.abort();
      this.#wakeup.wake();
    });
  }

  /** One flow to its end; how long to wait before the next. */
  async #uninterrupted(shard: ShardMetadata): Promise<number> {
    const controller = new AbortController();
    const tends = shard.leader === undefined ? "other" : "tends a leader";
    this.#step = { controller, kind: this.#jobs.length > 0 ? "job" : tends };
    try {
      return await this.#next(shard, controller.signal);
    } catch (error) {
      if (error instanceof Interrupted) return 0;
      if (!isRefusal(error, "RESOURCE_EXHAUSTED")) throw error;
      // The store has no room for what is due: nothing was changed, and it goes on.
      this.#problem = wordsOf(error);
      return this.#elections.nextMs();
    } finally {
      this.#step = undefined;
    }
  }

  async #next(shard: ShardMetadata, signal: AbortSignal): Promise<number> {
    const job = this.#jobs.shift();
    if (job !== undefined) {
      await job.run(signal);
      return 0;
    }
    if (shard === this.#halted) return ELECTION_RETRY_MS_MAX;
    if (isForeign(shard)) return this.#wait("it was written by Oxia's coordinator, and is not adopted");
    if (shard.status === "Deleting") return this.#delete(shard, signal);
    if (shard.leader === undefined) return this.#electAnew(shard, signal);
    const { internal } = shard.leader;
    this.#cluster.leaders.set(this.ref.shard, internal);
    if (this.#cluster.servers.state(internal) === "unavailable") {
      const why = `its leader ${internal} is not available: ${this.#cluster.servers.why(internal)}`;
      return this.#replaceLeader(
        shard,
        { next: nextTerm(storedShard(shard)), why, cause: "leader-unavailable" },
        signal,
      );
    }
    const heir = await this.#settledHeir(shard, signal);
    if (heir !== undefined) return this.#handOver(shard, heir, signal);
    const tended = await this.#tending.step(shard, signal);
    if (tended.kind === "elect") return this.#replaceLeader(shard, tended, signal);
    this.#problem = this.#parting === undefined ? "" : `${isLeaving(internal)}; ${this.#parting.why}`;
    return Math.min(tended.ms, Math.max(0, (this.#parting?.dueMs ?? Infinity) - this.#cluster.clock.monotonicMs()));
  }

  #stored(): ShardMetadata {
    const shard = this.#cluster.store.shard(this.ref);
    if (shard === undefined) throw new Refusal("SHARD_NOT_FOUND", `shard ${this.ref.shard} is gone`);
    return shard;
  }

  #wait(problem: string): number {
    this.#problem = problem;
    return ELECTION_RETRY_MS_MAX;
  }

  // --- elections ------------------------------------------------------------------------------------------------

  /** Of a shard that has a leader. Where the election has no hope, it goes on being looked after. */
  async #replaceLeader(
    shard: ShardMetadata,
    { next, why, cause, awaited, heir }: Omit<Tended & { readonly kind: "elect" }, "kind">,
    signal: AbortSignal,
  ): Promise<number> {
    const short = this.#whyHopeless(next);
    if (short !== "") {
      this.#problem = `${why}; ${short}`;
      return SHARD_STEP_RETRY_MS_MIN;
    }
    this.#cluster.logger.info(shardFields(this.ref, { term: shard.term, why }), "election needed");
    return this.#elect(shard, { next, cause, awaited, heir }, signal);
  }

  /** The member to lead in the place of a leader that is about to stop. */
  #heirOf({ leader, ensemble }: ShardMetadata): string | undefined {
    const { servers, leaders } = this.#cluster;
    const others = ensemble.flatMap(({ internal }) => (internal === leader?.internal ? [] : internal));
    return others.filter((server) => servers.isStaying(server)).sort((a, b) => leaders.ledBy(a) - leaders.ledBy(b))[0];
  }

  /**
   * Who takes over from a leader that is about to stop, once that can be at once. Until then the shard is looked after:
   * an heir that does not follow is attached by that.
   */
  async #settledHeir(shard: ShardMetadata, signal: AbortSignal): Promise<string | undefined> {
    const { servers, clock } = this.#cluster;
    const heir = servers.state(shard.leader!.internal) === "leaving" ? this.#heirOf(shard) : undefined;
    if (heir === undefined) {
      this.#parting = undefined;
      return undefined;
    }
    if (this.#parting !== undefined && clock.monotonicMs() < this.#parting.dueMs) return undefined;
    const staysFrozen = this.#tending.frozen !== undefined;
    const why = await settleHeir(this.#cluster, { ref: this.ref, shard, heir, staysFrozen }, signal);
    this.#parting = why === "" ? undefined : { dueMs: clock.monotonicMs() + SHARD_STEP_RETRY_MS_MIN, why };
    return why === "" ? heir : undefined;
  }

  /** Before its server stops: no write is in doubt then, and clients hear of the new leader from the old one. */
  #handOver(shard: ShardMetadata, heir: string, signal: AbortSignal): Promise<number> {
    const why = isLeaving(shard.leader!.internal);
    const next = nextTerm(storedShard(shard));
    return this.#replaceLeader(shard, { next, why, cause: "leader-leaving", awaited: heir, heir }, signal);
  }

  #electAnew(shard: ShardMetadata, signal: AbortSignal): Promise<number> {
    const cause = shard.term === NO_TERM ? "first" : "retry";
    return this.#elect(shard, { next: this.#nextDocument(shard), cause }, signal);
  }

  #nextDocument(shard: ShardMetadata): StoredShard {
    const stored = storedShard(shard);
    return this.#turnRound && stored.formerMembers.length > 0 ? turnedRound(stored) : nextTerm(stored);
  }

  async #elect(
    shard: ShardMetadata,
    { next, cause, awaited, heir }: Pick<Tended & { readonly kind: "elect" }, "next" | "cause" | "awaited" | "heir">,
    signal: AbortSignal,
  ): Promise<number> {
    const short = this.#whyHopeless(next);
    if (short !== "") return this.#wait(short);
    const { ref } = this;
    const { store, leaders, logger, stats } = this.#cluster;
    stats.electionBegun(cause);
    const outcome = await elect(this.#cluster, { ref, shard, next, history: this.#history, awaited, heir }, signal);
    this.#turnRound = false;
    if (outcome.kind !== "led") leaders.set(ref.shard, store.shard(ref)?.leader?.internal);
    switch (outcome.kind) {
      case "led":
        this.#led(outcome.named);
        return 0;
      case "overtaken":
        this.#problem = "another coordinator acts on it";
        return this.#elections.nextMs();
      case "halted":
        this.#halted = store.shard(ref);
        this.#problem = outcome.why;
        logger.error(shardFields(ref, { term: next.term, why: outcome.why }), "no election can be held");
        return ELECTION_RETRY_MS_MAX;
      case "failed":
        this.#failedTerms += 1;
        stats.electionFailed(ref);
        this.#problem = outcome.why;
        this.#turnRound = outcome.turnRound || this.#failedTerms % ELECTIONS_BEFORE_TURNING_ROUND === 0;
        logger.warn(shardFields(ref, { term: next.term, why: outcome.why }), "election failed");
        return this.#elections.nextMs();
    }
  }

  #led(named: ReadonlySet<string>): void {
    this.#elections.reset();
    this.#failedTerms = 0;
    this.#problem = "";
    const shard = this.#cluster.store.shard(this.ref);
    if (shard?.leader !== undefined) this.#tending.led(shard, named);
  }

  /** A term is not spent on an election that has too few servers to ask; it is tried when one of them comes back. */
  #whyHopeless({ members, formerMembers }: StoredShard): string {
    const { servers } = this.#cluster;
    for (const ensemble of [members, formerMembers]) {
      const there = ensemble.filter(({ server }) => servers.isAvailable(server));
      if (ensemble.length === 0 || there.length >= majority(ensemble.length)) continue;
      const away = ensemble
        .filter((slot) => !there.includes(slot))
        .map(({ server }) => `${server} ${servers.why(server)}`);
      return `too few servers of its ensemble: ${away.join("; ")}`;
    }
    return "";
  }

  // --- deletion -------------------------------------------------------------------------------------------------

  async #delete(shard: ShardMetadata, signal: AbortSignal): Promise<number> {
    this.#cluster.leaders.set(this.ref.shard, undefined);
    const deleted = await deleteShard(this.#cluster, this.ref, shard, signal);
    if (deleted.kind === "deleted") return 0;
    this.#problem = deleted.why;
    return Math.min(this.#deletes.nextMs(), SHARD_STEP_RETRY_MS_MAX);
  }
}

function isLeaving(leader: string): string {
  return `its leader ${leader} is about to stop`;
}
