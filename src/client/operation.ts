/**
 * One operation on its way: what its caller waits for, and what is needed to send it again elsewhere. Its bytes stand
 * in the frame of the batch that it is in, from `start` inclusive to `end` exclusive.
 */
import type { Bytes } from "../lib/bytes.ts";
import { CLIENT_BYTES_PENDING_MAX, CLIENT_OPERATIONS_PENDING_MAX } from "../model/limits.ts";
import { OverloadedError } from "./errors.ts";
import type { WireKey } from "./keys.ts";
import type { GetResult, PutResult } from "./records.ts";
import type { HashRange } from "./shard-table.ts";

/** Where an operation goes: to the shard that owns this key, or to all that own a part of the hashes. */
export type Route = WireKey | HashRange;

interface Pending<T> {
  start: number;
  end: number;
  /** On the clock's monotonic time: it fails when this has passed. Set by the first batch that it joins. */
  deadline: number;
  readonly route: Route;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

export interface PutOperation extends Pending<PutResult> {
  readonly kind: "put";
  readonly key: WireKey;
}

/** Resolves with whether there was a record. */
export interface DeleteOperation extends Pending<boolean> {
  readonly kind: "delete";
  readonly key: WireKey;
}

export interface DeleteRangeOperation extends Pending<void> {
  readonly kind: "delete-range";
}

export type WriteOperation = PutOperation | DeleteOperation | DeleteRangeOperation;

/** Resolves with the record, or undefined when nothing matches. */
export interface GetOperation extends Pending<GetResult | undefined> {
  readonly kind: "get";
  readonly key: WireKey;
  readonly comparison: number;
  /** The key is one of an index. */
  readonly byIndex: boolean;
}

export type Operation = WriteOperation | GetOperation;

/** Sends operations whose shard is no more to the shards that took its place. `frame` holds their bytes. */
export type Reroute<O extends Operation> = (operations: readonly O[], frame: Bytes) => void;

/** What one client holds for its callers. Both bounds are hard: `check` refuses at them. */
export class PendingBudget {
  operations = 0;
  bytes = 0;

  /** Throws OverloadedError when one more operation of `bytes` is too much. */
  check(bytes: number): void {
    if (this.operations >= CLIENT_OPERATIONS_PENDING_MAX) throw new OverloadedError(`${this.operations} operations`);
    // one operation may be as large as the server takes, if it is alone
    if (this.bytes + bytes > CLIENT_BYTES_PENDING_MAX && this.operations > 0) {
      throw new OverloadedError(`${this.bytes} bytes`);
    }
  }

  take(operations: number, bytes: number): void {
    this.operations += operations;
    this.bytes += bytes;
  }

  give(operations: number, bytes: number): void {
    this.operations -= operations;
    this.bytes -= bytes;
  }
}
