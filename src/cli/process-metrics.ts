/** What `/metrics` of every server shows of its process and of the calls to it. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Labels, Metrics, Sample } from "../ops/metrics.ts";
import { CODE_NAMES } from "../rpc/code.ts";
import type { Listener } from "../rpc/listener.ts";
import type { MethodStats } from "../rpc/stats.ts";

const EVENT_LOOP_RESOLUTION_MS = 10;
/** What is told is of at least so long, and up to a scrape's interval longer. */
const EVENT_LOOP_WINDOW_MS = 60_000;
const NS_PER_S = 1e9;

/** A metric with one time series. */
export function one(value: number, labels: Labels = {}): Sample<number>[] {
  return [{ labels, value }];
}

/** Calls, by method and code. */
export function rpcMetrics(metrics: Metrics, listener: Listener): void {
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

/** CPU, memory, and how late the event loop was. */
export function processMetrics(metrics: Metrics): void {
  const delay = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS });
  delay.enable();
  const started = Date.now() / 1000;
  metrics.counter("process_cpu_seconds_total", "CPU time of all threads.", () => {
    const { user, system } = process.cpuUsage();
    return one((user + system) / 1e6);
  });
  metrics.gauge("process_resident_memory_bytes", "Resident memory.", () => one(process.memoryUsage.rss()));
  metrics.gauge("process_start_time_seconds", "Start, since the epoch.", () => one(started));
  let sinceMs = performance.now();
  metrics.gauge("varia_event_loop_delay_seconds", "How late the main event loop was, in the last minutes.", () => {
    const samples = [
      ...[0.5, 0.99, 0.999].map((quantile) => ({
        labels: { quantile },
        value: delay.percentile(quantile * 100) / NS_PER_S,
      })),
      { labels: { quantile: 1 }, value: delay.max / NS_PER_S },
    ];
    // of a whole life a bad minute would not be seen
    if (performance.now() - sinceMs >= EVENT_LOOP_WINDOW_MS) {
      delay.reset();
      sinceMs = performance.now();
    }
    return samples;
  });
}
