/**
 * A call's end on the wire: Refusal, StatusError or fault -> gRPC status. The one table from reason to code is here.
 *
 * A typed reason carries `google.rpc.ErrorInfo` (domain `oxia.io`, the leader hint as metadata) in
 * `grpc-status-details-bin`: official clients decide by it whether to retry. A plain one is a code and a message.
 * What is neither a Refusal nor a StatusError is a fault of ours: INTERNAL with a constant text, logged once.
 *
 * Source: errors.md §1; protocol.md §1.2; gRPC, doc/PROTOCOL-HTTP2.md (Status-Message, Status-Details).
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { type ErrorInfo, ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../gen/google/rpc/status_pb.ts";
import { STATUS_MESSAGE_CHARS_MAX } from "../model/limits.ts";
import { type Reason, Refusal } from "../model/refusal.ts";
import type { Logger } from "../ports.ts";
import { Code, StatusError } from "./code.ts";

const DOMAIN = "oxia.io";
const INTERNAL_TEXT = "internal error";

interface Row {
  readonly code: Code;
  /** Whether official clients, or a caller with a plain code, may send the same request again. */
  readonly retryable: boolean;
  /** The message of the typed error, to which context is prefixed; undefined for a plain one. */
  readonly text?: string;
}

export const REASONS: Readonly<Record<Reason, Row>> = {
  ABORTED: { code: Code.ABORTED, retryable: true, text: "oxia: operation was aborted" },
  INVALID_SESSION_TIMEOUT: { code: Code.INVALID_ARGUMENT, retryable: false, text: "oxia: invalid session timeout" },
  SESSION_NOT_FOUND: { code: Code.NOT_FOUND, retryable: false, text: "oxia: session not found" },
  NAMESPACE_NOT_FOUND: { code: Code.NOT_FOUND, retryable: false, text: "oxia: namespace not found" },
  SHARD_NOT_FOUND: { code: Code.NOT_FOUND, retryable: false, text: "oxia: shard not found" },
  INVALID_TERM: { code: Code.FAILED_PRECONDITION, retryable: false, text: "oxia: invalid term" },
  INVALID_STATUS: { code: Code.FAILED_PRECONDITION, retryable: false, text: "oxia: invalid status" },
  NOTIFICATIONS_NOT_ENABLED: {
    code: Code.FAILED_PRECONDITION,
    retryable: false,
    text: "oxia: notifications not enabled on namespace",
  },
  NODE_IS_NOT_MEMBER: { code: Code.ABORTED, retryable: true, text: "oxia: node is not a member" },
  NODE_IS_NOT_LEADER: { code: Code.ABORTED, retryable: true, text: "oxia: node is not leader" },
  NOT_INITIALIZED: { code: Code.UNAVAILABLE, retryable: true, text: "oxia: server not initialized yet" },
  RESOURCE_CONFLICT: { code: Code.FAILED_PRECONDITION, retryable: false, text: "oxia: resource conflict" },
  RESOURCE_UNAVAILABLE: { code: Code.UNAVAILABLE, retryable: true, text: "oxia: resource unavailable" },
  // typed, but by design no reason that a client retries on the same node: sessions away from their leader (semantics §4)
  UNKNOWN: { code: Code.ABORTED, retryable: false, text: "oxia: unknown" },
  INVALID_ARGUMENT: { code: Code.INVALID_ARGUMENT, retryable: false },
  NOT_FOUND: { code: Code.NOT_FOUND, retryable: false },
  ALREADY_EXISTS: { code: Code.ALREADY_EXISTS, retryable: false },
  CONCURRENT_CHANGE: { code: Code.ABORTED, retryable: true },
  STORE_FAILED: { code: Code.INTERNAL, retryable: false },
  PERMISSION_DENIED: { code: Code.PERMISSION_DENIED, retryable: false },
  RESOURCE_EXHAUSTED: { code: Code.RESOURCE_EXHAUSTED, retryable: true },
  DATA_LOSS: { code: Code.DATA_LOSS, retryable: false },
  UNIMPLEMENTED: { code: Code.UNIMPLEMENTED, retryable: false },
  FAILED_PRECONDITION: { code: Code.FAILED_PRECONDITION, retryable: false },
  MISSING_METADATA: { code: Code.UNKNOWN, retryable: false },
};

/** How a call ended, before it takes the form of one wire format. */
export interface Status {
  readonly code: Code;
  readonly message: string;
  /** With a typed reason. */
  readonly info: ErrorInfo | undefined;
  readonly trailers: Readonly<Record<string, string>> | undefined;
}

/** What a call that ended with `error` answers. A fault is logged once, with the method's path. */
export function statusOf(error: unknown, path: string, logger: Logger): Status {
  if (error instanceof Refusal) return refusalStatus(error);
  if (error instanceof StatusError) {
    return { code: error.code, message: error.message, info: undefined, trailers: error.trailers };
  }
  logger.error({ component: "rpc", method: path, err: error }, "a call failed by a fault of this server");
  return { code: Code.INTERNAL, message: INTERNAL_TEXT, info: undefined, trailers: undefined };
}

function refusalStatus(refusal: Refusal): Status {
  const { code, text } = REASONS[refusal.reason];
  if (text === undefined) return { code, message: refusal.message, info: undefined, trailers: undefined };
  const message =
    refusal.message === "" ? text : refusal.message.includes(text) ? refusal.message : `${refusal.message}: ${text}`;
  const { hint } = refusal;
  const metadata: Record<string, string> = hint === undefined ? {} : { shard: String(hint.shard), leader: hint.leader };
  const info = create(ErrorInfoSchema, { reason: refusal.reason, domain: DOMAIN, metadata });
  return { code, message, info, trailers: undefined };
}

/** The trailers of gRPC that say `status`. */
export function grpcTrailers(status: Status): Record<string, string> {
  const trailers: Record<string, string> = { ...status.trailers, "grpc-status": String(status.code) };
  if (status.message !== "") trailers["grpc-message"] = percentEncode(status.message);
  if (status.info !== undefined) {
    const details: Any[] = [anyPack(ErrorInfoSchema, status.info)];
    const bytes = toBinary(StatusSchema, create(StatusSchema, { code: status.code, message: status.message, details }));
    trailers["grpc-status-details-bin"] = Buffer.from(bytes).toString("base64").replace(/=+$/, "");
  }
  return trailers;
}

const utf8 = new TextEncoder();
const CLEAN = /^[\x20-\x24\x26-\x7e]*$/;

/** `grpc-message`: UTF-8 bytes other than printable ASCII, and `%`, as `%XX`. Cut so that trailers stay small. */
export function percentEncode(text: string): string {
  const cut = text.length > STATUS_MESSAGE_CHARS_MAX ? text.slice(0, STATUS_MESSAGE_CHARS_MAX) : text;
  if (CLEAN.test(cut)) return cut;
  let encoded = "";
  for (const byte of utf8.encode(cut)) {
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}
