/**
 * How long a state may be held back for sending: what is pinned keeps the -wal of its file from being moved, and the
 * log from being trimmed. A piece must be asked for every SNAPSHOT_PIN_MS_MAX, and on the whole at STATE_BYTES_PER_S_MIN.
 */
import { SNAPSHOT_PIN_MS_MAX, STATE_BYTES_PER_S_MIN } from "../../model/limits.ts";
import type { Clock } from "../../ports.ts";

export class SendPace {
  readonly #clock: Clock;
  readonly #cut: () => void;
  readonly #beganMs: number;
  #bytes = 0;
  #cancel: () => void = () => {};

  /** Calls `cut` once the receiver is too slow, unless `stop` comes first. */
  constructor(clock: Clock, cut: () => void) {
    this.#clock = clock;
    this.#cut = cut;
    this.#beganMs = clock.monotonicMs();
    this.#wait();
  }

  /** The receiver has asked for a piece, which is of so many bytes. */
  took(bytes: number): void {
    this.#bytes += bytes;
    this.#cancel();
    this.#wait();
  }

  stop(): void {
    this.#cancel();
  }

  #wait(): void {
    const spentMs = this.#clock.monotonicMs() - this.#beganMs;
    const allowedMs = SNAPSHOT_PIN_MS_MAX + (this.#bytes / STATE_BYTES_PER_S_MIN) * 1000;
    this.#cancel = this.#clock.after(Math.max(0, Math.min(SNAPSHOT_PIN_MS_MAX, allowedMs - spentMs)), this.#cut);
  }
}
