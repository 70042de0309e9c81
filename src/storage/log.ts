/**
 * The log as the rest of the process sees it: the Log port in front of the thread that writes it. What is appended in
 * one turn of the event loop crosses in one message; one message a commit comes back.
 */
import { assert } from "../lib/assert.ts";
import { Histogram } from "../lib/histogram.ts";
import type { Head, LogEntry, Offset, ShardId, Term } from "../model/ids.ts";
import { LATENCY_BUCKETS_MS, LOG_QUEUED_BYTES_MAX } from "../model/limits.ts";
import type { LogShape, LogStats, StampAnswer, StampRequest, Truncation } from "../model/log-calls.ts";
import { Refusal } from "../model/refusal.ts";
import type { Log, ReplicaLife, ReplicaLog } from "../ports.ts";
import { packAppends } from "./append-batch.ts";
import type { AcceptedLoss } from "./log-opening.ts";
import type { FromLogThread, LogAnswers, LogRequest, ToLogThread } from "./log-service.ts";
import type { Append, AppendResult } from "./log-writer.ts";
import { startWorker } from "./start-worker.ts";

export interface SqliteLogOptions {
  readonly directory: string;
  /** Entries younger than this are kept; the log is rolled at a quarter of it. */
  readonly retentionMs: number;
  /** Whether a commit is synced before it is acknowledged. */
  readonly syncData: boolean;
  /** Shards whose damage is accepted. */
  readonly acceptLoss?: ReadonlyMap<ShardId, AcceptedLoss>;
  readonly segmentBytesMax?: number;
  /** Default LOG_BALLAST_BYTES. */
  readonly ballastBytes?: number;
  /** Told once of an error of the device: the process must end; no promise of this log resolves any more. */
  readonly onFault: (error: Error) => void;
}

interface Waiting {
  readonly offset: Offset;
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Refusal) => void;
}

const NOTHING_DONE: LogStats = {
  ...{ bytes: 0, segments: 1, entriesAppended: 0, bytesAppended: 0 },
  ...{ commits: 0, commitMs: 0, upkeepMsMax: 0 },
};

/** The way to the log's writer. */
export interface LogChannel {
  /** Messages from the writer go to `receive`, in order. Called once, before the first `post`. */
  listen(receive: (message: FromLogThread) => void): void;
  post(message: ToLogThread, transfer: ArrayBuffer[]): void;
  /** Calls back once what is appended in this turn has been. */
  soon(callback: () => void): void;
  /** Nothing is posted any more. */
  close(): void;
}

/** Opens or creates the log. Rejects only with what the device says; damage is told by `replicas`. */
export function openSqliteLog(options: SqliteLogOptions): Promise<SqliteLog> {
  return openLogOver(workerChannel(options.onFault), options);
}

export async function openLogOver(channel: LogChannel, options: SqliteLogOptions): Promise<SqliteLog> {
  const log = new SqliteLog(channel, options.onFault);
  await log.open(options);
  return log;
}

function workerChannel(onFault: (error: Error) => void): LogChannel {
  const worker = startWorker("log-worker");
  worker.onerror = ({ message }) => onFault(new Error(`the log Worker failed: ${message}`));
  return {
    listen(receive) {
      worker.onmessage = ({ data }: MessageEvent<FromLogThread>) => receive(data);
    },
    post: (message, transfer) => worker.postMessage(message, transfer),
    soon: (callback) => void setImmediate(callback),
    close: () => worker.terminate(),
  };
}

export class SqliteLog implements Log {
  readonly #channel: LogChannel;
  readonly #onFault: (error: Error) => void;
  readonly #questions = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  #nextId = 0;
  readonly #replicas = new Map<ShardId, ReplicaLog>();
  #stamp = 0;
  /** Appends on their way, a queue a shard, in offset order. */
  readonly #waiting = new Map<ShardId, Waiting[]>();
  /** Appends of this turn, not yet sent. */
  #outgoing: Append[] = [];
  #queuedBytes = 0;
  #stats: LogStats = { ...NOTHING_DONE };
  /** Of commits, their syncs with them: the mean of those that were told together. */
  readonly syncLatency = new Histogram(LATENCY_BUCKETS_MS);

  constructor(channel: LogChannel, onFault: (error: Error) => void) {
    this.#channel = channel;
    this.#onFault = onFault;
    channel.listen((message) => this.#receive(message));
  }

  async open(options: SqliteLogOptions): Promise<void> {
    const { replicas, stamp } = await this.#ask({
      kind: "open",
      directory: options.directory,
      retentionMs: options.retentionMs,
      syncData: options.syncData,
      acceptLoss: options.acceptLoss ?? new Map(),
      segmentBytesMax: options.segmentBytesMax,
      ballastBytes: options.ballastBytes,
    });
    for (const replica of replicas) this.#found(replica);
    this.#stamp = stamp;
  }

  replicas(): readonly ReplicaLog[] {
    return [...this.#replicas.values()].sort((a, b) => a.shard - b.shard);
  }

  replica(shard: ShardId): ReplicaLog | undefined {
    return this.#replicas.get(shard);
  }

  async create(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog> {
    return this.#found(await this.#ask({ kind: "create", shard, life }));
  }

  async adopt(shard: ShardId, life: ReplicaLife): Promise<ReplicaLog> {
    this.#send();
    return this.#found(await this.#ask({ kind: "adopt", shard, life }));
  }

  async promise(shard: ShardId, term: Term): Promise<Head> {
    const head = await this.#ask({ kind: "promise", shard, term });
    this.#changed(shard, { promise: term, head });
    return head;
  }

  async markLed(shard: ShardId, term: Term): Promise<void> {
    await this.#ask({ kind: "mark-led", shard, term });
    this.#changed(shard, { led: term });
  }

  async truncate(shard: ShardId, truncation: Truncation): Promise<Head> {
    this.#send(); // in order with the appends of this turn
    const head = await this.#ask({ kind: "truncate", shard, truncation });
    this.#changed(shard, { head });
    return head;
  }

  async install(shard: ShardId, acceptedUnder: Term, base: Head): Promise<void> {
    this.#send();
    await this.#ask({ kind: "install", shard, acceptedUnder, base });
    this.#changed(shard, { base, head: base });
  }

  async end(shard: ShardId, reason: string): Promise<ReplicaLog> {
    this.#send();
    return this.#found(await this.#ask({ kind: "end", shard, reason }));
  }

  async remove(shard: ShardId): Promise<void> {
    if (!this.#replicas.has(shard)) return;
    this.#send();
    await this.#ask({ kind: "remove", shard });
    this.#replicas.delete(shard);
  }

  append(shard: ShardId, entry: LogEntry, acceptedUnder: Term = entry.term): Promise<void> {
    const bytes = entry.value.length;
    if (this.#queuedBytes > 0 && this.#queuedBytes + bytes > LOG_QUEUED_BYTES_MAX) {
      return Promise.reject(
        new Refusal("RESOURCE_EXHAUSTED", `${LOG_QUEUED_BYTES_MAX} bytes of entries wait for the log`),
      );
    }
    this.#queuedBytes += bytes;
    if (this.#outgoing.length === 0) this.#channel.soon(() => this.#send());
    this.#outgoing.push({ shard, entry, acceptedUnder });
    return new Promise((resolve, reject) => {
      let queue = this.#waiting.get(shard);
      if (queue === undefined) {
        queue = [];
        this.#waiting.set(shard, queue);
      }
      queue.push({ offset: entry.offset, bytes, resolve, reject });
    });
  }

  stamp(): number {
    return this.#stamp;
  }

  async takeStamp(stamp: StampRequest): Promise<StampAnswer> {
    // what is held here is durable: a request that changes nothing has nothing to wait for
    if (stamp.stamp <= this.#stamp && stamp.confirmedStamp <= this.#stamp) {
      return { before: this.#stamp, rolledBack: false };
    }
    const { before, rolledBack, held, replicas } = await this.#ask({ kind: "take-stamp", stamp });
    this.#stamp = Math.max(this.#stamp, held);
    if (rolledBack) for (const replica of replicas) this.#found(replica);
    return { before, rolledBack };
  }

  shape(shard: ShardId): Promise<LogShape> {
    return this.#ask({ kind: "shape", shard });
  }

  at(shard: ShardId, offset: Offset): Promise<Head | undefined> {
    return this.#ask({ kind: "at", shard, offset });
  }

  read(shard: ShardId, fromInclusive: Offset): Promise<readonly LogEntry[]> {
    return this.#ask({ kind: "read", shard, from: fromInclusive });
  }

  release(shard: ShardId, upToInclusive: Offset): void {
    void this.#ask({ kind: "release", shard, offset: upToInclusive });
  }

  stats(): LogStats {
    return this.#stats;
  }

  async close(): Promise<void> {
    this.#send();
    await this.#ask({ kind: "close" });
    this.#channel.close();
  }

  /** Notes how a replica stands now. */
  #found(now: ReplicaLog): ReplicaLog {
    this.#replicas.set(now.shard, now);
    return now;
  }

  /** One that has gone while its answer was on the way stays gone. */
  #changed(shard: ShardId, change: Partial<ReplicaLog>): void {
    const replica = this.#replicas.get(shard);
    if (replica !== undefined) this.#found({ ...replica, ...change });
  }

  #send(): void {
    if (this.#outgoing.length === 0) return;
    const appends = packAppends(this.#outgoing);
    this.#outgoing = [];
    this.#channel.post({ appends }, [appends]);
  }

  #ask<Kind extends LogRequest["kind"]>(request: LogRequest & { readonly kind: Kind }): Promise<LogAnswers[Kind]> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#questions.set(id, { resolve, reject });
      this.#channel.post({ id, request }, []);
    });
  }

  #receive(message: FromLogThread): void {
    if ("results" in message) {
      this.#told(message.stats);
      for (const result of message.results) this.#settle(result);
    } else if ("fault" in message) {
      this.#onFault(new Error(message.fault));
    } else {
      const question = this.#questions.get(message.id);
      this.#questions.delete(message.id);
      if ("refused" in message) {
        for (const replica of message.replicas) this.#found(replica);
        question?.reject(new Refusal(message.refused, message.message));
      } else question?.resolve(message.answer as never);
    }
  }

  #told(stats: LogStats): void {
    const commits = stats.commits - this.#stats.commits;
    if (commits > 0) this.syncLatency.record((stats.commitMs - this.#stats.commitMs) / commits);
    this.#stats = stats;
  }

  #settle({ shard, offset, refused }: AppendResult): void {
    const waiting = this.#waiting.get(shard)?.shift();
    assert(waiting !== undefined && waiting.offset === offset, "the log answered out of order", shard, offset);
    this.#queuedBytes -= waiting.bytes;
    if (refused === undefined) waiting.resolve();
    else
      waiting.reject(
        new Refusal(refused, MESSAGES[refused] ?? "oxia: resource unavailable: the entry was not appended"),
      );
  }
}

const MESSAGES: Readonly<Record<string, string>> = {
  RESOURCE_EXHAUSTED: "no space left for the log: nothing was written, writes are taken again when there is",
  INVALID_TERM: "the term of an entry cannot follow that of the entry before, or is above that of its leader",
  RESOURCE_UNAVAILABLE: "oxia: failed to append to wal: another term has begun",
};
