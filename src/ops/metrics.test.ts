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
