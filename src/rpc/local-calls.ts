/**
 * The served methods as a program in the same process calls them: by the same descriptors and bytes as over a
 * connection, so that it can do nothing that others could not.
 */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Refusal } from "../model/refusal.ts";
import type { Call, Method, ServedMethod } from "./method.ts";
import type { MethodOf } from "./served.ts";

export class LocalCalls {
  readonly #methods: ReadonlyMap<string, Method>;
  /** Answers that a method has given more than once, as bytes: nobody changes what is read from them. */
  readonly #read = new WeakMap<Uint8Array, unknown>();

  constructor(methods: readonly ServedMethod[]) {
    this.#methods = new Map(methods.flatMap(({ paths, method }) => paths.map((path) => [path, method] as const)));
  }

  /** Whether anybody answers this method here. */
  serves(method: MethodOf<DescMessage, DescMessage>): boolean {
    return this.#methods.has(pathOf(method));
  }

  /** One unary call. Rejects with the Refusal that it is answered with; UNIMPLEMENTED where nobody serves it. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const served = this.#methods.get(pathOf(method));
    if (served?.kind !== "unary") throw new Refusal("UNIMPLEMENTED", `${method.name} is not served here`);
    const bytes = toBinary(method.input, create(method.input, request));
    const call = localCall(() => {});
    const answer = await served.handle(bytes, call);
    const known = this.#read.get(answer) as MessageShape<O> | undefined;
    const message = known ?? fromBinary(method.output, answer);
    this.#read.set(answer, message);
    return message;
  }

  /** A call that is answered by a stream, until `signal` aborts it. */
  async stream<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<I, O>,
    request: MessageInitShape<I>,
    { each, signal }: { readonly each: (message: MessageShape<O>) => void; readonly signal: AbortSignal },
  ): Promise<void> {
    const served = this.#methods.get(pathOf(method));
    if (served?.kind !== "server-stream") throw new Refusal("UNIMPLEMENTED", `${method.name} is not served here`);
    const call = localCall((cancel) => signal.addEventListener("abort", cancel, { once: true }), signal);
    const sink = {
      send: (bytes: Uint8Array) => {
        if (!signal.aborted) each(fromBinary(method.output, bytes));
        return true;
      },
      drained: async () => {},
    };
    await served.handle(toBinary(method.input, create(method.input, request)), call, sink as never);
  }
}

function pathOf(method: MethodOf<DescMessage, DescMessage>): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function localCall(onCancel: (cancel: () => void) => void, signal?: AbortSignal): Call {
  return {
    header: () => [],
    authority: undefined,
    peer: "127.0.0.1",
    onCancel,
    get cancelled() {
      return signal?.aborted === true;
    },
    setResponseHeader() {},
  };
}
