/** What a coordinator has done since its process began, for its metrics: it outlives one opening of the store. */
import { Histogram } from "../lib/histogram.ts";
import type { ShardId } from "../model/ids.ts";
import type { Clock, MetadataStore } from "../ports.ts";
import type { ShardRef } from "./status-store.ts";

/** Why an election was held. */
export const ELECTION_CAUSES = [
  /** The shard is new. */
  "first",
  /** The one before named nobody, or another coordinator left it undone. */
  "retry",
  "leader-unavailable",
  /** Its server is about to stop. */
  "leader-leaving",
  /** Its server is there, and it does not lead. */
  "leader-lost",
  "ensemble-change",
  /** A place of the ensemble that nobody has taken yet can be taken. */
  "new-member",
  /** Leaders are spread evenly. */
  "balance",
  /** Somebody wants another leader. */
  "requested",
] as const;
export type ElectionCause = (typeof ELECTION_CAUSES)[number];

/** Upper bounds in ms, Oxia's for latencies. */
const LATENCY_MS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];

/** Of one namespace: one for each shard would make a cluster's metrics megabytes. */
export class ElectionTimes {
  /** From the stored term to the stored leader. */
  readonly election = new Histogram(LATENCY_MS);
  /** From NewTerm to the answers that decided. */
  readonly quorum = new Histogram(LATENCY_MS);
  readonly becomeLeader = new Histogram(LATENCY_MS);
}

export class CoordinatorStats {
  /** Elections begun, by why. */
  readonly elections = new Map<ElectionCause, number>();
  readonly times = new Map<string, ElectionTimes>();
  readonly failedElections = new Map<ShardId, { readonly namespace: string; count: number }>();
  /** By internal address. */
  readonly healthChecksFailed = new Map<string, number>();
  readonly storeReads = new Histogram(LATENCY_MS);
  readonly storeWrites = new Histogram(LATENCY_MS);
  /** Replicas moved, and leaders, because a server is emptied or for evenness; and what came to nothing. */
  readonly moves = { replicas: 0, leaders: 0, failed: 0 };

  timesOf(namespace: string): ElectionTimes {
    let times = this.times.get(namespace);
    if (times === undefined) {
      times = new ElectionTimes();
      this.times.set(namespace, times);
    }
    return times;
  }

  electionBegun(cause: ElectionCause): void {
    this.elections.set(cause, (this.elections.get(cause) ?? 0) + 1);
  }

  electionFailed({ namespace, shard }: ShardRef): void {
    const failed = this.failedElections.get(shard);
    if (failed === undefined) this.failedElections.set(shard, { namespace, count: 1 });
    else failed.count += 1;
  }

  healthCheckFailed(server: string): void {
    this.healthChecksFailed.set(server, (this.healthChecksFailed.get(server) ?? 0) + 1);
  }

  /** Nothing of a shard that is gone is kept, nor of its namespace when `shardsLeft` of it are none. */
  forget({ namespace, shard }: ShardRef, shardsLeft: number): void {
    this.failedElections.delete(shard);
    if (shardsLeft === 0) this.times.delete(namespace);
  }
}

/** The store, with the time that its calls take recorded. */
export function timedStore(store: MetadataStore, clock: Clock, stats: CoordinatorStats): MetadataStore {
  const timed = async <T>(times: Histogram, call: () => Promise<T>): Promise<T> => {
    const sinceMs = clock.monotonicMs();
    try {
      return await call();
    } finally {
      times.record(clock.monotonicMs() - sinceMs);
    }
  };
  return {
    get: () => timed(stats.storeReads, () => store.get()),
    compareAndSwap: (expected, changes) => timed(stats.storeWrites, () => store.compareAndSwap(expected, changes)),
    close: () => store.close(),
  };
}
