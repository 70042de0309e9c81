/**
 * What the client rejects with. Every error is a `VariaError` with a stable `code`; a program tells them apart by class
 * or by code, never by message.
 *
 * `outcomeUnknown` is true on a write that may or may not have happened: it was sent and its answer never came, or it
 * was sent a second time after a broken stream and the answer is to the second sending. A write with it false did not
 * happen. See README.md, "Unknown outcomes".
 */
import { codeName } from "./grpc-code.ts";

export type VariaErrorCode =
  | "UNEXPECTED_VERSION_ID"
  | "SESSION_DOES_NOT_EXIST"
  | "TIMEOUT"
  | "CLOSED"
  | "OVERLOADED"
  | "NAMESPACE_NOT_FOUND"
  | "INVALID_ARGUMENT"
  | "LOCK_LOST"
  | "SERVER";

export interface VariaErrorOptions {
  readonly outcomeUnknown?: boolean;
  readonly cause?: unknown;
}

export class VariaError extends Error {
  override readonly name: string = "VariaError";
  readonly code: VariaErrorCode;
  readonly outcomeUnknown: boolean;

  constructor(code: VariaErrorCode, message: string, options: VariaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.outcomeUnknown = options.outcomeUnknown ?? false;
  }
}

/** The record's version is not the expected one, or it exists and must not, or it is missing and a version was expected. */
export class UnexpectedVersionIdError extends VariaError {
  override readonly name = "UnexpectedVersionIdError";

  constructor(options?: VariaErrorOptions) {
    super("UNEXPECTED_VERSION_ID", "unexpected version id", options);
  }
}

/** The session that the record was to belong to has ended. */
export class SessionDoesNotExistError extends VariaError {
  override readonly name = "SessionDoesNotExistError";

  constructor(options?: VariaErrorOptions) {
    super("SESSION_DOES_NOT_EXIST", "session does not exist", options);
  }
}

/** No answer within `requestTimeoutMs`, retries included; `cause` is what the last attempt failed with, if any did. */
export class RequestTimeoutError extends VariaError {
  override readonly name = "RequestTimeoutError";

  constructor(what: string, timeoutMs: number, options?: VariaErrorOptions) {
    const cause = options?.cause instanceof Error ? ` (last error: ${options.cause.message})` : "";
    super("TIMEOUT", `${what} had no answer within ${timeoutMs} ms${cause}`, options);
  }
}

/** The client was closed before the operation was given to it. */
export class ClientClosedError extends VariaError {
  override readonly name = "ClientClosedError";

  constructor(options?: VariaErrorOptions) {
    super("CLOSED", "the client is closed", options);
  }
}

/** More operations or bytes are waiting for answers than the client holds: await some before giving it more. */
export class OverloadedError extends VariaError {
  override readonly name = "OverloadedError";

  constructor(what: string) {
    super("OVERLOADED", `too much is waiting for answers: ${what}`);
  }
}

export class NamespaceNotFoundError extends VariaError {
  override readonly name = "NamespaceNotFoundError";

  constructor(namespace: string, options?: VariaErrorOptions) {
    super("NAMESPACE_NOT_FOUND", `namespace "${namespace}" not found`, options);
  }
}

/** The arguments cannot be sent: nothing was. */
export class InvalidArgumentError extends VariaError {
  override readonly name = "InvalidArgumentError";

  constructor(message: string) {
    super("INVALID_ARGUMENT", message);
  }
}

/** A lock or a leadership ended before it was given back: its session is lost, or its record was deleted. */
export class LockLostError extends VariaError {
  override readonly name = "LockLostError";

  constructor(what: string) {
    super("LOCK_LOST", what);
  }
}

/** The server refused, or could not be reached, for a reason that is not retried or was retried in vain. */
export class ServerError extends VariaError {
  override readonly name = "ServerError";
  /** gRPC status code: 3 INVALID_ARGUMENT, 8 RESOURCE_EXHAUSTED, 14 UNAVAILABLE … */
  readonly grpcCode: number;
  /** Its name. */
  readonly grpcCodeName: string;
  /** Oxia's typed reason (`NODE_IS_NOT_LEADER` …), where the server gave one. */
  readonly reason: string | undefined;

  constructor(
    status: { readonly code: number; readonly message: string; readonly reason: string | undefined },
    options?: VariaErrorOptions,
  ) {
    const name = codeName(status.code);
    super("SERVER", status.message === "" ? name : `${name}: ${status.message}`, options);
    this.grpcCode = status.code;
    this.grpcCodeName = name;
    this.reason = status.reason;
  }
}
