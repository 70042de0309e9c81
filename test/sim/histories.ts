/** Histories written down by hand: right ones, and wrong ones that differ from them in one thing. */
import { History, type HistoryEntry, type Operation, type Outcome } from "./history.ts";

/** Operations written down as they began and ended: `["a", {…}]` begins one of client a, `["a", outcome]` ends it. */
type Step = readonly [client: string, step: Operation | Outcome | "unknown" | "refused" | "repeated", repeats?: number];

function historyOf(...steps: readonly Step[]): readonly HistoryEntry[] {
  const history = new History();
  const pending = new Map<string, ReturnType<History["invoke"]>>();
  for (const [client, step, repeats] of steps) {
    if (step === "unknown") pending.get(client)!.unknown(repeats);
    else if (step === "refused") pending.get(client)!.refused();
    else if (step === "repeated") pending.get(client)!.repeated();
    else if ("kind" in step) pending.set(client, history.invoke(client, step));
    else pending.get(client)!.returned(step, repeats);
  }
  return history.entries();
}

/** Each operation ends before the next one begins. */
function inSequence(...operations: readonly (readonly [Operation, Outcome])[]): readonly HistoryEntry[] {
  return historyOf(
    ...operations.flatMap(([operation, outcome]): Step[] => [
      ["a", operation],
      ["a", outcome],
    ]),
  );
}

const put = (value: string, expected?: number): Operation =>
  expected === undefined ? { kind: "put", key: "k", value } : { kind: "put", key: "k", value, expected };
const indexed = (value: string, index: string): Operation => ({ kind: "put", key: "k", value, index });
const sessionEnd = (value: string): Operation => ({ kind: "session-end", key: "k", value });
const get: Operation = { kind: "get", key: "k" };
const list: Operation = { kind: "list", fromInclusive: "a", toExclusive: "z" };
const indexScan: Operation = { kind: "index-scan", fromInclusive: "i", toExclusive: "j" };
const remove: Operation = { kind: "delete", key: "k" };
const erase: Operation = { kind: "delete-range", fromInclusive: "a", toExclusive: "z" };
export const version = (id: number): Outcome => ({ status: "OK", version: id });
const saw = (value: string, id: number): Outcome => ({ status: "OK", record: { key: "k", value, version: id } });
export const OK: Outcome = { status: "OK" };
const keys = (...found: readonly string[]): Outcome => ({ status: "OK", keys: found });
const records = (...found: readonly { key: string; value: string; version: number }[]): Outcome => ({
  status: "OK",
  records: found,
});
export const ABSENT: Outcome = { status: "KEY_NOT_FOUND" };
export const MISMATCH: Outcome = { status: "UNEXPECTED_VERSION_ID" };

export const RIGHT: Record<string, readonly HistoryEntry[]> = {
  nothing: [],
  "one after the other": inSequence(
    [get, ABSENT],
    [put("x", -1), version(3)],
    [put("w", -1), MISMATCH],
    [put("y", 3), version(4)],
    [put("z", 3), MISMATCH],
    [get, saw("y", 4)],
    [{ kind: "delete", key: "k", expected: 3 }, MISMATCH],
    [{ kind: "delete", key: "k", expected: 4 }, OK],
    [remove, ABSENT],
    [erase, OK],
    [get, ABSENT],
  ),
  "two at once, in either order": historyOf(
    ["a", put("x")],
    ["b", put("y")],
    ["b", version(1)],
    ["a", version(0)],
    ["a", get],
    ["a", saw("y", 1)],
  ),
  "a read of a write that has not returned": historyOf(
    ["a", put("x")],
    ["b", get],
    ["b", saw("x", 0)],
    ["a", version(0)],
  ),
  "a write without an answer that happened": historyOf(["a", put("x")], ["b", get], ["b", saw("x", 5)]),
  "a write without an answer that did not": historyOf(["a", put("x")], ["a", "unknown"], ["b", get], ["b", ABSENT]),
  "a write without an answer that happened late": historyOf(
    ["a", put("x")],
    ["a", "unknown"],
    ["b", put("y")],
    ["b", version(1)],
    ["b", get],
    ["b", saw("y", 1)],
    ["b", get],
    ["b", saw("x", 2)],
  ),
  "a write without an answer, seen only in its effect on a condition": historyOf(
    ["a", put("x")],
    ["a", "unknown"],
    ["b", put("y", -1)],
    ["b", MISMATCH],
    ["b", put("z", 7)],
    ["b", version(8)],
  ),
  "a delete without an answer, between two reads": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["b", remove],
    ["b", "unknown"],
    ["a", get],
    ["a", saw("x", 0)],
    ["a", get],
    ["a", ABSENT],
  ),
  "a write that was refused": historyOf(["a", put("x")], ["a", "refused"], ["b", get], ["b", ABSENT]),
  "a write that was sent twice, and done twice": historyOf(
    ["a", put("x")],
    ["b", get],
    ["b", saw("x", 0)],
    ["b", put("y")],
    ["b", version(1)],
    ["a", version(2), 1],
    ["b", get],
    ["b", saw("x", 2)],
  ),
  "a write that was sent twice until its client was gone, and done twice": historyOf(
    ["a", put("x")],
    ["a", "repeated"],
    ["b", get],
    ["b", saw("x", 0)],
    ["b", put("y")],
    ["b", version(1)],
    ["b", get],
    ["b", saw("x", 2)],
  ),
  "a write that was sent twice, and done late": historyOf(
    ["a", put("x")],
    ["a", version(0), 1],
    ["b", put("y")],
    ["b", version(1)],
    ["b", get],
    ["b", saw("x", 2)],
  ),
  "a delete that was sent twice, and found nothing the second time": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["a", remove],
    ["a", ABSENT, 1],
    ["b", get],
    ["b", ABSENT],
  ),
  "a delete that was sent twice, and done twice": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["a", remove],
    ["a", OK, 1],
    ["b", put("y")],
    ["b", version(1)],
    ["b", get],
    ["b", ABSENT],
  ),
  "a list": inSequence([list, keys()], [put("x"), version(0)], [list, keys("k")], [remove, OK], [list, keys()]),
  "an index": inSequence(
    [put("x"), version(0)],
    [indexScan, records()],
    [indexed("y", "i1"), version(1)],
    [indexScan, records({ key: "k", value: "y", version: 1 })],
    [indexed("z", "j"), version(2)],
    [indexScan, records()],
  ),
  "a record that ends with its session": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["s", sessionEnd("x")],
    ["s", "unknown"],
    ["a", get],
    ["a", saw("x", 0)],
    ["a", get],
    ["a", ABSENT],
  ),
  "scans and comparisons": inSequence(
    [put("x"), version(0)],
    [{ kind: "put", key: "m", value: "x" }, version(1)],
    [
      { kind: "scan", fromInclusive: "a", toExclusive: "z" },
      {
        status: "OK",
        records: [
          { key: "k", value: "x", version: 0 },
          { key: "m", value: "x", version: 1 },
        ],
      },
    ],
    [{ kind: "compare", key: "l", comparison: "floor" }, saw("x", 0)],
    [{ kind: "compare", key: "k", comparison: "lower" }, ABSENT],
    [{ kind: "compare", key: "k", comparison: "ceiling" }, saw("x", 0)],
  ),
};

export const WRONG: Record<string, readonly HistoryEntry[]> = {
  "a stale read": inSequence([put("x"), version(0)], [put("y"), version(1)], [get, saw("x", 0)]),
  "a stale read by another client, seconds after a fresh one": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["b", put("y")],
    ["a", get],
    ["a", saw("y", 1)],
    ["a", get],
    ["a", saw("x", 0)],
    ["b", version(1)],
  ),
  "a lost write": inSequence([put("x"), version(0)], [get, ABSENT]),
  "a lost write that was read before": historyOf(
    ["a", put("x")],
    ["b", get],
    ["b", saw("x", 0)],
    ["b", get],
    ["b", ABSENT],
  ),
  "a delete that comes undone": inSequence([put("x"), version(0)], [remove, OK], [get, saw("x", 0)]),
  "a range delete that comes undone": inSequence([put("x"), version(0)], [erase, OK], [get, saw("x", 0)]),
  "a value out of thin air": inSequence([put("x"), version(0)], [get, saw("z", 0)]),
  "a value that was turned down": inSequence([put("x"), version(0)], [put("y", 7), MISMATCH], [get, saw("y", 1)]),
  "a value that was refused": historyOf(["a", put("x")], ["a", "refused"], ["b", get], ["b", saw("x", 0)]),
  "two winners of one expected version": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["a", put("y", 0)],
    ["b", put("z", 0)],
    ["a", version(1)],
    ["b", version(2)],
  ),
  "two winners of an absent key": historyOf(
    ["a", put("x", -1)],
    ["b", put("y", -1)],
    ["a", version(0)],
    ["b", version(1)],
  ),
  "a read of a write that came later": historyOf(["a", get], ["a", saw("x", 0)], ["b", put("x")], ["b", version(0)]),
  "a version that is used twice": historyOf(
    ["a", put("x")],
    ["b", { kind: "put", key: "m", value: "x" }],
    ["a", version(0)],
    ["b", version(0)],
  ),
  "a version that goes back, on another key": inSequence(
    [put("x"), version(5)],
    [{ kind: "put", key: "m", value: "x" }, version(4)],
  ),
  "a version that goes back behind one that was read": historyOf(
    ["a", put("x")],
    ["b", get],
    ["b", saw("x", 5)],
    ["b", { kind: "put", key: "m", value: "x" }],
    ["b", version(4)],
  ),
  "a read with another version than the write was told": inSequence([put("x"), version(0)], [get, saw("x", 1)]),
  "a condition that fails though it holds": inSequence([put("x"), version(0)], [put("y", 0), MISMATCH]),
  "a condition that holds though it fails": inSequence([put("x"), version(0)], [put("y", 3), version(4)]),
  "a delete that finds nothing where something is": inSequence([put("x"), version(0)], [remove, ABSENT]),
  "a write without an answer that happens twice": historyOf(
    ["a", put("x")],
    ["a", "unknown"],
    ["b", get],
    ["b", saw("x", 0)],
    ["b", remove],
    ["b", OK],
    ["b", get],
    ["b", saw("x", 0)],
  ),
  "a scan that leaves a record out": inSequence(
    [put("x"), version(0)],
    [
      { kind: "scan", fromInclusive: "a", toExclusive: "z" },
      { status: "OK", records: [] },
    ],
  ),
  "a write that was sent once and done twice": historyOf(
    ["a", put("x")],
    ["b", get],
    ["b", saw("x", 0)],
    ["a", version(2)],
  ),
  "a write that was sent twice and done three times": historyOf(
    ["a", put("x")],
    ["b", get],
    ["b", saw("x", 0)],
    ["b", get],
    ["b", saw("x", 1)],
    ["a", version(2), 1],
  ),
  "a list that leaves a key out": inSequence([put("x"), version(0)], [list, keys()]),
  "a list with a key that is gone": inSequence([put("x"), version(0)], [remove, OK], [list, keys("k")]),
  "an index that leaves a record out": inSequence([indexed("x", "i1"), version(0)], [indexScan, records()]),
  "an index with a record that has left it": inSequence(
    [indexed("x", "i1"), version(0)],
    [indexed("y", "j"), version(1)],
    [indexScan, records({ key: "k", value: "x", version: 0 })],
  ),
  "an index with a record that was never in it": inSequence(
    [indexed("x", "j"), version(0)],
    [indexScan, records({ key: "k", value: "x", version: 0 })],
  ),
  "a record that is gone before its session may end": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["a", get],
    ["a", ABSENT],
    ["s", sessionEnd("x")],
    ["s", "unknown"],
  ),
  "a record that another's session takes with it": historyOf(
    ["a", put("x")],
    ["a", version(0)],
    ["s", sessionEnd("x")],
    ["s", "unknown"],
    ["a", put("y")],
    ["a", version(1)],
    ["a", get],
    ["a", ABSENT],
  ),
  "a comparison that passes a record over": inSequence(
    [put("x"), version(0)],
    [{ kind: "compare", key: "z", comparison: "floor" }, ABSENT],
  ),
};
