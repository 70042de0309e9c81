/**
 * The gets of one shard: each batch is a Read call of its own, several at a time. Reads change nothing, so a call that
 * fails is made again, whole, for as long as its operations have time.
 *
 * Source: protocol.md §2.4; semantics.md §2; errors.md §5.
 */
import type { Bytes } from "../lib/bytes.ts";
import { CLIENT_READS_IN_FLIGHT_MAX } from "../model/limits.ts";
import { type GetAnswer, RecordDecoder, Status } from "./answers.ts";
import { type ChangedBy, followsAtOnce, retryDelayMs } from "./backoff.ts";
import { type Batch, Batcher } from "./batch.ts";
import { type CallStatus, isRetryable, plainStatus } from "./call-status.ts";
import { RequestTimeoutError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { GetOperation, Reroute } from "./operation.ts";
import type { ShardContext } from "./shard-context.ts";
import type { Call } from "./transport.ts";

const PATH = "/io.oxia.proto.v1.OxiaClient/Read";

type ReadBatch = Batch<GetOperation>;

export class ShardReader {
  readonly #shard: number;
  readonly #context: ShardContext;
  readonly #reroute: Reroute<GetOperation>;
  readonly #batcher: Batcher<GetOperation>;
  readonly #calls = new Map<ReadBatch, Call>();
  #cancelRetry: (() => void) | undefined;
  #address = "";
  #attempts = 0;
  #lastStatus: CallStatus | undefined;

  constructor(shard: number, context: ShardContext, reroute: Reroute<GetOperation>) {
    this.#shard = shard;
    this.#context = context;
    this.#reroute = reroute;
    this.#batcher = new Batcher<GetOperation>(shard, {
      clock: context.ports.clock,
      timeoutMs: context.requestTimeoutMs,
      bounds: context.bounds,
      budget: context.budget,
      onDue: () => this.#pump(),
      onExpired: (batch) => this.#expire(batch),
    });
  }

  /** The batch that a get of about `bytes` joins: append to its writer, then call `added`. */
  batchFor(bytes: number): ReadBatch {
    return this.#batcher.batchFor(bytes);
  }

  added(operation: GetOperation): void {
    this.#batcher.added(operation);
  }

  adopt(operations: readonly GetOperation[], frame: Bytes): void {
    this.#batcher.adopt(operations, frame);
  }

  /** Nothing is unanswered. */
  get idle(): boolean {
    return this.#batcher.idle;
  }

  flush(): Promise<void> {
    return this.#batcher.flush();
  }

  /** Ends all calls. What is unanswered fails with `error`. */
  close(error: Error): void {
    this.#cancelRetry?.();
    for (const [batch, call] of this.#calls) {
      call.cancel();
      batch.fail(error);
    }
    this.#calls.clear();
    this.#batcher.close();
    for (let batch = this.#batcher.take(); batch !== undefined; batch = this.#batcher.take()) batch.fail(error);
  }

  assignmentsChanged(by: ChangedBy): void {
    const leader = this.#context.assignments.table.byId(this.#shard)?.leader;
    if (this.#cancelRetry === undefined || !followsAtOnce(by, this.#attempts, leader === this.#address)) return;
    this.#cancelRetry();
    this.#cancelRetry = undefined;
    this.#pump();
  }

  #pump(): void {
    while (this.#cancelRetry === undefined && this.#calls.size < CLIENT_READS_IN_FLIGHT_MAX) {
      const batch = this.#batcher.take();
      if (batch === undefined) return;
      const shard = this.#context.assignments.table.byId(this.#shard);
      if (shard === undefined) {
        this.#reroute(batch.operations, batch.frame);
        batch.settle();
      } else if (shard.leader === "") {
        this.#batcher.putBack([batch]);
        this.#retryLater(plainStatus(GrpcCode.unavailable, `shard ${this.#shard} has no leader`));
      } else {
        this.#address = shard.leader;
        this.#send(batch, shard.leader);
      }
    }
  }

  #send(batch: ReadBatch, address: string): void {
    const { clock, transport } = this.#context.ports;
    /** Answers so far; invariant: answered <= batch.operations.length. */
    let answered = 0;
    const call = transport.open(
      {
        address,
        path: PATH,
        headers: this.#context.headers,
        message: batch.frame,
        timeoutMs: Math.max(1, Math.ceil(batch.deadline - clock.monotonicMs())),
      },
      {
        message: (message) => {
          try {
            answered = settleGets(batch, message, answered);
          } catch (error) {
            call.cancel();
            this.#ended(batch, plainStatus(GrpcCode.internal, error instanceof Error ? error.message : String(error)));
          }
        },
        drained: () => {},
        ended: (status) => {
          const complete = status.code === GrpcCode.ok && answered === batch.operations.length;
          this.#ended(batch, complete ? undefined : status);
        },
      },
    );
    batch.sends++;
    this.#calls.set(batch, call);
  }

  /** A call is over: with all answers when `failure` is undefined. */
  #ended(batch: ReadBatch, failure: CallStatus | undefined): void {
    if (!this.#calls.delete(batch)) return;
    if (failure === undefined) {
      this.#attempts = 0;
      batch.settle();
      this.#pump();
      return;
    }
    if (isRetryable(failure)) {
      this.#batcher.putBack([batch]);
      const early = failure.code === GrpcCode.ok;
      this.#retryLater(early ? plainStatus(GrpcCode.unavailable, "answers are missing") : failure);
      if (failure.hint !== undefined) this.#context.assignments.takeHint(failure.hint);
      return;
    }
    batch.fail(new ServerError(failure));
    this.#pump();
  }

  #retryLater(status: CallStatus): void {
    this.#lastStatus = status;
    // calls that fail together count once
    if (this.#cancelRetry !== undefined) return;
    this.#attempts++;
    const { clock, random } = this.#context.ports;
    this.#cancelRetry = clock.after(retryDelayMs(this.#attempts, random), () => {
      this.#cancelRetry = undefined;
      this.#pump();
    });
  }

  #expire(batch: ReadBatch): void {
    this.#calls.get(batch)?.cancel();
    this.#calls.delete(batch);
    const cause = this.#attempts > 0 && this.#lastStatus !== undefined ? new ServerError(this.#lastStatus) : undefined;
    batch.fail(new RequestTimeoutError("a get", this.#context.requestTimeoutMs, { cause }));
    this.#pump();
  }
}

/** Gives the operations from `answered` on their answers and returns how many have one now. Resolving twice is without effect. */
function settleGets(batch: ReadBatch, message: Bytes, answered: number): number {
  const { operations } = batch;
  const answers = new RecordDecoder(message).gets((index) => operations[answered + index]?.key ?? "");
  if (answered + answers.length > operations.length) throw new Error("more answers than gets");
  for (const answer of answers) settleGet(operations[answered++]!, answer);
  return answered;
}

function settleGet(operation: GetOperation, { status, record }: GetAnswer): void {
  if (record !== undefined || status === Status.keyNotFound) operation.resolve(record);
  else operation.reject(new ServerError(plainStatus(GrpcCode.internal, `status ${status} of a get`)));
}
