/**
 * One ordered view over a shard's sources: tables, newest first, and the stored rows. Of a key that several hold the
 * newest wins; tombstones hide.
 */
import { type Bytes, compareBytes, EMPTY_BYTES } from "../../lib/bytes.ts";
import type { KeyOrder } from "../../model/keys.ts";
import type { Cursor } from "../../ports.ts";
import type { StoredCursor } from "./reader.ts";
import { NOWHERE, type Table } from "./table.ts";
import type { TableCursor } from "./table-order.ts";

/** A table's cursor with its current key at hand. */
class TableSource {
  readonly #cursor: TableCursor;
  readonly #table: Table;
  more = false;
  orderKey: Bytes = EMPTY_BYTES;
  tie: Bytes = EMPTY_BYTES;

  constructor(cursor: TableCursor) {
    this.#cursor = cursor;
    this.#table = cursor.table;
    this.advance();
  }

  advance(): void {
    this.more = this.#cursor.next();
    if (!this.more) return;
    this.orderKey = this.#table.orderKey(this.#cursor.key);
    this.tie = this.#table.tie(this.#cursor.key);
  }

  /** Undefined for a tombstone. */
  get row(): Bytes | undefined {
    const { version } = this.#cursor;
    return version === NOWHERE || this.#table.isTombstone(version) ? undefined : this.#table.row(version);
  }
}

export class MergedCursor implements Cursor {
  readonly #order: KeyOrder;
  readonly #tables: readonly TableSource[];
  readonly #stored: StoredCursor | undefined;
  #storedMore: boolean;
  readonly #direction: 1 | -1;
  /** Called before each step: throws when the snapshot was cut. */
  readonly #check: () => void;
  #orderKey: Bytes = EMPTY_BYTES;
  #tie: Bytes = EMPTY_BYTES;
  row: Bytes = EMPTY_BYTES;

  constructor(
    order: KeyOrder,
    sources: {
      readonly tables: readonly TableCursor[];
      readonly stored: StoredCursor | undefined;
      readonly reverse: boolean;
    },
    check: () => void = () => {},
  ) {
    this.#order = order;
    this.#tables = sources.tables.map((cursor) => new TableSource(cursor)).filter(({ more }) => more);
    this.#stored = sources.stored;
    this.#storedMore = this.#stored?.next() ?? false;
    this.#direction = sources.reverse ? -1 : 1;
    this.#check = check;
  }

  get key(): Bytes {
    return this.#order.decode(this.#orderKey, this.#tie);
  }

  next(): boolean {
    this.#check();
    if (this.#tables.length === 0) return this.#nextStored();
    for (;;) {
      const source = this.#first();
      if (source === undefined) return this.#nextStored();
      const { orderKey, tie, row } = source;
      if (this.#storedMore) {
        const order = this.#compareStored(orderKey, tie);
        if (order > 0) return this.#nextStored();
        if (order === 0) this.#storedMore = this.#stored!.next();
      }
      // older tables that hold the same key, and the source itself, move on
      for (const table of this.#tables) {
        while (table.more && compareBytes(table.orderKey, orderKey) === 0 && compareBytes(table.tie, tie) === 0)
          table.advance();
      }
      if (row === undefined) continue;
      this.#orderKey = orderKey;
      this.#tie = tie;
      this.row = row;
      return true;
    }
  }

  #nextStored(): boolean {
    if (!this.#storedMore) return false;
    const stored = this.#stored!;
    this.#orderKey = stored.orderKey;
    this.#tie = stored.tie;
    this.row = stored.stored.subarray(4);
    this.#storedMore = stored.next();
    return true;
  }

  /** The table whose key comes first; of equals the newest. */
  #first(): TableSource | undefined {
    let best: TableSource | undefined;
    for (const table of this.#tables) {
      if (!table.more) continue;
      if (best === undefined) best = table;
      else {
        const order = compareBytes(table.orderKey, best.orderKey) || compareBytes(table.tie, best.tie);
        if (order * this.#direction < 0) best = table;
      }
    }
    return best;
  }

  /** Positive when the stored row comes before the table's key. */
  #compareStored(orderKey: Bytes, tie: Bytes): number {
    const stored = this.#stored!;
    return (compareBytes(orderKey, stored.orderKey) || compareBytes(tie, stored.tie)) * this.#direction;
  }
}
