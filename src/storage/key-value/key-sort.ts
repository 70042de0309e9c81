/**
 * Sorts a table's keys by (order key, tie). Comparing keys byte by byte is most of what a flush costs, so keys are
 * sorted by four bytes at a time: word and place in one number, which the engine sorts natively; keys with the same
 * word are sorted by the next four bytes.
 *
 * Source: most-significant-digit string sorting with cached words (Ng and Kakehi, 2007).
 */
import type { Address, Table } from "./table.ts";

/** Word (32 bits) and place share one number of 53 bits. */
const PLACES = 2 ** 21;
/** So few are sorted by insertion. */
const FEW = 12;
/** Keys that agree in so many bytes are compared as a whole. */
const DEPTH_MAX = 1024;

/** Sorts `keys` in place. */
export function sortKeys(table: Table, keys: Int32Array): Int32Array {
  if (keys.length > PLACES) keys.sort((a, b) => table.compareKeys(a, b));
  else sortFrom(table, keys, 0, keys.length, 0);
  return keys;
}

/** Sorts the keys from `low` inclusive to `high` exclusive, which agree in their first `depth` bytes. */
function sortFrom(table: Table, keys: Int32Array, low: number, high: number, depth: number): void {
  const count = high - low;
  if (count <= FEW) {
    sortByInsertion(table, keys, low, high);
    return;
  }
  const words = new Float64Array(count);
  let at = depth;
  for (; ; at += 4) {
    let differ = false;
    let longest = 0;
    const first = table.keyWord(keys[low]!, at);
    for (let i = 0; i < count; i++) {
      const key = keys[low + i]!;
      const word = table.keyWord(key, at);
      words[i] = word * PLACES + i;
      if (word !== first) differ = true;
      longest = Math.max(longest, table.orderKeyLength(key));
    }
    if (differ) break;
    if (longest <= at + 4 || at >= DEPTH_MAX) {
      keys.subarray(low, high).sort((a, b) => table.compareKeys(a, b));
      return;
    }
  }
  words.sort();
  const before = keys.slice(low, high);
  let start = 0;
  let word = Math.floor(words[0]! / PLACES);
  for (let i = 0; i <= count; i++) {
    const next = i === count ? -1 : Math.floor(words[i]! / PLACES);
    if (i < count) keys[low + i] = before[words[i]! % PLACES]!;
    if (next === word) continue;
    if (i - start > 1) sortFrom(table, keys, low + start, low + i, at + 4);
    start = i;
    word = next;
  }
}

function sortByInsertion(table: Table, keys: Int32Array, low: number, high: number): void {
  for (let i = low + 1; i < high; i++) {
    const key: Address = keys[i]!;
    let at = i;
    for (; at > low && table.compareKeys(keys[at - 1]!, key) > 0; at--) keys[at] = keys[at - 1]!;
    keys[at] = key;
  }
}
