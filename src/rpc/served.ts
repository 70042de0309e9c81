/** Methods of services that are not hot, as they are declared: a descriptor, and what answers it. */
import { create, type DescMessage, type DescMethod, type MessageShape } from "@bufbuild/protobuf";
import type { Bytes } from "../lib/bytes.ts";
import type { Call, ServedMethod } from "./method.ts";
import { decode, type TypedSink, typedServerStream, typedUnary } from "./typed.ts";

/** A method of a service, with its messages. */
export type MethodOf<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly input: I;
  readonly output: O;
};

/** A unary method; `answer` gives the fields of the response. */
export function servedUnary<I extends DescMessage, O extends DescMessage>(
  descriptor: MethodOf<I, O>,
  answer: (request: MessageShape<I>, call: Call) => unknown,
): ServedMethod {
  const method = typedUnary(descriptor.input, descriptor.output, async (request, call) => {
    const fields = await answer(request, call);
    return create(descriptor.output, fields as never);
  });
  return { ...declared(descriptor), method };
}

/** A unary method whose answer may be bytes that it has given before. */
export function servedEncoded<I extends DescMessage, O extends DescMessage>(
  descriptor: MethodOf<I, O>,
  answer: (request: MessageShape<I>) => Promise<Bytes>,
): ServedMethod {
  return {
    ...declared(descriptor),
    method: { kind: "unary", handle: async (bytes) => answer(decode(descriptor.input, bytes)) },
  };
}

/** A method that answers with a stream; the call ends when `answer` resolves. */
export function servedStream<I extends DescMessage, O extends DescMessage>(
  descriptor: MethodOf<I, O>,
  answer: (request: MessageShape<I>, call: Call, sink: TypedSink<MessageShape<O>>) => Promise<void>,
): ServedMethod {
  return { ...declared(descriptor), method: typedServerStream(descriptor.input, descriptor.output, answer) };
}

function declared(descriptor: DescMethod) {
  return { paths: [`/${descriptor.parent.typeName}/${descriptor.name}`], binary: descriptor, json: descriptor };
}
