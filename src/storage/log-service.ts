/**
 * The log's writer as its thread runs it: messages in, messages out. Appends that arrive while a commit runs are one batch
 * of the next; whatever else is asked is answered between two commits, in the order of its arrival. Which thread that
 * is, and how messages get there, is the matter of whoever makes one (log-worker.ts).
 */
import { assert } from "../lib/assert.ts";
import type { Head, LogEntry, ShardId, Term, Timestamp } from "../model/ids.ts";
import { LOG_UPKEEP_MS_MAX, WATERMARK_LAG_MS_MAX } from "../model/limits.ts";
import type { LogShape, LogStats, StampAnswer, StampRequest, Truncation } from "../model/log-calls.ts";
import { type Reason, Refusal } from "../model/refusal.ts";
import type { ReplicaLife, ReplicaLog } from "../ports.ts";
import { unpackAppends } from "./append-batch.ts";
import type { AcceptedLoss } from "./log-opening.ts";
import type { SegmentsOptions } from "./log-segments.ts";
import { type Append, type AppendResult, LogWriter } from "./log-writer.ts";
import { explainError } from "./sqlite.ts";

export type LogRequest =
  | {
      readonly kind: "open";
      readonly directory: string;
      readonly retentionMs: number;
      readonly syncData: boolean;
      readonly acceptLoss: ReadonlyMap<ShardId, AcceptedLoss>;
      readonly segmentBytesMax: number | undefined;
      readonly ballastBytes: number | undefined;
    }
  | { readonly kind: "create" | "adopt"; readonly shard: ShardId; readonly life: ReplicaLife }
  | { readonly kind: "promise"; readonly shard: ShardId; readonly term: number }
  | { readonly kind: "mark-led"; readonly shard: ShardId; readonly term: number }
  | { readonly kind: "truncate"; readonly shard: ShardId; readonly truncation: Truncation }
  | { readonly kind: "install"; readonly shard: ShardId; readonly acceptedUnder: Term; readonly base: Head }
  | { readonly kind: "end"; readonly shard: ShardId; readonly reason: string }
  | { readonly kind: "remove"; readonly shard: ShardId }
  | { readonly kind: "take-stamp"; readonly stamp: StampRequest }
  | { readonly kind: "shape"; readonly shard: ShardId }
  | { readonly kind: "at"; readonly shard: ShardId; readonly offset: number }
  | { readonly kind: "read"; readonly shard: ShardId; readonly from: number }
  | { readonly kind: "release"; readonly shard: ShardId; readonly offset: number }
  | { readonly kind: "close" };

export interface LogAnswers {
  open: { readonly replicas: readonly ReplicaLog[]; readonly stamp: number };
  create: ReplicaLog;
  adopt: ReplicaLog;
  promise: Head;
  "mark-led": undefined;
  truncate: Head;
  install: undefined;
  end: ReplicaLog;
  remove: undefined;
  /** With the stamp as it is behind it, and the replicas where ids have ended. */
  "take-stamp": StampAnswer & { readonly replicas: readonly ReplicaLog[]; readonly held: number };
  shape: LogShape;
  at: Head | undefined;
  read: readonly LogEntry[];
  release: undefined;
  close: undefined;
}

/** To the writer: a question, or appends packed by append-batch.ts. */
export type ToLogThread = { readonly id: number; readonly request: LogRequest } | { readonly appends: ArrayBuffer };

/** From the writer: an answer, a refusal, what became of appends, or that the device failed. */
export type FromLogThread =
  | { readonly id: number; readonly answer: LogAnswers[keyof LogAnswers] }
  /** With the replicas as they are behind it where damage has ended some. */
  | {
      readonly id: number;
      readonly refused: Reason;
      readonly message: string;
      readonly replicas: readonly ReplicaLog[];
    }
  | { readonly results: readonly AppendResult[]; readonly stats: LogStats }
  | { readonly fault: string };

/** What a writer's thread has. */
export interface LogThread {
  post(message: FromLogThread): void;
  /** Runs a commit, once what arrives together with its first append has arrived. */
  commitSoon(run: () => void): void;
  /** Calls `run` again and again. The returned function ends it. */
  every(ms: number, run: () => void): () => void;
  now(): Timestamp;
  monotonicMs(): number;
  /** See SegmentsOptions.removeSegment; `failed` is told of an error of the device. */
  readonly removeSegment?: (path: string, gone: () => void, failed: (error: unknown) => void) => void;
}

export class LogService {
  readonly #thread: LogThread;
  #writer: LogWriter | undefined;
  #waiting: Append[] = [];
  #commitDue = false;
  #failed = false;
  #endUpkeep: () => void = () => {};

  constructor(thread: LogThread) {
    this.#thread = thread;
  }

  receive(message: ToLogThread): void {
    if (this.#failed) return;
    if ("appends" in message) {
      for (const append of unpackAppends(message.appends)) this.#waiting.push(append);
      if (this.#commitDue) return;
      this.#commitDue = true;
      this.#thread.commitSoon(() => this.#commit());
      return;
    }
    const { id, request } = message;
    this.#guarded(() => {
      try {
        this.#thread.post({ id, answer: this.#answer(request) });
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        const { reason: refused, message: why } = error;
        const replicas = refused === "DATA_LOSS" ? this.#open.replicas() : [];
        this.#thread.post({ id, refused, message: why, replicas });
      }
    });
  }

  #commit(): void {
    this.#commitDue = false;
    if (this.#waiting.length === 0) return;
    const appends = this.#waiting;
    this.#waiting = [];
    this.#guarded(() => {
      const writer = this.#open;
      const results = writer.append(appends);
      this.#thread.post({ results, stats: writer.stats() });
    });
  }

  /** After an error of the device nothing is answered any more: what is on the disk is unknown. */
  #guarded(step: () => void): void {
    if (this.#failed) return;
    try {
      step();
    } catch (error) {
      if (!this.#failed) this.#thread.post({ fault: explainError(error) });
      this.#failed = true;
    }
  }

  get #open(): LogWriter {
    assert(this.#writer !== undefined, "the log is opened before anything else");
    return this.#writer;
  }

  #answer(request: LogRequest): LogAnswers[keyof LogAnswers] {
    switch (request.kind) {
      case "open":
        return this.#openLog(request);
      case "close":
        return void this.#close();
      default:
        return this.#answerWith(this.#open, request);
    }
  }

  #answerWith(
    writer: LogWriter,
    request: Exclude<LogRequest, { kind: "open" | "close" }>,
  ): LogAnswers[keyof LogAnswers] {
    switch (request.kind) {
      case "create":
        return writer.create(request.shard, request.life);
      case "adopt":
        this.#settle();
        return writer.adopt(request.shard, request.life);
      case "promise":
        return writer.promise(request.shard, request.term);
      case "mark-led":
        return void writer.markLed(request.shard, request.term);
      case "truncate":
        this.#settle();
        return writer.truncate(request.shard, request.truncation);
      case "install":
        this.#settle();
        return void writer.install(request.shard, request.acceptedUnder, request.base);
      case "end":
        this.#settle();
        return writer.end(request.shard, request.reason);
      case "remove":
        this.#settle();
        return void writer.remove(request.shard);
      case "take-stamp":
        return this.#takeStamp(writer, request.stamp);
      case "shape":
        return writer.shape(request.shard);
      case "at":
        return writer.at(request.shard, request.offset);
      case "read":
        return writer.read(request.shard, request.from);
      case "release":
        return void writer.release(request.shard, request.offset);
    }
  }

  #takeStamp(writer: LogWriter, stamp: StampRequest): LogAnswers["take-stamp"] {
    const answer = writer.takeStamp(stamp);
    return { ...answer, replicas: answer.rolledBack ? writer.replicas() : [], held: writer.stamp };
  }

  /** What was appended before a log is cut is decided before it. A fault of the device in it ends the question too. */
  #settle(): void {
    if (this.#waiting.length === 0) return;
    this.#commit();
    if (this.#failed) throw new Error("the log has failed");
  }

  #openLog({
    kind: _,
    segmentBytesMax,
    ballastBytes,
    ...options
  }: Extract<LogRequest, { kind: "open" }>): LogAnswers["open"] {
    const { now, monotonicMs, removeSegment, every } = this.#thread;
    const failed = (error: unknown) =>
      this.#guarded(() => {
        throw error;
      });
    const remove: Pick<SegmentsOptions, "removeSegment"> =
      removeSegment === undefined
        ? {}
        : { removeSegment: (path, gone) => removeSegment(path, () => this.#guarded(gone), failed) };
    const writer = new LogWriter({
      ...options,
      ...(segmentBytesMax === undefined ? {} : { segmentBytesMax }),
      ...(ballastBytes === undefined ? {} : { ballastBytes }),
      ...remove,
      now,
      monotonicMs,
    });
    this.#writer = writer;
    const upkeepMs = Math.min(WATERMARK_LAG_MS_MAX, LOG_UPKEEP_MS_MAX);
    this.#endUpkeep = every(upkeepMs, () => this.#guarded(() => writer.upkeep()));
    return { replicas: writer.replicas(), stamp: writer.stamp };
  }

  #close(): void {
    this.#endUpkeep();
    this.#settle();
    this.#open.close();
  }
}
