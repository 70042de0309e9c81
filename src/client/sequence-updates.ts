/**
 * The newest key of a sequence, again and again: whoever reads slowly gets the latest only, as the server does it too.
 *
 * Source: semantics.md §5.2.
 */
import { decodeSequenceKey } from "./feed-answers.ts";
import { ItemQueue } from "./item-queue.ts";
import { equalKeys, keyText, type WireKey } from "./keys.ts";
import { sequenceUpdatesFrame } from "./requests.ts";
import type { ShardContext } from "./shard-context.ts";
import { ShardFeed } from "./shard-feed.ts";

const PATH = "/io.oxia.proto.v1.OxiaClient/GetSequenceUpdates";

/** Made by `VariaClient.sequenceUpdates`. Ends with `return()` (so does leaving a `for await`), the signal, or the client. */
export class SequenceUpdates implements AsyncIterableIterator<string, undefined> {
  readonly #context: ShardContext;
  readonly #key: WireKey;
  readonly #shardOf: () => number;
  readonly #signal: AbortSignal | undefined;
  readonly #queue = new ItemQueue<string>();
  readonly #end = () => this.#close();
  #feed: ShardFeed;
  #last: WireKey = "";

  /** @internal `shardOf` tells where the sequence is by now. */
  constructor(context: ShardContext, key: WireKey, shardOf: () => number, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#key = key;
    this.#shardOf = shardOf;
    this.#signal = signal;
    this.#feed = this.#newFeed();
    if (signal?.aborted === true) {
      this.#queue.close();
      return;
    }
    signal?.addEventListener("abort", this.#end, { once: true });
    context.closers.add(this.#end);
    this.#feed.start();
  }

  /** The highest key of the sequence by now, then each higher one. Rejects once when the server refuses for good. */
  next(): Promise<IteratorResult<string, undefined>> {
    return this.#queue.next();
  }

  async return(): Promise<IteratorResult<string, undefined>> {
    this.#close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }

  #newFeed(): ShardFeed {
    const shard = this.#shardOf();
    return new ShardFeed(shard, this.#context, {
      path: PATH,
      request: () => sequenceUpdatesFrame(shard, this.#key),
      message: (message) => {
        const key = decodeSequenceKey(message);
        // a stream that is opened again starts with what is known already
        if (key.length === 0 || equalKeys(key, this.#last)) return;
        this.#last = key;
        this.#queue.replace(keyText(key));
      },
      failed: (error) => {
        this.#stop();
        this.#queue.end(error);
      },
      gone: () => {
        this.#feed = this.#newFeed();
        this.#feed.start();
      },
    });
  }

  #close(): void {
    this.#stop();
    this.#queue.close();
  }

  #stop(): void {
    this.#signal?.removeEventListener("abort", this.#end);
    this.#context.closers.delete(this.#end);
    this.#feed.close();
  }
}
