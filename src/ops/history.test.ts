/** The last hour of a process: what is kept, and what becomes of numbers that grow. */
import { expect, test } from "bun:test";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { HISTORY_INTERVAL_MS, HISTORY_SAMPLES_MAX, History, type SeriesSource } from "./history.ts";

function source(kind: SeriesSource["kind"], values: readonly (readonly [number, number?])[]): SeriesSource {
  let next = 0;
  return { name: kind, chart: "c", unit: "", kind, read: () => values[Math.min(next++, values.length - 1)]! };
}

const points = (history: History) => history.series().map(({ points: all }) => all);

test("a gauge is what it is, a rate what was added a second, a ratio what was added for each", () => {
  const history = new History(
    [
      source("gauge", [[1], [5], [3]]),
      source("rate", [[100], [150], [150]]),
      source("ratio", [
        [10, 1],
        [40, 4],
        [40, 4],
      ]),
    ],
    0,
  );
  history.sample(10_000);
  history.sample(20_000);
  expect(points(history)).toEqual([
    [5, 3],
    [5, 0],
    [10, 0],
  ]);
  expect(history.lastMs).toBe(20_000);
});

test("a count that has begun anew is no negative rate", () => {
  const history = new History(
    [
      source("rate", [[100], [7]]),
      source("ratio", [
        [100, 10],
        [3, 1],
      ]),
    ],
    0,
  );
  history.sample(10_000);
  expect(points(history)).toEqual([[0], [0]]);
});

test("an hour is kept, and no more", () => {
  let value = 0;
  const history = new History([{ name: "n", chart: "c", unit: "", kind: "gauge", read: () => [value++] }], 0);
  for (let nth = 1; nth <= HISTORY_SAMPLES_MAX + 5; nth++) history.sample(nth * HISTORY_INTERVAL_MS);
  const [all] = points(history);
  expect([all!.length, all![0], all!.at(-1)]).toEqual([HISTORY_SAMPLES_MAX, 6, HISTORY_SAMPLES_MAX + 5]);
});

test("it looks by itself, until it is stopped", () => {
  const clock = new ManualClock();
  const history = new History([source("gauge", [[1]])], clock.now());
  history.start(clock);
  clock.advance(3 * HISTORY_INTERVAL_MS);
  history.stop();
  clock.advance(3 * HISTORY_INTERVAL_MS);
  expect(points(history)[0]!.length).toBe(3);
});
