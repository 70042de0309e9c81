/**
 * Latencies of a load, and what is said about them: a line a second, and a summary as text or JSON.
 *
 * Latencies are kept in microseconds in a histogram of high dynamic range: three significant digits at any size.
 */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

export const OPERATIONS = ["put", "get", "rangeScan"] as const;
export type OperationName = (typeof OPERATIONS)[number];

export interface LatencySummary {
  readonly mean: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

export interface OperationSummary {
  /** Operations with an answer. */
  readonly operations: number;
  readonly errors: number;
  readonly operationsPerSecond: number;
  /** Milliseconds of the operations with an answer. */
  readonly latencyMs: LatencySummary;
  /** Records that range scans returned. */
  readonly records?: number;
  readonly recordsPerSecond?: number;
}

export interface Summary {
  readonly elapsedSeconds: number;
  readonly operations: number;
  readonly errors: number;
  readonly operationsPerSecond: number;
  /** Only what was done. */
  readonly byOperation: Partial<Record<OperationName, OperationSummary>>;
  /** How often each error was seen, the most frequent ones. */
  readonly errorMessages: Readonly<Record<string, number>>;
}

/** Distinct error messages that are counted apart. */
const ERROR_MESSAGES_MAX = 20;

export class Stats {
  readonly #startMs: number;
  readonly #histograms: Record<OperationName, RecordableHistogram> = {
    put: createHistogram(),
    get: createHistogram(),
    rangeScan: createHistogram(),
  };
  readonly #counts: Record<OperationName, number> = { put: 0, get: 0, rangeScan: 0 };
  readonly #errors: Record<OperationName, number> = { put: 0, get: 0, rangeScan: 0 };
  readonly #messages = new Map<string, number>();
  #records = 0;

  /** `startMs`: the monotonic time at which the load starts. */
  constructor(startMs: number) {
    this.#startMs = startMs;
  }

  succeeded(operation: OperationName, latencyMs: number): void {
    this.#counts[operation]++;
    this.#histograms[operation].record(Math.max(1, Math.round(latencyMs * 1000)));
  }

  scanned(records: number): void {
    this.#records += records;
  }

  failed(operation: OperationName, error: unknown): void {
    this.#errors[operation]++;
    const message = error instanceof Error ? error.message : String(error);
    const seen = this.#messages.get(message);
    if (seen !== undefined || this.#messages.size < ERROR_MESSAGES_MAX) this.#messages.set(message, (seen ?? 0) + 1);
  }

  /** Operations with an answer, of all kinds. */
  get operations(): number {
    return this.#counts.put + this.#counts.get + this.#counts.rangeScan;
  }

  get errors(): number {
    return this.#errors.put + this.#errors.get + this.#errors.rangeScan;
  }

  get records(): number {
    return this.#records;
  }

  /** 99th percentile of all of one kind so far, in milliseconds. */
  p99Ms(operation: OperationName): number {
    return this.#histograms[operation].percentile(99) / 1000;
  }

  count(operation: OperationName): number {
    return this.#counts[operation];
  }

  summary(nowMs: number): Summary {
    const seconds = (nowMs - this.#startMs) / 1000;
    const byOperation: Partial<Record<OperationName, OperationSummary>> = {};
    for (const operation of OPERATIONS) {
      if (this.#counts[operation] + this.#errors[operation] > 0) {
        byOperation[operation] = this.#operationSummary(operation, seconds);
      }
    }
    return {
      elapsedSeconds: round(seconds),
      operations: this.operations,
      errors: this.errors,
      operationsPerSecond: perSecond(this.operations, seconds),
      byOperation,
      errorMessages: Object.fromEntries([...this.#messages].sort((a, b) => b[1] - a[1])),
    };
  }

  #operationSummary(operation: OperationName, seconds: number): OperationSummary {
    const histogram = this.#histograms[operation];
    const ms = (us: number) => (histogram.count === 0 ? 0 : round(us / 1000));
    return {
      operations: this.#counts[operation],
      errors: this.#errors[operation],
      operationsPerSecond: perSecond(this.#counts[operation], seconds),
      latencyMs: {
        mean: ms(histogram.mean),
        p50: ms(histogram.percentile(50)),
        p95: ms(histogram.percentile(95)),
        p99: ms(histogram.percentile(99)),
        p999: ms(histogram.percentile(99.9)),
        max: ms(histogram.max),
      },
      ...(operation === "rangeScan"
        ? { records: this.#records, recordsPerSecond: perSecond(this.#records, seconds) }
        : {}),
    };
  }
}

/** What happened since the line before, for people who watch. */
export class Progress {
  readonly #stats: Stats;
  #lastMs: number;
  readonly #last: Record<OperationName, number> = { put: 0, get: 0, rangeScan: 0 };
  #lastErrors = 0;
  #lastRecords = 0;

  constructor(stats: Stats, nowMs: number) {
    this.#stats = stats;
    this.#lastMs = nowMs;
  }

  line(nowMs: number): string {
    const seconds = (nowMs - this.#lastMs) / 1000;
    this.#lastMs = nowMs;
    const parts: string[] = [];
    for (const operation of OPERATIONS) {
      const count = this.#stats.count(operation);
      if (count === 0) continue;
      const rate = perSecond(count - this.#last[operation], seconds);
      this.#last[operation] = count;
      parts.push(`${operation} ${Math.round(rate)}/s (p99 ${this.#stats.p99Ms(operation).toFixed(1)} ms)`);
    }
    const records = this.#stats.records - this.#lastRecords;
    this.#lastRecords = this.#stats.records;
    if (records > 0) parts.push(`records ${Math.round(perSecond(records, seconds))}/s`);
    const errors = this.#stats.errors - this.#lastErrors;
    this.#lastErrors = this.#stats.errors;
    parts.push(`errors ${errors}`);
    return parts.join("  ");
  }
}

export function summaryText(summary: Summary): string {
  let text = `${summary.operations} operations in ${summary.elapsedSeconds.toFixed(1)} s: `;
  text += `${summary.operationsPerSecond.toFixed(0)}/s, ${summary.errors} errors\n`;
  const heads = ["", "ops", "ops/s", "errors", "mean", "p50", "p95", "p99", "p99.9", "max"];
  const rows = Object.entries(summary.byOperation).map(([name, of]) => {
    const { mean, p50, p95, p99, p999, max } = of.latencyMs;
    const times = [mean, p50, p95, p99, p999, max].map((ms) => ms.toFixed(2));
    return [name, String(of.operations), of.operationsPerSecond.toFixed(0), String(of.errors), ...times];
  });
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i]!.length)));
  for (const row of [heads, ...rows]) {
    text += `${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ")}\n`;
  }
  text += "Latencies are in milliseconds.\n";
  const scans = summary.byOperation.rangeScan;
  if (scans !== undefined) text += `${scans.records} records scanned: ${scans.recordsPerSecond?.toFixed(0)}/s\n`;
  for (const [message, count] of Object.entries(summary.errorMessages)) text += `${count} x ${message}\n`;
  return text;
}

function perSecond(count: number, seconds: number): number {
  return seconds > 0 ? round(count / seconds) : 0;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
