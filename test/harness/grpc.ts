/**
 * A raw gRPC client over node:http2: frames in, frames out, nothing decoded. It shares no code with the server, so a
 * mistake in the server's framing cannot hide behind the same mistake here, and it can send what a real client
 * never would (truncated frames, wrong flags, absent headers).
 *
 * A call never throws for what the server or the network did: it resolves with an `Outcome`. `lost` says that no
 * status came back, so that nobody can tell whether the request was carried out.
 *
 * Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md in grpc/grpc).
 */
import http2 from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.ts";

/** gRPC status codes, by the names that the specification gives them. */
export const Code = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

export function codeName(code: number): string {
  return Object.entries(Code).find(([, value]) => value === code)?.[0] ?? `code ${code}`;
}

/** How a call ended. */
export interface Outcome {
  /** gRPC status; UNAVAILABLE when none came back. */
  readonly code: number;
  readonly message: string;
  /** ErrorInfo of the status details, when there is one. */
  readonly reason: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  /** No status came back: the connection or the stream broke first. */
  readonly lost: boolean;
  readonly httpStatus: number | undefined;
}

/** How a call that collects its responses ended. */
export interface Reply extends Outcome {
  readonly messages: readonly Uint8Array[];
}

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string | string[] | undefined>>;
  /** Sent as it is in place of one framed message. */
  readonly rawBody?: Uint8Array;
  /** The call ends as lost after this time. Default 30 s: a server that hangs fails the test, not the test run. */
  readonly timeoutMs?: number;
  /** Told the response's headers when they come. */
  readonly onHeaders?: (headers: Readonly<Record<string, unknown>>) => void;
}

/** A stream of calls in both directions. */
export interface Bidi {
  /** Frames and sends one message; without effect once the call has ended. */
  send(message: Uint8Array): void;
  /** Sends bytes as they are. */
  sendRaw(bytes: Uint8Array): void;
  /** Says that no more messages follow. */
  halfClose(): void;
  cancel(): void;
  /** Resolves when the call has ended; never rejects. */
  readonly ended: Promise<Outcome>;
}

export function frame(message: Uint8Array, flag = 0): Uint8Array {
  const framed = new Uint8Array(5 + message.length);
  framed[0] = flag;
  new DataView(framed.buffer).setUint32(1, message.length);
  framed.set(message, 5);
  return framed;
}

export class Connection {
  readonly session: http2.ClientHttp2Session;
  readonly authority: string;
  /** Resolves when the connection is gone, whoever ended it. */
  readonly closed: Promise<void>;

  private constructor(session: http2.ClientHttp2Session, authority: string) {
    this.session = session;
    this.authority = authority;
    this.closed = new Promise((resolve) => session.once("close", () => resolve()));
    session.on("error", () => {}); // what it means for a call is told by that call's outcome
  }

  /** Rejects when nobody listens at `address` (`host:port`). */
  static open(address: string): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const session = http2.connect(`http://${address}`);
      const connection = new Connection(session, address);
      session.once("connect", () => resolve(connection));
      session.once("error", reject);
    });
  }

  /** A call with one request: unary or server stream; all responses are collected. */
  async call(path: string, request: Uint8Array, options: CallOptions = {}): Promise<Reply> {
    const messages: Uint8Array[] = [];
    const bidi = this.open(path, (message) => messages.push(message), options);
    bidi.sendRaw(options.rawBody ?? frame(request));
    bidi.halfClose();
    return { ...(await bidi.ended), messages };
  }

  /** Opens a call; `onMessage` gets each response as it comes, in bytes of its own. */
  open(path: string, onMessage: (message: Uint8Array) => void, options: CallOptions = {}): Bidi {
    let stream: http2.ClientHttp2Stream;
    try {
      stream = this.session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...options.headers,
      });
    } catch (error) {
      return endedAtOnce(lost(String(error)));
    }
    const over = { value: false };
    if (options.onHeaders !== undefined) stream.on("response", options.onHeaders);
    const ended = outcomeOf(stream, onMessage, options.timeoutMs ?? 30_000).finally(() => {
      over.value = true;
    });
    const write = (bytes: Uint8Array) => {
      if (!over.value && !stream.destroyed && !stream.writableEnded) stream.write(bytes);
    };
    return {
      send: (message) => write(frame(message)),
      sendRaw: write,
      halfClose: () => {
        if (!over.value && !stream.destroyed) stream.end();
      },
      cancel: () => {
        if (!stream.destroyed) stream.close(http2.constants.NGHTTP2_CANCEL);
      },
      ended,
    };
  }

  async close(): Promise<void> {
    if (this.session.destroyed) return;
    this.session.destroy();
    await this.closed;
  }
}

function endedAtOnce(outcome: Outcome): Bidi {
  return { send() {}, sendRaw() {}, halfClose() {}, cancel() {}, ended: Promise.resolve(outcome) };
}

function lost(message: string): Outcome {
  return { code: Code.UNAVAILABLE, message, reason: undefined, metadata: {}, lost: true, httpStatus: undefined };
}

function outcomeOf(
  stream: http2.ClientHttp2Stream,
  onMessage: (message: Uint8Array) => void,
  timeoutMs: number,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const unframe = unframer(onMessage);
    let headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader = {};
    let trailers: http2.IncomingHttpHeaders | undefined;
    let failure: string | undefined;
    const timer = setTimeout(() => {
      failure = `no answer within ${timeoutMs} ms`;
      finish();
      stream.close(http2.constants.NGHTTP2_CANCEL);
    }, timeoutMs);
    const finish = () => {
      clearTimeout(timer);
      resolve(interpret(headers, trailers, failure ?? `stream closed with code ${stream.rstCode}`));
    };
    stream.on("response", (value) => {
      headers = value;
      if (value["grpc-status"] !== undefined) trailers = value; // Trailers-Only
    });
    stream.on("trailers", (value) => {
      trailers = value;
    });
    stream.on("data", (chunk: Uint8Array) => unframe(chunk));
    stream.on("error", (error) => {
      failure = error.message;
    });
    stream.on("close", finish);
  });
}

function interpret(
  headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader,
  trailers: http2.IncomingHttpHeaders | undefined,
  failure: string,
): Outcome {
  const httpStatus = headers[":status"];
  const status = trailers?.["grpc-status"];
  if (status === undefined) return { ...lost(failure), httpStatus };
  const message = decodeURIComponent(String(trailers?.["grpc-message"] ?? ""));
  const info = errorInfo(trailers?.["grpc-status-details-bin"]);
  return {
    code: Number(status),
    message,
    reason: info?.reason,
    metadata: info?.metadata ?? {},
    lost: false,
    httpStatus,
  };
}

function errorInfo(header: string | string[] | undefined) {
  if (header === undefined) return undefined;
  const status = fromBinary(StatusSchema, Buffer.from(String(header), "base64"));
  const detail = status.details.find((any) => any.typeUrl.endsWith("google.rpc.ErrorInfo"));
  return detail && fromBinary(ErrorInfoSchema, detail.value);
}

/** Cuts a stream of chunks into messages. */
function unframer(onMessage: (message: Uint8Array) => void): (chunk: Uint8Array) => void {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let needed = 5;
  return (chunk) => {
    held.push(chunk);
    heldBytes += chunk.length;
    if (heldBytes < needed) return;
    const bytes = held.length === 1 ? held[0]! : Buffer.concat(held);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    needed = 5;
    while (bytes.length - at >= 5) {
      const length = view.getUint32(at + 1);
      if (bytes.length - at < 5 + length) {
        needed = 5 + length;
        break;
      }
      onMessage(bytes.slice(at + 5, at + 5 + length));
      at += 5 + length;
    }
    held = at === bytes.length ? [] : [bytes.subarray(at)];
    heldBytes = bytes.length - at;
  };
}
