/**
 * How long calls of a server take, and what it has sent of states, for the metrics: taken where they come in and go out, so
 * that nothing within has to know. Histograms are of the whole process: each shard's own would make a scrape of a
 * thousand shards fifty thousand lines.
 */
import type { Bytes } from "../lib/bytes.ts";
import { Histogram } from "../lib/histogram.ts";
import { LATENCY_BUCKETS_MS } from "../model/limits.ts";
import type { Followers, SnapshotStream } from "../ports.ts";
import type { Method, ServedMethod } from "./method.ts";

export class Timings {
  /** From a request of gets to its last answer, the reader's own pace with it. */
  readonly get = new Histogram(LATENCY_BUCKETS_MS);
  /** Likewise of lists and range scans. */
  readonly list = new Histogram(LATENCY_BUCKETS_MS);
  /** From an entry's coming in to its acknowledgement; of those that come while one is timed, none is. */
  readonly followerWrite = new Histogram(LATENCY_BUCKETS_MS);
  /** States sent to followers, whole ones. */
  readonly snapshot = new Histogram(LATENCY_BUCKETS_MS);
  snapshotsStarted = 0;
  snapshotsFailed = 0;
  snapshotBytes = 0;
}

/** The same methods; reads are timed. */
export function timedReads(methods: readonly ServedMethod[], { get, list }: Timings): ServedMethod[] {
  const of: Readonly<Record<string, Histogram>> = { Read: get, List: list, RangeScan: list };
  return methods.map((served) => {
    const histogram = of[served.json.name];
    return histogram === undefined ? served : { ...served, method: timed(served.method, histogram) };
  });
}

function timed(method: Method, histogram: Histogram): Method {
  if (method.kind !== "server-stream") return method;
  const { handle } = method;
  return {
    ...method,
    handle: (request: Bytes, call, sink) => {
      const startedMs = performance.now();
      const answered = handle(request, call, sink);
      if (answered === undefined) {
        histogram.record(performance.now() - startedMs);
        return undefined;
      }
      return answered.then(() => histogram.record(performance.now() - startedMs));
    },
  };
}

/** One entry at a time of a stream from a leader, on its way to being acknowledged. */
export class EntryTimer {
  readonly #histogram: Histogram | undefined;
  #offset = -1;
  #sinceMs = 0;

  constructor(timings: Timings | undefined) {
    this.#histogram = timings?.followerWrite;
  }

  came(offset: number | undefined): void {
    if (offset === undefined || this.#offset >= 0) return;
    this.#offset = offset;
    this.#sinceMs = performance.now();
  }

  acked(offset: number): void {
    if (this.#offset < 0 || offset < this.#offset) return;
    this.#histogram?.record(performance.now() - this.#sinceMs);
    this.#offset = -1;
  }
}

/** The same followers; states that are sent to them are counted. */
export function countedSnapshots(followers: Followers, timings: Timings): Followers {
  return {
    truncate: (...call) => followers.truncate(...call),
    newTerm: (...call) => followers.newTerm(...call),
    getStatus: (...call) => followers.getStatus(...call),
    replicate: (...call) => followers.replicate(...call),
    sendSnapshot: (...call) => countedSnapshot(followers.sendSnapshot(...call), timings),
  };
}

function countedSnapshot(stream: SnapshotStream, timings: Timings): SnapshotStream {
  const startedMs = performance.now();
  timings.snapshotsStarted++;
  let isOver = false;
  const failed = () => {
    if (!isOver) timings.snapshotsFailed++;
    isOver = true;
  };
  return {
    send(chunk) {
      timings.snapshotBytes += chunk.content.length;
      return stream.send(chunk);
    },
    drained: () => stream.drained(),
    async finish() {
      try {
        const response = await stream.finish();
        if (!isOver) timings.snapshot.record(performance.now() - startedMs);
        isOver = true;
        return response;
      } catch (error) {
        failed();
        throw error;
      }
    },
    ended: stream.ended,
    cancel() {
      failed();
      stream.cancel();
    },
  };
}
