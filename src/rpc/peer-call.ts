/**
 * Calls to another server's internal port: a status of the other side becomes a Refusal, or Unreachable where nothing
 * is known of what became of the call.
 *
 * Source: errors.md §1, §3; protocol.md §1.4 (the instance-id header).
 */
import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { CallStatus } from "../client/call-status.ts";
import { GrpcCode } from "../client/grpc-code.ts";
import type { Call, CallHandler, Transport } from "../client/transport.ts";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { Inbox } from "../lib/inbox.ts";
import { PEER_CALL_MS_MAX, PEER_MESSAGES_UNREAD_MAX } from "../model/limits.ts";
import { type Reason, Refusal, Unreachable } from "../model/refusal.ts";
import type { CallLimits, Clock } from "../ports.ts";
import { REASONS } from "./status.ts";

export interface PeerPorts {
  readonly transport: Transport;
  readonly clock: Clock;
  /** What this cluster is called: told with every call but the handshake. Undefined: not known yet. */
  readonly instanceId: () => string | undefined;
}

const FRAME_PREFIX_BYTES = 5;

export function framed(message: Bytes): Bytes {
  const frame = new Uint8Array(FRAME_PREFIX_BYTES + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, FRAME_PREFIX_BYTES);
  return frame;
}

/** Reasons of a plain code, where the other side has given none of its own. */
const PLAIN: ReadonlyMap<number, Reason> = new Map<number, Reason>([
  [GrpcCode.invalidArgument, "INVALID_ARGUMENT"],
  [GrpcCode.permissionDenied, "PERMISSION_DENIED"],
  [GrpcCode.resourceExhausted, "RESOURCE_EXHAUSTED"],
  [GrpcCode.failedPrecondition, "FAILED_PRECONDITION"],
  [GrpcCode.unimplemented, "UNIMPLEMENTED"],
  [GrpcCode.dataLoss, "DATA_LOSS"],
  [GrpcCode.unknown, "UNKNOWN"],
]);

/** What a call that did not end well rejects with. */
export function errorOf(server: string, status: CallStatus): Refusal | Unreachable {
  const { reason, code, message } = status;
  if (reason !== undefined && reason in REASONS) return new Refusal(reason as Reason, message);
  const plain = PLAIN.get(code);
  if (plain !== undefined) return new Refusal(plain, message);
  return new Unreachable(message.startsWith(`${server}: `) ? message : `${server}: ${message}`);
}

/** A method's descriptor, with its messages. */
export type PeerMethod<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly input: I;
  readonly output: O;
};

export interface PeerCall {
  readonly server: string;
  readonly limits: CallLimits;
  readonly withoutInstance?: boolean;
  /** Further headers, lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  /** What a status that is not OK rejects with; default: errorOf. */
  readonly errorOf?: (server: string, status: CallStatus) => Error;
}

/** One request, one answer. */
export function callPeer<I extends DescMessage, O extends DescMessage>(
  ports: PeerPorts,
  method: PeerMethod<I, O>,
  call: PeerCall,
  request: MessageShape<I>,
): Promise<MessageShape<O>> {
  const { server, limits } = call;
  const timeoutMs = limits.timeoutMs ?? PEER_CALL_MS_MAX;
  return new Promise((resolve, reject) => {
    let answer: Bytes | undefined;
    let open: Call | undefined;
    const giveUp = (why: string) => {
      open?.cancel();
      done();
      reject(new Unreachable(`${server}: ${why}`));
    };
    const onAbort = () => giveUp("the call was given up");
    const cancelTimer = ports.clock.after(timeoutMs, () => giveUp(`no answer in ${timeoutMs} ms`));
    const done = () => {
      cancelTimer();
      limits.signal?.removeEventListener("abort", onAbort);
    };
    limits.signal?.addEventListener("abort", onAbort);
    if (limits.signal?.aborted === true) return onAbort();
    const headers = { ...(call.withoutInstance === true ? {} : instanceHeader(ports)), ...call.headers };
    const message = framed(toBinary(method.input, request));
    open = ports.transport.open(
      { address: server, path: pathOf(method), headers, timeoutMs, message },
      {
        message: (bytes) => {
          answer ??= bytes;
        },
        drained: () => {},
        ended: (status) => {
          done();
          if (status.code !== GrpcCode.ok) return reject((call.errorOf ?? errorOf)(server, status));
          try {
            resolve(fromBinary(method.output, answer ?? EMPTY_BYTES));
          } catch (cause) {
            reject(new Unreachable(`${server}: an answer that is no ${method.output.typeName}`, cause));
          }
        },
      },
    );
  });
}

/** A stream of messages both ways. */
export class PeerStream<In> {
  /** Resolves when the other side, or the connection, has ended it; with the error, if it was one. */
  readonly ended: Promise<Refusal | Unreachable | undefined>;
  readonly #server: string;
  readonly #call: Call;
  readonly #inbox: Inbox<In>;
  #drained: (() => void)[] = [];
  #isChoked = false;
  #isOver = false;

  constructor(
    ports: PeerPorts,
    target: {
      readonly server: string;
      readonly method: DescMethod;
      readonly headers?: Readonly<Record<string, string>>;
      readonly decode: (bytes: Bytes) => In;
    },
  ) {
    const { server, method, decode } = target;
    this.#server = server;
    this.#inbox = new Inbox<In>(PEER_MESSAGES_UNREAD_MAX, {
      pause: () => this.#call.pause(),
      resume: () => this.#call.resume(),
    });
    const { promise, resolve } = Promise.withResolvers<Refusal | Unreachable | undefined>();
    this.ended = promise;
    const handler: CallHandler = {
      message: (bytes) => this.#receive(bytes, decode),
      drained: () => {
        this.#isChoked = false;
        for (const go of this.#drained.splice(0)) go();
      },
      ended: (status) => {
        const error = status.code === GrpcCode.ok ? undefined : errorOf(server, status);
        this.#over(error);
        resolve(error);
      },
    };
    const headers = { ...instanceHeader(ports), ...target.headers };
    this.#call = ports.transport.open({ address: server, path: pathOf(method), headers }, handler);
  }

  /** False: the other side reads slower than we write; the message is kept, and the next one should wait for `drained`. */
  send(message: Bytes): boolean {
    if (this.#isOver) return true;
    if (!this.#call.send(framed(message))) this.#isChoked = true;
    return !this.#isChoked;
  }

  drained(): Promise<void> {
    if (!this.#isChoked || this.#isOver) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  next(): Promise<In | undefined> {
    return this.#inbox.next();
  }

  /** No more messages come from this side. */
  finish(): void {
    if (!this.#isOver) this.#call.halfClose();
  }

  cancel(): void {
    if (this.#isOver) return;
    this.#call.cancel();
    this.#inbox.close(new Unreachable(`${this.#server}: the stream was given up`));
    this.#over(undefined);
  }

  #receive(bytes: Bytes, decode: (bytes: Bytes) => In): void {
    if (this.#isOver) return;
    try {
      this.#inbox.push(decode(bytes));
    } catch (cause) {
      this.#inbox.close(new Unreachable(`${this.#server}: a message that cannot be read`, cause));
      this.cancel();
    }
  }

  #over(error: Refusal | Unreachable | undefined): void {
    this.#isOver = true;
    this.#inbox.end(error);
    for (const go of this.#drained.splice(0)) go();
  }
}

function instanceHeader({ instanceId }: PeerPorts): Record<string, string> {
  const id = instanceId();
  return id === undefined ? {} : { "instance-id": id };
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}
