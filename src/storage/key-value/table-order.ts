/**
 * The keys of a table in order, for range reads. Order is needed only there, so it is made only then: keys added since
 * the last ordered read are sorted into a run, and runs are merged while they are small. A cursor merges the runs.
 *
 * Work comes in steps of a few milliseconds, so that a large table never holds up the event loop.
 */
import { compareBytes } from "../../lib/bytes.ts";
import { sortKeys } from "./key-sort.ts";
import { type Address, NOWHERE, type Table } from "./table.ts";

/** Keys sorted in one step. */
const RUN_KEYS = 4096;
/** Runs are merged up to this many keys: a step of some 10 ms. */
const MERGED_KEYS_MAX = 65_536;

/** A bound as order key and tie. */
export interface Bound {
  readonly orderKey: Uint8Array;
  readonly tie: Uint8Array;
  readonly inclusive: boolean;
}

/** A range in order keys. */
export interface OrderRange {
  readonly from: Bound | undefined;
  readonly to: Bound | undefined;
  readonly reverse: boolean;
}

export class TableOrder {
  readonly table: Table;
  /** Each sorted by key; disjoint. */
  #runs: Int32Array[] = [];
  #sorted = 0;

  constructor(table: Table) {
    this.table = table;
  }

  get complete(): boolean {
    return this.#sorted === this.table.keyCount;
  }

  /** Sorts up to RUN_KEYS more keys, or merges two runs. Repeat until `complete`. */
  step(): void {
    const { table } = this;
    const end = Math.min(this.#sorted + RUN_KEYS, table.keyCount);
    const run = table.keys.slice(this.#sorted, end);
    this.#sorted = end;
    sortKeys(table, run);
    this.#runs.push(run);
    for (;;) {
      const last = this.#runs.at(-1)!;
      const before = this.#runs.at(-2);
      if (before === undefined || before.length > 2 * last.length) break;
      if (before.length + last.length > MERGED_KEYS_MAX) break;
      this.#runs.splice(-2, 2, this.#merge(before, last));
    }
  }

  /** Keys whose version below `end` exists, in the range, in order. Complete at the time of the call. */
  cursor(range: OrderRange, end: Address): TableCursor {
    return new TableCursor(this.table, this.#runs, range, end);
  }

  #merge(a: Int32Array, b: Int32Array): Int32Array {
    const merged = new Int32Array(a.length + b.length);
    let i = 0;
    let j = 0;
    for (let at = 0; at < merged.length; at++) {
      const takeA = j === b.length || (i < a.length && this.table.compareKeys(a[i]!, b[j]!) < 0);
      merged[at] = takeA ? a[i++]! : b[j++]!;
    }
    return merged;
  }
}

/** Merges sorted runs: a scan over the heads of few runs a step. */
export class TableCursor {
  readonly table: Table;
  readonly #runs: readonly Int32Array[];
  readonly #at: number[];
  readonly #stop: number[];
  readonly #step: 1 | -1;
  readonly #end: Address;
  /** The current key and its version; NOWHERE before the first and after the last. */
  key: Address = NOWHERE;
  version: Address = NOWHERE;

  constructor(table: Table, runs: readonly Int32Array[], range: OrderRange, end: Address) {
    this.table = table;
    this.#end = end;
    this.#step = range.reverse ? -1 : 1;
    const lows = runs.map((run) =>
      range.from === undefined ? 0 : lowerBound(table, run, range.from, !range.from.inclusive),
    );
    const highs = runs.map((run) =>
      range.to === undefined ? run.length : lowerBound(table, run, range.to, range.to.inclusive),
    );
    const live = runs.map((_, index) => index).filter((index) => lows[index]! < highs[index]!);
    this.#runs = live.map((index) => runs[index]!);
    this.#at = live.map((index) => (range.reverse ? highs[index]! - 1 : lows[index]!));
    this.#stop = live.map((index) => (range.reverse ? lows[index]! - 1 : highs[index]!));
  }

  next(): boolean {
    for (;;) {
      const key = this.#nextKey();
      if (key === NOWHERE) {
        this.key = this.version = NOWHERE;
        return false;
      }
      const version = this.table.versionBelow(key, this.#end);
      if (version === NOWHERE) continue;
      this.key = key;
      this.version = version;
      return true;
    }
  }

  #nextKey(): Address {
    const at = this.#at;
    let best = -1;
    let bestKey = NOWHERE;
    for (let index = 0; index < at.length; index++) {
      if (at[index] === this.#stop[index]) continue;
      const key = this.#runs[index]![at[index]!]!;
      if (best < 0 || this.table.compareKeys(key, bestKey) * this.#step < 0) {
        best = index;
        bestKey = key;
      }
    }
    if (best >= 0) at[best]! += this.#step;
    return bestKey;
  }
}

/** The first place whose key is at or after the bound; after it when `past`. */
function lowerBound(table: Table, run: Int32Array, bound: Bound, past: boolean): number {
  let low = 0;
  let high = run.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compareToBound(table, run[middle]!, bound);
    if (order < 0 || (past && order === 0)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function compareToBound(table: Table, key: Address, bound: Bound): number {
  return compareBytes(table.orderKey(key), bound.orderKey) || compareBytes(table.tie(key), bound.tie);
}

/** All keys of a table in order. */
export function sortedKeys(table: Table): Int32Array {
  return sortKeys(table, table.keys.slice(0, table.keyCount));
}
