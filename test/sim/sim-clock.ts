/**
 * A machine's clocks, and the Clock port of a process on it. The monotonic clock drifts; the wall clock is the
 * monotonic one plus an offset that may jump. Timers go by the monotonic clock, as the kernel's do.
 *
 *     monotonic = base + (true time - since) x rate        wall = monotonic + offset
 */
import { assert } from "../../src/lib/assert.ts";
import type { Timestamp } from "../../src/model/ids.ts";
import type { Clock } from "../../src/ports.ts";
import type { Owner } from "./event-heap.ts";
import type { Scheduler } from "./scheduler.ts";

/** Where all wall clocks begin, without skew. */
export const WALL_START: Timestamp = 1_800_000_000_000;

/** A timer takes this long at least, as a real one does: whoever asks for a rounding of a delay again and again gets on. */
const TIMER_MS_MIN = 0.001;

interface Timer {
  readonly owner: Owner;
  readonly dueMs: number;
  readonly callback: () => void;
  cancelEvent: () => void;
}

export class NodeTime {
  readonly scheduler: Scheduler;
  #base: number;
  #since: number;
  #rate = 1;
  #frozen = false;
  #offset: number;
  /** In the order in which they were set. */
  readonly #timers = new Set<Timer>();

  constructor(scheduler: Scheduler) {
    this.scheduler = scheduler;
    this.#base = scheduler.nowMs;
    this.#since = scheduler.nowMs;
    this.#offset = WALL_START;
  }

  monotonicMs(): number {
    return this.#base + (this.scheduler.nowMs - this.#since) * (this.#frozen ? 0 : this.#rate);
  }

  now(): Timestamp {
    return Math.floor(this.monotonicMs() + this.#offset);
  }

  /** Moves the wall clock, forth or back. */
  jump(ms: number): void {
    this.#offset += ms;
  }

  /** From now on a true second takes `rate` seconds here: 1.05 runs fast by five percent. */
  drift(rate: number): void {
    assert(rate > 0, "a clock that does not run", rate);
    this.#change(() => {
      this.#rate = rate;
    });
  }

  /** Both clocks stand still until `unfreeze`: what a suspended machine sees. */
  freeze(): void {
    this.#change(() => {
      this.#frozen = true;
    });
  }

  unfreeze(): void {
    if (!this.#frozen) return;
    this.#change(() => {
      this.#frozen = false;
    });
  }

  /** Sets a timer of a process; the returned function cancels it. */
  after(ms: number, owner: Owner, callback: () => void): () => void {
    if (!owner.alive) return () => {};
    const timer: Timer = {
      owner,
      dueMs: this.monotonicMs() + Math.max(ms, TIMER_MS_MIN),
      callback,
      cancelEvent: () => {},
    };
    this.#timers.add(timer);
    this.#arm(timer);
    return () => this.#drop(timer);
  }

  /** Drops all timers of a process that has ended. */
  forget(owner: Owner): void {
    for (const timer of this.#timers) if (timer.owner === owner) this.#drop(timer);
  }

  #arm(timer: Timer): void {
    if (this.#frozen) return;
    const delayMs = Math.max((timer.dueMs - this.monotonicMs()) / this.#rate, 0);
    timer.cancelEvent = this.scheduler.after(delayMs, "timer", () => this.#fire(timer), timer.owner);
  }

  #fire(timer: Timer): void {
    if (this.monotonicMs() < timer.dueMs) {
      this.#arm(timer); // a rounding of the drift away
      return;
    }
    this.#timers.delete(timer);
    timer.callback();
  }

  #drop(timer: Timer): void {
    if (this.#timers.delete(timer)) timer.cancelEvent();
  }

  /** Changes how time runs here, and sets all timers anew. */
  #change(change: () => void): void {
    this.#base = this.monotonicMs();
    this.#since = this.scheduler.nowMs;
    change();
    for (const timer of this.#timers) {
      timer.cancelEvent();
      this.#arm(timer);
    }
  }
}

export class SimClock implements Clock {
  readonly #time: NodeTime;
  readonly #owner: Owner;

  constructor(time: NodeTime, owner: Owner) {
    this.#time = time;
    this.#owner = owner;
  }

  now(): Timestamp {
    return this.#time.now();
  }

  monotonicMs(): number {
    return this.#time.monotonicMs();
  }

  after(ms: number, callback: () => void): () => void {
    return this.#time.after(ms, this.#owner, callback);
  }

  soon(callback: () => void): void {
    this.#time.scheduler.after(0, "soon", callback, this.#owner);
  }
}
