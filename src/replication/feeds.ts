/**
 * What waits for entries to be applied: subscribers of notifications, and of the highest key of a sequence. A waiter
 * holds nothing but a callback; what it missed meanwhile it reads from the state, at its own pace.
 */
import { encodeBatch } from "../database/notification.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { Offset, ShardId } from "../model/ids.ts";
import { NOTIFICATION_BATCHES_ENCODED_MAX, NOTIFICATION_BYTES_ENCODED_MAX } from "../model/limits.ts";
import type { Refusal } from "../model/refusal.ts";
import type { Clock, KeyValue } from "../ports.ts";

/** Callbacks that are each called once. */
class Waiters {
  #waiting = new Set<() => void>();
  #stopped = false;

  /** Calls `callback` once at the next `wake`; at once after `stop`. The returned function takes it back. */
  add(callback: () => void): () => void {
    if (this.#stopped) {
      callback();
      return () => {};
    }
    this.#waiting.add(callback);
    return () => this.#waiting.delete(callback);
  }

  wake(): void {
    if (this.#waiting.size === 0) return;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const callback of waiting) callback();
  }

  stop(): void {
    this.#stopped = true;
    this.wake();
  }

  get size(): number {
    return this.#waiting.size;
  }
}

/** A serialised NotificationBatch. */
export interface Batch {
  readonly offset: Offset;
  readonly bytes: Bytes;
}

export class NotificationFeed {
  readonly #kv: KeyValue;
  readonly #shard: ShardId;
  readonly #clock: Clock;
  readonly #waiters = new Waiters();
  /** Batches made last, by offset, the oldest first: subscribers that stand at the same place share them. */
  readonly #encoded = new Map<Offset, Bytes>();
  #encodedBytes = 0;
  #wakes = false;
  /** Why it has ended. */
  ended: Refusal | undefined;
  subscribers = 0;
  /** Batches, and bytes of them, that were read, by each subscriber anew. */
  batchesRead = 0;
  bytesRead = 0;
  /** Subscriptions that asked for what was trimmed away. */
  skipped = 0;

  constructor(kv: KeyValue, shard: ShardId, clock: Clock) {
    this.#kv = kv;
    this.#shard = shard;
    this.#clock = clock;
  }

  /** Batches behind `after`: the bounds of KeyValue.notifications hold. Empty at the end. */
  read(after: Offset): Batch[] {
    return this.#kv.notifications(after).map(({ offset, timestamp, entries }) => {
      let bytes = this.#encoded.get(offset);
      if (bytes === undefined) {
        bytes = encodeBatch(this.#shard, { offset, timestamp }, entries);
        this.#keep(offset, bytes);
      }
      this.batchesRead++;
      this.bytesRead += bytes.length;
      return { offset, bytes };
    });
  }

  /** Keeps the batch made last, whatever its size, and of those before it what is within the bounds. */
  #keep(offset: Offset, bytes: Bytes): void {
    this.#encoded.set(offset, bytes);
    this.#encodedBytes += bytes.length;
    for (const [oldest, { length }] of this.#encoded) {
      const { size } = this.#encoded;
      const fits = size <= NOTIFICATION_BATCHES_ENCODED_MAX && this.#encodedBytes <= NOTIFICATION_BYTES_ENCODED_MAX;
      if (fits || size === 1) break;
      this.#encoded.delete(oldest);
      this.#encodedBytes -= length;
    }
  }

  /** Calls `callback` once when there may be more, or the feed has ended. The returned function takes it back. */
  onMore(callback: () => void): () => void {
    return this.#waiters.add(callback);
  }

  /** Entries were applied: whoever waits is told at the end of this turn of the event loop. */
  applied(): void {
    if (this.#wakes || this.#waiters.size === 0) return;
    this.#wakes = true;
    this.#clock.soon(() => {
      this.#wakes = false;
      this.#waiters.wake();
    });
  }

  end(reason: Refusal): void {
    this.ended ??= reason;
    this.#waiters.stop();
  }
}

/** Watchers of sequences, by prefix. */
export class SequenceFeed {
  readonly #watchers = new Map<string, Waiters>();
  readonly #any = new Waiters();
  ended = false;

  /** Calls `callback` once when the prefix may have a new highest key, or the feed has ended. The returned function takes it back. */
  onAdvance(prefix: Bytes, callback: () => void): () => void {
    if (this.ended) return this.#any.add(callback);
    const name = latin1(prefix);
    let waiters = this.#watchers.get(name);
    if (waiters === undefined) {
      waiters = new Waiters();
      this.#watchers.set(name, waiters);
    }
    const takeBack = waiters.add(callback);
    return () => {
      takeBack();
      // others may wait under that name by now
      if (waiters.size === 0 && this.#watchers.get(name) === waiters) this.#watchers.delete(name);
    };
  }

  advanced(prefix: Bytes): void {
    if (this.#watchers.size === 0) return;
    const name = latin1(prefix);
    const waiters = this.#watchers.get(name);
    this.#watchers.delete(name);
    waiters?.wake();
  }

  end(): void {
    this.ended = true;
    this.#any.stop();
    for (const waiters of this.#watchers.values()) waiters.stop();
    this.#watchers.clear();
  }
}

function latin1(bytes: Bytes): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}
