/**
 * The requests of a bidirectional call: messages go to the handler one by one. The HTTP/2 stream is paused while the
 * handler wants no more, or the node's budget of request bytes has no room for the next message; what arrived by then
 * is at most the stream's window.
 *
 * A message counts against the budget until it is answered: the n-th response answers the n-th request, unless the
 * method says that they do not pair. After a cancellation unanswered ones count on while their handler works on them.
 */
import type { Bytes } from "../lib/bytes.ts";
import { REQUEST_MS_MAX } from "../model/limits.ts";
import type { NativeCall } from "./call.ts";
import { Code, StatusError } from "./code.ts";
import { FrameDecoder, type Reserve } from "./frame.ts";
import type { BidiHandler, Method } from "./method.ts";
import { type IncompleteRequest, listen, type RequestPorts } from "./request.ts";
import type { RequestSide } from "./request-side.ts";

export type BidiMethod = Extract<Method, { kind: "bidi" }>;

export class RequestStream implements RequestSide, IncompleteRequest, Reserve {
  sinceMs = 0;
  readonly #ports: RequestPorts;
  readonly #call: NativeCall;
  readonly #decoder: FrameDecoder;
  readonly #unpaired: boolean;
  #handler: BidiHandler | undefined;
  /** Sizes of the messages that were handed over and not answered; the first #answered of them were. */
  #sizes: number[] = [];
  #answered = 0;
  /** Bytes taken from the budget. Invariant: at least the sum of the unanswered sizes. */
  #charged = 0;
  /** Bytes that the budget has granted after a wait, and that the decoder has yet to ask for again. */
  #granted = 0;
  #waitsForBudget = false;
  /** The handler wants no more for now. */
  #paused = false;
  #pumping = false;
  #watched = false;
  #inputEnded = false;
  #stopLinger: (() => void) | undefined;

  constructor(ports: RequestPorts, call: NativeCall, method: BidiMethod) {
    this.#ports = ports;
    this.#call = call;
    this.#decoder = new FrameDecoder(ports.messageBytesMax, this);
    this.#unpaired = method.unpaired === true;
    call.request = this;
    listen(call.stream);
    try {
      this.#handler = method.open(call, call);
    } catch (error) {
      call.fail(error);
    }
  }

  data(chunk: Bytes): void {
    if (this.#call.ended) return;
    this.#decoder.push(chunk);
    this.#pump();
  }

  end(): void {
    this.#inputEnded = true;
    this.#pump();
  }

  get expectedBytes(): number {
    return this.#decoder.partialLength;
  }

  overdue(error: StatusError): void {
    this.#watched = false;
    this.#call.fail(error);
  }

  /** False: the budget has no room; the stream waits. */
  reserve(bytes: number): boolean {
    // more may have arrived during the wait, so that the decoder asks for more than it did
    const more = bytes - this.#granted;
    if (more > 0 && !this.#ports.budget.takeOrWait(this, more, () => this.#onGranted(more))) {
      this.#waitsForBudget = true;
      return false;
    }
    this.#charged += Math.max(0, more);
    this.#granted = Math.max(0, -more);
    return true;
  }

  sent(): void {
    if (this.#answered === this.#sizes.length) return;
    const bytes = this.#sizes[this.#answered++]!;
    if (this.#answered === this.#sizes.length) {
      this.#sizes = [];
      this.#answered = 0;
    } else if (this.#answered >= 1024 && this.#answered * 2 > this.#sizes.length) {
      this.#sizes = this.#sizes.slice(this.#answered);
      this.#answered = 0;
    }
    this.#release(bytes);
  }

  resume(): void {
    this.#paused = false;
    this.#pump();
  }

  callEnded(): void {
    this.#watch(false);
    this.#ports.budget.forget(this);
    this.#decoder.clear();
    this.#handler = undefined;
    if (!this.#call.cancelled) {
      this.handlerEnded();
      return;
    }
    let unanswered = 0;
    for (let i = this.#answered; i < this.#sizes.length; i++) unanswered += this.#sizes[i]!;
    this.#release(this.#charged - unanswered);
    // a handler that does not say when it is through is taken to be so in the end
    if (unanswered > 0) this.#stopLinger = this.#ports.clock.after(REQUEST_MS_MAX, () => this.handlerEnded());
  }

  handlerEnded(): void {
    this.#sizes = [];
    this.#answered = 0;
    this.#release(this.#charged);
  }

  #onGranted(bytes: number): void {
    this.#charged += bytes;
    this.#granted += bytes;
    this.#waitsForBudget = false;
    this.#pump();
  }

  /** Hands over what is there, as far as handler and budget want it; then has the stream flow, or not. */
  #pump(): void {
    if (this.#pumping || this.#call.ended) return;
    this.#pumping = true;
    try {
      let more = true;
      while (more && !this.#paused && !this.#waitsForBudget && !this.#call.ended) more = this.#step();
    } catch (error) {
      this.#call.fail(error);
    }
    this.#pumping = false;
    if (this.#call.ended) return;
    const held = this.#paused || this.#waitsForBudget;
    this.#watch(!held && this.#decoder.partial);
    const { stream } = this.#call;
    if (held) stream.pause();
    else if (stream.isPaused()) stream.resume();
  }

  /** Hands over one message, or the end of them. False: there is nothing more to hand over for now. */
  #step(): boolean {
    const message = this.#decoder.next();
    if (message === undefined) {
      if (this.#inputEnded && !this.#waitsForBudget) this.#deliverEnd();
      return false;
    }
    this.#watch(false);
    this.#ports.budget.settle(this);
    this.#call.stats.messagesReceived++;
    if (!this.#unpaired) this.#sizes.push(message.length);
    this.#paused = true; // before the handler runs, so that it can resume at once
    if (this.#handler!.message(message)) this.#paused = false;
    if (this.#unpaired) this.#release(message.length);
    return true;
  }

  #deliverEnd(): void {
    if (this.#decoder.partial) throw new StatusError(Code.INTERNAL, "the request ends within a message");
    const handler = this.#handler;
    this.#handler = undefined;
    handler?.end();
  }

  #watch(incomplete: boolean): void {
    if (incomplete === this.#watched) return;
    this.#watched = incomplete;
    if (incomplete) this.#ports.incomplete.add(this);
    else this.#ports.incomplete.delete(this);
  }

  #release(bytes: number): void {
    if (bytes === 0) return;
    this.#charged -= bytes;
    this.#ports.budget.give(bytes);
    if (this.#charged === 0) this.#stopLinger?.();
  }
}
