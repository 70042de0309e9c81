/**
 * What a served method is, below any wire format. Each method is declared once, in a table, and served as native
 * gRPC (http2.ts), gRPC-Web and Connect (connect.ts) from there. Messages are bytes here: hot methods decode them
 * with wire/, the others through `typedUnary` and `typedServerStream` with the generated schemas.
 *
 * Errors: a handler throws or rejects with a Refusal; anything else is a fault of ours and becomes INTERNAL.
 */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Bytes } from "../lib/bytes.ts";

/** One call as its handler sees it. */
export interface Call {
  /** Values of a request header, in order; empty when absent. `name` is lower case. */
  header(name: string): readonly string[];
  /** The request's `:authority` (`host` over HTTP/1.1); undefined when absent. */
  readonly authority: string | undefined;
  /** Address of the peer, for logs. */
  readonly peer: string;
  /** Registers what to do once when the call ends before its handler has ended it: cancelled, reset, connection gone. */
  onCancel(callback: () => void): void;
  readonly cancelled: boolean;
  /** Adds a response header; without effect once the first message was sent. */
  setResponseHeader(name: string, value: string): void;
}

/** Where a handler of a stream puts its responses. The bytes handed over are owned by the sink from then on. */
export interface Sink {
  /**
   * Sends one message. False: the peer reads slower than we write; `await drained()` before the next one. Messages
   * sent after the call ended are dropped.
   */
  send(message: Bytes): boolean;
  /** Resolves when the peer has read enough, or at once when it already has; rejects when the call is cancelled. */
  drained(): Promise<void>;
}

/** The side of a bidirectional call that takes requests. Calls come one after the other, never after `end` or a cancellation. */
export interface BidiHandler {
  /** One request. The bytes are the handler's to keep. False pauses the stream until `resume` of its controls. */
  message(message: Bytes): boolean;
  /** The client has sent its last request (half-close). The handler ends the call when its responses are out. */
  end(): void;
}

export interface BidiControls extends Sink {
  /** Takes requests again after `message` returned false. */
  resume(): void;
  /** Ends the call with status OK; the first of `end` and `fail` wins. */
  end(): void;
  /** Ends the call with an error (a Refusal, or a fault). */
  fail(error: unknown): void;
}

export type Method =
  | { readonly kind: "unary"; readonly handle: (request: Bytes, call: Call) => Bytes | Promise<Bytes> }
  | {
      readonly kind: "server-stream";
      /** The call ends when the promise resolves, or at once without one. */
      readonly handle: (request: Bytes, call: Call, sink: Sink) => Promise<void> | undefined;
    }
  | {
      readonly kind: "bidi";
      readonly open: (call: Call, controls: BidiControls) => BidiHandler;
      /**
       * True when requests do not get one response each, in order: acks that count for several, an upload. The bytes of
       * a request then count against the node's budget until `message` has returned, else until it is answered.
       */
      readonly unpaired?: boolean;
    };

/** One service method with the schemas that Connect, gRPC-Web and reflection need. */
export interface ServedMethod {
  /** `/package.Service/Method`, and its aliases (the legacy service name). */
  readonly paths: readonly string[];
  /** Generated descriptor whose key fields are bytes: binary formats. */
  readonly binary: DescMethod;
  /** Generated descriptor as published, keys as strings: JSON. */
  readonly json: DescMethod;
  readonly method: Method;
}
