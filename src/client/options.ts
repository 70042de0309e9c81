/** What a program may set, its defaults, and the check of both. */
import {
  CLIENT_BATCH_BYTES_MAX,
  CLIENT_BATCH_LINGER_MS,
  CLIENT_BATCH_REQUESTS_MAX,
  CLIENT_REQUEST_TIMEOUT_MS,
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
  };
}

function number(name: string, value: number, min: number): number {
  if (!Number.isFinite(value) || value < min) throw new InvalidArgumentError(`${name} is not a number from ${min}`);
  return value;
}
