import { describe, expect, test } from "bun:test";
import { KEEPALIVE_MIN_INTERVAL_MS, PING_STRIKES_MAX, PINGS_PER_INTERVAL_MAX } from "../model/limits.ts";
import { PingPolicy } from "./keepalive.ts";

/** Whether the connection survives pings at these times, with nothing sent between. */
function survives(timesMs: Iterable<number>): boolean {
  const policy = new PingPolicy(KEEPALIVE_MIN_INTERVAL_MS);
  for (const ms of timesMs) if (!policy.ping(ms, false)) return false;
  return true;
}

function* every(intervalMs: number, count: number): Iterable<number> {
  for (let i = 0; i < count; i++) yield i * intervalMs;
}

describe("without calls", () => {
  test("pings every 5 s and every 10 s are tolerated for ever", () => {
    expect(survives(every(5_000, 10_000))).toBe(true);
    expect(survives(every(10_000, 10_000))).toBe(true);
  });

  test("pings at 5 s that the network pushes together are tolerated", () => {
    expect(survives([...every(5_000, 1000)].map((ms, i) => ms + (i % 2 === 0 ? 400 : 0)))).toBe(true);
  });

  test("faster pings end the connection after as many strikes as gRPC's servers allow", () => {
    for (const intervalMs of [0, 1, 1_000, 4_000]) {
      expect(survives(every(intervalMs, PING_STRIKES_MAX + 1))).toBe(true);
      expect(survives(every(intervalMs, PING_STRIKES_MAX + 2))).toBe(false);
    }
  });

  test("a ping in good time wipes out the strikes before it", () => {
    expect(survives([0, 1, 2, 6_000, 6_001, 6_002, 12_000])).toBe(true);
  });
});

describe("while replies go out", () => {
  test("a ping for each of them is tolerated: clients measure the bandwidth so", () => {
    const policy = new PingPolicy(KEEPALIVE_MIN_INTERVAL_MS);
    for (let ms = 0; ms < 30_000; ms++) {
      policy.sent();
      for (let i = 0; i < 5; i++) expect(policy.ping(ms, false)).toBe(true);
    }
  });

  test("several pings are tolerated while one reply is on its way", () => {
    const policy = new PingPolicy(KEEPALIVE_MIN_INTERVAL_MS);
    policy.sent();
    for (let ms = 0; ms < 4_000; ms++) expect(policy.ping(ms, false)).toBe(true);
    for (let ms = 4_000; ms < 20_000; ms++) expect(policy.ping(ms, true)).toBe(true);
  });

  test("a flood of pings ends the connection all the same", () => {
    const policy = new PingPolicy(KEEPALIVE_MIN_INTERVAL_MS);
    for (let i = 0; i < PINGS_PER_INTERVAL_MAX; i++) expect(policy.ping(1, true)).toBe(true);
    expect(policy.ping(1, true)).toBe(false);
  });

  test("once they have stopped for an interval, pings count again", () => {
    const policy = new PingPolicy(KEEPALIVE_MIN_INTERVAL_MS);
    policy.sent();
    expect(policy.ping(0, false)).toBe(true);
    const later = [6_000, 6_001, 6_002, 6_003, 6_004].map((ms) => policy.ping(ms, false));
    expect(later).toEqual([true, true, true, false, false]);
  });
});
