/** What `/metrics` of a coordinator shows: Oxia's names where there are any, `varia_` for the rest. */
import type { Coordinator } from "../coordination/coordinator.ts";
import { type CoordinatorStats, ELECTION_CAUSES, type ElectionTimes } from "../coordination/stats.ts";
import type { Histogram } from "../lib/histogram.ts";
import { type Labels, Metrics, type Sample } from "../ops/metrics.ts";
import type { Listener } from "../rpc/listener.ts";
import { one, processMetrics, rpcMetrics } from "./process-metrics.ts";

export interface CoordinatorMetricsSources {
  readonly stats: CoordinatorStats;
  readonly listener: Listener;
  /** The one that works now. */
  readonly coordinator: () => Coordinator | undefined;
}

/** Registers everything; values are read at each scrape. */
export function coordinatorMetrics(sources: CoordinatorMetricsSources): Metrics {
  const metrics = new Metrics();
  electionMetrics(metrics, sources);
  serverMetrics(metrics, sources);
  shardMetrics(metrics, sources);
  storeMetrics(metrics, sources);
  rpcMetrics(metrics, sources.listener);
  processMetrics(metrics);
  return metrics;
}

function electionMetrics(metrics: Metrics, { stats }: CoordinatorMetricsSources): void {
  const times = (read: (times: ElectionTimes) => Histogram) => (): Sample<Histogram>[] =>
    [...stats.times].map(([namespace, each]) => ({ labels: { oxia_namespace: namespace }, value: read(each) }));
  metrics.histogram(
    "oxia_coordinator_leader_election_latency_milliseconds",
    "Elections that led somewhere: from the stored term to the stored leader.",
    times(({ election }) => election),
  );
  metrics.histogram(
    "oxia_coordinator_new_term_quorum_latency_milliseconds",
    "From NewTerm to the answers that decided.",
    times(({ quorum }) => quorum),
  );
  metrics.histogram(
    "oxia_coordinator_become_leader_latency_milliseconds",
    "BecomeLeader, whatever came of it.",
    times(({ becomeLeader }) => becomeLeader),
  );
  metrics.counter("oxia_coordinator_leader_election_failed_count_total", "Elections that named no leader.", () =>
    [...stats.failedElections].map(([shard, { namespace, count }]) => ({
      labels: { oxia_namespace: namespace, shard },
      value: count,
    })),
  );
  metrics.counter("varia_coordinator_elections_total", "Elections begun, by reason.", () =>
    ELECTION_CAUSES.map((reason) => ({ labels: { reason }, value: stats.elections.get(reason) ?? 0 })),
  );
  metrics.counter(
    "varia_coordinator_moves_total",
    "Moves to empty a server or for evenness, by what came of them.",
    () => Object.entries(stats.moves).map(([what, value]) => ({ labels: { what }, value })),
  );
}

function serverMetrics(metrics: Metrics, { stats, coordinator }: CoordinatorMetricsSources): void {
  const servers = () => coordinator()?.status().servers ?? [];
  metrics.gauge("oxia_coordinator_node_running_count", "1: the data server answers.", () =>
    servers().map(({ server, state }) => ({ labels: { data_server: server }, value: state === "unavailable" ? 0 : 1 })),
  );
  metrics.counter("oxia_coordinator_node_health_checks_failed_count_total", "Health checks that failed.", () =>
    [...stats.healthChecksFailed].map(([server, value]) => ({ labels: { data_server: server }, value })),
  );
  metrics.gauge("varia_coordinator_servers", "Data servers that are configured, or hold a copy.", () =>
    one(servers().length),
  );
  metrics.gauge("varia_coordinator_servers_available", "Those that calls are sent to.", () =>
    one(servers().filter(({ state }) => state === "available").length),
  );
  metrics.gauge("varia_coordinator_leaders", "Shards that each data server leads.", () => {
    const counts = new Map(servers().map(({ server }) => [server, 0]));
    for (const { leader } of coordinator()?.status().shards ?? []) {
      if (leader !== undefined) counts.set(leader, (counts.get(leader) ?? 0) + 1);
    }
    return [...counts].map(([server, value]) => ({ labels: { data_server: server }, value }));
  });
}

function shardMetrics(metrics: Metrics, { coordinator }: CoordinatorMetricsSources): void {
  const shards = () => coordinator()?.status().shards ?? [];
  const labels = ({ namespace, shard }: { readonly namespace: string; readonly shard: number }): Labels => {
    return { oxia_namespace: namespace, shard };
  };
  metrics.gauge("oxia_coordinator_term_count", "The last term that was begun.", () =>
    shards().map((shard) => ({ labels: labels(shard), value: shard.term })),
  );
  metrics.gauge("varia_coordinator_shards", "Shards of all namespaces.", () => one(shards().length));
  metrics.gauge("varia_coordinator_shards_without_leader", "Shards that serve nobody; those being deleted apart.", () =>
    one(shards().filter(({ leader, status }) => leader === undefined && status !== "Deleting").length),
  );
  metrics.gauge(
    "varia_coordinator_shards_with_problems",
    "Shards of which something is wrong: varia status says what.",
    () => one(shards().filter(({ problems, status }) => problems.length > 0 && status !== "Deleting").length),
  );
  metrics.gauge("varia_coordinator_swaps", "Replicas that are being moved or refilled.", () =>
    one(shards().filter(({ swap }) => swap !== undefined).length),
  );
}

function storeMetrics(metrics: Metrics, { stats, coordinator }: CoordinatorMetricsSources): void {
  metrics.histogram("oxia_coordinator_metadata_get_latency_milliseconds", "Reads of the metadata store.", () => [
    { labels: {}, value: stats.storeReads },
  ]);
  metrics.histogram("oxia_coordinator_metadata_store_latency_milliseconds", "Changes of the metadata store.", () => [
    { labels: {}, value: stats.storeWrites },
  ]);
  metrics.gauge("varia_coordinator_working", "1: the metadata store is open, and the cluster is looked after.", () =>
    one(coordinator() === undefined ? 0 : 1),
  );
}
