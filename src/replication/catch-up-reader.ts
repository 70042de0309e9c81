/**
 * Reads a leader's log for a follower that is behind: a batch at a time, each in one of the node's few places, which is
 * given back once the batch has been sent, or when the follower takes nothing of it for a while.
 */
import type { LogEntry, Offset, ShardId } from "../model/ids.ts";
import type { Clock } from "../ports.ts";
import type { ReplicationBudget } from "./entry-tail.ts";
import type { OwnLog } from "./own-log.ts";

export interface CatchUpHooks {
  readonly stallMs: number;
  /** A batch has come. */
  readonly onRead: () => void;
  readonly onFailed: (error: unknown) => void;
}

export class CatchUpReader {
  readonly #log: OwnLog;
  readonly #clock: Clock;
  readonly #budget: ReplicationBudget;
  readonly #shard: ShardId;
  readonly #hooks: CatchUpHooks;
  #batch: readonly LogEntry[] = [];
  #next = 0;
  #reading = false;
  /** Whether a place is held for the batch. */
  #placed = false;
  /** Raised by each reset: what was asked for before it is dropped. */
  #generation = 0;
  #cancelStall: () => void = () => {};

  constructor(log: OwnLog, clock: Clock, budget: ReplicationBudget, shard: ShardId, hooks: CatchUpHooks) {
    this.#log = log;
    this.#clock = clock;
    this.#budget = budget;
    this.#shard = shard;
    this.#hooks = hooks;
  }

  /** The entry at `offset`, if it is the next one of the batch. */
  take(offset: Offset): LogEntry | undefined {
    const entry = this.#batch[this.#next];
    if (entry === undefined) return undefined;
    if (entry.offset !== offset) {
      this.reset();
      return undefined;
    }
    this.#next++;
    if (this.#next === this.#batch.length) this.reset();
    return entry;
  }

  /** Reads from `offset` on, unless it does already. */
  read(offset: Offset): void {
    if (!this.#reading) void this.#read(offset);
  }

  /** The follower takes no more for now: if it stays so, the batch is dropped. */
  stall(): void {
    this.#cancelStall();
    if (!this.#placed) return;
    const generation = this.#generation;
    this.#cancelStall = this.#clock.after(this.#hooks.stallMs, () => {
      if (this.#generation === generation) this.reset();
    });
  }

  /** Drops the batch. */
  reset(): void {
    if (!this.#placed && !this.#reading) return;
    this.#generation++;
    this.#cancelStall();
    this.#batch = [];
    this.#next = 0;
    if (!this.#placed) return;
    this.#placed = false;
    this.#budget.giveRead();
  }

  async #read(offset: Offset): Promise<void> {
    this.#reading = true;
    const generation = this.#generation;
    let failure: unknown;
    try {
      const place = this.#budget.takeRead();
      if (place !== undefined) await place;
      if (generation !== this.#generation) this.#budget.giveRead();
      else {
        this.#placed = true;
        const batch = await this.#log.read(this.#shard, offset);
        if (generation === this.#generation) this.#batch = batch;
      }
    } catch (error) {
      failure = error;
    } finally {
      this.#reading = false;
    }
    if (generation !== this.#generation) {
      // whoever wants other entries by now asks again
      this.#hooks.onRead();
      return;
    }
    if (this.#batch.length === 0) this.reset();
    if (failure !== undefined) this.#hooks.onFailed(failure);
    else this.#hooks.onRead();
  }
}
