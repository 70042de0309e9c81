/**
 * Where a shard's entries lie in one segment: a sparse index, since rows of all shards are mixed in arrival order.
 *
 *     mark = (offset, rowid): from that row on the shard's entries follow each other, with few foreign rows between,
 *            up to the entry before the next mark
 *
 * A read seeks to a mark and filters by shard; a shard that writes alone, or with few others, needs a mark every
 * LOG_INDEX_ENTRIES_PER_MARK_MAX entries, one among a thousand others a mark an entry (8 bytes).
 *
 * Invariant: offsets of one shard are dense from `first` to `last`, in ascending row order from mark to mark.
 */
import { assert } from "../lib/assert.ts";
import type { Offset } from "../model/ids.ts";
import { LOG_INDEX_ENTRIES_PER_MARK_MAX, LOG_INDEX_FOREIGN_ROWS_MAX } from "../model/limits.ts";

/** A stretch of rows that holds `entries` entries of the shard, the first of them `offset`, from `rowid` on. */
export interface Stretch {
  readonly rowid: number;
  readonly offset: Offset;
  readonly entries: number;
}

export class ShardIndex {
  readonly first: Offset;
  last: Offset;
  /** Pairs: offset less `first`, rowid. */
  #marks = new Uint32Array(8);
  #count = 0;
  #lastRowid = 0;

  constructor(first: Offset) {
    this.first = first;
    this.last = first - 1;
  }

  /** Adds `entries` entries from `offset` on, in consecutive rows from `rowid` on. */
  add(offset: Offset, rowid: number, entries: number): void {
    assert(offset === this.last + 1, "entries of a segment are indexed in order", offset, this.last);
    let at = offset;
    let row = rowid;
    let left = entries;
    while (left > 0) {
      const sinceMark = this.#count === 0 ? Infinity : at - this.first - this.#marks[2 * this.#count - 2]!;
      const foreign = row - this.#lastRowid - 1;
      const full = sinceMark >= LOG_INDEX_ENTRIES_PER_MARK_MAX;
      if (full || foreign > LOG_INDEX_FOREIGN_ROWS_MAX || foreign < 0) this.#mark(at, row);
      const taken = Math.min(left, LOG_INDEX_ENTRIES_PER_MARK_MAX);
      at += taken;
      row += taken;
      left -= taken;
      this.#lastRowid = row - 1;
    }
    this.last = at - 1;
  }

  /** Where to find `offset`, which lies between `first` and `last`. */
  find(offset: Offset): Stretch {
    assert(offset >= this.first && offset <= this.last, "an offset outside of a segment", offset);
    let low = 0;
    let high = this.#count - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#marks[2 * middle]! <= offset - this.first) low = middle;
      else high = middle - 1;
    }
    const next = low + 1 < this.#count ? this.first + this.#marks[2 * low + 2]! : this.last + 1;
    return { rowid: this.#marks[2 * low + 1]!, offset, entries: next - offset };
  }

  /** Forgets entries behind `offset`; what is added next gets a mark of its own. */
  truncate(offset: Offset): void {
    this.last = Math.min(this.last, offset);
    while (this.#count > 0 && this.first + this.#marks[2 * this.#count - 2]! > offset) this.#count--;
    this.#lastRowid = Infinity;
  }

  get bytes(): number {
    return this.#marks.byteLength;
  }

  #mark(offset: Offset, rowid: number): void {
    if (2 * this.#count === this.#marks.length) {
      const grown = new Uint32Array(this.#marks.length * 2);
      grown.set(this.#marks);
      this.#marks = grown;
    }
    this.#marks[2 * this.#count] = offset - this.first;
    this.#marks[2 * this.#count + 1] = rowid;
    this.#count++;
  }
}
