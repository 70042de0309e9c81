/**
 * What the calls of one HTTP/2 connection share: the peer's address, its pings, and the bytes of replies that it has
 * not read yet. Past CONNECTION_UNSENT_BYTES_MAX its further calls wait, so that a client which asks and does not read
 * holds bounded memory, and slows down nobody but itself.
 */
import { CONNECTION_UNSENT_BYTES_MAX } from "../model/limits.ts";
import type { PingPolicy } from "./keepalive.ts";

export class Connection {
  readonly peer: string;
  readonly pings: PingPolicy;
  #unsent = 0;
  #waiting: (() => void)[] = [];
  #waking = false;

  constructor(peer: string, pings: PingPolicy) {
    this.peer = peer;
    this.pings = pings;
  }

  /** Bytes of replies that were made and not yet written to the peer. */
  get unsent(): number {
    return this.#unsent;
  }

  get choked(): boolean {
    return this.#unsent > CONNECTION_UNSENT_BYTES_MAX;
  }

  /** Counts `bytes` more, or fewer when negative. */
  addUnsent(bytes: number): void {
    this.#unsent += bytes;
    if (bytes > 0) this.pings.sent();
    else if (this.#waiting.length > 0 && !this.choked) this.#wake();
  }

  /** Calls `callback` once the peer has read enough; at most one a stream waits, so the streams bound the queue. */
  whenUnchoked(callback: () => void): void {
    this.#waiting.push(callback);
  }

  #wake(): void {
    if (this.#waking) return;
    this.#waking = true;
    let woken = 0;
    // each may add to the unsent bytes at once: then the rest goes on waiting
    while (woken < this.#waiting.length && !this.choked) this.#waiting[woken++]!();
    this.#waiting.splice(0, woken);
    this.#waking = false;
  }
}
