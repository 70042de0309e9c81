/** The load generator's parts: deterministic choice, bounds and figures. */
import { expect, test } from "bun:test";
import { scanAnswer } from "../../test/harness/fake-transport.ts";
import { Chance, Load, type LoadPlan, preload, type Target } from "./perf-load.ts";
import { countRecords } from "./perf-raw.ts";
import { Stats, summaryText } from "./perf-report.ts";

const PLAN: LoadPlan = {
  rate: 0,
  concurrency: 4,
  keys: 100,
  readPercent: 50,
  scans: false,
  valueBytes: 10,
  randomPayload: false,
  seed: 1,
};

/** Notes what it is asked; each operation ends when the test says so. */
class NotedTarget implements Target {
  readonly asked: string[] = [];
  readonly #open: (() => void)[] = [];
  outstandingMax = 0;

  put(key: string): Promise<void> {
    return this.#note(`put ${key}`);
  }

  get(key: string): Promise<void> {
    return this.#note(`get ${key}`);
  }

  async scan(): Promise<number> {
    await this.#note("scan");
    return 5;
  }

  /** Ends the oldest operation. */
  async end(): Promise<void> {
    this.#open.shift()?.();
    for (let i = 0; i < 5; i++) await Promise.resolve();
  }

  #note(what: string): Promise<void> {
    this.asked.push(what);
    return new Promise((resolve) => {
      this.#open.push(resolve);
      this.outstandingMax = Math.max(this.outstandingMax, this.#open.length);
    });
  }
}

async function asked(plan: LoadPlan, count: number): Promise<string[]> {
  const target = new NotedTarget();
  const load = new Load(target, plan, new Stats(0));
  load.start();
  while (target.asked.length < count) await target.end();
  expect(target.outstandingMax).toBeLessThanOrEqual(plan.concurrency);
  return target.asked.slice(0, count);
}

test("one seed asks for the same operations in the same order, another for others", async () => {
  const first = await asked(PLAN, 500);
  expect(await asked({ ...PLAN, concurrency: 7 }, 500)).toEqual(first);
  expect(await asked({ ...PLAN, seed: 2 }, 500)).not.toEqual(first);
  const gets = first.filter((operation) => operation.startsWith("get")).length;
  expect(gets).toBeGreaterThan(200);
  expect(gets).toBeLessThan(300);
  expect(new Set(first.map((operation) => operation.slice(4))).size).toBeGreaterThan(90);
});

test("the share of gets may be none or all", async () => {
  const none = await asked({ ...PLAN, readPercent: 0 }, 100);
  const all = await asked({ ...PLAN, readPercent: 100 }, 100);
  expect(none.every((operation) => operation.startsWith("put"))).toBe(true);
  expect(all.every((operation) => operation.startsWith("get"))).toBe(true);
});

test("chance stays below its bound and fills bytes", () => {
  const chance = new Chance(7);
  for (let i = 0; i < 1000; i++) expect(chance.below(3)).toBeLessThan(3);
  expect(chance.bytes(13)).toHaveLength(13);
  expect(new Set(chance.bytes(1000)).size).toBeGreaterThan(200);
});

test("stopping waits for what is outstanding, and issues nothing more", async () => {
  const target = new NotedTarget();
  const stats = new Stats(0);
  const load = new Load(target, { ...PLAN, scans: true }, stats);
  load.start();
  let stopped = false;
  const stopping = load.stop().then(() => {
    stopped = true;
  });
  for (let i = 0; i < 3; i++) await target.end();
  expect(stopped).toBe(false);
  await target.end();
  await stopping;
  expect([target.asked.length, stats.operations, stats.records]).toEqual([4, 4, 20]);
});

test("every key is loaded once, in order", async () => {
  const keys: string[] = [];
  const target: Target = { put: async (key) => keys.push(key), get: async () => {}, scan: async () => 0 };
  let done = 0;
  await preload(target, { ...PLAN, keys: 7 }, (now) => {
    done = now;
  });
  expect(keys).toEqual(Array.from({ length: 7 }, (_, i) => `key-${i}`));
  expect(done).toBe(7);
});

test("a preload that fails says so", async () => {
  const target: Target = {
    put: () => Promise.reject(new Error("no room")),
    get: async () => {},
    scan: async () => 0,
  };
  expect(await preload(target, PLAN, () => {}).catch((error) => error.message)).toBe("no room");
});

test("figures are per operation, in milliseconds, to three digits", () => {
  const stats = new Stats(1000);
  for (let i = 1; i <= 1000; i++) stats.succeeded("put", i / 10);
  stats.failed("put", new Error("late"));
  stats.failed("get", new Error("late"));
  const summary = stats.summary(3000);
  expect([summary.elapsedSeconds, summary.operations, summary.errors, summary.operationsPerSecond]).toEqual([
    2, 1000, 2, 500,
  ]);
  const { latencyMs } = summary.byOperation.put!;
  for (const [figure, expected] of [
    [latencyMs.p50, 50],
    [latencyMs.p95, 95],
    [latencyMs.p99, 99],
    [latencyMs.p999, 99.9],
    [latencyMs.max, 100],
    [latencyMs.mean, 50.05],
  ] as const) {
    expect(Math.abs(figure - expected) / expected).toBeLessThan(0.002);
  }
  expect(summary.byOperation.get).toMatchObject({ operations: 0, errors: 1, latencyMs: { p50: 0, max: 0 } });
  expect(summary.byOperation.rangeScan).toBeUndefined();
  expect(summary.errorMessages).toEqual({ late: 2 });
  expect(summaryText(summary)).toContain("2 x late");
});

test("records of a scan are counted without being read", () => {
  expect(countRecords(scanAnswer(["a", "b", "c"]))).toBe(3);
  expect(countRecords(new Uint8Array(0))).toBe(0);
  expect(() => countRecords(Uint8Array.of(0x0a, 5, 1))).toThrow("malformed");
});
