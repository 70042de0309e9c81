/**
 * The closed list of reasons for which a request is turned down. Pure code returns a reason, flows throw a `Refusal`;
 * rpc/status.ts alone turns one into a gRPC status, from one table.
 *
 * Source: Oxia's typed errors (errors.md §1), plus the plain ones that Varia distinguishes.
 */
import type { ShardId } from "./ids.ts";

export type Reason =
  // typed on the wire: ErrorInfo with this reason
  | "ABORTED"
  | "INVALID_SESSION_TIMEOUT"
  | "SESSION_NOT_FOUND"
  | "NAMESPACE_NOT_FOUND"
  | "SHARD_NOT_FOUND"
  | "INVALID_TERM"
  | "INVALID_STATUS"
  | "NOTIFICATIONS_NOT_ENABLED"
  | "NODE_IS_NOT_MEMBER"
  | "NODE_IS_NOT_LEADER"
  | "NOT_INITIALIZED"
  | "RESOURCE_CONFLICT"
  | "RESOURCE_UNAVAILABLE"
  | "UNKNOWN"
  // plain on the wire: a code and a message
  | "INVALID_ARGUMENT"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "CONCURRENT_CHANGE"
  | "STORE_FAILED"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "DATA_LOSS"
  | "UNIMPLEMENTED"
  | "FAILED_PRECONDITION"
  | "MISSING_METADATA";

export interface LeaderHint {
  readonly shard: ShardId;
  /** Public `host:port` of the leader. */
  readonly leader: string;
}

/** A request that is turned down for a stated reason: nothing of it happened. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly reason: Reason;
  readonly hint: LeaderHint | undefined;

  constructor(reason: Reason, message: string, options: { hint?: LeaderHint; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.hint = options.hint;
  }
}

/** No answer came: what was asked may or may not have been carried out, or still be. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

/** Why a shard whose stored data cannot be trusted serves nothing. */
export function damageRefusal(
  shard: ShardId,
  { file, where, what }: { readonly file: string; readonly where: string; readonly what: string },
): Refusal {
  return new Refusal("DATA_LOSS", `shard ${shard} is damaged: ${file}: ${where}: ${what}`);
}
