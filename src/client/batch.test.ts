import { expect, test } from "bun:test";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { CLIENT_BYTES_PENDING_MAX, CLIENT_OPERATIONS_PENDING_MAX } from "../model/limits.ts";
import { type Batch, Batcher } from "./batch.ts";
import { OverloadedError } from "./errors.ts";
import { type GetOperation, PendingBudget } from "./operation.ts";

function batcher(bounds: Partial<{ lingerMs: number; requestsMax: number; bytesMax: number }> = {}) {
  const clock = new ManualClock();
  const budget = new PendingBudget();
  const expired: Batch<GetOperation>[] = [];
  let due = 0;
  const it = new Batcher<GetOperation>(0, {
    clock,
    timeoutMs: 1000,
    bounds: { lingerMs: 5, requestsMax: 3, bytesMax: 100, ...bounds },
    budget,
    onDue: () => {
      due++;
    },
    onExpired: (batch) => {
      expired.push(batch);
    },
  });
  const failures: Error[] = [];
  const add = (bytes = 10) => {
    const batch = it.batchFor(bytes);
    const start = batch.writer.length;
    batch.writer.raw(new Uint8Array(bytes));
    const operation: GetOperation = {
      kind: "get",
      key: "k",
      comparison: 0,
      byIndex: false,
      route: "k",
      start,
      end: start,
      deadline: 0,
      resolve: () => {},
      reject: (error) => failures.push(error),
    };
    it.added(operation);
    return operation;
  };
  return { it, clock, budget, expired, failures, add, due: () => due };
}

test("a batch is due when it has lingered, not before", () => {
  const { it, clock, add } = batcher();
  add();
  add();
  clock.advance(4);
  expect(it.take()).toBeUndefined();
  clock.advance(1);
  expect(it.take()?.operations).toHaveLength(2);
  expect(it.take()).toBeUndefined();
});

test("without linger it is due when the program yields", async () => {
  const { it, add } = batcher({ lingerMs: 0 });
  add();
  add();
  expect(it.take()).toBeUndefined();
  await Promise.resolve();
  expect(it.take()?.operations).toHaveLength(2);
});

test("a full batch is due at once, by requests or by bytes", () => {
  const { it, add } = batcher();
  for (let i = 0; i < 4; i++) add(1);
  expect(it.take()?.operations).toHaveLength(3);
  expect(it.take()).toBeUndefined();
  add(100);
  // the one that was open could not take it, and it fills its own
  expect(it.take()?.operations).toHaveLength(1);
  expect(it.take()?.operations).toHaveLength(1);
});

test("one larger than a batch travels alone", () => {
  const { it, add } = batcher();
  add();
  add(500);
  add();
  expect([it.take()?.operations.length, it.take()?.operations.length]).toEqual([1, 1]);
  expect(it.take()).toBeUndefined();
});

test("while nobody takes it, a batch grows past its linger", () => {
  const { it, clock, add } = batcher();
  add();
  clock.advance(50);
  add();
  expect(it.take()?.operations).toHaveLength(2);
});

test("what was put back comes first, and what has failed does not come at all", () => {
  const { it, clock, add } = batcher();
  add();
  clock.advance(5);
  const first = it.take()!;
  add();
  clock.advance(5);
  const second = it.take()!;
  add();
  it.putBack([first, second]);
  first.fail(new Error("late"));
  expect(it.take()).toBe(second);
  expect(it.take()).toBeUndefined();
});

test("the clock fails a batch by its first operation", () => {
  const { clock, add, expired } = batcher();
  const first = add();
  clock.advance(3);
  expect(add().deadline).toBe(first.deadline);
  clock.advance(997);
  expect(expired).toHaveLength(1);
});

test("an operation does not join a batch whose time is up", () => {
  const { it, clock, add, expired } = batcher();
  add();
  // the sender has no room: it takes nothing
  clock.advance(1000);
  const operation = add();
  expired[0]!.fail(new Error("late"));
  clock.advance(5);
  expect(it.idle).toBe(false);
  expect(it.take()?.operations).toEqual([operation]);
});

test("an operation loses little of its time by joining a batch that waits for the sender", () => {
  const { it, clock, add, expired } = batcher();
  add();
  clock.advance(100);
  const joined = add();
  expect(joined.deadline - clock.monotonicMs()).toBe(900);
  clock.advance(1);
  const late = add();
  expect(late.deadline - clock.monotonicMs()).toBe(1000);
  clock.advance(899);
  expect(expired.map(({ operations }) => operations.length)).toEqual([2]);
  expired[0]!.fail(new Error("late"));
  expect(it.take()?.operations).toEqual([late]);
});

test("batches whose time is up are let go of while nobody takes any", () => {
  const { it, clock, add, expired } = batcher();
  const batches: WeakRef<Batch<GetOperation>>[] = [];
  for (let n = 0; n < 20; n++) {
    add();
    clock.advance(1000);
    const batch = expired.pop()!;
    batch.fail(new Error("late"));
    batches.push(new WeakRef(batch));
  }
  Bun.gc(true);
  expect(it.idle).toBe(true);
  expect(batches.filter((batch) => batch.deref() !== undefined).length).toBeLessThan(5);
});

test("adopted operations keep their bytes and their time, ahead of the open batch", () => {
  const { it, clock, add } = batcher();
  const moved = add(7);
  clock.advance(5);
  const parent = it.take()!;
  clock.advance(100);
  add();
  it.adopt([moved], parent.frame);
  parent.settle();
  const batch = it.take()!;
  expect(batch.operations).toEqual([moved]);
  expect(moved.end - moved.start).toBe(7);
  expect(batch.deadline).toBe(moved.deadline);
});

test("flushing makes due what is open and resolves when everything is settled", async () => {
  const { it, add } = batcher();
  add();
  let flushed = false;
  const flush = it.flush().then(() => {
    flushed = true;
  });
  const batch = it.take()!;
  await Promise.resolve();
  expect(flushed).toBe(false);
  batch.settle();
  await flush;
  expect(it.idle).toBe(true);
  await it.flush();
});

test("what waits is counted, and given back when it is settled", () => {
  const { it, budget, add } = batcher();
  add(10);
  add(20);
  expect([budget.operations, budget.bytes]).toEqual([2, 30]);
  it.close();
  it.take()!.fail(new Error("over"));
  expect([budget.operations, budget.bytes]).toEqual([0, 0]);
});

test("past either bound of what may wait, more is refused", () => {
  const budget = new PendingBudget();
  budget.take(CLIENT_OPERATIONS_PENDING_MAX - 1, 0);
  budget.check(1);
  budget.take(1, 1);
  expect(() => budget.check(1)).toThrow(OverloadedError);
  const large = new PendingBudget();
  // alone, one may be larger than the bound
  large.check(CLIENT_BYTES_PENDING_MAX + 1);
  large.take(1, CLIENT_BYTES_PENDING_MAX - 10);
  large.check(10);
  expect(() => large.check(11)).toThrow(OverloadedError);
});
