/**
 * Finds shards whose writers pause while much of their state is in memory: flushed, it is scanned from blocks, and a
 * crash replays less.
 */
import { NO_OFFSET, type Offset } from "../../model/ids.ts";
import { IDLE_FLUSH_BYTES_MIN, IDLE_FLUSH_MS } from "../../model/limits.ts";
import type { Clock } from "../../ports.ts";
import type { SqliteKeyValue } from "./shard-state.ts";

export class IdleShards {
  readonly #clock: Clock;
  readonly #onIdle: (shard: SqliteKeyValue) => void;
  /** Those with so much in memory, by what they had applied when they were last looked at. */
  readonly #large = new Map<SqliteKeyValue, Offset>();
  #cancel: () => void = () => {};

  /** Looks at those that have committed, from now on until `stop`. */
  constructor(clock: Clock, onIdle: (shard: SqliteKeyValue) => void) {
    this.#clock = clock;
    this.#onIdle = onIdle;
    this.#schedule();
  }

  /** A shard has applied an entry, and has so much in memory now. */
  committed(shard: SqliteKeyValue, bytes: number): void {
    if (bytes >= IDLE_FLUSH_BYTES_MIN && !this.#large.has(shard)) this.#large.set(shard, NO_OFFSET);
  }

  stop(): void {
    this.#cancel();
  }

  #schedule(): void {
    this.#cancel = this.#clock.after(IDLE_FLUSH_MS, () => {
      this.#look();
      this.#schedule();
    });
  }

  #look(): void {
    for (const [shard, seen] of this.#large) {
      const { offset } = shard.applied;
      if (shard.isClosed || shard.activeBytes < IDLE_FLUSH_BYTES_MIN) this.#large.delete(shard);
      else if (seen === offset) this.#onIdle(shard);
      else this.#large.set(shard, offset);
    }
  }
}
