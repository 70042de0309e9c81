/**
 * gRPC status codes, and the error of the serving layer itself: what goes wrong with a call before or beside its
 * handler. Handlers refuse with a `Refusal`; status.ts turns either into what goes on the wire.
 *
 * Source: gRPC, doc/statuscodes.md.
 */

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

export type Code = (typeof Code)[keyof typeof Code];

/** The names of the codes, by number. */
export const CODE_NAMES: readonly string[] = Object.keys(Code);

/** A call that ends with a code of gRPC's own: a broken frame, a deadline, an unknown method. `message` goes to the peer. */
export class StatusError extends Error {
  override readonly name = "StatusError";
  readonly code: Code;
  /** Further trailers, such as `grpc-accept-encoding`. */
  readonly trailers: Readonly<Record<string, string>> | undefined;

  constructor(code: Code, message: string, trailers?: Readonly<Record<string, string>>) {
    super(message);
    this.code = code;
    this.trailers = trailers;
  }
}
