/**
 * The changes of all records of a namespace, as one stream out of its shards': in order within each shard, in no order
 * among them.
 *
 * Per shard the last offset that came is kept, and a broken stream goes on behind it, at whichever server leads: nothing
 * is lost or comes twice. A shard that is split hands its offset on to its children, who have its log.
 *
 * The first message of a shard's first stream says where the shard stands; with one of every shard the reader is
 * subscribed, and hears of whatever is written from then on.
 *
 * Backpressure: with CLIENT_NOTIFICATIONS_BYTES_MAX waiting for the reader all shards are paused until half is taken.
 *
 * A server that no longer has what follows the offset skips to what it has. Ours says so in a header
 * (`varia-first-offset`), and the reader gets a `missed` item; others skip silently.
 *
 * Source: semantics.md §5.1, §9.5.
 */
import type { Bytes } from "../lib/bytes.ts";
import { CLIENT_NOTIFICATIONS_BYTES_MAX } from "../model/limits.ts";
import type { Int64 } from "../wire/reader.ts";
import type { NotificationItem } from "./changes.ts";
import { ClientClosedError, RequestTimeoutError } from "./errors.ts";
import { decodeNotificationBatch } from "./feed-answers.ts";
import { ItemQueue } from "./item-queue.ts";
import { notificationsFrame } from "./requests.ts";
import type { ShardContext } from "./shard-context.ts";
import { ShardFeed } from "./shard-feed.ts";
import { type HashRange, hashesOf, type Shard } from "./shard-table.ts";

const PATH = "/io.oxia.proto.v1.OxiaClient/GetNotifications";
/** The first offset that the server still has, sent when it is not the one after the offset asked for. */
const FIRST_OFFSET_HEADER = "varia-first-offset";

export interface NotificationsOptions {
  /** Ends the iteration when aborted. */
  readonly signal?: AbortSignal;
}

interface Subscription {
  readonly hashes: HashRange;
  readonly feed: ShardFeed;
  /** Of the last message that came. Undefined until one has: then the reader is subscribed. */
  offset: Int64 | undefined;
}

interface Delivery {
  readonly items: readonly NotificationItem[];
  /** Of the message that they came in. */
  readonly bytes: number;
}

/** Made by `VariaClient.notifications`. Ends with `return()` (so does leaving a `for await`), the signal, or the client. */
export class Notifications implements AsyncIterableIterator<NotificationItem, undefined> {
  readonly #context: ShardContext;
  readonly #signal: AbortSignal | undefined;
  readonly #queue = new ItemQueue<Delivery>();
  readonly #subscriptions = new Set<Subscription>();
  readonly #end = () => this.#close();
  #current: readonly NotificationItem[] = [];
  #next = 0;
  /** Bytes of the messages in #queue. */
  #waitingBytes = 0;
  #paused = false;
  #missedWrites = 0;
  /** Until every shard is subscribed. */
  #opening: { readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined;

  private constructor(context: ShardContext, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#end, { once: true });
    context.closers.add(this.#end);
  }

  /** @internal Resolves once subscribed on every shard. */
  static async open(context: ShardContext, { signal }: NotificationsOptions): Promise<Notifications> {
    signal?.throwIfAborted();
    const notifications = new Notifications(context, signal);
    try {
      await notifications.#subscribeAll();
    } catch (error) {
      notifications.#close();
      signal?.throwIfAborted();
      throw error;
    }
    return notifications;
  }

  /** Writes that this reader was not told of, because the servers no longer knew them: the sum of all `missed` items. */
  get missedWrites(): number {
    return this.#missedWrites;
  }

  /** The next change; waits for it. Rejects once when a server refuses for good; after that there is only the end. */
  async next(): Promise<IteratorResult<NotificationItem, undefined>> {
    for (;;) {
      if (this.#next < this.#current.length) return { done: false, value: this.#current[this.#next++]! };
      const delivery = await this.#queue.next();
      if (delivery.done === true) return delivery;
      this.#taken(delivery.value);
    }
  }

  /** Ends the subscription. */
  async return(): Promise<IteratorResult<NotificationItem, undefined>> {
    this.#close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }

  // --- opening and ending ---------------------------------------------------------------------------------------

  #subscribeAll(): Promise<void> {
    const { ports, requestTimeoutMs, assignments } = this.#context;
    return new Promise((resolve, reject) => {
      const cancelTimeout = ports.clock.after(requestTimeoutMs, () => {
        const cause = [...this.#subscriptions].map(({ feed }) => feed.lastError).find((error) => error !== undefined);
        this.#opening?.reject(new RequestTimeoutError("subscribing to notifications", requestTimeoutMs, { cause }));
      });
      this.#opening = {
        resolve: () => {
          cancelTimeout();
          this.#opening = undefined;
          resolve();
        },
        reject: (error) => {
          cancelTimeout();
          this.#opening = undefined;
          reject(error);
        },
      };
      for (const shard of assignments.table.shards) this.#subscribe(shard, undefined);
    });
  }

  #close(): void {
    this.#stop();
    this.#current = [];
    this.#queue.close();
    this.#opening?.reject(new ClientClosedError());
  }

  #fail(error: Error): void {
    this.#stop();
    this.#queue.end(error);
    this.#opening?.reject(error);
  }

  #stop(): void {
    this.#signal?.removeEventListener("abort", this.#end);
    this.#context.closers.delete(this.#end);
    for (const { feed } of this.#subscriptions) feed.close();
    this.#subscriptions.clear();
  }

  // --- one shard ------------------------------------------------------------------------------------------------

  #subscribe(shard: Shard, offset: Int64 | undefined): void {
    const subscription: Subscription = {
      hashes: hashesOf(shard),
      offset,
      feed: new ShardFeed(shard.id, this.#context, {
        path: PATH,
        request: () => notificationsFrame(shard.id, subscription.offset),
        headers: (headers) => this.#takeHeaders(subscription, headers[FIRST_OFFSET_HEADER]),
        message: (message) => this.#take(subscription, message),
        failed: (error) => this.#fail(error),
        gone: () => {
          this.#subscriptions.delete(subscription);
          for (const heir of this.#context.assignments.table.within(subscription.hashes)) {
            this.#subscribe(heir, subscription.offset);
          }
        },
      }),
    };
    this.#subscriptions.add(subscription);
    if (this.#paused) subscription.feed.pause();
    subscription.feed.start();
  }

  #takeHeaders(subscription: Subscription, firstOffset: string | undefined): void {
    const { offset, feed } = subscription;
    if (offset === undefined || firstOffset === undefined || !/^\d{1,15}$/.test(firstOffset)) return;
    const writesMax = Number(firstOffset) - Number(offset) - 1;
    if (writesMax <= 0) return;
    subscription.offset = Number(firstOffset) - 1;
    this.#missedWrites += writesMax;
    this.#queue.push({ items: [{ type: "missed", shard: feed.shard, writesMax }], bytes: 0 });
  }

  #take(subscription: Subscription, message: Bytes): void {
    const { offset, changes } = decodeNotificationBatch(message);
    const { offset: last } = subscription;
    if (last !== undefined && offset <= last) return;
    subscription.offset = offset;
    if (changes.length > 0) {
      this.#waitingBytes += message.length;
      this.#queue.push({ items: changes, bytes: message.length });
      this.#pauseIfFull();
    }
    if (last === undefined && [...this.#subscriptions].every((it) => it.offset !== undefined)) this.#opening?.resolve();
  }

  // --- the reader -----------------------------------------------------------------------------------------------

  #pauseIfFull(): void {
    if (this.#paused || this.#waitingBytes < CLIENT_NOTIFICATIONS_BYTES_MAX) return;
    this.#paused = true;
    for (const { feed } of this.#subscriptions) feed.pause();
  }

  #taken({ items, bytes }: Delivery): void {
    // readers that ask several times at once may find some of an earlier delivery still there
    this.#current = this.#next < this.#current.length ? [...this.#current.slice(this.#next), ...items] : items;
    this.#next = 0;
    this.#waitingBytes -= bytes;
    if (!this.#paused || this.#waitingBytes > CLIENT_NOTIFICATIONS_BYTES_MAX / 2) return;
    this.#paused = false;
    for (const { feed } of [...this.#subscriptions]) feed.resume();
  }
}
