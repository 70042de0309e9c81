/**
 * Messages on their way from a stream to the flow that reads them, one at a time. Past `pauseAt` unread messages its
 * source is asked to pause, and to go on when half of them are read: what is under way by then still comes, and is kept.
 */
import { assert } from "./assert.ts";

export interface InboxSource {
  pause(): void;
  resume(): void;
}

interface Reader<T> {
  readonly resolve: (message: T | undefined) => void;
  readonly reject: (error: unknown) => void;
}

export class Inbox<T> {
  readonly #pauseAt: number;
  readonly #source: InboxSource;
  #messages: T[] = [];
  #first = 0;
  #reader: Reader<T> | undefined;
  #paused = false;
  #end: { readonly error: unknown } | undefined;

  constructor(pauseAt: number, source: InboxSource) {
    this.#pauseAt = pauseAt;
    this.#source = source;
  }

  get unread(): number {
    return this.#messages.length - this.#first;
  }

  /** Whether the source should wait. */
  get paused(): boolean {
    return this.#paused;
  }

  /** A message has come. After the end it is dropped. */
  push(message: T): void {
    if (this.#end !== undefined) return;
    const reader = this.#reader;
    if (reader !== undefined) {
      this.#reader = undefined;
      reader.resolve(message);
      return;
    }
    this.#messages.push(message);
    if (!this.#paused && this.unread >= this.#pauseAt) {
      this.#paused = true;
      this.#source.pause();
    }
  }

  /** No more comes: what is unread is still given out, then the end, or `error` from then on. The first end counts. */
  end(error?: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    const reader = this.#reader;
    this.#reader = undefined;
    if (error === undefined) reader?.resolve(undefined);
    else reader?.reject(error);
  }

  /** Drops what is unread, and ends. */
  close(error: unknown): void {
    this.#messages = [];
    this.#first = 0;
    this.end(error);
  }

  /** The next message; undefined at the end. Rejects with the error that ended it. */
  next(): Promise<T | undefined> {
    assert(this.#reader === undefined, "two readers of one inbox");
    if (this.unread > 0) return Promise.resolve(this.#shift());
    if (this.#end === undefined) {
      return new Promise((resolve, reject) => {
        this.#reader = { resolve, reject };
      });
    }
    return this.#end.error === undefined ? Promise.resolve(undefined) : Promise.reject(this.#end.error);
  }

  #shift(): T {
    const message = this.#messages[this.#first]!;
    this.#messages[this.#first++] = undefined as T;
    if (this.#first === this.#messages.length) {
      this.#messages = [];
      this.#first = 0;
    }
    if (this.#paused && this.unread <= this.#pauseAt / 2) {
      this.#paused = false;
      this.#source.resume();
    }
    return message;
  }
}
