/** What the charts of a process show: of every process, of one that stores data, of a coordinator. */
import type { CoordinatorStats } from "../coordination/stats.ts";
import type { Histogram } from "../lib/histogram.ts";
import { CLUSTER_CHARTS, OWN_CHARTS, type SeriesSource } from "../ops/history.ts";
import { CountsSince, quantileOf, summed } from "../ops/quantile.ts";
import type { Leader } from "../replication/leader.ts";
import type { LoadWatch } from "../rpc/load-watch.ts";
import type { MetricsSources } from "./data-metrics.ts";

/** CPU and memory. */
function processSeries(): SeriesSource[] {
  return [
    {
      ...{ name: "CPU", chart: "CPU", unit: "cores", kind: "rate" },
      read: () => {
        const { user, system } = process.cpuUsage();
        return [(user + system) / 1e6];
      },
    },
    { name: "resident", chart: "Memory", unit: "bytes", kind: "gauge", read: () => [process.memoryUsage.rss()] },
  ];
}

type DataSources = Pick<MetricsSources, "shards" | "log" | "keyValues" | "timings">;

/** Of the shards that are led here, the log and the state. */
export function dataSeries({ shards, log, keyValues, timings }: DataSources): SeriesSource[] {
  const sum = (read: (leader: Leader) => number) => shards.leaders().reduce((total, leader) => total + read(leader), 0);
  const operations = (name: string, read: (leader: Leader) => number): SeriesSource => {
    return { name, chart: OWN_CHARTS.operations, unit: "1/s", kind: "rate", read: () => [sum(read)] };
  };
  const { stats } = keyValues;
  return [
    operations("writes", ({ counters: { puts, deletes, deleteRanges } }) => puts + deletes + deleteRanges),
    operations("reads", ({ counters: { gets, lists, rangeScans } }) => gets + lists + rangeScans),
    ...[0.5, 0.99, 0.999].map((quantile) => writeLatency(shards, quantile)),
    latencyOf("get, p99", { chart: OWN_CHARTS.latency, histogram: timings.get }),
    latencyOf("list, p99", { chart: OWN_CHARTS.latency, histogram: timings.list }),
    {
      ...{ name: "writes", chart: "Writes in flight", unit: "", kind: "gauge" },
      read: () => [sum(({ inFlight }) => inFlight)],
    },
    {
      ...{ name: "appended", chart: "Log", unit: "bytes/s", kind: "rate" },
      read: () => [log.stats().bytesAppended],
    },
    latencyOf("sync, p99", { chart: "Log, latency", histogram: log.syncLatency }),
    { name: "commits", chart: "Syncs of the log", unit: "1/s", kind: "rate", read: () => [log.stats().commits] },
    {
      ...{ name: "entries a commit", chart: "Entries a commit", unit: "", kind: "ratio" },
      read: () => [log.stats().entriesAppended, log.stats().commits],
    },
    {
      ...{ name: "from memory", chart: "Look-ups from memory", unit: "%", kind: "ratio" },
      read: () => [100 * stats.tableHits, stats.tableHits + stats.fileReads],
    },
    ...processSeries(),
  ];
}

/** Of the writes since the last look; those of a leadership that has ended since are not in it. */
function writeLatency(shards: MetricsSources["shards"], quantile: number): SeriesSource {
  const since = new CountsSince();
  const read = () => {
    const { bounds, counts } = summed(shards.leaders().map((leader) => leader.writeLatency));
    return [quantileOf(quantile, bounds, since.of(counts))] as const;
  };
  return {
    name: `write, p${String(quantile * 100).replace(".", "")}`,
    chart: OWN_CHARTS.latency,
    unit: "ms",
    kind: "gauge",
    read,
  };
}

/** The slowest hundredth of what was timed since the last look. */
function latencyOf(
  name: string,
  { chart, histogram }: { readonly chart: string; readonly histogram: Histogram },
): SeriesSource {
  const { bounds, counts } = histogram;
  const since = new CountsSince();
  return { name, chart, unit: "ms", kind: "gauge", read: () => [quantileOf(0.99, bounds, since.of(counts))] };
}

/** Of elections and the metadata store. */
export function coordinatorSeries(
  { elections, storeWrites, storeReads, healthChecksFailed }: CoordinatorStats,
  loads: Pick<LoadWatch, "totals">,
): SeriesSource[] {
  const all = (counts: ReadonlyMap<unknown, number>) => [...counts.values()].reduce((total, count) => total + count, 0);
  const cluster = { chart: CLUSTER_CHARTS.operations, unit: "1/s", kind: "gauge" } as const;
  return [
    { ...cluster, name: "writes", read: () => [loads.totals().writesPerS] },
    { ...cluster, name: "reads", read: () => [loads.totals().readsPerS] },
    {
      ...{ name: "write, p99", chart: CLUSTER_CHARTS.latency, unit: "ms", kind: "gauge" },
      read: () => [loads.totals().writeP99Ms],
    },
    { name: "begun", chart: "Elections", unit: "1/s", kind: "rate", read: () => [all(elections)] },
    { name: "failed", chart: "Health checks", unit: "1/s", kind: "rate", read: () => [all(healthChecksFailed)] },
    { name: "writes", chart: "Metadata store", unit: "1/s", kind: "rate", read: () => [storeWrites.count] },
    { name: "reads", chart: "Metadata store", unit: "1/s", kind: "rate", read: () => [storeReads.count] },
    {
      ...{ name: "write, mean", chart: "Metadata store, latency", unit: "ms", kind: "ratio" },
      read: () => [storeWrites.sum, storeWrites.count],
    },
    ...processSeries(),
  ];
}
