/**
 * One ordered view over a shard's sources: tables, newest first, and the stored rows. Of a key that several hold the
 * newest wins; tombstones hide.
 */
import { type Bytes, compareBytes, EMPTY_BYTES } from "../../lib/bytes.ts";
import type { KeyOrder } from "../../model/keys.ts";
import type { Cursor } from "../../ports.ts";
import { appendOneByOne, appendRecord, bodyEnd } from "../../wire/stored-record.ts";
import type { Writer } from "../../wire/writer.ts";
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
  /** Whether `#stored` stands at a record, and whether that was given out already. */
  #storedMore: boolean;
  #storedUsed = false;
  readonly #direction: 1 | -1;
  /** Called before each step: throws when the snapshot was cut. */
  readonly #check: () => void;
  #fromTable = false;
  #orderKey: Bytes = EMPTY_BYTES;
  #tie: Bytes = EMPTY_BYTES;
  #tableRow: Bytes = EMPTY_BYTES;

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
    return this.#fromTable ? this.#order.decode(this.#orderKey, this.#tie) : this.#stored!.key;
  }

  get row(): Bytes {
    return this.#fromTable ? this.#tableRow : this.#stored!.row;
  }

  next(): boolean {
    this.#check();
    this.#leaveUsed();
    for (;;) {
      const source = this.#first();
      if (source === undefined) return this.#takeStored();
      const { orderKey, tie, row } = source;
      if (this.#storedMore) {
        const order = this.#stored!.compare(orderKey, tie) * this.#direction;
        if (order > 0) return this.#takeStored();
        if (order === 0) this.#storedMore = this.#stored!.next();
      }
      // older tables that hold the same key, and the source itself, move on
      for (const table of this.#tables) {
        while (table.more && compareBytes(table.orderKey, orderKey) === 0 && compareBytes(table.tie, tie) === 0)
          table.advance();
      }
      if (row === undefined) continue;
      this.#fromTable = true;
      this.#orderKey = orderKey;
      this.#tie = tie;
      this.#tableRow = row;
      return true;
    }
  }

  appendRecords(target: Writer, recordsMax: number, bytesMax: number): boolean {
    if (this.#direction < 0) return appendOneByOne(this, target, recordsMax, bytesMax);
    for (let records = 0; records < recordsMax && target.length < bytesMax; ) {
      const copied = this.#appendStored(target, recordsMax - records);
      records += copied;
      if (copied > 0) continue;
      if (!this.next()) return false;
      const { key, row } = this;
      appendRecord(target, row, bodyEnd(row), key);
      records++;
    }
    return true;
  }

  /** Copies stored records that come before every table's next key. */
  #appendStored(target: Writer, recordsMax: number): number {
    this.#check();
    this.#leaveUsed();
    if (!this.#storedMore) return 0;
    const source = this.#first();
    const copied = this.#stored!.append(target, recordsMax, source?.orderKey, source?.tie ?? EMPTY_BYTES);
    this.#storedUsed = copied > 0;
    return copied;
  }

  #leaveUsed(): void {
    if (!this.#storedUsed) return;
    this.#storedUsed = false;
    this.#storedMore = this.#stored!.next();
  }

  #takeStored(): boolean {
    this.#fromTable = false;
    this.#storedUsed = this.#storedMore;
    return this.#storedMore;
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
}
