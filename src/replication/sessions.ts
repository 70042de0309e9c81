/**
 * The sessions of a shard that this node leads, with their deadlines. The sessions themselves are records, replicated
 * like any other; only how long each has been silent is known here, so a new leader gives all of them their full
 * timeout again.
 *
 * A wheel of buckets, SESSION_TICK_MS apart, holds each session once, at a time not after its deadline. A heartbeat
 * only moves the deadline; when the bucket's time comes, a session that is not due goes to a later bucket. So a
 * heartbeat costs a look-up, and there is one timer, whatever the number of sessions.
 *
 * Never early: a session ends when the time that it asked for has passed since its last heartbeat, or since this node
 * learnt of it; late by a tick and a commit.
 *
 * Source: semantics.md §4; hashed timing wheels after Varghese and Lauck, 1987.
 */
import { assert } from "../lib/assert.ts";
import type { SessionId } from "../model/ids.ts";
import {
  SESSION_END_RETRY_MS,
  SESSION_ENDS_PER_ENTRY_MAX,
  SESSION_TICK_MS,
  SESSION_TIMEOUT_MS_MAX,
} from "../model/limits.ts";
import type { Clock } from "../ports.ts";

/** One round of the wheel is longer than the longest timeout. */
const BUCKETS = 2 ** Math.ceil(Math.log2(SESSION_TIMEOUT_MS_MAX / SESSION_TICK_MS + 2));
const NONE = -1;
const SLOTS_INITIAL = 64;

export class Sessions {
  readonly #clock: Clock;
  /** Ends sessions through the log. Resolves once they are gone; rejects when it cannot be done now. */
  readonly #end: (ids: readonly SessionId[]) => Promise<unknown>;
  /** Slot of each session; a slot's fields lie in the arrays below. */
  readonly #slots = new Map<SessionId, number>();
  #ids = new Float64Array(SLOTS_INITIAL);
  #deadlines = new Float64Array(SLOTS_INITIAL);
  #timeouts = new Uint32Array(SLOTS_INITIAL);
  /** The next slot in the same bucket, or in the list of free ones. */
  #next = new Int32Array(SLOTS_INITIAL);
  #free = NONE;
  #used = 0;
  readonly #buckets = new Int32Array(BUCKETS).fill(NONE);
  /** Slots in buckets: those of sessions that are gone stay until their bucket comes up. */
  #inBuckets = 0;
  /** The last tick whose bucket was looked at. */
  #tick: number;
  /** Sessions whose end is on its way, each with a promise that resolves when that is decided. */
  readonly #ending = new Map<SessionId, Promise<void>>();
  #cancelTick: (() => void) | undefined;
  #closed = false;

  constructor(clock: Clock, end: (ids: readonly SessionId[]) => Promise<unknown>) {
    this.#clock = clock;
    this.#end = end;
    this.#tick = this.#tickAt(clock.monotonicMs());
  }

  get size(): number {
    return this.#slots.size;
  }

  /** A session exists from now on: it has its full timeout. */
  add(id: SessionId, timeoutMs: number): void {
    assert(!this.#slots.has(id), "a session was added twice", id);
    const slot = this.#take();
    this.#ids[slot] = id;
    this.#timeouts[slot] = timeoutMs;
    this.#deadlines[slot] = this.#clock.monotonicMs() + timeoutMs;
    this.#slots.set(id, slot);
    this.#enter(slot);
    this.#schedule();
  }

  /** A session is gone from the state. */
  remove(id: SessionId): void {
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    this.#slots.delete(id);
    this.#ending.delete(id);
    this.#ids[slot] = NONE;
  }

  has(id: SessionId): boolean {
    return this.#slots.has(id);
  }

  /** Resolves when the proposed end of a session has been carried out or has failed; undefined when none is proposed. */
  ending(id: SessionId): Promise<void> | undefined {
    return this.#ending.get(id);
  }

  /** Whether the session lives; if so it has its full timeout again. */
  keepAlive(id: SessionId): boolean {
    const slot = this.#slots.get(id);
    if (slot === undefined || this.#ending.has(id)) return false;
    this.#deadlines[slot] = this.#clock.monotonicMs() + this.#timeouts[slot]!;
    return true;
  }

  /** Ends a session at its client's word. False when it does not live. Rejects when the log cannot take it. */
  async close(id: SessionId): Promise<boolean> {
    if (!this.#slots.has(id) || this.#ending.has(id)) return false;
    await this.#propose([id]);
    return true;
  }

  /** No session ends any more by this node's doing. */
  stop(): void {
    this.#closed = true;
    this.#cancelTick?.();
    this.#cancelTick = undefined;
  }

  // --- the wheel ------------------------------------------------------------------------------------------------

  #tickAt(ms: number): number {
    return Math.floor(ms / SESSION_TICK_MS);
  }

  /** Puts a slot where the first tick after its deadline finds it. */
  #enter(slot: number): void {
    const due = Math.max(this.#tickAt(this.#deadlines[slot]!), this.#tick) + 1;
    const bucket = due & (BUCKETS - 1);
    this.#next[slot] = this.#buckets[bucket]!;
    this.#buckets[bucket] = slot;
    this.#inBuckets++;
  }

  #schedule(): void {
    if (this.#cancelTick !== undefined || this.#closed || this.#inBuckets === 0) return;
    // at the edge of a tick: a timer half-way between two would come late by both halves
    const now = this.#clock.monotonicMs();
    const ms = Math.ceil((this.#tickAt(now) + 1) * SESSION_TICK_MS - now);
    this.#cancelTick = this.#clock.after(ms, () => {
      this.#cancelTick = undefined;
      this.#turn();
      this.#schedule();
    });
  }

  #turn(): void {
    const now = this.#clock.monotonicMs();
    const current = this.#tickAt(now);
    // after a long pause each bucket is looked at once
    if (current - this.#tick > BUCKETS) this.#tick = current - BUCKETS;
    const due: SessionId[] = [];
    while (this.#tick < current) {
      this.#tick++;
      this.#empty(this.#tick & (BUCKETS - 1), now, due);
    }
    for (let at = 0; at < due.length; at += SESSION_ENDS_PER_ENTRY_MAX) {
      this.#expire(due.slice(at, at + SESSION_ENDS_PER_ENTRY_MAX));
    }
  }

  #empty(bucket: number, now: number, due: SessionId[]): void {
    let slot = this.#buckets[bucket]!;
    this.#buckets[bucket] = NONE;
    while (slot !== NONE) {
      const next = this.#next[slot]!;
      const id = this.#ids[slot]!;
      this.#inBuckets--;
      if (id === NONE) this.#give(slot);
      else {
        if (this.#deadlines[slot]! <= now && !this.#ending.has(id)) {
          due.push(id);
          // should its end fail, it is found again
          this.#deadlines[slot] = now + SESSION_END_RETRY_MS;
        }
        this.#enter(slot);
      }
      slot = next;
    }
  }

  #expire(ids: readonly SessionId[]): void {
    // they are found again after SESSION_END_RETRY_MS
    this.#propose(ids).catch(() => {});
  }

  /** Proposes the end of sessions. Rejects when it cannot be done now: they live on. */
  async #propose(ids: readonly SessionId[]): Promise<void> {
    const { promise: decided, resolve } = Promise.withResolvers<void>();
    for (const id of ids) this.#ending.set(id, decided);
    try {
      await this.#end(ids);
    } catch (error) {
      for (const id of ids) if (this.#ending.get(id) === decided) this.#ending.delete(id);
      throw error;
    } finally {
      resolve();
    }
  }

  // --- slots ----------------------------------------------------------------------------------------------------

  #take(): number {
    if (this.#free !== NONE) {
      const slot = this.#free;
      this.#free = this.#next[slot]!;
      return slot;
    }
    if (this.#used === this.#ids.length) this.#grow();
    return this.#used++;
  }

  #give(slot: number): void {
    this.#next[slot] = this.#free;
    this.#free = slot;
  }

  #grow(): void {
    const size = this.#ids.length * 2;
    this.#ids = grown(this.#ids, new Float64Array(size));
    this.#deadlines = grown(this.#deadlines, new Float64Array(size));
    this.#timeouts = grown(this.#timeouts, new Uint32Array(size));
    this.#next = grown(this.#next, new Int32Array(size));
  }
}

function grown<T extends Float64Array | Uint32Array | Int32Array>(old: T, larger: T): T {
  larger.set(old);
  return larger;
}
