/** What a fault acts on: the cluster of one run, its chance, and what the run keeps note of. */
import type { Cluster, Member } from "../e2e/cluster.ts";
import { monotonicMs } from "./monotonic.ts";

/** How long a cluster may take until all its replicas are there again, after the last fault is over. */
const WHOLE_MS_MAX = 90_000;
const POLL_MS = 100;

export interface Act {
  readonly fault: string;
  /** What was done to whom. */
  readonly notes: readonly string[];
  readonly fromMs: number;
  readonly toMs: number;
}

export class Stage {
  readonly cluster: Cluster;
  /** Where copies of disks and the like are kept. */
  readonly directory: string;
  /** The fault shim, built. */
  readonly shim: string;
  readonly acts: Act[] = [];
  readonly #random: () => number;
  #notes: string[] = [];

  constructor(parts: {
    readonly cluster: Cluster;
    readonly directory: string;
    readonly shim: string;
    readonly random: () => number;
  }) {
    this.cluster = parts.cluster;
    this.directory = parts.directory;
    this.shim = parts.shim;
    this.#random = parts.random;
  }

  /** Plays one fault to its end, which includes that what it broke is mended. */
  async play(fault: string, play: (stage: Stage) => Promise<void>): Promise<void> {
    this.#notes = [];
    const fromMs = monotonicMs();
    try {
      await play(this);
    } finally {
      this.acts.push({ fault, notes: this.#notes, fromMs, toMs: monotonicMs() });
    }
  }

  note(text: string): void {
    this.#notes.push(text);
  }

  /** A number between the two. */
  between(min: number, max: number): number {
    return min + this.#random() * (max - min);
  }

  pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)]!;
  }

  sleep(minMs: number, maxMs: number): Promise<void> {
    return Bun.sleep(this.between(minMs, maxMs));
  }

  /** A server that leads least. */
  async follower(): Promise<Member> {
    const leader = await this.cluster.leader();
    return this.pick(this.cluster.servers.filter((server) => server !== leader));
  }

  /** Waits until every shard has a leader and all its replicas, caught up. */
  async whole(): Promise<void> {
    const deadline = monotonicMs() + WHOLE_MS_MAX;
    for (;;) {
      const problems = await this.cluster.problems();
      if (problems.length === 0) return;
      if (monotonicMs() > deadline)
        throw new Error(`the cluster is not whole after ${WHOLE_MS_MAX} ms: ${problems.join("; ")}`);
      await Bun.sleep(POLL_MS);
    }
  }
}
