/**
 * Metrics in Prometheus' text form. Values live where they arise, as plain numbers and Histograms; a metric here is a
 * function that reads them when it is scraped, so that nothing is paid on hot paths.
 *
 * Names are those that Oxia exposes (semantics.md §12), so that its dashboards keep working; ours begin with `varia_`.
 */
import { Registry } from "prom-client";
import type { Histogram } from "../lib/histogram.ts";

export type Labels = Readonly<Record<string, string | number>>;

/** One time series at the moment of a scrape. */
export interface Sample<T> {
  /** Written out once for each object: whoever has many time series keeps them. */
  readonly labels: Labels;
  readonly value: T;
}

interface MetricValue {
  readonly metricName: string;
  readonly labels: Labels;
  /** Those that prom-client keeps as text. */
  readonly sharedLabels: Labels;
  readonly value: number;
}

const NO_LABELS: Labels = {};

/** A scrape lets others go on after this long. */
const SLICE_MS = 2;

export class Metrics {
  readonly #registry = new Registry();
  readonly #names: string[] = [];
  readonly contentType = this.#registry.contentType;

  /** A value that only grows. `name` ends in `_total`. */
  counter(name: string, help: string, read: () => readonly Sample<number>[]): void {
    this.#register(name, help, "counter", () => plain(name, read()));
  }

  gauge(name: string, help: string, read: () => readonly Sample<number>[]): void {
    this.#register(name, help, "gauge", () => plain(name, read()));
  }

  histogram(name: string, help: string, read: () => readonly Sample<Histogram>[]): void {
    this.#register(name, help, "histogram", () =>
      read().flatMap(({ labels, value }) => histogramValues(name, labels, value)),
    );
  }

  /** The whole exposition, metric by metric: requests go on in between, however many shards there are. */
  async text(): Promise<string> {
    const parts: string[] = [];
    let sinceMs = performance.now();
    for (const name of this.#names) {
      parts.push(await this.#registry.getSingleMetricAsString(name));
      if (performance.now() - sinceMs < SLICE_MS) continue;
      await new Promise((resolve) => setImmediate(resolve));
      sinceMs = performance.now();
    }
    return `${parts.join("\n\n")}\n`;
  }

  #register(name: string, help: string, type: "counter" | "gauge" | "histogram", values: () => MetricValue[]): void {
    const metric = {
      name,
      get: () => Promise.resolve({ name, help, type, values: values(), aggregator: "sum" }),
      reset: () => {},
      collect: () => {},
    };
    this.#names.push(name);
    // prom-client's own metrics keep their values themselves; the registry asks no more of one than `get`.
    this.#registry.registerMetric(metric as never);
  }
}

function plain(metricName: string, samples: readonly Sample<number>[]): MetricValue[] {
  return samples.map(({ labels, value }) => ({ metricName, labels: NO_LABELS, sharedLabels: labels, value }));
}

function histogramValues(name: string, labels: Labels, histogram: Histogram): MetricValue[] {
  let cumulative = 0;
  const of = (part: string, own: Labels, value: number) => ({
    metricName: `${name}_${part}`,
    labels: own,
    sharedLabels: labels,
    value,
  });
  const buckets = histogram.bounds.map((le, index) => {
    cumulative += histogram.counts[index]!;
    return of("bucket", { le }, cumulative);
  });
  return [
    ...buckets,
    of("bucket", { le: "+Inf" }, histogram.count),
    of("sum", NO_LABELS, histogram.sum),
    of("count", NO_LABELS, histogram.count),
  ];
}
