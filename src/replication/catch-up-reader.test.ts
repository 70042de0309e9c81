import { expect, test } from "bun:test";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import type { LogEntry } from "../model/ids.ts";
import { CATCH_UP_READS_MAX, CATCH_UP_STALL_MS_MAX } from "../model/limits.ts";
import { CatchUpReader } from "./catch-up-reader.ts";
import { ReplicationBudget } from "./entry-tail.ts";
import type { OwnLog } from "./own-log.ts";

const batch = (from: number): LogEntry[] =>
  [0, 1, 2].map((n) => ({ term: 1, offset: from + n, timestamp: 1, value: new Uint8Array(4) }));

/** A reader over a log whose reads a test answers. */
function readerWorld(budget = new ReplicationBudget()) {
  const clock = new ManualClock();
  const asked: { from: number; answer(entries: readonly LogEntry[]): void; fail(error: unknown): void }[] = [];
  const log = {
    read: (_: number, from: number) =>
      new Promise<readonly LogEntry[]>((resolve, reject) => asked.push({ from, answer: resolve, fail: reject })),
  } as unknown as OwnLog;
  const told = { read: 0, failed: [] as unknown[] };
  const reader = new CatchUpReader(log, clock, budget, 3, {
    stallMs: CATCH_UP_STALL_MS_MAX,
    onRead: () => void told.read++,
    onFailed: (error) => void told.failed.push(error),
  });
  return { reader, clock, asked, told, budget };
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

test("a batch is read once, given out in order, and its place is given back with the last entry", async () => {
  const { reader, asked, told, budget } = readerWorld();
  reader.read(5);
  reader.read(5);
  await settled();
  expect([asked.length, asked[0]!.from, budget.reads]).toEqual([1, 5, 1]);
  expect(reader.take(5)).toBeUndefined();
  asked[0]!.answer(batch(5));
  await settled();
  expect(told.read).toBe(1);
  expect([5, 6].map((offset) => reader.take(offset)?.offset)).toEqual([5, 6]);
  expect(budget.reads).toBe(1);
  expect([reader.take(7)?.offset, budget.reads]).toEqual([7, 0]);
  expect(reader.take(8)).toBeUndefined();
});

test("what is asked for after a reset is not answered by what was read before", async () => {
  const { reader, asked, budget } = readerWorld();
  reader.read(5);
  await settled();
  reader.reset();
  asked[0]!.answer(batch(5));
  await settled();
  expect([reader.take(5), budget.reads]).toEqual([undefined, 0]);
  reader.read(9);
  await settled();
  asked[1]!.answer(batch(9));
  await settled();
  expect(reader.take(9)?.offset).toBe(9);
  // another place than the next one drops the batch
  expect([reader.take(20), reader.take(10), budget.reads]).toEqual([undefined, undefined, 0]);
});

test("a follower that takes nothing gives its place to another", async () => {
  const { reader, clock, asked, budget } = readerWorld();
  reader.read(5);
  await settled();
  asked[0]!.answer(batch(5));
  await settled();
  reader.stall();
  clock.advance(CATCH_UP_STALL_MS_MAX - 1);
  expect(budget.reads).toBe(1);
  clock.advance(1);
  expect([budget.reads, reader.take(5)]).toEqual([0, undefined]);
});

test("without a free place a reader waits for one, and gives it on if it is not wanted any more", async () => {
  const budget = new ReplicationBudget();
  for (let n = 0; n < CATCH_UP_READS_MAX; n++) budget.takeRead();
  const [first, second] = [readerWorld(budget), readerWorld(budget)];
  first.reader.read(5);
  second.reader.read(6);
  await settled();
  expect([first.asked.length, second.asked.length]).toEqual([0, 0]);
  first.reader.reset();
  budget.giveRead();
  await settled();
  expect([first.asked.length, second.asked.length, budget.reads]).toEqual([0, 1, CATCH_UP_READS_MAX]);
});

test("a read that fails is told, and its place is free", async () => {
  const { reader, asked, told, budget } = readerWorld();
  reader.read(5);
  await settled();
  const error = new Error("trimmed");
  asked[0]!.fail(error);
  await settled();
  expect([told.failed, told.read, budget.reads]).toEqual([[error], 0, 0]);
});
