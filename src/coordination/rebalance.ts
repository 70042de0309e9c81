/**
 * Moves replicas and leaders without being asked: off servers that the configuration names no more, at once; and, now and
 * then, from servers that have most to those that have least (protocol/placement.ts decides).
 *
 *     each second      a replica at a leaving server  ──swap──> the least loaded one; so many at once
 *     each interval    nothing is on its way: replicas, one after the other, until no server holds two more than another;
 *                      those are even, and servers have been there for a while: leaders likewise
 *
 * Nothing of it is stored: a coordinator that comes new decides anew. Each move is an ordinary swap, or an ordinary
 * election; what came to nothing is left alone for a while.
 *
 * Source: semantics.md §9.6 (draining), §9.7.
 */
import type { ShardId } from "../model/ids.ts";
import { DRAIN_RETRY_MS, REBALANCE_LOOK_MS, REPLICA_MOVES_AT_ONCE_MAX, SERVERS_STABLE_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { drainMoves, evenMove, type HeldShard, leaderMove, type Move } from "../protocol/placement.ts";
import { isForeign } from "./adopt-status.ts";
import type { Cluster } from "./cluster.ts";
import { type ClusterConfig, DEFAULT_LOAD_BALANCER } from "./cluster-config.ts";
import { apartBy } from "./reconcile.ts";
import type { ServerState } from "./server-link.ts";
import { wordsOf } from "./server-link.ts";
import type { ShardKeeper } from "./shard-keeper.ts";
import type { ClusterStatus } from "./status-document.ts";
import { Interrupted, sleep } from "./wait.ts";

interface Running {
  readonly move: Move;
  readonly keeper: ShardKeeper;
}

export class Rebalancer {
  readonly #cluster: Cluster;
  readonly #keepers: ReadonlyMap<ShardId, ShardKeeper>;
  /** Replicas on their way, by shard. */
  readonly #running = new Map<ShardId, Running>();
  /** When a move of the shard came to nothing. */
  readonly #failedMs = new Map<ShardId, number>();
  /** When a server was lost. */
  readonly #lostMs = new Map<string, number>();
  /** What was found to hold nothing on servers that are to leave. */
  #drained: { readonly status: ClusterStatus; readonly config: ClusterConfig } | undefined;
  #stableSinceMs: number;
  #roundDueMs: number;
  #leaderMoves = false;

  constructor(cluster: Cluster, keepers: ReadonlyMap<ShardId, ShardKeeper>) {
    this.#cluster = cluster;
    this.#keepers = keepers;
    this.#stableSinceMs = this.#nowMs;
    this.#roundDueMs = this.#nowMs + this.#balancer.scheduleIntervalMs;
  }

  /** A server has come or gone. */
  serverChanged(server: string, state: ServerState): void {
    this.#stableSinceMs = this.#nowMs;
    if (state === "unavailable") this.#lostMs.set(server, this.#nowMs);
  }

  /** Until the signal is aborted; `looked` is called after each look. */
  async run(signal: AbortSignal, looked: () => void): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#cluster.clock, REBALANCE_LOOK_MS, signal);
      if (signal.aborted) return;
      this.#look();
      looked();
    }
  }

  get #nowMs(): number {
    return this.#cluster.clock.monotonicMs();
  }

  get #balancer() {
    return this.#cluster.config.loadBalancer ?? DEFAULT_LOAD_BALANCER;
  }

  #look(): void {
    this.#forget();
    this.#giveUpLost();
    const servers = new Set(this.#cluster.config.servers.map(({ internal }) => internal));
    this.#drain(servers);
    if (this.#nowMs < this.#roundDueMs || this.#running.size > 0 || this.#leaderMoves) return;
    this.#round(servers);
  }

  #drain(servers: ReadonlySet<string>): void {
    const { status } = this.#cluster.store;
    const { config } = this.#cluster;
    if (this.#drained?.status === status && this.#drained.config === config) return;
    if (holdersOf(status).isSubsetOf(servers)) {
      this.#drained = { status, config };
      return;
    }
    const shards = this.#heldShards(DRAIN_RETRY_MS);
    const movesMax = REPLICA_MOVES_AT_ONCE_MAX - this.#running.size;
    const options = { stays: (server: string) => servers.has(server), movesMax };
    for (const move of drainMoves(shards, this.#counts(shards, servers), options)) this.#moveReplica(move);
  }

  /** As long as there is something to move, the next look goes on; else the next round is an interval away. */
  #round(servers: ReadonlySet<string>): void {
    const shards = this.#heldShards(this.#balancer.quarantineTimeMs);
    const well = shards.map((shard) => ({ ...shard, movable: shard.movable && this.#isWell(shard) }));
    const replicas = this.#counts(shards, servers);
    for (const server of [...replicas.keys()]) if (this.#wasLostLately(server)) replicas.delete(server);
    const replica = evenMove(well, replicas);
    const isStable = this.#nowMs - this.#stableSinceMs >= SERVERS_STABLE_MS;
    const leader = isStable ? leaderMove(well, this.#available(servers)) : undefined;
    if (replica !== undefined) this.#moveReplica(replica);
    else if (leader !== undefined) this.#moveLeader(leader);
    else this.#roundDueMs = this.#nowMs + this.#balancer.scheduleIntervalMs;
  }

  // --- what there is --------------------------------------------------------------------------------------------

  /** One of which a move came to nothing within `restMs` is not to be moved. */
  #heldShards(restMs: number): HeldShard[] {
    const { store, config } = this.#cluster;
    const rules = new Map(config.namespaces.map((namespace) => [namespace.name, apartBy(namespace, config.servers)]));
    return [...this.#keepers.values()].flatMap(({ ref, tending }): HeldShard[] => {
      const shard = store.shard(ref);
      if (shard === undefined || shard.status === "Deleting") return [];
      const isFree =
        tending.swap === undefined &&
        tending.frozen === undefined &&
        !this.#running.has(ref.shard) &&
        !isForeign(shard);
      const movable =
        shard.status === "SteadyState" && isFree && this.#nowMs - (this.#failedMs.get(ref.shard) ?? -restMs) >= restMs;
      const servers = shard.ensemble.map(({ internal }) => internal);
      const apart = rules.get(ref.namespace);
      return [{ ...ref, servers, leader: shard.leader?.internal, movable, ...(apart === undefined ? {} : { apart }) }];
    });
  }

  /** Replicas at each server that may take another one: also those on their way to it. */
  #counts(shards: readonly HeldShard[], servers: ReadonlySet<string>): Map<string, number> {
    const counts = new Map([...this.#available(servers)].map((server) => [server, 0]));
    const count = (server: string) => {
      if (counts.has(server)) counts.set(server, counts.get(server)! + 1);
    };
    for (const shard of shards) shard.servers.forEach(count);
    for (const { move } of this.#running.values()) count(move.to);
    return counts;
  }

  #available(servers: ReadonlySet<string>): Set<string> {
    return new Set([...servers].filter((server) => this.#cluster.servers.isStaying(server)));
  }

  #isWell({ shard, servers }: HeldShard): boolean {
    const { problem, tending } = this.#keepers.get(shard)!;
    return (
      problem === "" &&
      tending.troubles.length === 0 &&
      servers.every((server) => this.#cluster.servers.isStaying(server))
    );
  }

  #wasLostLately(server: string): boolean {
    const lostMs = this.#lostMs.get(server);
    return lostMs !== undefined && this.#nowMs - lostMs < this.#balancer.quarantineTimeMs;
  }

  #forget(): void {
    const restMs = Math.max(DRAIN_RETRY_MS, this.#balancer.quarantineTimeMs);
    for (const [shard, failedMs] of this.#failedMs) {
      if (this.#nowMs - failedMs >= restMs) this.#failedMs.delete(shard);
    }
    for (const server of this.#lostMs.keys()) if (!this.#wasLostLately(server)) this.#lostMs.delete(server);
  }

  // --- moves ----------------------------------------------------------------------------------------------------

  #moveReplica(move: Move): void {
    const keeper = this.#keepers.get(move.shard)!;
    this.#running.set(move.shard, { move, keeper });
    this.#finish(keeper.swap(move.from, move.to), (result) => {
      this.#running.delete(move.shard);
      if (result?.done === true) this.#cluster.stats.moves.replicas += 1;
      else this.#failed(move);
    });
  }

  #moveLeader(move: Move): void {
    this.#leaderMoves = true;
    this.#finish(this.#keepers.get(move.shard)!.moveLeader(move.to, "balance"), (moved) => {
      this.#leaderMoves = false;
      const leader = moved?.leader;
      if (leader !== undefined && leader !== move.from) this.#cluster.stats.moves.leaders += 1;
      else this.#failed(move);
    });
  }

  /** `ended` hears undefined when it was refused, or broken off: the shard is gone, or somebody else moves it. */
  #finish<T>(moved: Promise<T>, ended: (result: T | undefined) => void): void {
    moved.then(ended, (error) => {
      if (error instanceof Refusal) {
        this.#cluster.logger.info({ component: "coordinator", why: wordsOf(error) }, "move refused");
      } else if (!(error instanceof Interrupted)) {
        this.#cluster.fault(error);
        return;
      }
      ended(undefined);
    });
  }

  /** A swap to a server that is gone would wait for it; another one may take the replica. */
  #giveUpLost(): void {
    const { servers, config } = this.#cluster;
    for (const { move, keeper } of this.#running.values()) {
      if (servers.state(move.to) === "unavailable") keeper.giveUpSwap(move.to, `${move.to} is not available`);
      else if (!config.servers.some(({ internal }) => internal === move.to)) {
        keeper.giveUpSwap(move.to, `${move.to} is leaving too`);
      }
    }
  }

  #failed({ shard }: Move): void {
    this.#cluster.stats.moves.failed += 1;
    this.#failedMs.set(shard, this.#nowMs);
  }
}

/** Servers that are members of some shard. */
function holdersOf({ namespaces }: ClusterStatus): Set<string> {
  const holders = new Set<string>();
  for (const { shards } of namespaces.values()) {
    for (const { ensemble } of shards.values()) for (const { internal } of ensemble) holders.add(internal);
  }
  return holders;
}
