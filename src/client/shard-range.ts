/**
 * A range read of one shard as pages: each message of the List or RangeScan call is one. A call that breaks, or that the
 * server cuts, is made again from the last key that came; that key comes again and is dropped.
 *
 * A read by an index knows the records' own keys only, not where in the index they stand: it is made again from its
 * start, what came before is dropped, and when that no longer ends with the same record the read fails (ABORTED).
 *
 * (Starting behind the last key would need the smallest key that follows it, and in the hierarchical order that is
 * not the key with a zero byte: `a//` followed by one has a slash more, and sorts far behind.)
 *
 * Backpressure: with CLIENT_RANGE_PAGES_MAX pages waiting the call is paused, and HTTP/2's flow control stops the server.
 *
 * Source: semantics.md §2; errors.md §5.
 */
import type { Bytes } from "../lib/bytes.ts";
import { CLIENT_RANGE_PAGES_MAX } from "../model/limits.ts";
import { Writer } from "../wire/writer.ts";
import { RecordDecoder } from "./answers.ts";
import { retryDelayMs } from "./backoff.ts";
import { type CallStatus, isRetryable, plainStatus } from "./call-status.ts";
import { RequestTimeoutError, ServerError } from "./errors.ts";
import { Fifo } from "./fifo.ts";
import { GrpcCode } from "./grpc-code.ts";
import { equalKeys, type WireKey } from "./keys.ts";
import { GetResult } from "./records.ts";
import { rangeFrame } from "./requests.ts";
import type { ShardContext } from "./shard-context.ts";
import type { HashRange } from "./shard-table.ts";
import type { Call } from "./transport.ts";

export interface KeyRange {
  /** Empty: from the first key. */
  readonly startInclusive: WireKey;
  /** Empty: to the end. */
  readonly endExclusive: WireKey;
  readonly includeInternalKeys: boolean;
  /** The range is one of this index's keys, and results are in its order. */
  readonly useIndex?: WireKey | undefined;
}

/** What is read: keys, or records. */
export interface RangeKind<T> {
  readonly path: string;
  decode(message: Bytes): T[];
  keyOf(item: T): WireKey;
  /** The key that the items of several shards are merged by. */
  sortKeyOf(item: T): WireKey;
}

export const KEYS: RangeKind<WireKey> = {
  path: "/io.oxia.proto.v1.OxiaClient/List",
  decode: (message) => new RecordDecoder(message).keys(),
  keyOf: (key) => key,
  sortKeyOf: (key) => key,
};

export const RECORDS: RangeKind<GetResult> = {
  path: "/io.oxia.proto.v1.OxiaClient/RangeScan",
  decode: (message) => new RecordDecoder(message).records(),
  keyOf: GetResult.wireKeyOf,
  sortKeyOf: (record) => GetResult.secondaryKeyOf(record) ?? GetResult.wireKeyOf(record),
};

/** The shard is no more: who owns a part of `hashes` goes on after `after`. */
export class ShardGone {
  readonly hashes: HashRange;
  readonly after: WireKey | undefined;

  constructor(hashes: HashRange, after: WireKey | undefined) {
    this.hashes = hashes;
    this.after = after;
  }
}

interface Waiter<T> {
  readonly resolve: (page: T[] | ShardGone | undefined) => void;
  readonly reject: (error: Error) => void;
  readonly cancelTimeout: () => void;
}

export class ShardRange<T> {
  readonly #shard: number;
  readonly #hashes: HashRange;
  readonly #kind: RangeKind<T>;
  readonly #range: KeyRange;
  readonly #context: ShardContext;
  readonly #pages = new Fifo<T[]>();
  #call: Call | undefined;
  #paused = false;
  #waiter: Waiter<T> | undefined;
  #end: { readonly error: Error } | ShardGone | "complete" | undefined;
  /** The last key that came; the next call starts at it. */
  #last: WireKey | undefined;
  /** No key of the running call has come yet: the first one may be `#last`. */
  #atStart = true;
  /** Items that came, and how many of them the running call of an index read has to repeat yet. */
  #seen = 0;
  #toRepeat = 0;
  #attempts = 0;
  #lastStatus: CallStatus | undefined;
  #cancelRetry: (() => void) | undefined;

  /** Reads on after `after`, when given. The read starts with the first `next`. */
  constructor(
    shard: { readonly id: number } & HashRange,
    kind: RangeKind<T>,
    range: KeyRange,
    context: ShardContext,
    after?: WireKey,
  ) {
    this.#shard = shard.id;
    this.#hashes = { minHashInclusive: shard.minHashInclusive, maxHashInclusive: shard.maxHashInclusive };
    this.#kind = kind;
    this.#range = range;
    this.#context = context;
    this.#last = after;
  }

  /**
   * The next page, at least one item; undefined at the end. Rejects with RequestTimeoutError when nothing comes for
   * `requestTimeoutMs`. One call at a time.
   */
  next(): Promise<T[] | ShardGone | undefined> {
    const page = this.#pages.shift();
    if (page !== undefined) {
      if (this.#paused && this.#pages.length < CLIENT_RANGE_PAGES_MAX) {
        this.#paused = false;
        this.#call?.resume();
      }
      return Promise.resolve(page);
    }
    if (this.#end !== undefined) return settled(this.#end);
    if (this.#call === undefined && this.#cancelRetry === undefined) this.#open();
    // opening may have found the end
    if (this.#end !== undefined) return settled(this.#end);
    return new Promise((resolve, reject) => {
      const { ports, requestTimeoutMs } = this.#context;
      const cancelTimeout = ports.clock.after(requestTimeoutMs, () => {
        const cause =
          this.#attempts > 0 && this.#lastStatus !== undefined ? new ServerError(this.#lastStatus) : undefined;
        this.#finish({ error: new RequestTimeoutError("a range read", requestTimeoutMs, { cause }) });
      });
      this.#waiter = { resolve, reject, cancelTimeout };
    });
  }

  /** Gives the read up. */
  close(): void {
    this.#finish("complete");
  }

  fail(error: Error): void {
    this.#finish({ error });
  }

  #open(): void {
    const { assignments, ports, headers } = this.#context;
    const shard = assignments.table.byId(this.#shard);
    if (shard === undefined) {
      if (this.#seen > 0 && this.#range.useIndex !== undefined) this.#finish({ error: changed() });
      else this.#finish(new ShardGone(this.#hashes, this.#last));
      return;
    }
    if (shard.leader === "") {
      this.#retryLater(plainStatus(GrpcCode.unavailable, `shard ${this.#shard} has no leader`));
      return;
    }
    this.#context.openRanges.add(this);
    this.#atStart = true;
    this.#paused = false;
    const byIndex = this.#range.useIndex !== undefined;
    this.#toRepeat = byIndex ? this.#seen : 0;
    const startInclusive = byIndex ? this.#range.startInclusive : (this.#last ?? this.#range.startInclusive);
    const message = rangeFrame(new Writer(), { ...this.#range, startInclusive, shard: this.#shard });
    const call = ports.transport.open(
      { address: shard.leader, path: this.#kind.path, headers, message },
      {
        message: (message) => {
          if (call === this.#call) this.#take(message);
        },
        drained: () => {},
        ended: (status) => {
          if (call === this.#call) this.#ended(status);
        },
      },
    );
    this.#call = call;
  }

  #take(message: Bytes): void {
    let page: T[];
    try {
      page = this.#kind.decode(message);
    } catch (error) {
      const status = plainStatus(GrpcCode.internal, error instanceof Error ? error.message : String(error));
      this.#finish({ error: new ServerError(status, { cause: error }) });
      return;
    }
    if (this.#range.useIndex !== undefined) {
      const unseen = this.#unseen(page);
      if (unseen === undefined) {
        this.#finish({ error: changed() });
        return;
      }
      page = unseen;
    }
    if (page.length === 0) return;
    if (
      this.#range.useIndex === undefined &&
      this.#atStart &&
      this.#last !== undefined &&
      equalKeys(this.#kind.keyOf(page[0]!), this.#last)
    )
      page.shift();
    this.#atStart = false;
    if (page.length === 0) return;
    this.#attempts = 0;
    this.#seen += page.length;
    this.#last = this.#kind.keyOf(page[page.length - 1]!);
    if (this.#waiter !== undefined) {
      this.#takeWaiter()?.resolve(page);
      return;
    }
    this.#pages.push(page);
    if (this.#pages.length >= CLIENT_RANGE_PAGES_MAX && !this.#paused) {
      this.#paused = true;
      this.#call?.pause();
    }
  }

  /** What a repeated index read has that the one before had not; undefined when the two do not agree. */
  #unseen(page: T[]): T[] | undefined {
    if (this.#toRepeat === 0) return page;
    const repeated = Math.min(this.#toRepeat, page.length);
    this.#toRepeat -= repeated;
    if (this.#toRepeat === 0 && !equalKeys(this.#kind.keyOf(page[repeated - 1]!), this.#last!)) return undefined;
    return page.slice(repeated);
  }

  #ended(status: CallStatus): void {
    this.#call = undefined;
    if (status.code === GrpcCode.ok) this.#finish(this.#toRepeat > 0 ? { error: changed() } : "complete");
    else if (isRetryable(status)) {
      if (status.hint !== undefined) this.#context.assignments.takeHint(status.hint);
      this.#retryLater(status);
    } else this.#finish({ error: new ServerError(status) });
  }

  #retryLater(status: CallStatus): void {
    this.#lastStatus = status;
    this.#attempts++;
    const { clock, random } = this.#context.ports;
    // after progress, and where a leader was named, there is nothing to wait for
    const delayMs = this.#attempts === 1 ? 0 : retryDelayMs(this.#attempts - 1, random);
    this.#cancelRetry = clock.after(delayMs, () => {
      this.#cancelRetry = undefined;
      this.#open();
    });
  }

  /** Pages that have come are still given out before the end. */
  #finish(end: { readonly error: Error } | ShardGone | "complete"): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#context.openRanges.delete(this);
    this.#call?.cancel();
    this.#call = undefined;
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    const waiter = this.#takeWaiter();
    if (waiter !== undefined) settled<T>(end).then(waiter.resolve, waiter.reject);
  }

  #takeWaiter(): Waiter<T> | undefined {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.cancelTimeout();
    return waiter;
  }
}

function changed(): Error {
  return new ServerError(plainStatus(GrpcCode.aborted, "a read by an index was cut, and the index has changed since"));
}

function settled<T>(end: { readonly error: Error } | ShardGone | "complete"): Promise<T[] | ShardGone | undefined> {
  if (end === "complete") return Promise.resolve(undefined);
  if (end instanceof ShardGone) return Promise.resolve(end);
  return Promise.reject(end.error);
}
