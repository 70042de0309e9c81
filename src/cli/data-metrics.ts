/** What `/metrics` of a server that stores data shows: Oxia's names where there are any, `varia_` for the rest. */
import { type Labels, Metrics, type Sample } from "../ops/metrics.ts";
import type { Log } from "../ports.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import type { FollowerProgress } from "../replication/follower-cursors.ts";
import type { Leader } from "../replication/leader.ts";
import type { Replica } from "../replication/replica.ts";
import type { Shards } from "../replication/shards.ts";
import type { Assignments } from "../rpc/assignments-api.ts";
import type { Listener } from "../rpc/listener.ts";
import type { Timings } from "../rpc/timings.ts";
import type { KeyValueNode } from "../storage/key-value/node.ts";
import type { SqliteLog } from "../storage/log.ts";
import { one, processMetrics, rpcMetrics } from "./process-metrics.ts";

export interface MetricsSources {
  readonly shards: Shards;
  readonly log: Log & Pick<SqliteLog, "syncLatency">;
  readonly keyValues: KeyValueNode;
  readonly assignments: Assignments;
  readonly listener: Listener;
  readonly timings: Timings;
}

/** Registers everything; values are read at each scrape. */
export function dataMetrics(sources: MetricsSources): Metrics {
  const metrics = new Metrics();
  shardMetrics(metrics, sources);
  logMetrics(metrics, sources.log);
  keyValueMetrics(metrics, sources.keyValues);
  timingMetrics(metrics, sources.timings);
  rpcMetrics(metrics, sources.listener);
  processMetrics(metrics);
  return metrics;
}

/** Of a leadership, the same object at each scrape. */
const leaderLabels = new WeakMap<Leader, Labels>();

function labelsOf(shard: Leader): Labels {
  let labels = leaderLabels.get(shard);
  if (labels === undefined) {
    labels = { oxia_namespace: shard.namespace, shard: shard.id };
    leaderLabels.set(shard, labels);
  }
  return labels;
}

function shardMetrics(metrics: Metrics, { shards, assignments }: MetricsSources): void {
  const each =
    <T>(read: (shard: Leader) => T) =>
    (): Sample<T>[] =>
      shards.leaders().map((shard) => ({ labels: labelsOf(shard), value: read(shard) }));
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
  metrics.counter(
    "oxia_server_kv_write_ops_count_total",
    "Operations of write requests applied.",
    each(({ counters: { puts, deletes, deleteRanges } }) => puts + deletes + deleteRanges),
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
  replicaMetrics(metrics, shards);
  metrics.gauge("oxia_server_shards_assignments_active_clients_count", "Clients that watch assignments.", () =>
    one(assignments.watchers),
  );
}

/** What all replicas here are, and how far those are that follow a leader here. */
function replicaMetrics(metrics: Metrics, shards: Shards): void {
  const replicaLabels = ({ shard, told }: Replica): Labels => ({ oxia_namespace: told?.namespace ?? "", shard });
  metrics.gauge("oxia_server_leaders_count", "Shards led here.", () => one(shards.leaders().length));
  metrics.gauge("oxia_server_followers_count", "Shards whose replica here follows a leader elsewhere.", () =>
    one(shards.all().filter(({ state }) => state.status === "following").length),
  );
  metrics.gauge("varia_shards_damaged", "Shards whose replica here is damaged, or has stopped after a fault.", () =>
    one(shards.all().filter(({ damage, stopped }) => damage !== undefined || stopped !== undefined).length),
  );
  metrics.gauge("varia_replica_status", "1 for what each replica here is.", () =>
    shards.all().map((replica) => {
      const { damage, state } = replica;
      // what lives here may say, too, why the one before it has ended
      const isEnded = state.id === NO_REPLICA && state.ended !== "";
      const status = damage !== undefined ? "damaged" : isEnded ? "ended" : state.status;
      return { labels: { ...replicaLabels(replica), status }, value: 1 };
    }),
  );
  metrics.gauge("varia_replica_promised_term", "The highest term that each replica here has promised.", () =>
    shards.all().map((replica) => ({ labels: replicaLabels(replica), value: replica.state.promise })),
  );
  const followers =
    (observer: boolean, read: (leader: Leader, follower: FollowerProgress) => number) => (): Sample<number>[] =>
      shards.leaders().flatMap((leader) =>
        leader
          .followers()
          .filter((follower) => follower.observer === observer)
          .map((follower) => ({
            labels: { oxia_namespace: leader.namespace, shard: leader.id, follower: follower.server },
            value: read(leader, follower),
          })),
      );
  metrics.gauge(
    "oxia_server_follower_ack_offset_count",
    "Last offset that a follower has acknowledged.",
    followers(false, (_, { acked }) => acked),
  );
  metrics.gauge(
    "oxia_server_observer_ack_offset_count",
    "Last offset that an observer, which is being filled, has acknowledged.",
    followers(true, (_, { acked }) => acked),
  );
  metrics.gauge(
    "varia_follower_lag_entries",
    "Entries that the leader holds and a follower has not acknowledged.",
    followers(false, ({ head }, { acked }) => Math.max(0, head.offset - acked)),
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

/** What is timed for the whole process, and states that were sent. */
function timingMetrics(metrics: Metrics, timings: Timings): void {
  const histograms = [
    ["db_get", "From a request of gets to its last answer.", timings.get],
    ["db_list", "From a request of keys or records of a range to its last answer.", timings.list],
    [
      "follower_write",
      "From an entry's coming from its leader to its acknowledgement, one at a time.",
      timings.followerWrite,
    ],
  ] as const;
  for (const [name, help, histogram] of histograms)
    metrics.histogram(`oxia_server_${name}_latency_milliseconds`, help, () => [{ labels: {}, value: histogram }]);
  metrics.histogram("oxia_server_snapshots_transfer_time_milliseconds", "Of states sent to followers, whole.", () => [
    { labels: {}, value: timings.snapshot },
  ]);
  const counters = [
    ["started_count", "States that were begun to be sent.", () => timings.snapshotsStarted],
    ["completed_count", "States sent whole, and taken.", () => timings.snapshot.count],
    ["failed_count", "States that were not sent whole, or not taken.", () => timings.snapshotsFailed],
    ["sent_bytes", "Bytes of states sent.", () => timings.snapshotBytes],
  ] as const;
  for (const [name, help, read] of counters)
    metrics.counter(`oxia_server_snapshots_${name}_total`, help, () => one(read()));
}

function logMetrics(metrics: Metrics, log: MetricsSources["log"]): void {
  metrics.histogram("oxia_server_wal_sync_latency_milliseconds", "Of group commits, each with one fsync.", () => [
    { labels: {}, value: log.syncLatency },
  ]);
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
