import { expect, test } from "bun:test";
import { Trace } from "./trace.ts";

type Event = Parameters<Trace["event"]>;

function hashOf(...events: readonly Event[]): string {
  const trace = new Trace({ seed: 1 });
  for (const event of events) trace.event(...event);
  return trace.hash;
}

test("the hash tells order, time, node, words and details apart", () => {
  const a: Event = [1, "n1", "sent", 7];
  const b: Event = [2, "n2", "got", "x", true];
  expect(hashOf(a, b)).toBe(hashOf(a, b));
  const different = [
    hashOf(a, b),
    hashOf(b, a),
    hashOf(a),
    hashOf(a, b, b),
    hashOf([1.5, "n1", "sent", 7], b),
    hashOf([1, "n2", "sent", 7], b),
    hashOf([1, "n1", "sen", 7], b),
    hashOf([1, "n1s", "ent", 7], b),
    hashOf([1, "n1", "sent", 8], b),
    hashOf([1, "n1", "sent", "7"], b),
    hashOf(),
  ];
  expect(new Set(different).size).toBe(different.length);
  expect(hashOf(a)).toMatch(/^[0-9a-f]{16}$/);
});

test("a line leads back to the run, and the last events are kept as text on request", () => {
  const trace = new Trace({ seed: 42, linesMax: 3, command: "bun sim.ts" });
  for (let n = 0; n < 10; n++) trace.event(n, "n1", "step", n);
  expect(trace.lines()).toEqual(["7.000 n1 step 7", "8.000 n1 step 8", "9.000 n1 step 9"]);
  expect(trace.replayLine()).toBe(`replay: bun sim.ts --seed 42  # 10 events, 9.000 ms, trace ${trace.hash}`);
});
