/**
 * Linearizable reads without leases (safety.md §8): a read waits for a round that was sent after it arrived, then for
 * what was committed when it arrived to be applied. All reads that wait share the next round; under write load it rides
 * on the appends. A leader that nobody asks sends a round every second, to know that it still leads: after
 * LEADER_SILENCE_MS_MAX without a confirmed one it falls silent, until one is confirmed again.
 *
 *     read arrives ── next round begun ── a majority echoes it ── applied up to the commit offset noted ── answered
 */
import type { Offset } from "../model/ids.ts";
import { LEADER_SILENCE_MS_MAX, READ_WAIT_MS_MAX, READS_WAITING_MAX, ROUND_INTERVAL_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock } from "../ports.ts";
import {
  confirmedRound,
  type Leadership,
  mayAnswer,
  readArrives,
  sendRound,
  type WaitingRead,
} from "../protocol/commit.ts";

export interface ReadRoundHooks {
  readonly applied: () => Offset;
  /** A round is wanted, or was begun: cursors should look. */
  readonly wake: () => void;
  /** No majority has answered for too long: everything that clients hold open is to end. */
  readonly onSilent: (reason: Refusal) => void;
  /** A majority has answered again. */
  readonly onHeard: () => void;
}

/** Reads that wait for the same round and the same offset share a promise. */
interface Waiting {
  readonly read: WaitingRead;
  readonly sinceMs: number;
  count: number;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Refusal) => void;
}

export class ReadRounds {
  readonly #clock: Clock;
  readonly #leadership: Leadership;
  readonly #hooks: ReadRoundHooks;
  /** In order of arrival, so in order of their rounds. */
  #waiting: Waiting[] = [];
  #count = 0;
  #confirmed = 0;
  #begunMs = 0;
  #confirmedMs = 0;
  #cancelTick: () => void = () => {};
  /** Why no read is taken: the leader is silent, or has stopped. */
  #refused: Refusal | undefined;
  #serving = false;
  #stopped = false;

  constructor(clock: Clock, leadership: Leadership, hooks: ReadRoundHooks) {
    this.#clock = clock;
    this.#leadership = leadership;
    this.#hooks = hooks;
  }

  /** Why the leader serves nobody, while it hears from no majority. */
  get silence(): Refusal | undefined {
    return this.#refused;
  }

  /** Rounds are sent from now on, whether anybody asks or not. */
  start(): void {
    this.#begunMs = this.#confirmedMs = this.#clock.monotonicMs();
    this.#schedule();
  }

  /** The leader serves: from now on it is expected to hear from a majority. */
  serve(): void {
    this.#serving = true;
    this.#confirmedMs = this.#clock.monotonicMs();
  }

  /** Resolves once a read that arrives now may be answered. Throws RESOURCE_UNAVAILABLE, or RESOURCE_EXHAUSTED when too many wait. */
  confirm(): Promise<void> {
    if (this.#refused !== undefined) throw this.#refused;
    if (this.#count >= READS_WAITING_MAX) {
      throw new Refusal("RESOURCE_EXHAUSTED", `${READS_WAITING_MAX} reads of this shard wait`);
    }
    this.#count++;
    const read = readArrives(this.#leadership);
    const last = this.#waiting.at(-1);
    if (last !== undefined && last.read.round === read.round && last.read.commitOffset === read.commitOffset) {
      last.count++;
      return last.promise;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // whoever waits hears of a failure; that nobody does any more is no fault
    promise.catch(() => {});
    this.#waiting.push({ read, sinceMs: this.#clock.monotonicMs(), count: 1, promise, resolve, reject });
    this.#hooks.wake();
    return promise;
  }

  /** Whether reads wait for a round that has not begun. */
  get wanted(): boolean {
    const last = this.#waiting.at(-1);
    return last !== undefined && last.read.round > this.#leadership.roundSent;
  }

  get underWay(): boolean {
    return this.#confirmed < this.#leadership.roundSent;
  }

  /** Begins a round: its number goes to every follower with the next message. */
  begin(): void {
    this.#begunMs = this.#clock.monotonicMs();
    sendRound(this.#leadership);
  }

  /** A follower has answered, or entries were applied: whoever has waited long enough goes on. */
  advanced(): void {
    if (this.#stopped) return;
    const confirmed = confirmedRound(this.#leadership);
    if (confirmed > this.#confirmed) {
      this.#confirmed = confirmed;
      this.#confirmedMs = this.#clock.monotonicMs();
      if (this.#refused !== undefined) {
        this.#refused = undefined;
        this.#hooks.onHeard();
      }
      if (this.wanted) this.#hooks.wake();
    }
    const applied = this.#hooks.applied();
    let done = 0;
    while (done < this.#waiting.length && mayAnswer(this.#leadership, this.#waiting[done]!.read, applied)) done++;
    for (const { resolve } of this.#take(done)) resolve();
  }

  /** No read is answered any more. */
  stop(reason: Refusal): void {
    this.#stopped = true;
    this.#refused = reason;
    this.#cancelTick();
    this.#refuse(this.#waiting.length, reason);
  }

  #take(count: number): Waiting[] {
    if (count === 0) return [];
    const taken = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    for (const { count: reads } of taken) this.#count -= reads;
    return taken;
  }

  #refuse(count: number, reason: Refusal): void {
    for (const { reject } of this.#take(count)) reject(reason);
  }

  /** All leaders of a node tick at the same moments: what they send to one server, and hear from it, goes together. */
  #schedule(): void {
    const now = this.#clock.monotonicMs();
    const untilSilent = this.#confirmedMs + LEADER_SILENCE_MS_MAX - now;
    const untilTick = ROUND_INTERVAL_MS - (now % ROUND_INTERVAL_MS);
    const ms = untilSilent > 0 ? Math.min(untilTick, untilSilent) : untilTick;
    this.#cancelTick = this.#clock.after(ms, () => {
      this.#tick();
      if (!this.#stopped) this.#schedule();
    });
  }

  #tick(): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#begunMs >= ROUND_INTERVAL_MS / 2) {
      this.begin();
      this.#hooks.wake();
    }
    const isSilent = this.#serving && now - this.#confirmedMs >= LEADER_SILENCE_MS_MAX;
    if (isSilent && this.#refused === undefined) this.#fallSilent();
    const late = this.#waiting.findIndex(({ sinceMs }) => now - sinceMs < READ_WAIT_MS_MAX);
    this.#refuse(
      late === -1 ? this.#waiting.length : late,
      new Refusal("RESOURCE_UNAVAILABLE", `the read was not confirmed within ${READ_WAIT_MS_MAX} ms`),
    );
  }

  #fallSilent(): void {
    const message = `oxia: resource unavailable: no majority has answered this leader for ${LEADER_SILENCE_MS_MAX} ms`;
    const reason = new Refusal("RESOURCE_UNAVAILABLE", message);
    this.#refused = reason;
    this.#refuse(this.#waiting.length, reason);
    this.#hooks.onSilent(reason);
  }
}
