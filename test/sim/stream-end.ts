/**
 * One side of a stream: what it has received and not read, what waits for the window, and how it ended.
 *
 * Invariant: messages sent and not yet credited by the other side <= window.
 */
import { assert } from "../../src/lib/assert.ts";
import { CallError, errorForCaller } from "./call-error.ts";
import type { DuplexStream } from "./stream-call.ts";

export type Frame =
  | { readonly kind: "open" }
  | { readonly kind: "message"; readonly message: unknown }
  /** So many messages were read. */
  | { readonly kind: "credit"; readonly messages: number }
  | { readonly kind: "half-close" }
  | { readonly kind: "cancel" }
  | { readonly kind: "end"; readonly error: CallError | undefined };

export interface StreamEndOptions {
  readonly isClient: boolean;
  readonly window: number;
  readonly transmit: (frame: Frame) => void;
  /** Called once, when the stream is over on this side. */
  readonly over: () => void;
}

interface Reader {
  readonly resolve: (message: unknown) => void;
  readonly reject: (error: CallError) => void;
}

export class StreamEnd implements DuplexStream {
  readonly ended: Promise<CallError | undefined>;
  readonly #options: StreamEndOptions;
  readonly #resolveEnded: (error: CallError | undefined) => void;
  #unread: unknown[] = [];
  #reader: Reader | undefined;
  /** No more messages come: without an error, or with one. */
  #inEnd: { readonly error: CallError | undefined } | undefined;
  /** Read, and not yet credited to the other side. */
  #read = 0;
  #unsent: Frame[] = [];
  #underWay = 0;
  #sendClosed = false;
  #drainedWaiting: (() => void)[] = [];
  #over = false;

  constructor(options: StreamEndOptions) {
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<CallError | undefined>();
    this.ended = promise;
    this.#resolveEnded = resolve;
  }

  get isOver(): boolean {
    return this.#over;
  }

  // --- what the process calls -----------------------------------------------------------------------------------

  send(message: unknown): boolean {
    if (this.#over) return true;
    assert(!this.#sendClosed, "a message behind the end of a stream");
    this.#queue({ kind: "message", message });
    return this.#unsent.length === 0;
  }

  drained(): Promise<void> {
    if (this.#over || this.#unsent.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#drainedWaiting.push(resolve));
  }

  next(): Promise<unknown> {
    assert(this.#reader === undefined, "two readers of one stream");
    if (this.#unread.length > 0) {
      const message = this.#unread.shift();
      this.#credit();
      return Promise.resolve(message);
    }
    if (this.#inEnd !== undefined) {
      const { error } = this.#inEnd;
      return error === undefined ? Promise.resolve(undefined) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<unknown> {
    let ended = false;
    try {
      for (;;) {
        const message = await this.next();
        if (message === undefined) {
          ended = true;
          return;
        }
        yield message;
      }
    } finally {
      // a client that leaves the loop early gives the stream up; a server's handler ends it when it returns
      if (!ended && this.#inEnd === undefined && this.#options.isClient) this.cancel();
    }
  }

  closeSend(): void {
    if (this.#over || this.#sendClosed) return;
    this.#sendClosed = true;
    this.#queue({ kind: "half-close" });
  }

  cancel(error = new CallError("CANCELLED", "this side has cancelled")): void {
    if (this.#over) return;
    this.#options.transmit({ kind: "cancel" });
    this.fail(error, { dropUnread: true });
  }

  // --- what the stream's owner calls ----------------------------------------------------------------------------

  /** A frame from the other side, in order. */
  receive(frame: Frame): void {
    if (this.#over) return;
    switch (frame.kind) {
      case "message":
        this.#take(frame.message);
        return;
      case "credit":
        this.#underWay -= frame.messages;
        this.#flush();
        return;
      case "half-close":
        this.#endIncoming(undefined);
        return;
      case "cancel":
        this.fail(new CallError("CANCELLED", "the other side has cancelled"), { dropUnread: true });
        return;
      case "end":
        if (frame.error === undefined) {
          this.#endIncoming(undefined);
          this.#end(undefined);
        } else {
          this.fail(errorForCaller(frame.error));
        }
        return;
      case "open":
        assert(false, "a stream that is opened twice");
    }
  }

  /** The server's handler is done: the end goes out behind what waits for the window. */
  finish(error: CallError | undefined): void {
    if (this.#over || this.#sendClosed) return;
    this.#sendClosed = true;
    if (error === undefined) {
      this.#queue({ kind: "end", error });
    } else {
      this.#unsent = [];
      this.#options.transmit({ kind: "end", error });
      this.#end(undefined);
    }
  }

  /** It is broken or cancelled here, now: whoever reads hears this, behind what was not read, unless that is dropped. */
  fail(error: CallError, { dropUnread = false } = {}): void {
    if (this.#over) return;
    if (dropUnread) this.#unread = [];
    this.#endIncoming(error);
    this.#end(error);
  }

  // --- inside ---------------------------------------------------------------------------------------------------

  #take(message: unknown): void {
    if (this.#inEnd !== undefined) return;
    const reader = this.#reader;
    if (reader === undefined) {
      this.#unread.push(message);
      return;
    }
    this.#reader = undefined;
    this.#credit();
    reader.resolve(message);
  }

  #credit(): void {
    if (++this.#read < Math.max(1, this.#options.window / 2) || this.#over) return;
    this.#options.transmit({ kind: "credit", messages: this.#read });
    this.#read = 0;
  }

  #endIncoming(error: CallError | undefined): void {
    if (this.#inEnd !== undefined && error === undefined) return;
    this.#inEnd = { error };
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) return;
    if (error === undefined) reader.resolve(undefined);
    else reader.reject(error);
  }

  #queue(frame: Frame): void {
    this.#unsent.push(frame);
    this.#flush();
  }

  #flush(): void {
    while (!this.#over) {
      const frame = this.#unsent[0];
      if (frame === undefined || (frame.kind === "message" && this.#underWay >= this.#options.window)) break;
      this.#unsent.shift();
      if (frame.kind === "message") this.#underWay++;
      this.#options.transmit(frame);
      if (frame.kind === "end") this.#end(undefined);
    }
    if (this.#unsent.length === 0) this.#wakeDrained();
  }

  #end(error: CallError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#unsent = [];
    this.#wakeDrained();
    this.#resolveEnded(error);
    this.#options.over();
  }

  #wakeDrained(): void {
    const waiting = this.#drainedWaiting;
    this.#drainedWaiting = [];
    for (const resolve of waiting) resolve();
  }
}
