import { expect, test } from "bun:test";
import fc from "fast-check";
import { EMPTY_HEAD, type EntryId, type Head, NO_OFFSET } from "../model/ids.ts";
import { catchUp, type LogShape } from "./catch-up.ts";

/** A log is the terms of its entries; the chain CRC is a digest of all terms up to the entry. */
function headAt(terms: readonly number[], offset: number): Head {
  if (offset < 0) return EMPTY_HEAD;
  return { term: terms[offset]!, offset, crc: terms.slice(0, offset + 1).reduce((crc, term) => crc * 7 + term, 1) };
}

function shape(terms: readonly number[], trimmed = 0): LogShape {
  const ends = terms.flatMap((term, offset): EntryId[] => (terms[offset + 1] === term ? [] : [{ term, offset }]));
  const base = headAt(terms, trimmed - 1);
  return { base, termEnds: ends.filter(({ offset }) => offset > base.offset) };
}

function step(leader: readonly number[], follower: readonly number[], trimmed = 0) {
  const head = headAt(follower, follower.length - 1);
  const own = head.offset >= 0 && head.offset < leader.length ? headAt(leader, head.offset) : undefined;
  return catchUp(shape(leader, trimmed), head, own);
}

test("an equal entry at the follower's head attaches, also far behind the leader's", () => {
  expect(step([1, 1, 2, 2], [1, 1])).toEqual({ way: "attach", after: 1 });
  expect(step([1, 1], [])).toEqual({ way: "attach", after: NO_OFFSET });
});

test("a foreign tail is cut to the leader's last entry of no later term, below the follower's head", () => {
  expect(step([1, 1, 3, 3], [1, 1, 2, 2, 2])).toEqual({ way: "truncate", keep: { term: 1, offset: 1 } });
  expect(step([1, 1, 1, 1, 2], [1, 1, 2])).toEqual({ way: "truncate", keep: { term: 1, offset: 1 } });
});

test("equal id with another chain is a foreign tail too", () => {
  const own = headAt([1, 1, 2], 2);
  const lying = { ...own, crc: own.crc + 1 };
  expect(catchUp(shape([1, 1, 2]), lying, own)).toEqual({ way: "truncate", keep: { term: 1, offset: 1 } });
});

test("a head told without its chain is compared by term and offset", () => {
  const own = headAt([1, 1, 2], 2);
  expect(catchUp(shape([1, 1, 2]), { ...own, crc: undefined }, own)).toEqual({ way: "attach", after: 2 });
});

test("without a common entry that can still be read there is a snapshot, never a cleared log", () => {
  expect(step([3, 3], [2, 2])).toEqual({ way: "snapshot" });
  expect(step([1, 1, 3, 3], [], 2)).toEqual({ way: "snapshot" });
  expect(step([1, 1, 3, 3], [1, 1, 2], 2)).toEqual({ way: "snapshot" });
});

const someLog = fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 8 }).map((steps) => {
  let term = 1;
  return steps.map((more) => (term += more === 2 ? 1 : 0));
});

test("it ends, and what is kept is a prefix of both logs", () => {
  fc.assert(
    fc.property(someLog, someLog, (leader, start) => {
      let follower = start;
      for (;;) {
        const next = step(leader, follower);
        if (next.way === "snapshot") return;
        if (next.way === "attach") {
          expect(follower).toEqual(leader.slice(0, follower.length));
          return;
        }
        expect(next.keep.offset).toBeGreaterThanOrEqual(0);
        expect(next.keep.offset).toBeLessThan(follower.length - 1);
        expect(leader[next.keep.offset]).toBe(next.keep.term);
        follower = follower.slice(0, next.keep.offset + 1);
      }
    }),
    { numRuns: 500 },
  );
});
