/** What a program may set, its defaults, and the check of both. */
import {
  CLIENT_BATCH_BYTES_MAX,
  CLIENT_BATCH_LINGER_MS,
  CLIENT_BATCH_REQUESTS_MAX,
  CLIENT_REQUEST_TIMEOUT_MS,
  CLIENT_SESSION_TIMEOUT_MS,
  CLIENT_SESSION_TIMEOUT_MS_MAX,
  CLIENT_SESSION_TIMEOUT_MS_MIN,
} from "../model/limits.ts";
import type { Int64 } from "../wire/reader.ts";
import { InvalidArgumentError } from "./errors.ts";
import type { Key } from "./keys.ts";
import type { ComparisonName } from "./requests.ts";

export interface ClientOptions {
  /** `host:port` of any server of the cluster. Default `localhost:6648`. */
  readonly serviceAddress?: string;
  /** Default `default`. */
  readonly namespace?: string;
  /** Milliseconds that an operation may take, retries included; for range reads, between two pages. Default 30,000. */
  readonly requestTimeoutMs?: number;
  /** Milliseconds that a batch waits for more operations; 0: until the current run of the program yields. Default 5. */
  readonly batchLingerMs?: number;
  /** Operations in one batch. Default 1,000. */
  readonly batchRequestsMax?: number;
  /** Bytes after which a batch takes no more; a larger operation travels alone. Default 128 KiB. */
  readonly batchBytesMax?: number;
  /** Connections to each server. Default 1. */
  readonly connectionsPerServer?: number;
  /** Sent as a bearer token with every call. */
  readonly authToken?: string;
  /** Milliseconds that ephemeral records outlive the last heartbeat of this client: 2,000 to 300,000. Default 15,000. */
  readonly sessionTimeoutMs?: number;
  /** Stored with ephemeral records: who put them. Default: a random one. */
  readonly clientIdentity?: string;
}

export interface RoutingOptions {
  /** Decides about the shard in place of the key: records with one partition key are together. */
  readonly partitionKey?: Key;
}

export interface PutOptions extends RoutingOptions {
  /** The record must exist with this version id. */
  readonly expectedVersionId?: Int64;
  /** The record must not exist. Not with `expectedVersionId`. */
  readonly mustNotExist?: boolean;
  /** Stored as the record's version id, as it is: for copying records between clusters. */
  readonly overrideVersionId?: Int64;
  /** Stored as the record's count of modifications, as it is. */
  readonly overrideModificationsCount?: Int64;
  /** The record is deleted when this client closes, or is not heard of for `sessionTimeoutMs`. */
  readonly ephemeral?: boolean;
  /**
   * The server makes the key: `-` and 20 digits behind it for each delta, which is added to that part of the highest
   * key so far. Needs a partition key; the first delta is at least 1. Not with `expectedVersionId` or `mustNotExist`.
   */
  readonly sequenceKeysDeltas?: readonly Int64[];
  /** Further keys by which the record is found, each in an index of a name. A put replaces all that the record had. */
  readonly secondaryIndexes?: readonly SecondaryIndex[];
}

export interface SecondaryIndex {
  readonly name: string;
  readonly key: Key;
}

export interface SequenceUpdatesOptions {
  /** The partition key that the sequence is put with. */
  readonly partitionKey: Key;
  /** Ends the iteration when aborted. */
  readonly signal?: AbortSignal;
}

export interface DeleteOptions extends RoutingOptions {
  /** The record must exist with this version id. */
  readonly expectedVersionId?: Int64;
}

export interface GetOptions extends RoutingOptions {
  /** Which record: the one at the key, or the nearest one in this direction. Default `equal`. */
  readonly comparison?: ComparisonName;
  /** Default true. */
  readonly includeValue?: boolean;
  /** The key is one of this index. */
  readonly useIndex?: string;
}

export interface RangeOptions extends RoutingOptions {
  /** Absent or empty: from the first key. */
  readonly startInclusive?: Key;
  /** Absent or empty: to the end. */
  readonly endExclusive?: Key;
}

export interface RangeReadOptions extends RangeOptions {
  /** Also the keys that the server keeps for itself, `__oxia/…`. Default false. */
  readonly includeInternalKeys?: boolean;
  /** The range is one of this index's keys. Oxia's servers find nothing there without `endExclusive`. */
  readonly useIndex?: string;
}

export interface ResolvedOptions {
  readonly serviceAddress: string;
  readonly namespace: string;
  readonly requestTimeoutMs: number;
  readonly batchLingerMs: number;
  readonly batchRequestsMax: number;
  readonly batchBytesMax: number;
  readonly connectionsPerServer: number;
  readonly authToken: string | undefined;
  readonly sessionTimeoutMs: number;
  /** Undefined: a random one. */
  readonly clientIdentity: string | undefined;
}

/** Throws InvalidArgumentError at what cannot be meant. */
export function resolveOptions(options: ClientOptions): ResolvedOptions {
  const serviceAddress = options.serviceAddress ?? "localhost:6648";
  if (!/^(\[[0-9a-fA-F:.%]+\]|[^\s:/@?#[\]]+):\d{1,5}$/.test(serviceAddress)) {
    throw new InvalidArgumentError(`service address "${serviceAddress}" is not host:port`);
  }
  return {
    serviceAddress,
    namespace: options.namespace || "default",
    requestTimeoutMs: number("requestTimeoutMs", options.requestTimeoutMs ?? CLIENT_REQUEST_TIMEOUT_MS, 1),
    batchLingerMs: number("batchLingerMs", options.batchLingerMs ?? CLIENT_BATCH_LINGER_MS, 0),
    batchRequestsMax: number("batchRequestsMax", options.batchRequestsMax ?? CLIENT_BATCH_REQUESTS_MAX, 1),
    batchBytesMax: number("batchBytesMax", options.batchBytesMax ?? CLIENT_BATCH_BYTES_MAX, 1),
    connectionsPerServer: number("connectionsPerServer", options.connectionsPerServer ?? 1, 1),
    authToken: options.authToken,
    sessionTimeoutMs: number(
      "sessionTimeoutMs",
      options.sessionTimeoutMs ?? CLIENT_SESSION_TIMEOUT_MS,
      CLIENT_SESSION_TIMEOUT_MS_MIN,
      CLIENT_SESSION_TIMEOUT_MS_MAX,
    ),
    clientIdentity: options.clientIdentity,
  };
}

function number(name: string, value: number, min: number, max = Number.MAX_SAFE_INTEGER): number {
  if (Number.isFinite(value) && value >= min && value <= max) return value;
  const to = max === Number.MAX_SAFE_INTEGER ? "" : ` to ${max}`;
  throw new InvalidArgumentError(`${name} is not a number from ${min}${to}`);
}
