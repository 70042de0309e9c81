/**
 * A served method as Connect's handlers call it: messages in, messages out, bytes between.
 *
 * A request counts against the node's budget of request bytes until it is answered. Unlike a native stream, a Connect
 * stream past the budget is refused, not paused.
 */
import { type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { ConnectError, type HandlerContext } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { Refusal } from "../model/refusal.ts";
import type { Logger } from "../ports.ts";
import type { RequestBudget } from "./budget.ts";
import { Code } from "./code.ts";
import { ConnectCall } from "./connect-call.ts";
import type { Route } from "./http2.ts";
import type { Method } from "./method.ts";
import { statusOf } from "./status.ts";
import { originKey } from "./universal.ts";

export interface ConnectPorts {
  readonly logger: Logger;
  readonly budget: RequestBudget;
  readonly messageBytesMax: number;
}

/** The implementation that Connect calls for `route`, with the messages of `descriptor`. */
export function implement(ports: ConnectPorts, route: Route, descriptor: DescMethod) {
  const { method } = route.served;
  const start = (context: HandlerContext) => {
    const origin = context.values.get(originKey)!;
    const say = (error: unknown) => statusOf(error, route.path, ports.logger);
    return new ConnectCall({ context, origin, stats: route.stats, statusOf: say });
  };
  switch (method.kind) {
    case "unary":
      return (request: Message, context: HandlerContext) => unary(method, descriptor, request, start(context));
    case "server-stream":
      return (request: Message, context: HandlerContext) => serverStream(method, descriptor, request, start(context));
    case "bidi":
      return (requests: AsyncIterable<Message>, context: HandlerContext) =>
        bidi(method, descriptor, requests, start(context));
  }
}

async function unary(
  method: Extract<Method, { kind: "unary" }>,
  { input, output }: DescMethod,
  request: Message,
  call: ConnectCall,
): Promise<Message> {
  try {
    const bytes = encode(input, request);
    call.received(bytes.length);
    call.send((await Promise.race([method.handle(bytes, call), call.over])) ?? EMPTY_BYTES);
    call.end();
  } catch (error) {
    call.fail(error);
  }
  for await (const reply of call.replies()) return decode(output, reply);
  throw connectError(call);
}

async function* serverStream(
  method: Extract<Method, { kind: "server-stream" }>,
  { input, output }: DescMethod,
  request: Message,
  call: ConnectCall,
): AsyncIterable<Message> {
  const run = async () => {
    const bytes = encode(input, request);
    call.received(bytes.length);
    await method.handle(bytes, call, call);
  };
  run().then(
    () => call.end(),
    (error) => call.fail(error),
  );
  yield* decoded(output, call);
}

async function* bidi(
  method: Extract<Method, { kind: "bidi" }>,
  { input, output }: DescMethod,
  requests: AsyncIterable<Message>,
  call: ConnectCall,
): AsyncIterable<Message> {
  const run = async () => {
    const handler = method.open(call, call);
    for await (const request of requests) {
      if (call.ended) return;
      const bytes = encode(input, request);
      call.received(bytes.length);
      const more = handler.message(bytes);
      if (method.unpaired === true) call.answered();
      if (!more) await call.resumed();
    }
    if (!call.ended) handler.end();
  };
  run().catch((error) => call.fail(error));
  yield* decoded(output, call);
}

async function* decoded(output: DescMessage, call: ConnectCall): AsyncIterable<Message> {
  for await (const reply of call.replies()) yield decode(output, reply);
  if (call.code !== Code.OK) throw connectError(call);
}

/** A message as its handler takes it. Refuses text that is not Unicode. */
function encode(schema: DescMessage, message: Message): Bytes {
  try {
    return toBinary(schema, message);
  } catch (cause) {
    throw new Refusal("INVALID_ARGUMENT", `malformed ${schema.typeName}`, { cause });
  }
}

/** A reply in the form of the request. Only text fails here: bytes that JSON cannot carry. */
function decode(schema: DescMessage, bytes: Bytes): Message {
  try {
    return fromBinary(schema, bytes);
  } catch {
    throw new ConnectError(
      "a key of the response is not UTF-8, which JSON cannot carry: use a binary format",
      Code.INVALID_ARGUMENT,
    );
  }
}

function connectError(call: ConnectCall): ConnectError {
  const { failure } = call;
  if (failure === undefined) {
    const expired = call.code === Code.DEADLINE_EXCEEDED;
    return new ConnectError(expired ? "deadline exceeded" : "the call was cancelled", call.code as number);
  }
  const details = failure.info === undefined ? [] : [{ desc: ErrorInfoSchema, value: failure.info }];
  return new ConnectError(failure.message, failure.code as number, undefined, details);
}
