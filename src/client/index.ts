/** The published client: all that a program may use. The one barrel of the house, since it is the package's entry point. */
export type { VariaClient } from "./client.ts";
export { connect } from "./connect.ts";
export {
  ClientClosedError,
  InvalidArgumentError,
  NamespaceNotFoundError,
  OverloadedError,
  RequestTimeoutError,
  ServerError,
  SessionDoesNotExistError,
  UnexpectedVersionIdError,
  VariaError,
  type VariaErrorCode,
} from "./errors.ts";
export type { Key } from "./keys.ts";
export type {
  ClientOptions,
  DeleteOptions,
  GetOptions,
  PutOptions,
  RangeOptions,
  RangeReadOptions,
  RoutingOptions,
} from "./options.ts";
export type { RangeRead } from "./range-read.ts";
export type { GetResult, PutResult, Version } from "./records.ts";
