/**
 * Clients of a simulated cluster, and the judgement of all that they were told.
 *
 *     startWorkload -> (faults as anybody likes) -> faults stop -> settle -> check
 *
 * What is promised, and checked (Varia's README, safety.md §8): every key is an atomic register; range reads show one
 * moment of a shard; records of a session are there while its heartbeats are confirmed, and not long after; every change
 * is told to subscribers once and in order; sequences have no key twice and no gap.
 */
import { assert } from "../../../src/lib/assert.ts";
import type { ReadConsistency } from "../../../src/model/peer-messages.ts";
import type { HistoryEntry, Operation } from "../history.ts";
import { checkLinearizable } from "../linearizability.ts";
import type { Network } from "../network.ts";
import { SimNode } from "../node.ts";
import type { SimRandom } from "../random.ts";
import type { Scheduler } from "../scheduler.ts";
import { type Audit, audit } from "./audit.ts";
import { BrokenPromise } from "./broken-promise.ts";
import { checkOpenStream, checkReader, checkResumed, checkStream, checkWhole } from "./check-notifications.ts";
import { checkScans } from "./check-scans.ts";
import { checkFollowed, checkSequence } from "./check-sequences.ts";
import { ClientProcess, SEQUENCES } from "./client-process.ts";
import { Feeds } from "./feeds.ts";
import { Record } from "./record.ts";
import { SessionWatch } from "./session-watch.ts";
import type { WorkloadOptions } from "./workload-options.ts";

/** What the clients need of a cluster. */
export interface WorkloadCluster {
  readonly scheduler: Scheduler;
  readonly network: Network;
  /** Public addresses of the data servers, `host:port`. */
  readonly addresses: readonly string[];
  readonly namespace: string;
  /** Of the namespace; default `linearizable`. */
  readonly readConsistency?: ReadConsistency;
  /** When the last leadership of a shard began; absent: with the run. */
  readonly ledSince?: (shard: number) => number;
  /** Is told of each put that was answered with this version, at that moment. */
  readonly acked?: (shard: number, version: number) => void;
}

export interface SettleOptions {
  /** Within so long of true time from now on every operation is through. */
  readonly serveWithinMs: number;
  /** So long after it has begun, at most, a leadership serves. */
  readonly electionMs: number;
}

/** Clocks run at most this much faster than true time. */
const CLOCK_RATE_MAX = 1.05;
const POLL_MS = 50;
/** How late a session may end: the larger of the two. */
const SESSION_LATE_MS = 1_000;
const SESSION_LATE_SHARE = 0.1;
/** A client that has lost its connection has another one, and what it missed, after this long. */
const RECONNECT_MS_MAX = 3_000;
const AUDIT_TIMEOUT_MS = 30_000;

export function startWorkload(cluster: WorkloadCluster, options: WorkloadOptions, random: SimRandom): Workload {
  return new Workload(cluster, options, random);
}

export class Workload {
  readonly clients: readonly ClientProcess[];
  readonly record: Record;
  readonly feeds = new Feeds();
  readonly sessions: SessionWatch;
  readonly #cluster: WorkloadCluster;
  readonly #options: WorkloadOptions;
  readonly #random: SimRandom;
  /** So long after faults stop, at most, a connection that is broken is known to be. */
  readonly #keepaliveMs: number;
  #atEnd: Audit | undefined;

  constructor(cluster: WorkloadCluster, options: WorkloadOptions, random: SimRandom) {
    const { scheduler, network, addresses, namespace } = cluster;
    this.#cluster = cluster;
    this.#options = options;
    this.record = new Record(cluster.acked);
    this.#random = random;
    this.#keepaliveMs = network.rates.keepaliveMs;
    const history = (shard: number) => this.record.history(shard);
    const readsConfirmed = !this.#mayReadOld;
    this.sessions = new SessionWatch({ scheduler, history, clockRateMax: CLOCK_RATE_MAX, readsConfirmed });
    const { record, sessions, feeds } = this;
    const context = { scheduler, network, addresses, namespace, random, options, record, sessions, feeds };
    this.clients = Array.from({ length: options.clients }, (_, nth) => {
      const node = new SimNode(scheduler, `client-${nth}`);
      network.attach(node);
      return new ClientProcess(node, context);
    });
    for (const client of this.clients) client.start();
  }

  /** The machines that clients run on, for faults: a process that ends is started again. */
  get nodes(): readonly SimNode[] {
    return this.clients.map(({ node }) => node);
  }

  /** Whoever was a leader may answer reads as if it still were. */
  get #mayReadOld(): boolean {
    return this.#cluster.readConsistency === "leader";
  }

  /** All operations are through. */
  get done(): boolean {
    return this.clients.every(({ done }) => done);
  }

  /** Begins no more operations. */
  stop(): void {
    for (const client of this.clients) client.stop();
  }

  /**
   * To be called once faults have stopped. Lets what is under way come to its end, ends all clients but the first, some
   * in order and some not, waits until their sessions must be over, and reads everything.
   */
  async settle({ serveWithinMs, electionMs }: SettleOptions): Promise<void> {
    const { scheduler } = this.#cluster;
    const beganMs = scheduler.nowMs;
    // else what hangs on them is given the time to find out
    const resets = this.#random.chance(0.5);
    if (resets) this.#resetConnections();
    while (!this.done) {
      if (scheduler.nowMs > beganMs + serveWithinMs) throw new BrokenPromise("operations are not through in time");
      await scheduler.sleep(POLL_MS);
    }
    const [, ...others] = this.clients;
    await Promise.all(others.map((client) => client.end(this.#random.pick(["closed", "killed"] as const))));
    const { sessionTimeoutMs } = this.#options;
    const lateMs = Math.max(SESSION_LATE_MS, SESSION_LATE_SHARE * sessionTimeoutMs) + electionMs;
    const knownMs = resets ? 0 : beganMs + this.#keepaliveMs + RECONNECT_MS_MAX - scheduler.nowMs;
    await scheduler.sleep(Math.max(sessionTimeoutMs * CLOCK_RATE_MAX + lateMs, knownMs));
    this.#atEnd = await this.#audit();
    const { found, readMs, shards } = this.#atEnd;
    for (const stream of this.feeds.streams) {
      const shard = shards.find((one) => one.shard === stream.shard);
      if (!stream.ended && shard !== undefined) checkOpenStream(stream, shard);
    }
    const { ledSince = () => 0 } = this.#cluster;
    for (const { shard, session } of found) {
      if (session !== undefined) this.sessions.seen(shard, session, { readMs, lateMs, ledSinceMs: ledSince(shard) });
    }
    this.stop();
  }

  /** Throws BrokenPromise or NotLinearizable. */
  check(): void {
    const { record, feeds } = this;
    for (const history of record.histories().values()) {
      const entries = this.#mayReadOld ? history.entries().map(atAnyTimeBefore) : history.entries();
      checkLinearizable(entries);
      checkScans(entries);
    }
    assert(this.#atEnd !== undefined, "a workload is checked once it has settled");
    const { shards, resumed, left, found, shardOf } = this.#atEnd;
    for (const shard of shards) {
      checkWhole(shard, { puts: record.puts.values(), deletes: record.deletes });
      for (const stream of feeds.streams) if (stream.shard === shard.shard) checkStream(stream, shard);
      for (const stream of resumed) {
        if (stream.shard !== shard.shard) continue;
        checkResumed(stream, shard, left.find((one) => one.shard === stream.shard)!);
      }
    }
    for (const reader of feeds.changes) checkReader(reader, shards, shardOf);
    for (const prefix of SEQUENCES) {
      const stored = { prefix, records: found.filter(({ key }) => key.startsWith(`${prefix}-`)) };
      checkSequence(stored, record.puts);
      if (this.#mayReadOld) continue;
      for (const followed of feeds.sequences) if (followed.prefix === prefix) checkFollowed(followed, stored);
    }
  }

  #resetConnections(): void {
    const { network, addresses } = this.#cluster;
    for (const address of addresses) {
      const server = network.hostOf(address);
      if (server !== undefined) for (const node of this.nodes) network.reset(node, server);
    }
  }

  #audit(): Promise<Audit> {
    const { scheduler, network, addresses, namespace } = this.#cluster;
    const node = new SimNode(scheduler, "audit");
    network.attach(node);
    const { record, sessions } = this;
    const random = this.#random.split("audit");
    const address = random.pick(addresses);
    return audit({
      life: node.start(),
      network,
      address,
      namespace,
      requestTimeoutMs: AUDIT_TIMEOUT_MS,
      random,
      record,
      sessions,
    });
  }
}

const READS: ReadonlySet<Operation["kind"]> = new Set(["get", "compare", "scan", "list", "index-scan"]);

/** A read may show any state that there has been. */
function atAnyTimeBefore(entry: HistoryEntry): HistoryEntry {
  return READS.has(entry.operation.kind) ? { ...entry, invoked: -1 } : entry;
}
