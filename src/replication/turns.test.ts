import { expect, test } from "bun:test";
import { APPLY_TURN_MS_MAX } from "../model/limits.ts";
import { systemClock } from "../ops/clock.ts";
import { Turns } from "./turns.ts";

/** A shard that applies `entries` entries of `ms` each, and notes in which turn of the event loop. */
async function apply(
  turns: Turns,
  turnsTaken: number[],
  now: () => number,
  entries: number,
  ms: number,
): Promise<void> {
  for (let n = 0; n < entries; n++) {
    const place = turns.place();
    if (place !== undefined) await place;
    turnsTaken.push(now());
    turns.spent(ms);
  }
}

/** Counts turns of the event loop until `done`. */
async function counted(run: (now: () => number) => Promise<void>): Promise<void> {
  let turn = 0;
  let over = false;
  const tick = (): void => {
    turn++;
    if (!over) setImmediate(tick);
  };
  setImmediate(tick);
  await run(() => turn);
  over = true;
}

test("long entries of several shards get a turn each, in line", async () => {
  await counted(async (now) => {
    const turns = new Turns(systemClock);
    const taken: number[][] = [[], [], []];
    await Promise.all(taken.map((mine) => apply(turns, mine, now, 4, APPLY_TURN_MS_MAX)));
    const all = taken.flat().sort((a, b) => a - b);
    expect(new Set(all).size).toBe(12);
    // at any time nobody is more than two entries ahead of another that still has some
    for (let turn = 0; turn <= Math.max(...all); turn++) {
      const counts = taken.map((mine) => mine.filter((at) => at <= turn).length);
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2);
    }
  });
});

test("short entries share a turn until its time is spent, and take one more at most", async () => {
  await counted(async (now) => {
    const turns = new Turns(systemClock);
    const taken: number[][] = [[], []];
    await Promise.all(taken.map((mine) => apply(turns, mine, now, 50, APPLY_TURN_MS_MAX / 10)));
    const perTurn = new Map<number, number>();
    for (const turn of taken.flat()) perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1);
    expect(Math.max(...perTurn.values())).toBeLessThanOrEqual(11);
    expect(perTurn.size).toBeLessThanOrEqual(12);
  });
});

test("one shard alone is not held up while it has time", () => {
  const turns = new Turns(systemClock);
  expect(turns.place()).toBeUndefined();
  turns.spent(APPLY_TURN_MS_MAX / 2);
  expect(turns.place()).toBeUndefined();
});
