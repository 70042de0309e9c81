/** What `/metrics` of a server that stores data shows: Oxia's names where there are any, `varia_` for the rest. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Labels, Metrics, type Sample } from "../ops/metrics.ts";
import type { Log } from "../ports.ts";
import type { Leader } from "../replication/leader.ts";
import type { Shards } from "../replication/shards.ts";
import type { Assignments } from "../rpc/assignments-api.ts";
import { CODE_NAMES } from "../rpc/code.ts";
import type { Listener } from "../rpc/listener.ts";
import type { MethodStats } from "../rpc/stats.ts";
import type { KeyValueNode } from "../storage/key-value/node.ts";

export interface MetricsSources {
  readonly shards: Shards;
  readonly log: Log;
  readonly keyValues: KeyValueNode;
  readonly assignments: Assignments;
  readonly listener: Listener;
}

const EVENT_LOOP_RESOLUTION_MS = 10;
const NS_PER_S = 1e9;

/** Registers everything; values are read at each scrape. */
export function dataMetrics(sources: MetricsSources): Metrics {
  const metrics = new Metrics();
  shardMetrics(metrics, sources);
  logMetrics(metrics, sources.log);
  keyValueMetrics(metrics, sources.keyValues);
  rpcMetrics(metrics, sources.listener);
  processMetrics(metrics);
  return metrics;
}

function one(value: number, labels: Labels = {}): Sample<number>[] {
  return [{ labels, value }];
}

function shardMetrics(metrics: Metrics, { shards, assignments }: MetricsSources): void {
  const each =
    <T>(read: (shard: Leader) => T) =>
    (): Sample<T>[] =>
      shards
        .leaders()
        .map((shard) => ({ labels: { oxia_namespace: shard.namespace, shard: shard.id }, value: read(shard) }));
  const operations = [
    ["puts", "Puts", (shard: Leader) => shard.counters.puts],
    ["deletes", "Deletes", (shard: Leader) => shard.counters.deletes],
    ["delete_ranges", "Delete-ranges", (shard: Leader) => shard.counters.deleteRanges],
    ["gets", "Gets", (shard: Leader) => shard.counters.gets],
    ["lists", "Lists", (shard: Leader) => shard.counters.lists],
    ["range_scans", "Range scans", (shard: Leader) => shard.counters.rangeScans],
  ] as const;
  for (const [name, help, read] of operations) {
    metrics.counter(`oxia_server_db_${name}_count_total`, `${help} since this leadership began.`, each(read));
    // the name that Oxia's shipped dashboards still query
    metrics.counter(`oxia_server_db_${name}_total`, `${help} since this leadership began.`, each(read));
  }
  metrics.counter(
    "oxia_server_kv_write_bytes_total",
    "Bytes of write requests applied.",
    each((shard) => shard.counters.writeBytes),
  );
  metrics.histogram(
    "oxia_server_leader_write_latency_milliseconds",
    "From a write's proposal to its response.",
    each((shard) => shard.writeLatency),
  );
  metrics.gauge(
    "oxia_server_leader_head_offset",
    "Last offset durable here.",
    each((shard) => shard.head.offset),
  );
  metrics.gauge(
    "oxia_server_leader_commit_offset",
    "Last offset committed.",
    each((shard) => shard.committed),
  );
  metrics.gauge(
    "varia_shard_applied_offset",
    "Last offset applied.",
    each((shard) => shard.kv.applied.offset),
  );
  metrics.gauge(
    "varia_shard_records",
    "Records held.",
    each((shard) => shard.kv.rowCount),
  );
  metrics.gauge(
    "varia_shard_writes_in_flight",
    "Writes proposed and not answered.",
    each((shard) => shard.inFlight),
  );
  feedMetrics(metrics, each);
  metrics.gauge("oxia_server_leaders_count", "Shards led here.", () => one(shards.leaders().length));
  metrics.gauge("varia_shards_damaged", "Shards that refuse to serve.", () =>
    one(shards.all().length - shards.leaders().length),
  );
  metrics.gauge("oxia_server_shards_assignments_active_clients_count", "Clients that watch assignments.", () =>
    one(assignments.watchers),
  );
}

/** Sessions, notifications, sequences. */
function feedMetrics(metrics: Metrics, each: (read: (shard: Leader) => number) => () => Sample<number>[]): void {
  metrics.gauge(
    "oxia_server_session_active_count",
    "Sessions that live.",
    each((shard) => shard.sessionCount),
  );
  const sessions = [
    ["created", (shard: Leader) => shard.counters.sessionsCreated],
    ["closed", (shard: Leader) => shard.counters.sessionsClosed],
    ["expired", (shard: Leader) => shard.counters.sessionsExpired],
  ] as const;
  for (const [name, read] of sessions) {
    metrics.counter(
      `oxia_server_sessions_${name}_count_total`,
      `Sessions ${name} since this leadership began.`,
      each(read),
    );
  }
  metrics.counter(
    "oxia_server_notifications_read_batches_count_total",
    "Batches of notifications read by subscribers.",
    each((shard) => shard.notifications.batchesRead),
  );
  metrics.counter(
    "oxia_server_notifications_read_bytes_total",
    "Bytes of notifications read by subscribers.",
    each((shard) => shard.notifications.bytesRead),
  );
  metrics.gauge(
    "varia_notification_subscribers",
    "Subscriptions to notifications.",
    each((shard) => shard.notifications.subscribers),
  );
  metrics.counter(
    "varia_notifications_skipped_total",
    "Subscriptions that asked for notifications which were removed already.",
    each((shard) => shard.notifications.skipped),
  );
}

function logMetrics(metrics: Metrics, log: Log): void {
  metrics.counter("oxia_server_wal_append_bytes_total", "Bytes of entries appended.", () =>
    one(log.stats().bytesAppended),
  );
  metrics.counter("varia_log_entries_appended_total", "Entries appended.", () => one(log.stats().entriesAppended));
  metrics.counter("varia_log_commits_total", "Group commits, each with one fsync.", () => one(log.stats().commits));
  metrics.gauge("varia_log_upkeep_seconds_max", "The longest that commits have waited for upkeep in one go.", () =>
    one(log.stats().upkeepMsMax / 1000),
  );
  metrics.gauge("varia_log_segments", "Segment files.", () => one(log.stats().segments));
  metrics.gauge("varia_log_bytes", "Bytes of all segment files.", () => one(log.stats().bytes));
}

function keyValueMetrics(metrics: Metrics, node: KeyValueNode): void {
  metrics.gauge("varia_kv_table_bytes", "Memory of tables not yet flushed.", () =>
    one(node.memory.active + node.memory.frozen),
  );
  metrics.gauge("varia_kv_cache_bytes", "Memory of the record cache.", () => one(node.memory.cache));
  metrics.gauge("varia_kv_cache_max_bytes", "Budget of the record cache.", () => one(node.cacheBytesMax));
  metrics.counter("varia_kv_cache_hits_total", "Look-ups answered from memory.", () => one(node.stats.tableHits));
  metrics.counter("varia_kv_cache_misses_total", "Look-ups that went to a file.", () => one(node.stats.fileReads));
  metrics.counter("varia_kv_flushes_total", "Tables flushed.", () => one(node.stats.flushes));
  metrics.counter("varia_kv_flushed_bytes_total", "Bytes of rows flushed.", () => one(node.stats.flushedBytes));
  metrics.gauge("varia_kv_unverified_bytes", "Bytes of files that serve while they are still scanned for damage.", () =>
    one(node.unverifiedBytes),
  );
  metrics.gauge("varia_kv_file_bytes", "Bytes of all key-value files.", () => one(node.stats.fileBytes));
}

function rpcMetrics(metrics: Metrics, listener: Listener): void {
  const labels = ({ service, method, type }: MethodStats): Labels => ({
    grpc_service: service,
    grpc_method: method,
    grpc_type: type,
  });
  const each = (read: (stats: MethodStats) => number) => (): Sample<number>[] =>
    listener.stats().methods.map((stats) => ({ labels: labels(stats), value: read(stats) }));
  metrics.counter(
    "grpc_server_started_total",
    "Calls started.",
    each((stats) => stats.started),
  );
  metrics.counter(
    "grpc_server_msg_received_total",
    "Messages received.",
    each((stats) => stats.messagesReceived),
  );
  metrics.counter(
    "grpc_server_msg_sent_total",
    "Messages sent.",
    each((stats) => stats.messagesSent),
  );
  metrics.counter("grpc_server_handled_total", "Calls ended, by code.", () =>
    listener
      .stats()
      .methods.flatMap((stats) =>
        stats.handled.flatMap((value, code) =>
          value === 0 ? [] : [{ labels: { ...labels(stats), grpc_code: CODE_NAMES[code]! }, value }],
        ),
      ),
  );
  metrics.gauge("varia_connections", "Open client connections.", () => one(listener.connections()));
  metrics.gauge("varia_request_bytes_in_flight", "Bytes of requests accepted and not answered.", () =>
    one(listener.stats().requestBytesInFlight),
  );
}

function processMetrics(metrics: Metrics): void {
  const delay = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS });
  delay.enable();
  const started = Date.now() / 1000;
  metrics.counter("process_cpu_seconds_total", "CPU time of all threads.", () => {
    const { user, system } = process.cpuUsage();
    return one((user + system) / 1e6);
  });
  metrics.gauge("process_resident_memory_bytes", "Resident memory.", () => one(process.memoryUsage.rss()));
  metrics.gauge("process_start_time_seconds", "Start, since the epoch.", () => one(started));
  metrics.gauge("varia_event_loop_delay_seconds", "How late the main event loop was, since the start.", () => [
    ...[0.5, 0.99, 0.999].map((quantile) => ({
      labels: { quantile },
      value: delay.percentile(quantile * 100) / NS_PER_S,
    })),
    { labels: { quantile: 1 }, value: delay.max / NS_PER_S },
  ]);
}
