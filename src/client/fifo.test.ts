import { expect, test } from "bun:test";
import fc from "fast-check";
import { Fifo } from "./fifo.ts";

test("it does what an array does", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("push" as const), count: fc.integer({ min: 1, max: 1500 }) }),
    fc.record({ kind: fc.constant("shift" as const), count: fc.integer({ min: 1, max: 1500 }) }),
    fc.record({ kind: fc.constant("unshift" as const), count: fc.integer({ min: 0, max: 5 }) }),
    fc.record({ kind: fc.constant("drain" as const), count: fc.constant(1) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const fifo = new Fifo<number>();
      let model: number[] = [];
      let next = 0;
      for (const { kind, count } of steps) {
        const items = Array.from({ length: count }, () => next++);
        if (kind === "push") {
          for (const item of items) fifo.push(item);
          model.push(...items);
        } else if (kind === "shift") {
          for (const _ of items) expect(fifo.shift()).toBe(model.shift());
        } else if (kind === "unshift") {
          fifo.unshift(items);
          model.unshift(...items);
        } else {
          expect(fifo.drain()).toEqual(model);
          model = [];
        }
        expect([fifo.length, fifo.peek()]).toEqual([model.length, model[0]]);
      }
    }),
    { numRuns: 50 },
  );
});
