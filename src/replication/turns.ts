/**
 * Shares the event loop among the shards that apply entries. Together they take APPLY_TURN_MS_MAX of each turn, and one
 * entry more, since an entry is not divided; who finds that spent waits in line.
 */
import { APPLY_TURN_MS_MAX } from "../model/limits.ts";
import type { Clock } from "../ports.ts";

export class Turns {
  readonly #clock: Clock;
  #spentMs = 0;
  #waiting: (() => void)[] = [];
  #ends = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Undefined while this turn has time left and nobody waits, else a promise of a place in a later one. */
  place(): Promise<void> | undefined {
    if (this.#spentMs < APPLY_TURN_MS_MAX && this.#waiting.length === 0) return undefined;
    this.#endSoon();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** An entry was applied in `ms`. */
  spent(ms: number): void {
    this.#spentMs += ms;
    this.#endSoon();
    if (this.#spentMs < APPLY_TURN_MS_MAX) this.#waiting.shift()?.();
  }

  #endSoon(): void {
    if (this.#ends) return;
    this.#ends = true;
    this.#clock.soon(() => {
      this.#ends = false;
      this.#spentMs = 0;
      this.#waiting.shift()?.();
      if (this.#waiting.length > 0) this.#endSoon();
    });
  }
}
