/**
 * How a call ended, read from its trailers, and what the client does about it.
 *
 * Oxia's typed errors ride in `grpc-status-details-bin`: a google.rpc.Status with one Any of google.rpc.ErrorInfo, whose
 * reason decides about a retry, and whose metadata may name the shard's leader. Where there is no reason, the code
 * decides, as in the official Java and Rust clients.
 *
 * Source: errors.md §1, §5; gRPC, doc/PROTOCOL-HTTP2.md (Status-Message, Status-Details, HTTP/2 errors).
 */
import { type Bytes, text } from "../lib/bytes.ts";
import { Reader } from "../wire/reader.ts";
import { GrpcCode } from "./grpc-code.ts";

export interface LeaderHint {
  readonly shard: number;
  /** Public `host:port`. */
  readonly leader: string;
}

export interface CallStatus {
  /** gRPC status code. */
  readonly code: number;
  readonly message: string;
  readonly reason: string | undefined;
  readonly hint: LeaderHint | undefined;
}

export type Trailers = Readonly<Record<string, string | undefined>>;

const RETRYABLE_REASONS: ReadonlySet<string> = new Set([
  "ABORTED",
  "NODE_IS_NOT_MEMBER",
  "NODE_IS_NOT_LEADER",
  "NOT_INITIALIZED",
  "RESOURCE_UNAVAILABLE",
  // the shard was split or moved: the retry looks the shard up again
  "SHARD_NOT_FOUND",
]);
/** CANCELLED that we did not ask for is how a server ends the streams of a shard that it gives up. */
const RETRYABLE_CODES: ReadonlySet<number> = new Set<number>([
  GrpcCode.unavailable,
  GrpcCode.aborted,
  GrpcCode.cancelled,
]);

/** Whether the same request may be sent again, here or to another server. A stream that ends OK before its answers came is one to retry too. */
export function isRetryable(status: CallStatus): boolean {
  if (status.code === GrpcCode.ok) return true;
  if (status.reason !== undefined && status.reason !== "UNKNOWN") return RETRYABLE_REASONS.has(status.reason);
  return RETRYABLE_CODES.has(status.code);
}

export function plainStatus(code: number, message: string): CallStatus {
  return { code, message, reason: undefined, hint: undefined };
}

/** The status in the trailers, or in the headers of a response that has no more; undefined when there is none. */
export function statusFromTrailers(trailers: Trailers): CallStatus | undefined {
  const codeText = trailers["grpc-status"];
  if (codeText === undefined) return undefined;
  const code = /^\d{1,3}$/.test(codeText) ? Number(codeText) : GrpcCode.unknown;
  const message = percentDecode(trailers["grpc-message"] ?? "");
  const details = trailers["grpc-status-details-bin"];
  if (details === undefined || code === GrpcCode.ok) return plainStatus(code, message);
  return { code, message, ...detailsOf(details) };
}

/** The status of a response without gRPC's own: from a proxy, or from no gRPC server at all. */
export function statusFromHttp(httpStatus: number): CallStatus {
  const message = `HTTP status ${httpStatus} from a server that did not answer in gRPC`;
  switch (httpStatus) {
    case 400:
      return plainStatus(GrpcCode.internal, message);
    case 401:
      return plainStatus(GrpcCode.unauthenticated, message);
    case 403:
      return plainStatus(GrpcCode.permissionDenied, message);
    case 404:
      return plainStatus(GrpcCode.unimplemented, message);
    case 429:
    case 502:
    case 503:
    case 504:
      return plainStatus(GrpcCode.unavailable, message);
    default:
      return plainStatus(GrpcCode.unknown, message);
  }
}

/** The status of a stream that was reset with an HTTP/2 error code. */
export function statusFromReset(errorCode: number): CallStatus {
  const message = `stream reset with HTTP/2 error code ${errorCode}`;
  switch (errorCode) {
    case 7:
      return plainStatus(GrpcCode.unavailable, message);
    case 8:
      return plainStatus(GrpcCode.cancelled, message);
    case 11:
      return plainStatus(GrpcCode.resourceExhausted, message);
    case 12:
      return plainStatus(GrpcCode.permissionDenied, message);
    default:
      return plainStatus(GrpcCode.internal, message);
  }
}

function detailsOf(base64: string): Pick<CallStatus, "reason" | "hint"> {
  try {
    return errorInfoOf(Buffer.from(base64, "base64"));
  } catch {
    // details that cannot be read are as good as none: code and message still say what happened
    return { reason: undefined, hint: undefined };
  }
}

/** The first ErrorInfo in a google.rpc.Status. */
function errorInfoOf(bytes: Bytes): Pick<CallStatus, "reason" | "hint"> {
  let reason: string | undefined;
  let shard: string | undefined;
  let leader: string | undefined;
  fields(bytes, (tag, status) => {
    if (tag !== 0x1a) return status.skip(tag);
    let type = "";
    let value: Bytes | undefined;
    fields(status.view(), (anyTag, any) => {
      if (anyTag === 0x0a) type = text(any.view());
      else if (anyTag === 0x12) value = any.view();
      else any.skip(anyTag);
    });
    if (reason !== undefined || value === undefined || !type.endsWith("/google.rpc.ErrorInfo")) return;
    fields(value, (infoTag, info) => {
      if (infoTag === 0x0a) reason = text(info.view());
      else if (infoTag === 0x1a) {
        const [name, entry] = entryOf(info.view());
        if (name === "shard") shard = entry;
        else if (name === "leader") leader = entry;
      } else info.skip(infoTag);
    });
  });
  const named = shard !== undefined && /^\d{1,15}$/.test(shard) && leader !== undefined && leader !== "";
  return { reason, hint: named ? { shard: Number(shard), leader: leader! } : undefined };
}

function entryOf(bytes: Bytes): [string, string] {
  let key = "";
  let value = "";
  fields(bytes, (tag, entry) => {
    if (tag === 0x0a) key = text(entry.view());
    else if (tag === 0x12) value = text(entry.view());
    else entry.skip(tag);
  });
  return [key, value];
}

function fields(bytes: Bytes, field: (tag: number, reader: Reader) => void): void {
  const reader = new Reader(bytes);
  while (reader.more()) field(reader.tag(), reader);
}

function percentDecode(encoded: string): string {
  if (!encoded.includes("%")) return encoded;
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}
