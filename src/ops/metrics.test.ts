import { expect, test } from "bun:test";
import { Histogram } from "../lib/histogram.ts";
import { Metrics } from "./metrics.ts";

test("values are read when they are scraped", async () => {
  const metrics = new Metrics();
  let puts = 1;
  metrics.counter("oxia_server_db_puts_count_total", "Puts applied.", () => [
    { labels: { oxia_namespace: "default", shard: 0 }, value: puts },
  ]);
  puts = 7;
  expect(await metrics.text()).toContain('oxia_server_db_puts_count_total{oxia_namespace="default",shard="0"} 7');
});

test("a histogram is cumulative and closes with +Inf, sum and count", async () => {
  const metrics = new Metrics();
  const latency = new Histogram([1, 10]);
  for (const value of [0.5, 1, 5, 50]) latency.record(value);
  metrics.histogram("write_latency_milliseconds", "Latency.", () => [{ labels: {}, value: latency }]);
  const text = await metrics.text();
  expect(text).toContain('write_latency_milliseconds_bucket{le="1"} 2');
  expect(text).toContain('write_latency_milliseconds_bucket{le="10"} 3');
  expect(text).toContain('write_latency_milliseconds_bucket{le="+Inf"} 4');
  expect(text).toContain("write_latency_milliseconds_sum 56.5");
  expect(text).toContain("write_latency_milliseconds_count 4");
  expect(text).toContain("# TYPE write_latency_milliseconds histogram");
});

test("a scrape of many series lets others go on in between, and leaves nothing out", async () => {
  const metrics = new Metrics();
  const samples = Array.from({ length: 2_000 }, (_, shard) => ({ labels: { shard }, value: shard }));
  for (let nth = 0; nth < 20; nth++) metrics.gauge(`varia_gauge_${nth}`, "A number.", () => samples);
  let isDone = false;
  let turns = 0;
  const text = metrics.text().finally(() => {
    isDone = true;
  });
  while (!isDone) {
    await new Promise((resolve) => setImmediate(resolve));
    turns++;
  }
  const lines = (await text).split("\n");
  expect(turns).toBeGreaterThan(3);
  expect(lines.filter((line) => /^varia_gauge_\d+\{shard="\d+"\} \d+$/.test(line))).toHaveLength(40_000);
  expect(lines.filter((line) => line.startsWith("# TYPE"))).toHaveLength(20);
});
