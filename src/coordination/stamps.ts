/**
 * Stamps by which a data server whose disk has gone back in time is told: each is given out once, ever. Numbers come
 * from blocks that this coordinator has reserved by its own compare-and-swap, so that no successor uses one twice; those
 * that a server has confirmed are kept in the store.
 *
 * Source: safety.md §1, check (c).
 */

import { assert } from "../lib/assert.ts";
import { STAMPS_RESERVED_AT_ONCE } from "../model/limits.ts";
import type { StatusStore } from "./status-store.ts";

export class Stamps {
  readonly #store: StatusStore;
  #next = 0;
  #endExclusive = 0;
  #reserving: Promise<void> | undefined;

  constructor(store: StatusStore) {
    this.#store = store;
  }

  async next(): Promise<number> {
    while (this.#next >= this.#endExclusive) {
      this.#reserving ??= this.#reserve();
      await this.#reserving;
    }
    const stamp = this.#next;
    this.#next += 1;
    return stamp;
  }

  /** The last stamp that this server is known to hold; 0: none. */
  confirmed(server: string): number {
    return this.#store.status.confirmedStamps.get(server) ?? 0;
  }

  /** After the server has answered that it holds `stamp`. */
  async confirm(server: string, stamp: number): Promise<void> {
    await this.#store.update((status) => {
      if ((status.confirmedStamps.get(server) ?? 0) >= stamp) return undefined;
      return { ...status, confirmedStamps: new Map(status.confirmedStamps).set(server, stamp) };
    });
  }

  async #reserve(): Promise<void> {
    let first = 0;
    try {
      const stored = await this.#store.update((status) => {
        first = Math.max(status.stampsReserved, 1); // 0 is what a server holds that has had none
        return { ...status, stampsReserved: first + STAMPS_RESERVED_AT_ONCE };
      });
      assert(stored !== undefined, "a reservation never declines");
      this.#next = first;
      this.#endExclusive = first + STAMPS_RESERVED_AT_ONCE;
    } finally {
      this.#reserving = undefined;
    }
  }
}
