/**
 * Whether histories of puts and gets are linearizable, by values alone: for mixes in which versions mean nothing. Every
 * put of a key has a value of its own, so each get names the put that it saw. A put and its gets are a cluster:
 *
 *     first end     when the first of them had ended: by then the value had been there
 *     last start    when the last of them began: the value was still there
 *
 * The history of a key is linearizable exactly when no get ends before its put begins, no two clusters whose value must
 * stay from first end to last start overlap there, and none whose operations all lie at once fits inside such a stay.
 * A put that nobody has answered or seen may never have happened, and is left out.
 *
 * Source: Gibbons and Korach, "Testing shared memories" (1997): zones.
 */
import { describe, type HistoryEntry } from "../history.ts";

/** Puts that were acknowledged, and gets that were answered, do not fit one order. */
export class NotAtomic extends Error {
  override readonly name = "NotAtomic";
}

interface Cluster {
  readonly value: string;
  readonly operations: HistoryEntry[];
  /** When its put began. */
  readonly putAt: number;
  firstEnd: number;
  lastStart: number;
}

/** Throws NotAtomic. The history holds gets and unconditional puts of single keys. */
export function checkAtomic(entries: readonly HistoryEntry[]): void {
  const keys = new Set(entries.map(({ operation }) => ("key" in operation ? operation.key : "")));
  for (const key of keys) checkKey(entries.filter(({ operation }) => "key" in operation && operation.key === key));
}

/** The value that a key has before its first put. */
const NOTHING = "";

function checkKey(entries: readonly HistoryEntry[]): void {
  const clusters = new Map<string, Cluster>();
  clusters.set(NOTHING, { value: NOTHING, operations: [], putAt: -1, firstEnd: -1, lastStart: -1 });
  for (const entry of entries) {
    if (entry.operation.kind !== "put") continue;
    const { value } = entry.operation;
    const { invoked: putAt, returned: firstEnd } = entry;
    clusters.set(value, { value, operations: [entry], putAt, firstEnd, lastStart: putAt });
  }
  for (const entry of entries)
    if (entry.operation.kind === "get" && entry.outcome !== undefined) addGet(clusters, entry);
  const seen = [...clusters.values()].filter(({ firstEnd }) => firstEnd < Number.POSITIVE_INFINITY);
  const stays = seen.filter(isStay).sort((a, b) => a.firstEnd - b.firstEnd);
  for (const [nth, stay] of stays.entries()) {
    const next = stays[nth + 1];
    if (next !== undefined && next.firstEnd < stay.lastStart) throw violation(stay, next);
    const inside = seen.find((one) => !isStay(one) && stay.firstEnd < one.lastStart && one.firstEnd < stay.lastStart);
    if (inside !== undefined) throw violation(stay, inside);
  }
}

function addGet(clusters: ReadonlyMap<string, Cluster>, entry: HistoryEntry): void {
  const { outcome, invoked, returned } = entry;
  const value = outcome?.status === "OK" ? outcome.record!.value : NOTHING;
  const cluster = clusters.get(value);
  if (cluster === undefined || returned < cluster.putAt) {
    throw new NotAtomic(`a value was read that nobody had put: ${describe(entry)}`);
  }
  cluster.operations.push(entry);
  cluster.firstEnd = Math.min(cluster.firstEnd, returned);
  cluster.lastStart = Math.max(cluster.lastStart, invoked);
}

/** The value must have been there, with nothing in between, from first end to last start. */
function isStay({ firstEnd, lastStart }: Cluster): boolean {
  return firstEnd < lastStart;
}

function violation(a: Cluster, b: Cluster): NotAtomic {
  const lines = [...a.operations, ...b.operations].map((entry) => `  ${describe(entry)}`);
  return new NotAtomic(`"${a.value}" and "${b.value}" do not fit one order\n${lines.join("\n")}`);
}
