import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BUDGET_WAITERS_MAX } from "../model/limits.ts";
import { RequestBudget } from "./budget.ts";
import { Code, type StatusError } from "./code.ts";

const refuseToWait = () => {
  throw new Error("granted twice");
};

describe("what does not wait", () => {
  test("is taken up to the budget to the byte, and refused past it", () => {
    const budget = new RequestBudget(100);
    expect(budget.take(60)).toBe(true);
    expect(budget.take(41)).toBe(false);
    expect(budget.take(40)).toBe(true);
    expect(budget.used).toBe(100);
    budget.give(100);
    expect(budget.used).toBe(0);
  });
});

describe("streams", () => {
  test("get what they ask for at once up to their share, and leave the rest to what does not wait", () => {
    const budget = new RequestBudget(800);
    expect(budget.takeOrWait({}, 700, refuseToWait)).toBe(true);
    expect(budget.takeOrWait({}, 1, refuseToWait)).toBe(true); // beyond the share, alone
    expect(budget.takeOrWait({}, 1, () => {})).toBe(false);
    expect(budget.take(99)).toBe(true);
    expect(budget.take(1)).toBe(false);
  });

  test("get a message as large as the whole budget through", () => {
    const budget = new RequestBudget(800);
    expect(budget.takeOrWait({}, 800, refuseToWait)).toBe(true);
  });

  test("wait in order; the first goes through beyond the budget, alone, until its message is whole", () => {
    const budget = new RequestBudget(100); // of which 88 are the share of streams
    budget.take(80);
    const [a, b] = [{ name: "a" }, { name: "b" }];
    const granted: string[] = [];
    expect(budget.takeOrWait(a, 20, refuseToWait)).toBe(true); // beyond: 100
    expect(budget.takeOrWait(b, 20, () => granted.push("b"))).toBe(false);
    expect(budget.takeOrWait(a, 30, refuseToWait)).toBe(true); // goes on with its message
    expect(budget.used).toBe(130);
    budget.settle(a);
    expect(granted).toEqual([]); // still too much in use
    budget.give(50);
    expect(granted).toEqual(["b"]);
  });

  test("that are gone wait no more", () => {
    const budget = new RequestBudget(10);
    budget.take(9);
    const [a, b, c] = [{}, {}, {}];
    expect(budget.takeOrWait(a, 5, refuseToWait)).toBe(true);
    expect(budget.takeOrWait(b, 5, refuseToWait)).toBe(false);
    let granted = false;
    expect(
      budget.takeOrWait(c, 5, () => {
        granted = true;
      }),
    ).toBe(false);
    budget.forget(b);
    budget.forget(a);
    budget.give(14);
    expect(granted).toBe(true);
    expect(budget.used).toBe(5);
  });

  test("that wait are bounded: one more is refused", () => {
    const budget = new RequestBudget(10);
    budget.take(9);
    budget.takeOrWait({}, 10, refuseToWait);
    for (let i = 0; i < BUDGET_WAITERS_MAX; i++) expect(budget.takeOrWait({}, 10, () => {})).toBe(false);
    try {
      budget.takeOrWait({}, 10, () => {});
      throw new Error("accepted");
    } catch (error) {
      expect((error as StatusError).code).toBe(Code.RESOURCE_EXHAUSTED);
    }
  });
});

test("streams that gather messages in steps all get through, within the budget and one message", () => {
  const steps = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.array(steps, { minLength: 1, maxLength: 12 }), fc.infiniteStream(fc.nat()), (streams, choices) => {
      const message = Math.max(...streams.map((sizes) => sizes.reduce((sum, size) => sum + size, 0)));
      const budget = new RequestBudget(message);
      const done = new Set<number>();
      const states = streams.map((sizes, id) => ({ id, sizes, next: 0, waits: false, held: 0 }));
      const answers: number[] = [];
      const step = (state: (typeof states)[number]) => {
        const size = state.sizes[state.next]!;
        const got = () => {
          state.waits = false;
          state.held += size;
          state.next++;
          if (state.next < state.sizes.length) return;
          budget.settle(state);
          done.add(state.id);
          answers.push(state.held);
        };
        if (budget.takeOrWait(state, size, got)) got();
        else state.waits = true;
      };
      const choice = choices[Symbol.iterator]();
      while (done.size < states.length || answers.length > 0) {
        const ready = states.filter((state) => !state.waits && !done.has(state.id));
        const pick = (choice.next().value as number) % (ready.length + 1);
        if (pick < ready.length) step(ready[pick]!);
        else if (answers.length > 0) budget.give(answers.shift()!);
        else if (ready.length === 0) throw new Error("all wait, and nobody can free anything");
        expect(budget.used).toBeLessThanOrEqual(2 * message);
      }
      expect(budget.used).toBe(0);
    }),
  );
});
