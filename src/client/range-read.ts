/**
 * A range read over several shards: their pages merged into one stream, k-way, with no more read ahead than each shard
 * holds. Equal to what official clients do, also in the order: shards keep their keys in an order of their own, and the
 * heads of the shards are compared by another (keys.ts), so the whole is sorted only within each shard.
 *
 * Reads by an index are merged by the index's keys where the servers name them (Oxia's do not): else by the records' own,
 * as in Oxia's client for Go, so that the whole is in the order of the index within each shard only.
 */
import { compareAcrossShards, type WireKey } from "./keys.ts";
import type { ShardContext } from "./shard-context.ts";
import { type KeyRange, type RangeKind, ShardGone, ShardRange } from "./shard-range.ts";
import type { Shard } from "./shard-table.ts";

/** Items of one page that is put together from several shards. */
const MERGED_PAGE_ITEMS_MAX = 1000;

/** The items of a range. Reading starts with the first iteration; each iteration reads anew. */
export class RangeRead<T> implements AsyncIterable<T> {
  readonly #pages: () => AsyncGenerator<T[], void, undefined>;

  constructor(pages: () => AsyncGenerator<T[], void, undefined>) {
    this.#pages = pages;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const page of this.#pages()) yield* page;
  }

  /** The same items, many at a time: several times faster than one by one where there are millions. */
  pages(): AsyncGenerator<T[], void, undefined> {
    return this.#pages();
  }
}

/** Pages of what `convert` makes of each page. */
export async function* convertedPages<T, U>(
  pages: AsyncGenerator<T[], void, undefined>,
  convert: (page: T[]) => U[],
): AsyncGenerator<U[], void, undefined> {
  for await (const page of pages) yield convert(page);
}

/** Merged pages of all of `shards`. Leaving the generator early ends the calls. */
export async function* mergedPages<T>(
  shards: readonly Shard[],
  kind: RangeKind<T>,
  range: KeyRange,
  context: ShardContext,
): AsyncGenerator<T[], void, undefined> {
  const merge = new Merge(kind, range, context);
  try {
    for (const shard of shards) merge.add(shard, undefined);
    for (let page = await merge.next(); page.length > 0; page = await merge.next()) yield page;
  } finally {
    merge.close();
  }
}

/** One shard in a merge. Invariant: next < page.length, or the source is not in the heap. */
interface Source<T> {
  readonly read: ShardRange<T>;
  page: readonly T[];
  next: number;
  /** The key that page[next] is merged by. */
  key: WireKey;
}

class Merge<T> {
  readonly #kind: RangeKind<T>;
  readonly #range: KeyRange;
  readonly #context: ShardContext;
  /** Sources with an item, as a binary heap by its key. */
  readonly #heap: Source<T>[] = [];
  /** Sources that need a page before the merge goes on, with that page under way. */
  #waiting: { readonly source: Source<T>; readonly page: Promise<T[] | ShardGone | undefined> }[] = [];
  readonly #open = new Set<ShardRange<T>>();

  constructor(kind: RangeKind<T>, range: KeyRange, context: ShardContext) {
    this.#kind = kind;
    this.#range = range;
    this.#context = context;
  }

  add(shard: Shard, after: WireKey | undefined): void {
    const read = new ShardRange(shard, this.#kind, this.#range, this.#context, after);
    this.#open.add(read);
    this.#wait({ read, page: [], next: 0, key: "" });
  }

  /** The next items in order; empty at the end. */
  async next(): Promise<T[]> {
    while (this.#waiting.length > 0) await this.#fill();
    if (this.#heap.length === 0) return [];
    if (this.#heap.length === 1) return this.#wholePage();
    const merged: T[] = [];
    while (merged.length < MERGED_PAGE_ITEMS_MAX) {
      const source = this.#heap[0]!;
      merged.push(source.page[source.next++]!);
      if (source.next === source.page.length) {
        this.#removeFirst();
        this.#wait(source);
        break;
      }
      source.key = this.#kind.sortKeyOf(source.page[source.next]!);
      this.#siftDown(0);
    }
    return merged;
  }

  close(): void {
    for (const read of this.#open) read.close();
    this.#open.clear();
  }

  /** With one source left nothing is compared. */
  #wholePage(): T[] {
    const source = this.#heap.pop()!;
    const rest = source.next === 0 ? source.page : source.page.slice(source.next);
    this.#wait(source);
    return rest as T[];
  }

  #wait(source: Source<T>): void {
    const page = source.read.next();
    // it is awaited later, when the merge comes to it; until then a failure is not unhandled
    page.catch(() => {});
    this.#waiting.push({ source, page });
  }

  async #fill(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { source, page: promise } of waiting) {
      const page = await promise;
      if (page instanceof ShardGone) {
        this.#open.delete(source.read);
        this.#addSuccessors(page);
      } else if (page === undefined) {
        this.#open.delete(source.read);
      } else {
        source.page = page;
        source.next = 0;
        source.key = this.#kind.sortKeyOf(page[0]!);
        this.#heap.push(source);
        this.#siftUp(this.#heap.length - 1);
      }
    }
  }

  #addSuccessors({ hashes, after }: ShardGone): void {
    for (const shard of this.#context.assignments.table.within(hashes)) this.add(shard, after);
  }

  /** Records that an index has under one key are merged by their own. */
  #compare(a: Source<T>, b: Source<T>): number {
    const order = compareAcrossShards(a.key, b.key);
    if (order !== 0 || this.#range.useIndex === undefined) return order;
    return compareAcrossShards(this.#kind.keyOf(a.page[a.next]!), this.#kind.keyOf(b.page[b.next]!));
  }

  #removeFirst(): void {
    const last = this.#heap.pop()!;
    if (this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#siftDown(0);
  }

  #siftUp(from: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#compare(heap[parent]!, heap[at]!) <= 0) return;
      [heap[parent], heap[at]] = [heap[at]!, heap[parent]!];
      at = parent;
    }
  }

  #siftDown(from: number): void {
    const heap = this.#heap;
    let at = from;
    for (;;) {
      let least = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < heap.length; child++) {
        if (this.#compare(heap[child]!, heap[least]!) < 0) least = child;
      }
      if (least === at) return;
      [heap[least], heap[at]] = [heap[at]!, heap[least]!];
      at = least;
    }
  }
}
