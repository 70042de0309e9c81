/**
 * Bytes of request messages that a node holds: accepted and not yet answered, over all its listeners and streams.
 *
 *     0 -------------------- streamBytesMax --- bytesMax
 *       streams and unary calls   |   unary calls only
 *
 * A unary call past the budget is refused. A stream past its share waits, first come, first served, so that writers
 * that are merely faster than the log slow down, and heartbeats and reads still find room. The first that waits goes
 * through beyond the share, one at a time, until it has its whole message: two streams that each hold half a message
 * cannot wait for each other for ever, and a message of any size gets through. So streams hold at most their share and
 * one message, and all together at most the budget and one message.
 */
import { BUDGET_WAITERS_MAX } from "../model/limits.ts";
import { Code, StatusError } from "./code.ts";

/** One part in so many is kept for unary calls. */
const UNARY_SHARE = 8;

export class RequestBudget {
  readonly bytesMax: number;
  readonly streamBytesMax: number;
  #used = 0;
  #waiters: Waiter[] = [];
  /** The one that was let through beyond the streams' share and has not yet said that it is done. */
  #overdrawn: object | undefined;

  /** `bytesMax`: at least the largest message, so that one message always fits. */
  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
    this.streamBytesMax = bytesMax - Math.floor(bytesMax / UNARY_SHARE);
  }

  get used(): number {
    return this.#used;
  }

  /** Takes `bytes` when they fit. False: nothing was taken. */
  take(bytes: number): boolean {
    if (bytes > 0 && this.#used + bytes > this.bytesMax) return false;
    this.#used += bytes;
    return true;
  }

  /**
   * Takes `bytes` for a stream, or has `granted` called once they were taken. `holder` stands for the stream: it may be
   * the one that is let through beyond the streams' share until it has its whole message. Throws RESOURCE_EXHAUSTED when too
   * many wait.
   */
  takeOrWait(holder: object, bytes: number, granted: () => void): boolean {
    if (this.#overdrawn === holder || (this.#waiters.length === 0 && this.#used + bytes <= this.streamBytesMax)) {
      this.#used += bytes;
      return true;
    }
    if (this.#waiters.length >= BUDGET_WAITERS_MAX) {
      throw new StatusError(Code.RESOURCE_EXHAUSTED, "too many bytes of requests in flight");
    }
    this.#waiters.push({ holder, bytes, granted });
    return this.#admit(holder);
  }

  give(bytes: number): void {
    this.#used -= bytes;
    if (this.#waiters.length > 0) this.#admit(undefined);
  }

  /** `holder` has got its whole message: another may be let through beyond the streams' share. */
  settle(holder: object): void {
    if (this.#overdrawn !== holder) return;
    this.#overdrawn = undefined;
    this.#admit(undefined);
  }

  /** `holder` is gone: it waits no more. What it has taken is to be given back all the same. */
  forget(holder: object): void {
    if (this.#waiters.length > 0) this.#waiters = this.#waiters.filter((waiter) => waiter.holder !== holder);
    this.settle(holder);
  }

  /** Lets waiters through in order. True when `caller` was among them: it is told by the result, not called. */
  #admit(caller: object | undefined): boolean {
    let callerAdmitted = false;
    while (this.#waiters.length > 0) {
      const first = this.#waiters[0]!;
      if (this.#used + first.bytes > this.streamBytesMax) {
        if (this.#overdrawn !== undefined || this.#used > this.streamBytesMax) break;
        this.#overdrawn = first.holder;
      }
      this.#waiters.shift();
      this.#used += first.bytes;
      if (first.holder === caller) callerAdmitted = true;
      else first.granted();
    }
    return callerAdmitted;
  }
}

interface Waiter {
  readonly holder: object;
  readonly bytes: number;
  readonly granted: () => void;
}
