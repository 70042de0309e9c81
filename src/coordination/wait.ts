/** Waiting, as the coordinator's flows do it: on a clock, until something happens, until told to stop. */
import { SHARD_STEP_RETRY_MS_MAX, SHARD_STEP_RETRY_MS_MIN } from "../model/limits.ts";
import type { Clock, Random } from "../ports.ts";

/** A wait or a call that its owner has ended: what it was for is not wanted any more. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";

  constructor() {
    super("interrupted");
  }
}

/** Resolves after `ms`, or as soon as the signal is aborted. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve();
      return;
    }
    const done = () => {
      cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(ms, done);
    signal?.addEventListener("abort", done);
  });
}

/** What `promise` comes to, or Interrupted as soon as the signal is aborted: a call's adapter may not look at it. */
export function unlessInterrupted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const interrupt = () => reject(new Interrupted());
    if (signal.aborted) interrupt();
    signal.addEventListener("abort", interrupt);
    const end = () => signal.removeEventListener("abort", interrupt);
    promise.then(resolve, reject).finally(end);
  });
}

/** Something to wait for that may happen before anybody waits: it is then not waited for. */
export class Wakeup {
  #happened = false;
  #waiting: (() => void) | undefined;

  wake(): void {
    this.#happened = true;
    this.#waiting?.();
  }

  /** Until `wake`, also one since the last wait; for at most `ms`; or until the signal is aborted. One waiter at a time. */
  async wait(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#happened && ms > 0) {
      const woken = new AbortController();
      const wake = () => woken.abort();
      this.#waiting = wake;
      signal.addEventListener("abort", wake);
      if (!signal.aborted) await sleep(clock, ms, woken.signal);
      signal.removeEventListener("abort", wake);
      this.#waiting = undefined;
    }
    this.#happened = false;
  }
}

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  readonly factor: number;
}

/** How long to wait before each of several tries: growing, bounded, with jitter so that not all come back at once. */
export class Backoff {
  readonly #random: Random;
  readonly #options: BackoffOptions;
  #tries = 0;

  constructor(random: Random, options: BackoffOptions) {
    this.#random = random;
    this.#options = options;
  }

  get tries(): number {
    return this.#tries;
  }

  /** Between half and all of the bound at this try. */
  nextMs(): number {
    const { firstMs, maxMs, factor } = this.#options;
    const bound = Math.min(maxMs, firstMs * factor ** Math.min(this.#tries, 100));
    this.#tries += 1;
    return bound * (0.5 + this.#random.fraction() / 2);
  }

  reset(): void {
    this.#tries = 0;
  }
}

/** For the steps of one shard: attaching a member, deleting a copy, a swap. */
export function stepBackoff(random: Random): Backoff {
  return new Backoff(random, { firstMs: SHARD_STEP_RETRY_MS_MIN, maxMs: SHARD_STEP_RETRY_MS_MAX, factor: 1.5 });
}

/** So many at once; the others wait in line. */
export class Permits {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Runs `work` when it is its turn. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
