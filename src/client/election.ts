/**
 * The election of one leader among those who campaign under one key: the first in the line leads, until it resigns or is
 * not heard of for its session's timeout; then the next one does. A leader is the holder of a lock, and what is said
 * there (lock.ts) of tokens and of losing it holds here.
 */
import type { Int64 } from "../wire/reader.ts";
import type { NotificationItem } from "./changes.ts";
import type { VariaClient } from "./client.ts";
import { ClientClosedError } from "./errors.ts";
import { type AcquireOptions, type HeldLock, Lock, type LockOptions } from "./lock.ts";
import { Tickets } from "./tickets.ts";
import { Wake, Watch } from "./watch.ts";

export interface Leader {
  readonly identity: string;
  /** Greater than that of every leader before. */
  readonly token: Int64;
}

export interface ObserveOptions {
  /** Ends the iteration when aborted. */
  readonly signal?: AbortSignal;
}

export class LeaderElection {
  readonly #client: VariaClient;
  readonly #lock: Lock;
  readonly #tickets: Tickets;

  /** Elections with one key are one. Their records are `key/ticket-…`. */
  constructor(client: VariaClient, key: string, options: LockOptions = {}) {
    this.#client = client;
    this.#lock = new Lock(client, key, options);
    this.#tickets = new Tickets(client, key);
  }

  /** Waits to be the leader. */
  async campaign(options: AcquireOptions = {}): Promise<Leadership> {
    return new Leadership(await this.#lock.acquire(options));
  }

  /** Who leads; undefined when nobody does. */
  async leader(): Promise<Leader | undefined> {
    const [first] = await this.#tickets.inLine();
    return first === undefined ? undefined : { identity: first.holder, token: first.versionId };
  }

  /** Who leads, now and after each change; of several changes at once the last. Undefined when nobody does. */
  async *observe({ signal }: ObserveOptions = {}): AsyncGenerator<Leader | undefined, void, undefined> {
    const over = () => signal?.aborted === true;
    if (over()) return;
    const wake = new Wake();
    let last: { readonly key: string; readonly leader: Leader } | undefined;
    /** What is found is not known yet: whatever happens may change it. */
    let looking = true;
    const hear = (item: NotificationItem | undefined) => {
      const certain = item?.type === "created" || item?.type === "modified" || item?.type === "deleted";
      if (certain && !this.#tickets.includes(item.key)) return;
      // those who join behind a leader change nothing
      if (certain && !looking && last !== undefined && item.key !== last.key) return;
      wake.raise();
    };
    const stop = await Watch.of(this.#client).add(hear);
    const abort = () => wake.raise();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      for (let told = false; !over(); ) {
        looking = true;
        const [first] = await this.#tickets.inLine();
        const same = first?.key === last?.key && first?.versionId === last?.leader.token;
        if (!same) last = first && { key: first.key, leader: { identity: first.holder, token: first.versionId } };
        looking = false;
        if (!same || !told) {
          told = true;
          yield last?.leader;
        }
        await wake.wait();
      }
    } catch (error) {
      // as notifications do, it ends with the client
      if (!(error instanceof ClientClosedError)) throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
      stop();
    }
  }
}

/** Being the leader: until `resign`, or until `signal` is aborted. */
export class Leadership {
  readonly #held: HeldLock;

  /** @internal */
  constructor(held: HeldLock) {
    this.#held = held;
  }

  /** Greater than that of every leader before. */
  get token(): Int64 {
    return this.#held.token;
  }

  /** Aborted, with a LockLostError, when the leadership is lost or may be. Not by `resign`. */
  get signal(): AbortSignal {
    return this.#held.signal;
  }

  /** Lets the next one lead. */
  resign(): Promise<void> {
    return this.#held.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.resign();
  }
}
