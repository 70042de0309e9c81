/**
 * The request of a unary or server-stream call: exactly one message. The handler runs once the message and the end of
 * the request are in. Its bytes count against the node's budget until the first response is out, or the handler is
 * through: also after a cancellation, since the handler may hold them until then.
 *
 * Source: gRPC, doc/PROTOCOL-HTTP2.md; doc/statuscodes.md (a wrong number of messages is UNIMPLEMENTED).
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import type { NativeCall } from "./call.ts";
import { Code, StatusError } from "./code.ts";
import { FrameDecoder, type Reserve } from "./frame.ts";
import type { Method } from "./method.ts";
import { type IncompleteRequest, listen, type RequestPorts } from "./request.ts";
import type { RequestSide } from "./request-side.ts";

export type SingleMethod = Extract<Method, { kind: "unary" | "server-stream" }>;

export class SingleRequest implements RequestSide, IncompleteRequest, Reserve {
  sinceMs = 0;
  readonly #ports: RequestPorts;
  readonly #call: NativeCall;
  readonly #method: SingleMethod;
  readonly #decoder: FrameDecoder;
  #message: Bytes | undefined;
  /** Bytes taken from the budget. */
  #charged = 0;
  #running = false;

  constructor(ports: RequestPorts, call: NativeCall, method: SingleMethod) {
    this.#ports = ports;
    this.#call = call;
    this.#method = method;
    this.#decoder = new FrameDecoder(ports.messageBytesMax, this);
    call.request = this;
    ports.incomplete.add(this);
    listen(call.stream);
  }

  data(chunk: Bytes): void {
    if (this.#call.ended) return;
    const decoder = this.#decoder;
    try {
      decoder.push(chunk);
      if (this.#message === undefined) this.#message = decoder.next();
      if (this.#message !== undefined && (decoder.partial || decoder.next() !== undefined || decoder.partial)) {
        throw new StatusError(Code.UNIMPLEMENTED, "more than one request message");
      }
    } catch (error) {
      this.#call.fail(error);
    }
  }

  end(): void {
    const { connection } = this.#call;
    this.#ports.incomplete.delete(this);
    if (this.#call.ended) return;
    if (this.#decoder.partial) this.#call.fail(new StatusError(Code.INTERNAL, "the request ends within a message"));
    else if (this.#message === undefined) this.#call.fail(new StatusError(Code.UNIMPLEMENTED, "no request message"));
    else if (connection.choked) connection.whenUnchoked(() => this.#run());
    else this.#run();
  }

  get expectedBytes(): number {
    return this.#message?.length ?? this.#decoder.partialLength;
  }

  overdue(error: StatusError): void {
    this.#call.fail(error);
  }

  /** Throws RESOURCE_EXHAUSTED: the call is refused. */
  reserve(bytes: number): boolean {
    if (!this.#ports.budget.take(bytes)) {
      throw new StatusError(Code.RESOURCE_EXHAUSTED, "too many bytes of requests in flight");
    }
    this.#charged += bytes;
    return true;
  }

  sent(): void {
    this.#release();
  }

  resume(): void {}

  callEnded(): void {
    this.#ports.incomplete.delete(this);
    this.#decoder.clear();
    if (!this.#running) this.#release();
  }

  handlerEnded(): void {}

  #run(): void {
    const call = this.#call;
    if (call.ended) return;
    const message = this.#message!;
    this.#message = EMPTY_BYTES;
    const method = this.#method;
    call.stats.messagesReceived++;
    this.#running = true;
    try {
      if (method.kind === "unary") {
        const response = method.handle(message, call);
        if (response instanceof Promise) {
          response.then(
            (late) => this.#answered(late),
            (error) => this.#failed(error),
          );
        } else this.#answered(response);
      } else {
        const done = method.handle(message, call, call);
        if (done === undefined) this.#answered(undefined);
        else {
          done.then(
            () => this.#answered(undefined),
            (error) => this.#failed(error),
          );
        }
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The handler is through: with the response, if the call is unary. */
  #answered(response: Bytes | undefined): void {
    this.#running = false;
    this.#release();
    if (response === undefined) this.#call.end();
    else this.#call.answer(response);
  }

  #failed(error: unknown): void {
    this.#running = false;
    this.#release();
    this.#call.fail(error);
  }

  #release(): void {
    if (this.#charged === 0) return;
    this.#ports.budget.give(this.#charged);
    this.#charged = 0;
  }
}
