/**
 * What the followers of a node hold in memory together: entries on their way to the log, and entries that wait to be
 * applied. A follower past the node's bound goes on with one entry under way at a time, so that none waits for another.
 */
import { FOLLOWERS_BYTES_MAX } from "../model/limits.ts";

export class FollowerMemory {
  readonly #bytesMax: number;
  /** Bytes of entries handed to the log. */
  appending = 0;
  /** Bytes of entries kept until they are applied. */
  kept = 0;

  constructor(bytesMax: number = FOLLOWERS_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  get appendingFull(): boolean {
    return this.appending >= this.#bytesMax;
  }

  get keptFull(): boolean {
    return this.kept >= this.#bytesMax;
  }
}
