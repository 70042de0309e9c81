import { expect, test } from "bun:test";
import { ManualClock } from "../../../test/harness/manual-clock.ts";
import { SNAPSHOT_PIN_MS_MAX, STATE_BYTES_PER_S_MIN } from "../../model/limits.ts";
import { SendPace } from "./send-pace.ts";

function started() {
  const clock = new ManualClock();
  const cuts: number[] = [];
  const began = clock.monotonicMs();
  const pace = new SendPace(clock, () => cuts.push(clock.monotonicMs() - began));
  return { clock, cuts, pace };
}

test("who asks for nothing is cut after the longest time that a state is pinned", () => {
  const { clock, cuts, pace } = started();
  clock.advance(SNAPSHOT_PIN_MS_MAX - 1);
  pace.took(1_000 * STATE_BYTES_PER_S_MIN);
  clock.advance(SNAPSHOT_PIN_MS_MAX - 1);
  expect(cuts).toEqual([]);
  clock.advance(1);
  expect(cuts).toEqual([2 * SNAPSHOT_PIN_MS_MAX - 1]);
});

test("who asks often for little is cut when the whole takes too long, who is fast enough never is", () => {
  const slow = started();
  const fast = started();
  for (let second = 0; second < 1_000; second++) {
    slow.clock.advance(1_000);
    slow.pace.took(STATE_BYTES_PER_S_MIN / 4);
    fast.clock.advance(1_000);
    fast.pace.took(STATE_BYTES_PER_S_MIN);
  }
  expect(slow.cuts[0]).toBeGreaterThan(SNAPSHOT_PIN_MS_MAX);
  expect(slow.cuts[0]).toBeLessThan(2 * SNAPSHOT_PIN_MS_MAX);
  expect(fast.cuts).toEqual([]);
});

test("nothing is cut after the end", () => {
  const { clock, cuts, pace } = started();
  pace.stop();
  clock.advance(10 * SNAPSHOT_PIN_MS_MAX);
  expect(cuts).toEqual([]);
});
