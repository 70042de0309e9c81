/**
 * The reading side of a feed: items wait for the reader, or the reader for items. What waits at the end is still given
 * out before it.
 */
import { Fifo } from "./fifo.ts";

interface Waiter<T> {
  readonly resolve: (result: IteratorResult<T, undefined>) => void;
  readonly reject: (error: Error) => void;
}

const DONE = { done: true, value: undefined } as const;

export class ItemQueue<T> {
  readonly #items = new Fifo<T>();
  readonly #waiters = new Fifo<Waiter<T>>();
  #end: { readonly error: Error | undefined } | undefined;

  get length(): number {
    return this.#items.length;
  }

  get ended(): boolean {
    return this.#end !== undefined;
  }

  push(item: T): void {
    if (this.#end !== undefined) return;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#items.push(item);
    else waiter.resolve({ done: false, value: item });
  }

  /** Takes the place of the item that waits, if one does: for readers who want the latest only. */
  replace(item: T): void {
    this.#items.drain();
    this.push(item);
  }

  /** Nothing more comes. With an error the reader is told once; after that there is only the end. */
  end(error?: Error): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    for (const waiter of this.#waiters.drain()) this.#tellEnd(waiter);
  }

  /** Drops what waits, and ends. */
  close(): void {
    this.#items.drain();
    this.end();
    this.#end = { error: undefined };
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#items.length > 0) return Promise.resolve({ done: false, value: this.#items.shift() as T });
    return new Promise((resolve, reject) => {
      if (this.#end === undefined) this.#waiters.push({ resolve, reject });
      else this.#tellEnd({ resolve, reject });
    });
  }

  #tellEnd({ resolve, reject }: Waiter<T>): void {
    const error = this.#end?.error;
    this.#end = { error: undefined };
    if (error === undefined) resolve(DONE);
    else reject(error);
  }
}
