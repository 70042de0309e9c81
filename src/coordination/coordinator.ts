/**
 * The coordinator: wanted cluster, stored cluster, and a keeper for each shard that closes the gap.
 *
 *     config ──reconcile──> store <──own compare-and-swap── keepers ──> data servers
 *                             └── what is stored ──> assignments ──> data servers ──> clients
 *
 * One life of it works on one opened store and knows nothing from before; when it cannot tell what the store holds, it
 * ends (`run` rejects with StoreLost), and its owner opens the store again for the next one. What it needs is in the
 * store, or can be asked again.
 *
 * Source: house.md (example); semantics.md §9.1, §9.2; safety.md §9.
 */
import type { Offset, ShardId } from "../model/ids.ts";
import { ELECTIONS_AT_ONCE_MAX, SERVERS_SETTLE_MS_MAX, STATUS_REFRESH_MS } from "../model/limits.ts";
import type { Feature } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, DataServers, Logger, MetadataStore, Random } from "../ports.ts";
import { adoptStatus, type NotAdopted } from "./adopt-status.ts";
import { type Cluster, Leaders } from "./cluster.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import { type ClusterReport, clusterReport } from "./cluster-report.ts";
import { assignmentsOf, Publisher } from "./publish.ts";
import { Rebalancer } from "./rebalance.ts";
import { reconcile } from "./reconcile.ts";
import { type Accepted, acceptLoss, type LossPlan, planLoss } from "./recover.ts";
import { askAll, isRefusal } from "./replica-calls.ts";
import { type CoordinatorStatus, shardReport } from "./report.ts";
import { wordsOf } from "./server-link.ts";
import { Servers } from "./servers.ts";
import { type LeaderMoved, ShardKeeper } from "./shard-keeper.ts";
import { Stamps } from "./stamps.ts";
import { CoordinatorStats } from "./stats.ts";
import type { ClusterStatus, ShardMetadata } from "./status-document.ts";
import { type ShardRef, StatusStore } from "./status-store.ts";
import { serversOf } from "./stored-shard.ts";
import type { SwapResult } from "./tend.ts";
import { Permits, sleep } from "./wait.ts";

export interface CoordinatorPorts {
  readonly store: MetadataStore;
  readonly dataServers: DataServers;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Where what it does is counted; default: nowhere that anybody sees. */
  readonly stats?: CoordinatorStats;
}

export class Coordinator {
  readonly #ports: CoordinatorPorts;
  readonly #store: StatusStore;
  readonly #servers: Servers;
  #wanted:
    | { readonly status: ClusterStatus; readonly config: ClusterConfig; readonly servers: ReadonlySet<string> }
    | undefined;
  readonly #publisher: Publisher;
  readonly #cluster: Cluster;
  readonly #rebalancer: Rebalancer;
  readonly #keepers = new Map<ShardId, ShardKeeper>();
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  /** What each keeper has been told of its shard. */
  readonly #seen = new Map<ShardId, ShardMetadata>();
  #config: ClusterConfig;
  #problems: readonly string[] = [];
  #notAdopted: readonly NotAdopted[] = [];
  #started = false;
  #fail: (error: unknown) => void = () => {};
  readonly #failed: Promise<never>;

  private constructor(ports: CoordinatorPorts, store: StatusStore, config: ClusterConfig) {
    const { clock, logger, dataServers, random, stats = new CoordinatorStats() } = ports;
    this.#ports = ports;
    this.#store = store;
    this.#config = config;
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => {}); // `run` tells
    const stamps = new Stamps(store);
    const fault = (error: unknown) => this.#fail(error);
    this.#servers = new Servers(
      { dataServers, clock, logger, store, stamps, stats },
      {
        fault,
        changed: (server, state) => {
          this.#rebalancer.serverChanged(server, state);
          for (const keeper of this.#keepers.values()) keeper.serverChanged(server, state);
        },
      },
    );
    this.#publisher = new Publisher(
      clock,
      () => assignmentsOf(store.status, this.#config),
      (assignments) => this.#servers.publish(assignments),
    );
    const currentConfig = () => this.#config;
    this.#cluster = {
      ...{ dataServers, clock, random, logger, store, stamps, stats, fault },
      servers: this.#servers,
      leaders: new Leaders(),
      elections: new Permits(ELECTIONS_AT_ONCE_MAX),
      get config() {
        return currentConfig();
      },
    };
    this.#rebalancer = new Rebalancer(this.#cluster, this.#keepers);
  }

  /**
   * Reads the store, takes over what Oxia has written in it, and stores what the configuration wants. Throws
   * StatusInvalid when the store holds no cluster's status, StoreLost when it does not answer.
   */
  static async open(ports: CoordinatorPorts, config: ClusterConfig): Promise<Coordinator> {
    const store = await StatusStore.open(ports);
    const coordinator = new Coordinator(ports, store, config);
    await coordinator.#adopt();
    await coordinator.#reconcile();
    return coordinator;
  }

  /** Works until `stop`. Rejects with StoreLost, or with a fault: this coordinator is then of no use any more. */
  async run(): Promise<void> {
    const { clock } = this.#ports;
    this.#store.onChange((whose) => this.#stored(whose));
    this.#servers.keep(this.#serversWanted());
    this.#publisher.changed();
    // Members that are there shall have their part in the first election.
    const settled = Promise.race([this.#servers.tried(), sleep(clock, SERVERS_SETTLE_MS_MAX, this.#stop.signal)]);
    const stopped = new Promise<void>((resolve) => this.#stop.signal.addEventListener("abort", () => resolve()));
    try {
      await Promise.race([settled, stopped, this.#store.failed, this.#failed]);
      this.#started = true;
      this.#keepShards();
      this.#refresh().catch(this.#fail);
      // A server that was emptied, and has deleted its copies, is let go.
      this.#rebalancer.run(this.#stop.signal, () => this.#servers.keep(this.#serversWanted())).catch(this.#fail);
      if (!this.#stop.signal.aborted) await Promise.race([stopped, this.#store.failed, this.#failed]);
    } finally {
      this.#stop.abort();
      this.#publisher.stop();
      for (const keeper of this.#keepers.values()) keeper.stop();
      await this.#servers.stop();
      await Promise.all(this.#running);
    }
  }

  /** `run` resolves once all flows have ended. */
  stop(): void {
    this.#stop.abort();
  }

  /** Takes another configuration. Resolves once what it wants is stored. */
  async reconfigure(config: ClusterConfig): Promise<void> {
    this.#config = config;
    await this.#reconcile();
    this.#servers.keep(this.#serversWanted());
    this.#publisher.changed();
  }

  /** Replaces `from` by `to`, both by internal address, in a shard's ensemble; the same address twice refills its copy. */
  async swap(ref: ShardRef, from: string, to: string): Promise<SwapResult> {
    if (!this.#config.servers.some(({ internal }) => internal === to)) {
      throw new Refusal("INVALID_ARGUMENT", `${to} is not a data server of the cluster`);
    }
    return this.#keeper(ref).swap(from, to);
  }

  /** Ends the swap to this server, if there is one, unless it is decided already. */
  giveUpSwap(ref: ShardRef, to: string): void {
    this.#keeper(ref).giveUpSwap(to, "it is not wanted any more");
  }

  /** Has `heir`, a member of the shard, lead it if that can be without delay. */
  async moveLeader(ref: ShardRef, heir: string): Promise<LeaderMoved> {
    const keeper = this.#keeper(ref);
    const { ensemble } = this.#store.shard(ref)!;
    if (!ensemble.some(({ internal }) => internal === heir)) {
      throw new Refusal("INVALID_ARGUMENT", `${heir} is not in the shard's ensemble`);
    }
    return keeper.moveLeader(heir, "requested");
  }

  /** Has the shard take no writes for `forMs`, in (0, SHARD_FREEZE_MS_MAX]. Resolves to the last offset before. */
  async freeze(ref: ShardRef, forMs: number): Promise<Offset> {
    return this.#keeper(ref).freeze(forMs);
  }

  /** Ends a freeze; where there is none, nothing happens. */
  async thaw(ref: ShardRef): Promise<void> {
    return this.#keeper(ref).thaw();
  }

  /** What would be lost if these servers' replicas, by internal address, were taken for the shard. Changes nothing. */
  async planLoss(ref: ShardRef, chosen: readonly string[]): Promise<LossPlan> {
    return planLoss(this.#cluster, { ref: this.#keeper(ref).ref, chosen }, this.#stop.signal);
  }

  /** `recover --accept-loss`: these servers' replicas are the shard from here on. */
  async acceptLoss(ref: ShardRef, chosen: readonly string[]): Promise<Accepted> {
    return this.#keeper(ref).perform((signal) => acceptLoss(this.#cluster, { ref, chosen }, signal));
  }

  /** The cluster's name for itself, made once. */
  get instanceId(): string {
    return this.#store.status.instanceId;
  }

  status(): CoordinatorStatus {
    const shards = [...this.#keepers.values()].flatMap((keeper) => {
      const shard = this.#store.shard(keeper.ref);
      if (shard === undefined) return [];
      const { replicationFactor } = this.#store.status.namespaces.get(keeper.ref.namespace)!;
      return [shardReport(keeper, shard, replicationFactor)];
    });
    const { instanceId } = this.#store.status;
    const servers = this.#servers.list();
    return { instanceId, servers, shards, problems: this.#problems, notAdopted: this.#notAdopted };
  }

  /** How the cluster stands: all replicas are asked, and those that do not answer soon are not waited for. */
  async inspect(): Promise<ClusterReport> {
    const status = this.status();
    return clusterReport(status, this.#config, await askAll(this.#cluster, status.shards));
  }

  /** What is stored. */
  get stored(): ClusterStatus {
    return this.#store.status;
  }

  /** What a data server has said that its version can do. */
  features(server: string): readonly Feature[] {
    return this.#servers.features(server) ?? [];
  }

  #keeper({ namespace, shard }: ShardRef): ShardKeeper {
    const keeper = this.#keepers.get(shard);
    if (keeper?.ref.namespace === namespace) return keeper;
    throw new Refusal("SHARD_NOT_FOUND", `namespace ${namespace} has no shard ${shard}`);
  }

  /** Looks now and then at what is stored: another coordinator may have gone on where this one sees no need to act. */
  async #refresh(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      await sleep(this.#ports.clock, STATUS_REFRESH_MS, signal);
      if (signal.aborted) return;
      await this.#store.refresh();
    }
  }

  // --- the store ------------------------------------------------------------------------------------------------

  async #adopt(): Promise<void> {
    await this.#store.update((status) => {
      const { status: adopted, notAdopted } = adoptStatus(status);
      this.#notAdopted = notAdopted;
      return adopted === status ? undefined : adopted;
    });
    for (const { namespace, shard, why } of this.#notAdopted) {
      this.#ports.logger.error({ component: "coordinator", namespace, shard, why }, "shard not adopted");
    }
  }

  async #reconcile(): Promise<void> {
    await this.#store.update((before) => {
      const { status, problems } = reconcile(before, this.#config);
      this.#problems = problems;
      const named = status.instanceId === "" ? { ...status, instanceId: newInstanceId(this.#ports.random) } : status;
      return named === before ? undefined : named;
    });
    for (const problem of this.#problems) this.#ports.logger.error({ component: "coordinator" }, problem);
    if (!this.#started) return;
    this.#keepShards();
    for (const { ref } of this.#keepers.values()) {
      if (this.#store.shard(ref)?.status === "Deleting") this.#keepers.get(ref.shard)!.storeChanged();
    }
  }

  #stored(whose: "ours" | "read"): void {
    this.#publisher.changed();
    if (this.#started) this.#keepShards(whose === "read");
  }

  /** A keeper for each shard that is stored. Those of shards that are gone end by themselves. */
  #keepShards(tell = false): void {
    if (this.#stop.signal.aborted) return;
    for (const [namespace, { shards }] of this.#store.status.namespaces) {
      for (const [shard, metadata] of shards) {
        const keeper = this.#keepers.get(shard);
        if (keeper === undefined) this.#keep({ namespace, shard });
        else if (tell && this.#seen.get(shard) !== metadata) keeper.storeChanged();
        this.#seen.set(shard, metadata);
      }
    }
  }

  #keep(ref: ShardRef): void {
    const keeper = new ShardKeeper(this.#cluster, ref);
    this.#keepers.set(ref.shard, keeper);
    const running: Promise<void> = keeper.run().then(
      () => this.#gone(ref),
      (error) => this.#fail(error),
    );
    this.#running.add(running);
    void running.then(() => this.#running.delete(running));
  }

  /** A shard is gone, and perhaps its namespace with it: one of the same name may be wanted again. */
  async #gone({ namespace, shard }: ShardRef): Promise<void> {
    this.#keepers.delete(shard);
    this.#seen.delete(shard);
    this.#cluster.stats.forget({ namespace, shard }, this.#store.status.namespaces.get(namespace)?.shards.size ?? 0);
    if (this.#stop.signal.aborted || this.#store.status.namespaces.get(namespace)?.shards.size !== 0) return;
    try {
      await this.#reconcile();
    } catch (error) {
      if (!isRefusal(error, "RESOURCE_EXHAUSTED")) this.#fail(error);
      else
        this.#ports.logger.error({ component: "coordinator", namespace, why: wordsOf(error) }, "namespace not settled");
    }
  }

  /** The same set as long as nothing has changed that it follows from. */
  #serversWanted(): ReadonlySet<string> {
    const { status } = this.#store;
    const config = this.#config;
    if (this.#wanted?.status !== status || this.#wanted.config !== config) {
      this.#wanted = { status, config, servers: this.#serversNamed() };
    }
    return this.#wanted.servers;
  }

  #serversNamed(): Set<string> {
    const wanted = new Set(this.#config.servers.map(({ internal }) => internal));
    for (const { shards } of this.#store.status.namespaces.values()) {
      for (const shard of shards.values()) for (const server of serversOf(shard)) wanted.add(server);
    }
    return wanted;
  }
}

/** A random UUID. */
function newInstanceId(random: Random): string {
  const hex = [random.replicaId(), random.replicaId()].map((bits) => bits.toString(16).padStart(16, "0")).join("");
  const variant = (8 + Math.floor(random.fraction() * 4)).toString(16);
  const parts = [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20),
  ];
  return parts.join("-");
}
