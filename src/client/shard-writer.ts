/**
 * The writes of one shard: batches go out on one WriteStream and are answered in the order in which they were sent.
 *
 * When the stream breaks, what was in flight is sent again in order, before anything newer, as long as the error is one
 * that official clients retry. Whether the first sending took effect is not known then: such a batch carries
 * `sends > 1`, and its errors say `outcomeUnknown`. An error that is not retried may be about any one of several
 * requests in flight: they are sent again one at a time, so that each gets its own verdict.
 *
 * A write that ran out of time stays in line until its answer comes, since answers are matched by order alone.
 *
 * Operations of one client on one key take effect in the order in which they were given: a request applies its puts,
 * then its deletes, then its range deletes, so an operation that would overtake an earlier one starts the next request.
 *
 * Source: semantics.md §1.1, §1.8; errors.md §5.
 */
import type { Bytes } from "../lib/bytes.ts";
import { CLIENT_OLD_LEADER_MS_MAX, CLIENT_WRITES_IN_FLIGHT_MAX } from "../model/limits.ts";
import { decodeWriteAnswer, type WriteAnswer } from "./answers.ts";
import { type ChangedBy, followsAtOnce, retryDelayMs } from "./backoff.ts";
import { Batcher } from "./batch.ts";
import { type CallStatus, isRetryable, plainStatus } from "./call-status.ts";
import { RequestTimeoutError, ServerError } from "./errors.ts";
import { Fifo } from "./fifo.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { WireKey } from "./keys.ts";
import type { Reroute, WriteOperation } from "./operation.ts";
import { malformed, settleWrites, type WriteBatch } from "./settle-writes.ts";
import type { ShardContext } from "./shard-context.ts";
import type { Call } from "./transport.ts";

const PATH = "/io.oxia.proto.v1.OxiaClient/WriteStream";
/** Codes that say: nothing of the request happened. */
const REFUSALS: ReadonlySet<number> = new Set<number>([
  GrpcCode.invalidArgument,
  GrpcCode.notFound,
  GrpcCode.permissionDenied,
  GrpcCode.resourceExhausted,
  GrpcCode.unimplemented,
  GrpcCode.unauthenticated,
]);

export class ShardWriter {
  readonly #shard: number;
  readonly #context: ShardContext;
  readonly #reroute: Reroute<WriteOperation>;
  readonly #batcher: Batcher<WriteOperation>;
  /** Sent and unanswered, in order; also those that ran out of time. */
  readonly #inFlight = new Fifo<WriteBatch>();
  #call: Call | undefined;
  #address = "";
  /** The connection wants no more for now. */
  #blocked = false;
  /** The stream goes to a server that no longer leads: it may answer what it has, and gets no more. */
  #retiring = false;
  #cancelRetirement: (() => void) | undefined;
  #cancelRetry: (() => void) | undefined;
  /** Streams in a row that ended without an answer. */
  #attempts = 0;
  /** Batches at the front of the line that are sent one at a time. */
  #alone = 0;
  #lastStatus: CallStatus | undefined;
  /** Keys deleted by the open batch, and whether it deletes ranges: what a later put would overtake. */
  #deletedKeys = new Set<WireKey>();
  #deletesRange = false;
  #orderedBatch: WriteBatch | undefined;

  constructor(shard: number, context: ShardContext, reroute: Reroute<WriteOperation>) {
    this.#shard = shard;
    this.#context = context;
    this.#reroute = reroute;
    this.#batcher = new Batcher<WriteOperation>(shard, {
      clock: context.ports.clock,
      timeoutMs: context.requestTimeoutMs,
      bounds: context.bounds,
      budget: context.budget,
      onDue: () => this.#pump(),
      onExpired: (batch) => this.#expire(batch),
    });
  }

  /** The batch that a put of about `bytes` joins: append to its writer, then call `added`. */
  batchForPut(key: WireKey, bytes: number): WriteBatch {
    if (this.#isOrdered() && (this.#deletesRange || this.#deletedKeys.has(orderOf(key)))) this.#batcher.close();
    return this.#batcher.batchFor(bytes);
  }

  batchForDelete(key: WireKey, bytes: number): WriteBatch {
    if (this.#isOrdered() && this.#deletesRange) this.#batcher.close();
    const batch = this.#orderedBatchFor(bytes);
    this.#deletedKeys.add(orderOf(key));
    return batch;
  }

  batchForDeleteRange(bytes: number): WriteBatch {
    const batch = this.#orderedBatchFor(bytes);
    this.#deletesRange = true;
    return batch;
  }

  added(operation: WriteOperation): void {
    this.#batcher.added(operation);
  }

  adopt(operations: readonly WriteOperation[], frame: Bytes): void {
    this.#batcher.adopt(operations, frame);
  }

  /** Nothing is unanswered. */
  get idle(): boolean {
    return this.#batcher.idle;
  }

  /** Sends what is gathered and resolves once everything is answered or has failed. */
  flush(): Promise<void> {
    return this.#batcher.flush();
  }

  /** Ends the stream. What is unanswered fails with `error`. */
  close(error: Error): void {
    this.#dropCall();
    this.#cancelRetry?.();
    for (const batch of this.#inFlight.drain()) batch.fail(error);
    this.#batcher.close();
    for (let batch = this.#batcher.take(); batch !== undefined; batch = this.#batcher.take()) batch.fail(error);
  }

  /** Looks at the assignments again: the leader may have changed, or the shard be gone. */
  assignmentsChanged(by: ChangedBy): void {
    const shard = this.#context.assignments.table.byId(this.#shard);
    if (this.#call !== undefined) {
      if (shard === undefined || (shard.leader !== "" && shard.leader !== this.#address)) this.#retire();
      return;
    }
    if (this.#cancelRetry !== undefined && followsAtOnce(by, this.#attempts, shard?.leader === this.#address)) {
      this.#cancelRetry();
      this.#cancelRetry = undefined;
      this.#pump();
    }
  }

  // --- order within a request -----------------------------------------------------------------------------------

  #isOrdered(): boolean {
    return this.#orderedBatch !== undefined && this.#orderedBatch === this.#batcher.open;
  }

  #orderedBatchFor(bytes: number): WriteBatch {
    const batch = this.#batcher.batchFor(bytes);
    if (batch !== this.#orderedBatch) {
      this.#orderedBatch = batch;
      this.#deletedKeys.clear();
      this.#deletesRange = false;
    }
    return batch;
  }

  // --- sending --------------------------------------------------------------------------------------------------

  #pump(): void {
    while (this.#hasRoom()) {
      const batch = this.#batcher.take();
      if (batch === undefined) return;
      if (this.#call === undefined && !this.#open()) {
        this.#batcher.putBack([batch]);
        this.#afterFailedOpen();
        return;
      }
      batch.sends++;
      this.#inFlight.push(batch);
      if (!this.#call!.send(batch.frame)) this.#blocked = true;
    }
  }

  #hasRoom(): boolean {
    if (this.#blocked || this.#retiring || this.#cancelRetry !== undefined) return false;
    return this.#inFlight.length < (this.#alone > 0 ? 1 : CLIENT_WRITES_IN_FLIGHT_MAX);
  }

  /** False when there is nobody to open a stream to. */
  #open(): boolean {
    const { assignments, ports, headers, namespace } = this.#context;
    const shard = assignments.table.byId(this.#shard);
    if (shard === undefined || shard.leader === "") return false;
    this.#address = shard.leader;
    const call = ports.transport.open(
      { address: shard.leader, path: PATH, headers: { ...headers, namespace, "shard-id": String(this.#shard) } },
      {
        message: (message) => {
          if (call === this.#call) this.#answered(message);
        },
        drained: () => {
          if (call !== this.#call) return;
          this.#blocked = false;
          this.#pump();
        },
        ended: (status) => {
          if (call === this.#call) this.#ended(status);
        },
      },
    );
    this.#call = call;
    return true;
  }

  #afterFailedOpen(): void {
    if (this.#context.assignments.table.byId(this.#shard) === undefined) this.#rerouteAll();
    else this.#retryLater(plainStatus(GrpcCode.unavailable, `shard ${this.#shard} has no leader`));
  }

  // --- answers --------------------------------------------------------------------------------------------------

  #answered(message: Bytes): void {
    const batch = this.#inFlight.shift();
    let answer: WriteAnswer | undefined;
    try {
      answer = decodeWriteAnswer(message);
    } catch (error) {
      batch?.fail(new ServerError(malformed(error), { outcomeUnknown: true, cause: error }));
    }
    if (batch === undefined || answer === undefined || !settleWrites(batch, answer)) {
      // answers are matched by order: after one that does not fit, none can be trusted
      const status = malformed("an answer does not fit its request");
      batch?.fail(new ServerError(status, { outcomeUnknown: true }));
      this.#dropCall();
      this.#ended(plainStatus(GrpcCode.unavailable, status.message));
      return;
    }
    this.#attempts = 0;
    if (this.#alone > 0) this.#alone--;
    if (this.#retiring && this.#inFlight.length === 0) this.#dropCall();
    this.#pump();
  }

  #ended(status: CallStatus): void {
    this.#dropCall();
    const unanswered = this.#inFlight.drain().filter((batch) => !batch.settled);
    this.#lastStatus = status.code === GrpcCode.ok ? plainStatus(GrpcCode.unavailable, "stream ended") : status;
    if (isRetryable(status)) {
      this.#batcher.putBack(unanswered);
      // a stream that nothing waits for is opened again when something does
      if (unanswered.length > 0) this.#retryLater(this.#lastStatus);
      else this.#pump();
      if (status.hint !== undefined) this.#context.assignments.takeHint(status.hint);
      return;
    }
    if (unanswered.length <= 1) {
      const [batch] = unanswered;
      batch?.fail(new ServerError(status, { outcomeUnknown: batch.sends > 1 || !REFUSALS.has(status.code) }));
      if (this.#alone > 0) this.#alone--;
    } else {
      this.#alone = Math.max(this.#alone, unanswered.length);
      this.#batcher.putBack(unanswered);
    }
    this.#pump();
  }

  #expire(batch: WriteBatch): void {
    const { requestTimeoutMs } = this.#context;
    const cause = this.#attempts > 0 && this.#lastStatus !== undefined ? new ServerError(this.#lastStatus) : undefined;
    batch.fail(new RequestTimeoutError("a write", requestTimeoutMs, { outcomeUnknown: batch.sends > 0, cause }));
  }

  // --- changing servers -----------------------------------------------------------------------------------------

  #retryLater(status: CallStatus): void {
    this.#lastStatus = status;
    this.#attempts++;
    const { clock, random } = this.#context.ports;
    this.#cancelRetry?.();
    this.#cancelRetry = clock.after(retryDelayMs(this.#attempts, random), () => {
      this.#cancelRetry = undefined;
      this.#pump();
    });
  }

  #retire(): void {
    if (this.#retiring) return;
    if (this.#inFlight.length === 0) {
      this.#dropCall();
      this.#pump();
      return;
    }
    this.#retiring = true;
    this.#cancelRetirement = this.#context.ports.clock.after(CLIENT_OLD_LEADER_MS_MAX, () => {
      this.#cancelRetirement = undefined;
      this.#ended(plainStatus(GrpcCode.unavailable, `${this.#address} no longer leads shard ${this.#shard}`));
    });
  }

  #dropCall(): void {
    this.#call?.cancel();
    this.#call = undefined;
    this.#blocked = false;
    this.#retiring = false;
    this.#cancelRetirement?.();
    this.#cancelRetirement = undefined;
  }

  #rerouteAll(): void {
    for (let batch = this.#batcher.take(); batch !== undefined; batch = this.#batcher.take()) {
      this.#reroute(batch.operations, batch.frame);
      batch.settle();
    }
  }
}

/** One form for a key in a set: bytes are equal by content, not by identity. */
function orderOf(key: WireKey): WireKey {
  return typeof key === "string" ? key : `\u0100${Buffer.from(key).toString("latin1")}`;
}
