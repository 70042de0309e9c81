/** The published client: all that a program may use. The one barrel of the house, since it is the package's entry point. */
export type { Change, MissedChanges, NotificationItem } from "./changes.ts";
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
export type { Notifications, NotificationsOptions } from "./notifications.ts";
export type {
  ClientOptions,
  DeleteOptions,
  GetOptions,
  PutOptions,
  RangeOptions,
  RangeReadOptions,
  RoutingOptions,
  SecondaryIndex,
  SequenceUpdatesOptions,
} from "./options.ts";
export type { RangeRead } from "./range-read.ts";
export type { GetResult, PutResult, Version } from "./records.ts";
export type { SequenceUpdates } from "./sequence-updates.ts";
export type { SessionLost } from "./sessions.ts";
