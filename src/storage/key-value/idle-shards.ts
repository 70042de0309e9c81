/**
 * Finds shards whose writers pause while much of their state is in memory: flushed, it is scanned from blocks, and a
 * crash replays less.
 */
import type { Offset } from "../../model/ids.ts";
import { IDLE_FLUSH_BYTES_MIN, IDLE_FLUSH_MS } from "../../model/limits.ts";
import type { Clock } from "../../ports.ts";
import type { SqliteKeyValue } from "./shard-state.ts";

export class IdleShards {
  readonly #clock: Clock;
  readonly #shards: ReadonlyMap<string, SqliteKeyValue>;
  readonly #onIdle: (shard: SqliteKeyValue) => void;
  /** Applied offsets when they were last looked at. */
  #seen = new Map<SqliteKeyValue, Offset>();
  #cancel: () => void = () => {};

  /** Looks at `shards`, a map that its owner keeps, from now on until `stop`. */
  constructor(clock: Clock, shards: ReadonlyMap<string, SqliteKeyValue>, onIdle: (shard: SqliteKeyValue) => void) {
    this.#clock = clock;
    this.#shards = shards;
    this.#onIdle = onIdle;
    this.#schedule();
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
    const seen = new Map<SqliteKeyValue, Offset>();
    for (const shard of this.#shards.values()) {
      const { offset } = shard.applied;
      seen.set(shard, offset);
      if (this.#seen.get(shard) === offset && shard.activeBytes >= IDLE_FLUSH_BYTES_MIN) this.#onIdle(shard);
    }
    this.#seen = seen;
  }
}
