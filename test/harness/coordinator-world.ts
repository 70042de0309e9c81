/** A coordinator over fake data servers and a metadata store in memory, on simulated time: for tests of its flows. */
import type { ClusterConfig, NamespaceConfig } from "../../src/coordination/cluster-config.ts";
import { Coordinator } from "../../src/coordination/coordinator.ts";
import type { ShardReport } from "../../src/coordination/report.ts";
import { CoordinatorStats } from "../../src/coordination/stats.ts";
import { decodeStatus, type ShardMetadata } from "../../src/coordination/status-document.ts";
import type { Clock, Logger, MetadataStore } from "../../src/ports.ts";
import { MemoryMetadata, openMemoryMetadata } from "../../src/storage/metadata/memory.ts";
import { SimNode } from "../sim/node.ts";
import { randomPort, SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { FakeDataServers } from "./fake-data-servers.ts";

export const SERVERS = ["a:1", "b:1", "c:1", "d:1"];

export interface WorldOptions {
  readonly servers?: number;
  readonly shards?: number;
  readonly replicationFactor?: number;
  readonly seed?: number;
}

export class CoordinatorWorld {
  readonly scheduler: Scheduler;
  readonly memory = new MemoryMetadata();
  readonly node: SimNode;
  readonly dataServers: FakeDataServers;
  readonly warnings: string[] = [];
  readonly stats = new CoordinatorStats();
  config: ClusterConfig;
  coordinator!: Coordinator;
  /** The process's own: what waits on it ends with it. */
  clock!: Clock;
  /** Settled by `run` of the coordinator that runs. */
  ended: "no" | "stopped" | { readonly error: unknown } = "no";
  readonly #random: SimRandom;
  #lives = 0;

  constructor({ servers = 3, shards = 1, replicationFactor = 3, seed = 1 }: WorldOptions = {}) {
    this.scheduler = new Scheduler({ trace: new Trace({ seed, linesMax: 100 }) });
    this.node = new SimNode(this.scheduler, "coordinator");
    const world = new SimNode(this.scheduler, "world").start();
    this.#random = new SimRandom(seed);
    this.dataServers = new FakeDataServers(world.clock, SERVERS);
    this.config = configOf(SERVERS.slice(0, servers), [namespaceOf("default", shards, replicationFactor)]);
  }

  /** Starts a coordinator on the store, as a new process. `store`: what it opens instead. */
  start(store?: (opened: MetadataStore) => MetadataStore): Coordinator {
    const life = this.node.start();
    const random = randomPort(this.#random.split(`life ${++this.#lives}`));
    const opened = openMemoryMetadata(this.memory);
    this.clock = life.clock;
    const ports = {
      dataServers: this.dataServers,
      clock: life.clock,
      random,
      logger: this.#logger(),
      stats: this.stats,
    };
    const open = () => Coordinator.open({ ...ports, store: store?.(opened) ?? opened }, this.config);
    const coordinator = this.scheduler.complete("open", open);
    this.coordinator = coordinator;
    this.ended = "no";
    life.spawn("coordinator", async () => {
      try {
        await coordinator.run();
        this.ended = "stopped";
      } catch (error) {
        this.ended = { error };
      }
    });
    return coordinator;
  }

  /** The process is gone: nothing of it runs any more. */
  crash(): void {
    this.node.end("killed");
    this.memory.held = false;
  }

  run(ms: number): void {
    this.scheduler.run({ untilMs: this.scheduler.nowMs + ms });
  }

  /** Runs until it is so; fails after `withinMs`. Answers how long it took. */
  until(what: string, isSo: () => boolean, withinMs = 30_000): number {
    const sinceMs = this.scheduler.nowMs;
    const ended = this.scheduler.run({ untilMs: sinceMs + withinMs, until: isSo });
    if (ended !== "until") {
      const status = JSON.stringify(this.coordinator.status(), (_, value) =>
        typeof value === "bigint" ? `${value}` : value,
      );
      throw new Error(`not within ${withinMs} ms: ${what}; ${status}; ${this.warnings.slice(-5).join("\n")}`);
    }
    return this.scheduler.nowMs - sinceMs;
  }

  complete<T>(flow: () => Promise<T>): T {
    return this.scheduler.complete("test", flow);
  }

  /** What is stored of a shard. */
  stored(shard = 0, namespace = "default"): ShardMetadata {
    return decodeStatus(this.memory.entries.copy()).namespaces.get(namespace)!.shards.get(shard)!;
  }

  report(shard = 0): ShardReport {
    return this.coordinator.status().shards.find((report) => report.shard === shard)!;
  }

  /** Every shard has a leader, all of its members follow, and nothing is left to be done. */
  isWell(): boolean {
    const { shards } = this.coordinator.status();
    const steady = ({ status, problems, swap, pendingDeletes, formerEnsemble, ensemble, observers }: ShardReport) =>
      status === "SteadyState" &&
      problems.length + pendingDeletes.length + formerEnsemble.length + observers.length === 0 &&
      swap === undefined &&
      ensemble.every(({ replicaId }) => replicaId !== 0n);
    return shards.length > 0 && shards.every((shard) => steady(shard) && this.#follow(shard));
  }

  #follow({ shard, ensemble, leader, term }: ShardReport): boolean {
    return ensemble.every(({ server, replicaId }) => {
      const replica = this.dataServers.server(server).replica(shard);
      const wanted = server === leader ? "leader" : "following";
      return replica.status === wanted && replica.promise === term && replica.id === replicaId;
    });
  }

  #logger(): Logger {
    const log = (fields: unknown, message: string) => {
      this.warnings.push(
        `${this.scheduler.nowMs} ${message} ${JSON.stringify(fields, (_, value) => (typeof value === "bigint" ? `${value}` : value))}`,
      );
    };
    return { debug: log, info: log, warn: log, error: log };
  }
}

export function namespaceOf(name: string, shards: number, replicationFactor: number): NamespaceConfig {
  return {
    name,
    shards,
    replicationFactor,
    notificationsEnabled: true,
    keySorting: "hierarchical",
    readConsistency: "linearizable",
  };
}

export function configOf(servers: readonly string[], namespaces: readonly NamespaceConfig[]): ClusterConfig {
  return {
    namespaces,
    servers: servers.map((internal) => ({ name: internal.slice(0, 1), public: `${internal}00`, internal })),
    allowExtraAuthorities: [],
  };
}
