/**
 * The thread that writes the log. Appends that arrive while a commit runs are one batch of the next; whatever else is
 * asked is answered between two commits, in the order of its arrival.
 */
import type { Head, LogEntry, ShardId, Term } from "../model/ids.ts";
import { LOG_UPKEEP_MS_MAX, WATERMARK_LAG_MS_MAX } from "../model/limits.ts";
import { type Reason, Refusal } from "../model/refusal.ts";
import type { LogShape, LogStats, ReplicaLife, ReplicaLog, StampAnswer, StampRequest, Truncation } from "../ports.ts";
import { unpackAppends } from "./append-batch.ts";
import { removeSqliteBehind } from "./files.ts";
import type { AcceptedLoss } from "./log-opening.ts";
import { type Append, type AppendResult, LogWriter } from "./log-writer.ts";
import { explainError } from "./sqlite.ts";

declare const self: Worker;

export type LogRequest =
  | {
      readonly kind: "open";
      readonly directory: string;
      readonly retentionMs: number;
      readonly syncData: boolean;
      readonly acceptLoss: ReadonlyMap<ShardId, AcceptedLoss>;
      readonly segmentBytesMax: number | undefined;
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
  /** With the replicas and the stamp as they are behind it. */
  "take-stamp": StampAnswer & { readonly replicas: readonly ReplicaLog[]; readonly held: number };
  shape: LogShape;
  at: Head | undefined;
  read: readonly LogEntry[];
  release: undefined;
  close: undefined;
}

/** To the Worker: a question, or appends packed by append-batch.ts. */
export type ToLogWorker = { readonly id: number; readonly request: LogRequest } | { readonly appends: ArrayBuffer };

/** From the Worker: an answer, a refusal, what became of appends, or that the device failed. */
export type FromLogWorker =
  | { readonly id: number; readonly answer: LogAnswers[keyof LogAnswers] }
  | { readonly id: number; readonly refused: Reason; readonly message: string }
  | { readonly results: readonly AppendResult[]; readonly stats: LogStats }
  | { readonly fault: string };

let writer: LogWriter | undefined;
let waiting: Append[] = [];
let commitDue = false;
let failed = false;

self.onmessage = ({ data }: MessageEvent<ToLogWorker>): void => {
  if (failed) return;
  if ("appends" in data) {
    for (const append of unpackAppends(data.appends)) waiting.push(append);
    if (!commitDue) {
      commitDue = true;
      setImmediate(commit);
    }
    return;
  }
  guarded(() => {
    try {
      self.postMessage({ id: data.id, answer: answer(data.request) } satisfies FromLogWorker);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      self.postMessage({ id: data.id, refused: error.reason, message: error.message } satisfies FromLogWorker);
    }
  });
};

function commit(): void {
  commitDue = false;
  if (waiting.length === 0) return;
  const appends = waiting;
  waiting = [];
  guarded(() => {
    const results = writer!.append(appends);
    self.postMessage({ results, stats: writer!.stats() } satisfies FromLogWorker);
  });
}

/** After an error of the device nothing is answered any more: what is on the disk is unknown. */
function guarded(step: () => void): void {
  if (failed) return;
  try {
    step();
  } catch (error) {
    if (!failed) self.postMessage({ fault: explainError(error) } satisfies FromLogWorker);
    failed = true;
  }
}

function answer(request: LogRequest): LogAnswers[keyof LogAnswers] {
  switch (request.kind) {
    case "open":
      return open(request);
    case "create":
      return writer!.create(request.shard, request.life);
    case "adopt":
      settle();
      return writer!.adopt(request.shard, request.life);
    case "promise":
      return writer!.promise(request.shard, request.term);
    case "mark-led":
      return void writer!.markLed(request.shard, request.term);
    case "truncate":
      settle();
      return writer!.truncate(request.shard, request.truncation);
    case "install":
      settle();
      return void writer!.install(request.shard, request.acceptedUnder, request.base);
    case "end":
      settle();
      return writer!.end(request.shard, request.reason);
    case "remove":
      settle();
      return void writer!.remove(request.shard);
    case "take-stamp":
      return { ...writer!.takeStamp(request.stamp), replicas: writer!.replicas(), held: writer!.stamp };
    case "shape":
      return writer!.shape(request.shard);
    case "at":
      return writer!.at(request.shard, request.offset);
    case "read":
      return writer!.read(request.shard, request.from);
    case "release":
      return void writer!.release(request.shard, request.offset);
    case "close":
      return void close();
  }
}

/** What was appended before a log is cut is decided before it. A fault of the device in it ends the question too. */
function settle(): void {
  if (waiting.length === 0) return;
  commit();
  if (failed) throw new Error("the log has failed");
}

let upkeep: ReturnType<typeof setInterval> | undefined;

function open(request: Extract<LogRequest, { kind: "open" }>): LogAnswers["open"] {
  writer = new LogWriter({
    directory: request.directory,
    retentionMs: request.retentionMs,
    syncData: request.syncData,
    acceptLoss: request.acceptLoss,
    ...(request.segmentBytesMax === undefined ? {} : { segmentBytesMax: request.segmentBytesMax }),
    now: Date.now,
    monotonicMs: () => performance.now(),
    removeSegment: (path, gone) => {
      removeSqliteBehind(path).then(
        () => guarded(gone),
        (error) =>
          guarded(() => {
            throw error;
          }),
      );
    },
  });
  upkeep = setInterval(() => guarded(() => writer!.upkeep()), Math.min(WATERMARK_LAG_MS_MAX, LOG_UPKEEP_MS_MAX));
  return { replicas: writer.replicas(), stamp: writer.stamp };
}

function close(): void {
  clearInterval(upkeep);
  settle();
  writer!.close();
}
