/** The published client: all that a program may use. The one barrel of the house, since it is the package's entry point. */

export type { CacheOptions, RecordCache } from "./cache.ts";
export type { Change, MissedChanges, NotificationItem } from "./changes.ts";
export type { VariaClient } from "./client.ts";
export { connect } from "./connect.ts";
export { type Leader, LeaderElection, type Leadership, type ObserveOptions } from "./election.ts";
export {
  ClientClosedError,
  InvalidArgumentError,
  LockLostError,
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
export { type AcquireOptions, type HeldLock, Lock, type LockOptions } from "./lock.ts";
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
