/** A clock that stands still until a test moves it. */
import type { Clock } from "../../src/ports.ts";

interface Timer {
  readonly dueMs: number;
  readonly callback: () => void;
}

export class ManualClock implements Clock {
  #ms = 1_000_000;
  #timers: Timer[] = [];

  now(): number {
    return this.#ms;
  }

  monotonicMs(): number {
    return this.#ms;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { dueMs: this.#ms + ms, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  soon(callback: () => void): void {
    setImmediate(callback);
  }

  /** Moves on by `ms`, running what falls due on the way, in order. */
  advance(ms: number): void {
    const end = this.#ms + ms;
    for (;;) {
      const due = this.#timers.filter(({ dueMs }) => dueMs <= end).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#ms = Math.max(this.#ms, due.dueMs);
      due.callback();
    }
    this.#ms = end;
  }
}
