/**
 * Gathers operations of one shard into requests. A batch is open while it takes more; it becomes due when it has lingered,
 * or is full, or somebody flushes, and whoever sends takes due batches in order. While the sender has no room an open
 * batch goes on growing past its linger, so that a slow server gets fewer and larger requests.
 *
 *     open --(full, or out of order)--> closed queue --take--> sender
 *       \---(lingered or flushed: due)-----------------take--^
 *
 * Invariant: there is at most one open batch, and all closed ones are older.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { Clock } from "../ports.ts";
import { Writer } from "../wire/writer.ts";
import { Fifo } from "./fifo.ts";
import type { Operation, PendingBudget } from "./operation.ts";
import { beginFrame, endFrame } from "./requests.ts";

const FIRST_CAPACITY_BYTES = 512;
/** Operations of a batch fail together when the first one's time is up: the later ones lose at most this share of theirs. */
const DEADLINE_SHARE_LOST_MAX = 0.1;

export interface BatchBounds {
  /** Milliseconds that a batch waits for more; 0: until the current run of the program yields. */
  readonly lingerMs: number;
  readonly requestsMax: number;
  /** Bytes after which a batch takes no more; a larger operation travels alone. */
  readonly bytesMax: number;
}

/** Operations of one request, the request's bytes, and how far it has come. */
export class Batch<O extends Operation> {
  readonly operations: O[] = [];
  readonly writer: Writer;
  /** Of the operation that fails first. */
  deadline = Number.POSITIVE_INFINITY;
  /** Bytes of its operations. */
  operationBytes = 0;
  /** How often it was sent: past one, an answer may be to a second execution. */
  sends = 0;
  /** All its operations have their answers or errors. */
  settled = false;
  #frame: Bytes | undefined;
  #cancelDeadline: (() => void) | undefined;
  readonly #onSettled: (batch: Batch<O>) => void;

  constructor(shard: number, capacityBytes: number, onSettled: (batch: Batch<O>) => void) {
    this.writer = new Writer(capacityBytes);
    this.#onSettled = onSettled;
    beginFrame(this.writer, shard);
  }

  /** The request as it is sent. It takes no more operations. */
  get frame(): Bytes {
    this.#frame ??= endFrame(this.writer);
    return this.#frame;
  }

  get bytes(): number {
    return this.writer.length;
  }

  /** Calls `expired` when the first operation's time is up. */
  watchDeadline(clock: Clock, expired: () => void): void {
    this.#cancelDeadline = clock.after(Math.max(0, this.deadline - clock.monotonicMs()), expired);
  }

  /** Marks the end: every operation was resolved or rejected, or lives on in another batch. */
  settle(): void {
    if (this.settled) return;
    this.settled = true;
    this.#cancelDeadline?.();
    this.#onSettled(this);
  }

  fail(error: Error): void {
    if (this.settled) return;
    for (const operation of this.operations) operation.reject(error);
    this.settle();
  }
}

export class Batcher<O extends Operation> {
  readonly #shard: number;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #bounds: BatchBounds;
  readonly #budget: PendingBudget;
  readonly #onDue: () => void;
  readonly #onExpired: (batch: Batch<O>) => void;
  readonly #closed = new Fifo<Batch<O>>();
  readonly #idleWaiters: (() => void)[] = [];
  #open: Batch<O> | undefined;
  #openIsDue = false;
  #cancelLinger: (() => void) | undefined;
  /** Batches that are not settled: open, closed or with the sender. */
  #unsettled = 0;
  #capacityBytes = FIRST_CAPACITY_BYTES;

  /** Calls `onDue` when `take` has something new to give, and `onExpired` with each batch whose time is up. */
  constructor(
    shard: number,
    options: {
      readonly clock: Clock;
      /** Milliseconds from an operation's coming to its failing. */
      readonly timeoutMs: number;
      readonly bounds: BatchBounds;
      readonly budget: PendingBudget;
      readonly onDue: () => void;
      readonly onExpired: (batch: Batch<O>) => void;
    },
  ) {
    this.#shard = shard;
    this.#clock = options.clock;
    this.#timeoutMs = options.timeoutMs;
    this.#bounds = options.bounds;
    this.#budget = options.budget;
    this.#onDue = options.onDue;
    this.#onExpired = options.onExpired;
  }

  /** The open batch, if any: what may join it is the caller's business. */
  get open(): Batch<O> | undefined {
    return this.#open;
  }

  /** Every batch is settled. */
  get idle(): boolean {
    return this.#unsettled === 0;
  }

  /** The batch that an operation of about `bytes` joins: append to its writer, then call `added`. */
  batchFor(bytes: number): Batch<O> {
    const open = this.#open;
    if (open !== undefined) {
      if (open.bytes + bytes <= this.#bounds.bytesMax && !this.#hasWaited(open)) return open;
      this.close();
    }
    const batch = this.#newBatch(this.#capacityBytes);
    this.#open = batch;
    return batch;
  }

  /** The operation's bytes stand in the open batch's writer from `operation.start` to its end. */
  added(operation: O): void {
    const batch = this.#open!;
    operation.end = batch.writer.length;
    batch.operations.push(operation);
    batch.operationBytes += operation.end - operation.start;
    this.#budget.take(1, operation.end - operation.start);
    if (batch.operations.length > 1) {
      // asking the clock for each would cost more than the few milliseconds that a batch is open are worth
      operation.deadline = batch.deadline;
    } else {
      operation.deadline = this.#clock.monotonicMs() + this.#timeoutMs;
      batch.deadline = operation.deadline;
      this.#watchDeadline(batch);
      this.#linger();
    }
    if (batch.operations.length >= this.#bounds.requestsMax || batch.bytes >= this.#bounds.bytesMax) this.close();
  }

  /** Puts operations of another batch into one of their own, ahead of the open one. `frame` holds their bytes. */
  adopt(operations: readonly O[], frame: Bytes): void {
    const batch = this.#newBatch(FIRST_CAPACITY_BYTES);
    for (const operation of operations) {
      const start = batch.writer.length;
      batch.writer.slice(frame, operation.start, operation.end);
      operation.start = start;
      operation.end = batch.writer.length;
      batch.operations.push(operation);
      batch.operationBytes += operation.end - start;
      batch.deadline = Math.min(batch.deadline, operation.deadline);
    }
    this.#budget.take(operations.length, batch.operationBytes);
    this.#watchDeadline(batch);
    this.#closed.push(batch);
    this.#onDue();
  }

  /** Closes the open batch, so that what comes next is in another request. */
  close(): void {
    this.#closeOpen();
    this.#onDue();
  }

  /** The next batch to send, or undefined while none is due. */
  take(): Batch<O> | undefined {
    for (;;) {
      // behind batches that are settled by now too
      if (this.#closed.length === 0 && this.#openIsDue) this.#closeOpen();
      const batch = this.#closed.shift();
      if (batch === undefined || !batch.settled) return batch;
    }
  }

  /** Puts batches that were taken back before all others. */
  putBack(batches: readonly Batch<O>[]): void {
    if (batches.length > 0) this.#closed.unshift(batches);
  }

  /** Makes the open batch due and resolves once every batch is settled. */
  flush(): Promise<void> {
    if (this.#open !== undefined) this.close();
    if (this.#unsettled === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  #newBatch(capacityBytes: number): Batch<O> {
    this.#unsettled++;
    return new Batch<O>(this.#shard, capacityBytes, (batch) => {
      this.#budget.give(batch.operations.length, batch.operationBytes);
      this.#unsettled--;
      if (this.#unsettled > 0) return;
      for (const resolve of this.#idleWaiters.splice(0)) resolve();
    });
  }

  /** It waits for the sender, and has so little time left that what joined it would fail well before its own time. */
  #hasWaited(open: Batch<O>): boolean {
    if (!this.#openIsDue) return false;
    return open.deadline - this.#clock.monotonicMs() < this.#timeoutMs * (1 - DEADLINE_SHARE_LOST_MAX);
  }

  #watchDeadline(batch: Batch<O>): void {
    batch.watchDeadline(this.#clock, () => {
      // it takes no more: what joined it now would never be settled
      if (this.#open === batch) this.#closeOpen();
      this.#onExpired(batch);
      // while nobody takes any, those whose time is up do not pile up
      while (this.#closed.peek()?.settled === true) this.#closed.shift();
    });
  }

  #linger(): void {
    const { lingerMs } = this.#bounds;
    const batch = this.#open;
    const due = () => {
      if (this.#open !== batch) return;
      this.#openIsDue = true;
      this.#onDue();
    };
    if (lingerMs > 0) this.#cancelLinger = this.#clock.after(lingerMs, due);
    else queueMicrotask(due);
  }

  #closeOpen(): void {
    const batch = this.#open;
    if (batch === undefined) return;
    this.#open = undefined;
    this.#openIsDue = false;
    this.#cancelLinger?.();
    this.#cancelLinger = undefined;
    // the next batch is likely as large: growing to it step by step would copy its bytes as often
    this.#capacityBytes = Math.min(this.#bounds.bytesMax, Math.max(FIRST_CAPACITY_BYTES, batch.bytes + 64));
    this.#closed.push(batch);
  }
}
