/**
 * Load on a server: deterministic operations, so that two runs with one seed ask for the same keys in the same order.
 *
 * Without a rate the loop is closed: a bounded number of operations is outstanding, and each answer starts the next.
 * With one it is open: operations are due on a schedule. One that is held up, by the bound or by this program, is timed
 * from when it was due, so that a server that stalls cannot hide it (coordinated omission).
 */
import type { OperationName, Stats } from "./perf-report.ts";

export interface Target {
  put(key: string, value: Uint8Array): Promise<unknown>;
  get(key: string): Promise<unknown>;
  /** Reads all records of the load; resolves with how many there were. */
  scan(): Promise<number>;
}

export interface LoadPlan {
  /** Operations a second; 0: as many as `concurrency` allows. */
  readonly rate: number;
  /** Operations outstanding at once. */
  readonly concurrency: number;
  readonly keys: number;
  /** Of all operations; the others are puts. */
  readonly readPercent: number;
  /** Only range scans, in place of puts and gets. */
  readonly scans: boolean;
  readonly valueBytes: number;
  /** A value of its own for each put, in place of one for all. */
  readonly randomPayload: boolean;
  readonly seed: number;
}

/** Lateness up to which an operation is timed from when it was sent: the timer's own grain. */
const ON_TIME_MS = 2;

/** Mulberry32: small, fast, and the same on every machine. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Unsigned 32 bits. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    const state = this.#state;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** A whole number from 0 inclusive to `below` exclusive. */
  below(below: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * below);
  }

  bytes(length: number): Uint8Array {
    const words = new Uint32Array((length + 3) >> 2);
    for (let i = 0; i < words.length; i++) words[i] = this.next();
    return new Uint8Array(words.buffer, 0, length);
  }
}

/** All keys of a load are from here inclusive … */
export const KEYS_START = "key-";
/** … to here exclusive: "." is the character after "-". */
export const KEYS_END = "key.";

/** The key that Oxia's perf uses too. */
export function keyOf(index: number): string {
  return `${KEYS_START}${index}`;
}

/** One load under way. */
export class Load {
  readonly #target: Target;
  readonly #plan: LoadPlan;
  readonly #stats: Stats;
  readonly #chance: Chance;
  readonly #value: Uint8Array;
  readonly #startMs = performance.now();
  #outstanding = 0;
  #issued = 0;
  #stopped = false;
  #onDrained: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(target: Target, plan: LoadPlan, stats: Stats) {
    this.#target = target;
    this.#plan = plan;
    this.#stats = stats;
    this.#chance = new Chance(plan.seed);
    this.#value = this.#chance.bytes(plan.valueBytes);
  }

  start(): void {
    if (this.#plan.rate > 0) this.#timer = setInterval(() => this.#fill(), 1);
    this.#fill();
  }

  /** Issues nothing more and resolves once everything has its answer. */
  stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    if (this.#outstanding === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onDrained = resolve;
    });
  }

  #fill(): void {
    const { rate, concurrency } = this.#plan;
    if (rate === 0) {
      while (this.#outstanding < concurrency && !this.#stopped) this.#issue(performance.now());
      return;
    }
    const nowMs = performance.now();
    const due = Math.floor(((nowMs - this.#startMs) * rate) / 1000);
    while (this.#issued < due && this.#outstanding < concurrency && !this.#stopped) {
      const dueMs = this.#startMs + ((this.#issued + 1) * 1000) / rate;
      this.#issue(nowMs - dueMs > ON_TIME_MS ? dueMs : nowMs);
    }
  }

  #issue(fromMs: number): void {
    this.#issued++;
    this.#outstanding++;
    const operation = this.#next();
    this.#send(operation).then(
      (result) => {
        this.#stats.succeeded(operation, performance.now() - fromMs);
        if (operation === "rangeScan") this.#stats.scanned(result as number);
        this.#done();
      },
      (error) => {
        this.#stats.failed(operation, error);
        this.#done();
      },
    );
  }

  #done(): void {
    this.#outstanding--;
    if (!this.#stopped) this.#fill();
    else if (this.#outstanding === 0) this.#onDrained?.();
  }

  #next(): OperationName {
    if (this.#plan.scans) return "rangeScan";
    return this.#chance.below(1_000_000) < this.#plan.readPercent * 10_000 ? "get" : "put";
  }

  #send(operation: OperationName): Promise<unknown> {
    if (operation === "rangeScan") return this.#target.scan();
    const key = keyOf(this.#chance.below(this.#plan.keys));
    if (operation === "get") return this.#target.get(key);
    return this.#target.put(key, this.#plan.randomPayload ? this.#chance.bytes(this.#plan.valueBytes) : this.#value);
  }
}

/** Puts every key once, in order, with `concurrency` outstanding. Rejects at the first error. */
export async function preload(target: Target, plan: LoadPlan, onProgress: (done: number) => void): Promise<void> {
  const chance = new Chance(plan.seed);
  const shared = chance.bytes(plan.valueBytes);
  let next = 0;
  let done = 0;
  const worker = async () => {
    while (next < plan.keys) {
      const key = keyOf(next++);
      await target.put(key, plan.randomPayload ? chance.bytes(plan.valueBytes) : shared);
      onProgress(++done);
    }
  };
  await Promise.all(Array.from({ length: Math.min(plan.concurrency, plan.keys) }, worker));
}
