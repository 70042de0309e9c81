/**
 * What a process did in the last hour, for its charts: some numbers, looked at every ten seconds and kept in a ring. No
 * Prometheus is needed for it, and nothing is paid where the numbers arise.
 */

export const HISTORY_INTERVAL_MS = 10_000;
export const HISTORY_SAMPLES_MAX = 360;

/** Charts that an overview shows: of a coordinator's cluster, else of the process itself. */
export const CLUSTER_CHARTS = { operations: "Operations of the cluster", latency: "Latency in the cluster" } as const;
export const OWN_CHARTS = { operations: "Operations", latency: "Latency" } as const;

/** One line of a chart. */
export interface SeriesSource {
  readonly name: string;
  /** Lines of one chart share it. */
  readonly chart: string;
  /** `1/s`, `ms`, `bytes`, `bytes/s`, `cores`, `%`; empty: a plain number. */
  readonly unit: string;
  /**
   * `gauge`: the number as it is. `rate`: how much it grew, a second. `ratio`: how much the first grew for each by which
   * the second did. What shrinks has begun anew, and counts as not grown.
   */
  readonly kind: "gauge" | "rate" | "ratio";
  readonly read: () => readonly [number, number?];
}

export interface Series {
  readonly name: string;
  readonly chart: string;
  readonly unit: string;
  /** The oldest first, one an interval. */
  readonly points: readonly number[];
}

export class History {
  readonly #sources: readonly SeriesSource[];
  readonly #points: number[][];
  #before: readonly (readonly [number, number?])[];
  #lastMs: number;
  #cancel: () => void = () => {};

  constructor(sources: readonly SeriesSource[], nowMs: number) {
    this.#sources = sources;
    this.#points = sources.map(() => []);
    this.#before = sources.map(({ read }) => read());
    this.#lastMs = nowMs;
  }

  /** Looks from now on, until `stop`. */
  start(clock: { after(ms: number, callback: () => void): () => void; now(): number }): void {
    this.#cancel = clock.after(HISTORY_INTERVAL_MS, () => {
      this.sample(clock.now());
      this.start(clock);
    });
  }

  stop(): void {
    this.#cancel();
  }

  /** Takes one sample of each series. */
  sample(nowMs: number): void {
    const seconds = Math.max(0.001, (nowMs - this.#lastMs) / 1000);
    const now = this.#sources.map(({ read }) => read());
    for (const [nth, { kind }] of this.#sources.entries()) {
      const points = this.#points[nth]!;
      points.push(pointOf(kind, { now: now[nth]!, before: this.#before[nth]!, seconds }));
      if (points.length > HISTORY_SAMPLES_MAX) points.shift();
    }
    this.#before = now;
    this.#lastMs = nowMs;
  }

  /** When the last sample was taken, in milliseconds since the epoch; before the first: when it began. */
  get lastMs(): number {
    return this.#lastMs;
  }

  series(): Series[] {
    return this.#sources.map(({ name, chart, unit }, nth) => ({ name, chart, unit, points: [...this.#points[nth]!] }));
  }
}

interface Span {
  readonly now: readonly [number, number?];
  readonly before: readonly [number, number?];
  readonly seconds: number;
}

function pointOf(kind: SeriesSource["kind"], { now, before, seconds }: Span): number {
  if (kind === "gauge") return now[0];
  const grown = Math.max(0, now[0] - before[0]);
  if (kind === "rate") return grown / seconds;
  const by = (now[1] ?? 0) - (before[1] ?? 0);
  return by <= 0 ? 0 : grown / by;
}
