/**
 * Keepalive enforcement: a client may ping every KEEPALIVE_MIN_INTERVAL_MS, also without open calls. Pings that come
 * sooner are strikes, unless replies went out lately: clients measure the bandwidth with a ping for each batch of data
 * that arrives, as fast as the round trip is. Past PING_STRIKES_MAX in a row the connection is to be closed with
 * ENHANCE_YOUR_CALM and `too_many_pings`, the text by which gRPC clients know to ping less often.
 *
 * Source: protocol.md §1.2; gRPC, proposal A8 (client-side keepalive).
 */
import { PING_STRIKES_MAX, PINGS_PER_INTERVAL_MAX } from "../model/limits.ts";

export class PingPolicy {
  readonly #intervalMs: number;
  /** A network delivers pings sent at the interval somewhat closer together. */
  readonly #tooSoonMs: number;
  #lastMs = Number.NEGATIVE_INFINITY;
  #strikes = 0;
  #sent = false;
  /** When replies were last known to go out. */
  #sentMs = Number.NEGATIVE_INFINITY;
  #windowStartMs = Number.NEGATIVE_INFINITY;
  #windowPings = 0;

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
    this.#tooSoonMs = 0.9 * intervalMs;
  }

  /** A ping arrived at `nowMs` (monotonic); `unsent`: whether replies wait for the reader. False: close the connection. */
  ping(nowMs: number, unsent: boolean): boolean {
    if (this.#sent || unsent) this.#sentMs = nowMs;
    this.#sent = false;
    if (nowMs - this.#windowStartMs >= this.#intervalMs) {
      this.#windowStartMs = nowMs;
      this.#windowPings = 0;
    }
    this.#windowPings++;
    const allowed = nowMs - this.#lastMs >= this.#tooSoonMs || nowMs - this.#sentMs < this.#intervalMs;
    this.#strikes = allowed ? 0 : this.#strikes + 1;
    this.#lastMs = nowMs;
    return this.#strikes <= PING_STRIKES_MAX && this.#windowPings <= PINGS_PER_INTERVAL_MAX;
  }

  /** The server has sent headers or data. */
  sent(): void {
    this.#sent = true;
  }
}
