/**
 * Handlers over generated messages, for methods that are not hot: decodes requests and encodes responses with the
 * generated schemas. The hot ones use wire/ instead.
 */
import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { Bytes } from "../lib/bytes.ts";
import { Refusal } from "../model/refusal.ts";
import type { BidiControls, BidiHandler, Call, Method, Sink } from "./method.ts";

/** Puts typed responses; see Sink. */
export interface TypedSink<T> {
  send(message: T): boolean;
  drained(): Promise<void>;
}

export interface TypedBidiControls<T> extends TypedSink<T> {
  resume(): void;
  end(): void;
  fail(error: unknown): void;
}

export interface TypedBidiHandler<T> {
  message(message: T): boolean;
  end(): void;
}

/** A unary method. Refuses what is not a message of `input` with INVALID_ARGUMENT. */
export function typedUnary<I extends DescMessage, O extends DescMessage>(
  input: I,
  output: O,
  handle: (request: MessageShape<I>, call: Call) => MessageShape<O> | Promise<MessageShape<O>>,
): Method {
  return {
    kind: "unary",
    handle(bytes, call) {
      const response = handle(decode(input, bytes), call);
      if (response instanceof Promise) return response.then((message) => toBinary(output, message));
      return toBinary(output, response);
    },
  };
}

/** A server-stream method. Refuses what is not a message of `input` with INVALID_ARGUMENT. */
export function typedServerStream<I extends DescMessage, O extends DescMessage>(
  input: I,
  output: O,
  handle: (request: MessageShape<I>, call: Call, sink: TypedSink<MessageShape<O>>) => Promise<void>,
): Method {
  return {
    kind: "server-stream",
    handle: async (bytes, call, sink) => handle(decode(input, bytes), call, typedSink(output, sink)),
  };
}

/** A bidirectional method. Refuses what is not a message of `input` with INVALID_ARGUMENT. */
export function typedBidi<I extends DescMessage, O extends DescMessage>(
  input: I,
  output: O,
  open: (call: Call, controls: TypedBidiControls<MessageShape<O>>) => TypedBidiHandler<MessageShape<I>>,
  options: { readonly unpaired?: boolean } = {},
): Method {
  return {
    kind: "bidi",
    ...options,
    open(call: Call, controls: BidiControls): BidiHandler {
      const handler = open(call, {
        ...typedSink(output, controls),
        resume: () => controls.resume(),
        end: () => controls.end(),
        fail: (error) => controls.fail(error),
      });
      return { message: (bytes) => handler.message(decode(input, bytes)), end: () => handler.end() };
    },
  };
}

function typedSink<O extends DescMessage>(output: O, sink: Sink): TypedSink<MessageShape<O>> {
  return { send: (message) => sink.send(toBinary(output, message)), drained: () => sink.drained() };
}

/** Refuses what is not a message of `schema` with INVALID_ARGUMENT. */
export function decode<I extends DescMessage>(schema: I, bytes: Bytes): MessageShape<I> {
  try {
    return fromBinary(schema, bytes);
  } catch (cause) {
    throw new Refusal("INVALID_ARGUMENT", `malformed ${schema.typeName}`, { cause });
  }
}
