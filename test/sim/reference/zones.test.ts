import { expect, test } from "bun:test";
import fc from "fast-check";
import type { HistoryEntry } from "../history.ts";
import { checkAtomic, NotAtomic } from "./zones.ts";

/** An operation from `invoked` to `returned`; a put that was not answered returns at Infinity. */
function put(value: string, invoked: number, returned: number): HistoryEntry {
  const outcome = returned === Number.POSITIVE_INFINITY ? undefined : ({ status: "OK" } as const);
  return { client: "c", operation: { kind: "put", key: "a", value }, invoked, returned, outcome, repeats: 0 };
}

/** A get that saw `value`; "" for none. */
function get(value: string, invoked: number, returned: number): HistoryEntry {
  const outcome =
    value === ""
      ? ({ status: "KEY_NOT_FOUND" } as const)
      : ({ status: "OK", record: { key: "a", value, version: 0 } } as const);
  return { client: "c", operation: { kind: "get", key: "a" }, invoked, returned, outcome, repeats: 0 };
}

function isAtomic(entries: readonly HistoryEntry[]): boolean {
  try {
    checkAtomic(entries);
    return true;
  } catch (error) {
    if (error instanceof NotAtomic) return false;
    throw error;
  }
}

/** By trying every order. */
function isAtomicByTrying(left: readonly HistoryEntry[], value: string): boolean {
  const must = left.filter(({ outcome }) => outcome !== undefined);
  if (must.length === 0) return true;
  const deadline = Math.min(...must.map(({ returned }) => returned));
  return left.some((entry) => {
    const { operation, outcome, invoked } = entry;
    if (invoked > deadline) return false;
    const rest = left.filter((other) => other !== entry);
    if (operation.kind === "put") return isAtomicByTrying(rest, operation.value);
    const seen = outcome?.status === "OK" ? outcome.record!.value : "";
    return seen === value && isAtomicByTrying(rest, value);
  });
}

test.each([
  ["a lost put", [put("x", 0, 1), get("", 2, 3)]],
  ["a put undone by an older one", [put("x", 0, 1), put("y", 2, 3), get("x", 4, 5)]],
  ["two readers of two orders", [put("x", 0, 9), put("y", 1, 8), get("x", 2, 3), get("y", 4, 5), get("x", 6, 7)]],
  ["a put seen and then gone", [put("x", 0, Number.POSITIVE_INFINITY), get("x", 1, 2), get("", 3, 4)]],
  ["a value from nowhere", [get("x", 0, 1)]],
  ["a value from the future", [get("x", 0, 1), put("x", 2, 3)]],
])("%s is found", (_, entries) => {
  expect(isAtomic(entries)).toBe(false);
});

test("a put that nobody answered or saw may have happened or not", () => {
  expect(isAtomic([put("x", 0, Number.POSITIVE_INFINITY), put("y", 1, 2), get("y", 3, 4)])).toBe(true);
  expect(isAtomic([put("x", 0, Number.POSITIVE_INFINITY), put("y", 1, 2), get("x", 3, 4)])).toBe(true);
});

const someHistory = fc
  .array(fc.record({ kind: fc.constantFrom("put", "get"), seen: fc.nat(3), unknown: fc.boolean() }), { maxLength: 6 })
  .chain((operations) =>
    fc
      .shuffledSubarray([...operations.keys(), ...operations.keys()], { minLength: 2 * operations.length })
      .map((order) =>
        operations.map(({ kind, seen, unknown }, nth) => {
          const [invoked, returned] = [order.indexOf(nth), order.lastIndexOf(nth)] as [number, number];
          if (kind === "put") return put(`v${nth}`, invoked, unknown ? Number.POSITIVE_INFINITY : returned);
          const puts = operations.flatMap((one, at) => (one.kind === "put" ? [`v${at}`] : []));
          return get(["", ...puts][seen % (puts.length + 1)]!, invoked, returned);
        }),
      ),
  );

test("it agrees with trying every order", () => {
  const found = { atomic: 0, not: 0 };
  fc.assert(
    fc.property(someHistory, (entries) => {
      const expected = isAtomicByTrying(entries, "");
      found[expected ? "atomic" : "not"]++;
      expect(isAtomic(entries)).toBe(expected);
    }),
    { numRuns: 3_000 },
  );
  expect(found.atomic).toBeGreaterThan(300);
  expect(found.not).toBeGreaterThan(300);
});
