/** Reading connections on one KV file: point look-ups, and the blocks of a range. Every block's CRC is checked. */
import type { Database, Statement } from "bun:sqlite";
import { type Bytes, compareBytes, EMPTY_BYTES } from "../../lib/bytes.ts";
import type { Offset } from "../../model/ids.ts";
import { type KeyOrder, orderKeyOf, tieOf } from "../../model/keys.ts";
import { NOTIFICATION_BATCHES_PER_READ_MAX, NOTIFICATION_BYTES_PER_READ_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type { NotificationEntries } from "../../ports.ts";
import type { Writer } from "../../wire/writer.ts";
import { openSqlite, sqliteErrorKind } from "../sqlite.ts";
import { type BlockBound, BlockView, isWhole, type StoredBlock } from "./block.ts";
import { BLOCK_OF_KEY, placeOf } from "./block-merge.ts";
import { checkedNotifications, type NotificationRow, READ_NOTIFICATIONS, readTrimmed } from "./notification-store.ts";
import type { OrderRange } from "./table-order.ts";

/** Least page cache of one connection. */
const CACHE_KIB_MIN = 64;
/** Blocks of a range's second page; each further one is twice as large. The first is the one that the range begins in. */
const PAGE_BLOCKS_FIRST = 2;
const PAGE_BLOCKS_MAX = 16;
/** A page ends with the block that reaches this. */
const PAGE_BYTES_MAX = 128 * 1024;

const BEFORE_ALL: BlockBound = { okey: EMPTY_BYTES, tie: EMPTY_BYTES };

/** A record as stored. The row is borrowed until the next read. */
export interface StoredRecord {
  readonly row: Bytes;
  readonly crc: number;
}

export class KeyValueReader {
  readonly path: string;
  readonly #database: Database;
  readonly #ofKey: Statement;
  readonly #forward: Statement;
  readonly #forwardTo: Statement;
  readonly #backward: Statement;
  readonly #onwards: Statement;
  readonly #downwards: Statement;
  /** Whether the state is pinned: then bounds of blocks stay as they are from read to read. */
  isPinned = false;
  readonly #notifications: Statement;

  /** Nothing is mapped: blocks are read whole, so that a map gains no time and counts as resident. */
  constructor(path: string, { cacheBytes }: { readonly cacheBytes: number }) {
    this.path = path;
    this.#database = openSqlite(path, {
      mode: "read",
      synchronous: "NORMAL",
      cacheKiB: Math.max(CACHE_KIB_MIN, Math.floor(cacheBytes / 1024)),
    });
    const blocks = "SELECT okey, tie, records FROM block WHERE";
    this.#ofKey = this.#database.prepare(BLOCK_OF_KEY);
    this.#forward = this.#database.prepare(`${blocks} (okey, tie) > (?1, ?2) ORDER BY okey, tie LIMIT ?3`);
    this.#forwardTo = this.#database.prepare(
      `${blocks} (okey, tie) > (?1, ?2) AND (okey, tie) <= (?4, ?5) ORDER BY okey, tie LIMIT ?3`,
    );
    this.#notifications = this.#database.prepare(READ_NOTIFICATIONS);
    const holder = "(SELECT okey, tie FROM block WHERE (okey, tie) <= (?1, ?2) ORDER BY okey DESC, tie DESC LIMIT 1)";
    this.#onwards = this.#database.prepare(`${blocks} (okey, tie) >= ${holder} ORDER BY okey, tie LIMIT ?3`);
    this.#downwards = this.#database.prepare(`${blocks} (okey, tie) <= (?1, ?2) ORDER BY okey DESC, tie DESC LIMIT ?3`);
    this.#backward = this.#database.prepare(`${blocks} (okey, tie) < (?1, ?2) ORDER BY okey DESC, tie DESC LIMIT ?3`);
  }

  /** What is stored under a key, or undefined. */
  get(order: KeyOrder, orderKey: Bytes, tie: Bytes): StoredRecord | undefined {
    const block = this.blockOf(orderKey, tie);
    if (block === undefined) return undefined;
    const view = new BlockView(block.records);
    const index = view.lowerBound(order, orderKey, tie);
    if (index === view.count || view.compare(order, orderKey, tie, index) !== 0) return undefined;
    return { row: view.row(index), crc: view.crc(index) };
  }

  /** The block that a key falls into. */
  blockOf(orderKey: Bytes, tie: Bytes): StoredBlock | undefined {
    return this.#reading(() => {
      const block = this.#ofKey.get(orderKey, tie) as StoredBlock | null;
      return block === null ? undefined : this.#checked(block);
    });
  }

  /** Runs a read. What SQLite finds damaged is DATA_LOSS like what a checksum does. */
  #reading<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (sqliteErrorKind(error) !== "corrupt") throw error;
      throw new Refusal("DATA_LOSS", `${this.path}: byte 0: ${(error as Error).message}`);
    }
  }

  /** What entries behind `after` told subscribers, up to the bounds of one read, and up to where it may be gone. */
  notifications(after: Offset): { readonly found: NotificationEntries[]; readonly trimmed: Offset } {
    return this.#reading(() => {
      const rows: NotificationRow[] = [];
      let bytes = 0;
      for (const row of this.#notifications.iterate(after, NOTIFICATION_BATCHES_PER_READ_MAX)) {
        rows.push(row as NotificationRow);
        bytes += (row as NotificationRow).entries.length;
        if (bytes >= NOTIFICATION_BYTES_PER_READ_MAX) break;
      }
      const trimmed = readTrimmed(this.#database);
      return { found: checkedNotifications(this.path, rows, { after, trimmed }), trimmed };
    });
  }

  /** Pins the state as it is now until `unpin`. */
  pin(): void {
    this.#reading(() => {
      this.#database.run("BEGIN");
      this.#database.query("SELECT count(*) FROM meta").values();
    });
    this.isPinned = true;
  }

  unpin(): void {
    this.isPinned = false;
    this.#database.run("COMMIT");
  }

  /** Up to `limit` blocks behind a bound, those that begin at or before `to` when it is given, up to PAGE_BYTES_MAX of them. */
  blocksBehind({ okey, tie }: BlockBound, to: BlockBound | undefined, limit: number): StoredBlock[] {
    return this.#page(
      to === undefined
        ? this.#forward.iterate(okey, tie, limit)
        : this.#forwardTo.iterate(okey, tie, limit, to.okey, to.tie),
    );
  }

  /** Up to `limit` blocks that begin before a bound, the nearest first, up to PAGE_BYTES_MAX of them. */
  blocksBefore({ okey, tie }: BlockBound, limit: number): StoredBlock[] {
    return this.#page(this.#backward.iterate(okey, tie, limit));
  }

  /** Up to `limit` blocks, two at least if there are, in one look at the file: from the one that a key falls into, upwards or downwards. */
  blocksFrom(orderKey: Bytes, tie: Bytes, direction: "up" | "down", limit: number): StoredBlock[] {
    const statement = direction === "up" ? this.#onwards : this.#downwards;
    return this.#page(statement.iterate(orderKey, tie, limit), 2);
  }

  /** The last block, if there is one. */
  lastBlock(): StoredBlock | undefined {
    return this.#reading(() => {
      const last = this.#database.query("SELECT okey, tie, records FROM block ORDER BY okey DESC, tie DESC LIMIT 1");
      const block = last.get() as StoredBlock | null;
      return block === null ? undefined : this.#checked(block);
    });
  }

  #page(found: Iterable<unknown>, least = 1): StoredBlock[] {
    return this.#reading(() => {
      const blocks: StoredBlock[] = [];
      let bytes = 0;
      for (const block of found as Iterable<StoredBlock>) {
        blocks.push(this.#checked(block));
        bytes += block.records.length;
        if (bytes >= PAGE_BYTES_MAX && blocks.length >= least) break;
      }
      return blocks;
    });
  }

  #checked(block: StoredBlock): StoredBlock {
    if (isWhole(block)) return block;
    throw new Refusal(
      "DATA_LOSS",
      `${this.path}: ${placeOf(block)}: a block has another checksum than it was written with`,
    );
  }

  close(): void {
    const statements = [
      this.#ofKey,
      this.#forward,
      this.#forwardTo,
      this.#backward,
      this.#onwards,
      this.#downwards,
      this.#notifications,
    ];
    for (const statement of statements) statement.finalize();
    this.#database.close();
  }
}

/**
 * A place in the stored records of a range, read page by page. While the file is not pinned a flush may divide and merge
 * blocks between two pages: then the next page is found by the last key, not by the last block.
 */
export class StoredCursor {
  readonly #reader: KeyValueReader;
  readonly #order: KeyOrder;
  #range: OrderRange;
  readonly #to: BlockBound | undefined;
  #page: StoredBlock[] = [];
  #at = 0;
  #blocksNext = 0;
  /** Where the next page begins; undefined when there is none. */
  #bound: BlockBound | undefined = BEFORE_ALL;
  #view: BlockView | undefined;
  /** The current record, and the first and the one behind the last of this block that lie in the range. */
  #index = 0;
  #low = 0;
  #high = 0;

  constructor(reader: KeyValueReader, order: KeyOrder, range: OrderRange) {
    this.#reader = reader;
    this.#order = order;
    this.#range = range;
    this.#to = range.to === undefined ? undefined : { okey: range.to.orderKey, tie: range.to.tie };
  }

  next(): boolean {
    const { reverse } = this.#range;
    if (this.#view !== undefined) {
      this.#index += reverse ? -1 : 1;
      if (this.#index >= this.#low && this.#index < this.#high) return true;
    }
    while (this.#turn()) {
      if (this.#low >= this.#high) continue;
      this.#index = reverse ? this.#high - 1 : this.#low;
      return true;
    }
    this.#view = undefined;
    return false;
  }

  /** Compares (orderKey, tie) with the current record's key. */
  compare(orderKey: Bytes, tie: Bytes): number {
    return this.#view!.compare(this.#order, orderKey, tie, this.#index);
  }

  /** The current record's raw key, a view of its block, which stays as it is. */
  get key(): Bytes {
    return this.#view!.key(this.#index);
  }

  get row(): Bytes {
    return this.#view!.row(this.#index);
  }

  /**
   * Appends the current record and those behind it in its block, up to `recordsMax`, and those before (orderKey, tie)
   * when it is given. Stands at the last one then, and answers how many: 0 when the current one is not before it.
   * Only in a forward range.
   */
  append(target: Writer, recordsMax: number, orderKey: Bytes | undefined, tie: Bytes): number {
    const view = this.#view!;
    let end = this.#high;
    if (orderKey !== undefined && view.compare(this.#order, orderKey, tie, end - 1) <= 0) {
      end = Math.min(end, view.lowerBound(this.#order, orderKey, tie));
    }
    const records = Math.min(end - this.#index, recordsMax);
    if (records <= 0) return 0;
    const last = this.#index + records - 1;
    target.slice(view.bytes, view.start(this.#index), view.end(last));
    this.#index = last;
    return records;
  }

  /** Opens the next block; false when there is none. */
  #turn(): boolean {
    if (this.#at === this.#page.length && !this.#nextPage()) return false;
    const block = this.#page[this.#at++]!;
    const { from, to } = this.#range;
    const view = new BlockView(block.records);
    this.#view = view;
    this.#low = 0;
    this.#high = view.count;
    const order = this.#order;
    if (from !== undefined && view.compare(order, from.orderKey, from.tie, 0) >= 0) {
      this.#low = view.lowerBound(order, from.orderKey, from.tie, !from.inclusive);
    }
    if (to !== undefined && view.compare(order, to.orderKey, to.tie, view.count - 1) <= 0) {
      this.#high = view.lowerBound(order, to.orderKey, to.tie, to.inclusive);
    }
    return true;
  }

  #nextPage(): boolean {
    if (this.#bound === undefined) return false;
    const limit = this.#blocksNext;
    this.#blocksNext = Math.min(Math.max(limit * 2, PAGE_BLOCKS_FIRST), PAGE_BLOCKS_MAX);
    this.#at = 0;
    if (limit === 0) {
      const first = this.#firstBlock();
      this.#page = first === undefined ? [] : [first];
    } else if (!this.#reader.isPinned) {
      this.#page = this.#pageBehindLastKey(limit);
    } else {
      const bound = this.#bound;
      this.#page = this.#range.reverse
        ? this.#reader.blocksBefore(bound, limit)
        : this.#reader.blocksBehind(bound, this.#to, limit);
    }
    const end = this.#page.at(-1);
    this.#bound = end;
    if (end !== undefined && this.#range.reverse && this.#beginsBelow(end)) this.#bound = undefined;
    return end !== undefined;
  }

  /** Goes on behind the last key of the page that was read, wherever that lies by now: what is left of the range begins there. */
  #pageBehindLastKey(limit: number): StoredBlock[] {
    const { reverse } = this.#range;
    const view = new BlockView(this.#page.at(-1)!.records);
    const key = view.key(reverse ? 0 : view.count - 1);
    const edge = { orderKey: orderKeyOf(this.#order, key), tie: tieOf(this.#order, key), inclusive: false };
    this.#range = reverse ? { ...this.#range, to: edge } : { ...this.#range, from: edge };
    const read = this.#reader.blocksFrom(edge.orderKey, edge.tie, reverse ? "down" : "up", limit + 1);
    const page = reverse ? read : read.filter((block) => !this.#beginsAbove(block));
    const last = page.at(-1);
    return last === undefined || this.#endsAt(last, edge) ? [] : page;
  }

  /** Whether a block has nothing behind a key that was given out already. */
  #endsAt({ records }: StoredBlock, edge: { readonly orderKey: Bytes; readonly tie: Bytes }): boolean {
    const view = new BlockView(records);
    return this.#range.reverse
      ? view.compare(this.#order, edge.orderKey, edge.tie, 0) <= 0
      : view.compare(this.#order, edge.orderKey, edge.tie, view.count - 1) >= 0;
  }

  /** Whether the block begins behind the range's upper end. */
  #beginsAbove({ okey, tie }: BlockBound): boolean {
    const { to } = this.#range;
    return to !== undefined && (compareBytes(okey, to.orderKey) || compareBytes(tie, to.tie)) > 0;
  }

  /** The block that the range begins in. */
  #firstBlock(): StoredBlock | undefined {
    const { from, to, reverse } = this.#range;
    const start = reverse ? to : from;
    if (start !== undefined) return this.#reader.blockOf(start.orderKey, start.tie);
    return reverse ? this.#reader.lastBlock() : this.#reader.blockOf(EMPTY_BYTES, EMPTY_BYTES);
  }

  /** Whether the range's lower end is not below the block's bound: what lies before the block is outside. */
  #beginsBelow({ okey, tie }: BlockBound): boolean {
    const { from } = this.#range;
    if (okey.length === 0) return true;
    return from !== undefined && (compareBytes(okey, from.orderKey) || compareBytes(tie, from.tie)) <= 0;
  }
}
