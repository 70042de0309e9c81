/**
 * Merges a frozen table into the blocks of a KV file, within the caller's transaction. From the table's first key on,
 * each block that a key falls into is read, merged, and written back in pieces of KEY_VALUE_BLOCK_BYTES_MAX; a merge
 * that leaves little goes on into the next block.
 *
 * Invariant: bounds ascend, each block's keys lie from its bound to the next one's, and the first bound is empty; no
 * block is without records.
 */
import type { Database, Statement } from "bun:sqlite";
import { compareBytes, EMPTY_BYTES } from "../../lib/bytes.ts";
import type { KeyOrder } from "../../model/keys.ts";
import { KEY_VALUE_BLOCK_BYTES_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import { type BlockBound, BlockBuilder, BlockView, isWhole, type StoredBlock } from "./block.ts";
import { NOWHERE, type Table } from "./table.ts";
import { sortedKeys } from "./table-order.ts";

export const BLOCK_SCHEMA =
  "CREATE TABLE IF NOT EXISTS block(okey BLOB NOT NULL, tie BLOB NOT NULL, records BLOB NOT NULL, PRIMARY KEY(okey, tie))";
/** The block that a key falls into. */
export const BLOCK_OF_KEY =
  "SELECT okey, tie, records FROM block WHERE (okey, tie) <= (?1, ?2) ORDER BY okey DESC, tie DESC LIMIT 1";

/** Pieces smaller than this are not left alone between two blocks. */
const BYTES_MIN = KEY_VALUE_BLOCK_BYTES_MAX / 4;

/** What a merge has written. */
export interface Merged {
  rows: number;
  bytes: number;
}

export class BlockMerger {
  readonly #order: KeyOrder;
  readonly #path: string;
  readonly #ofKey: Statement;
  readonly #next: Statement;
  readonly #write: Statement;
  readonly #remove: Statement;
  readonly #pieces: Pieces;
  #written: (bytes: number) => void = () => {};

  constructor(database: Database, path: string, order: KeyOrder) {
    this.#order = order;
    this.#path = path;
    this.#ofKey = database.prepare(BLOCK_OF_KEY);
    this.#next = database.prepare(
      "SELECT okey, tie FROM block WHERE (okey, tie) > (?1, ?2) ORDER BY okey, tie LIMIT 1",
    );
    this.#write = database.prepare(
      "INSERT INTO block VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET records = excluded.records",
    );
    this.#pieces = new Pieces(order, (bound, block) => {
      this.#write.run(bound.okey, bound.tie, block);
      this.#written(block.length);
    });
    this.#remove = database.prepare("DELETE FROM block WHERE okey = ?1 AND tie = ?2");
  }

  /**
   * Merges all of a table. `written` is told the bytes of blocks as they are written. Throws DATA_LOSS when a block that
   * is needed is not what was written.
   */
  merge(table: Table, written: (bytes: number) => void = () => {}): Merged {
    const merged = { rows: 0, bytes: 0 };
    const keys = sortedKeys(table);
    this.#written = written;
    for (let at = 0; at < keys.length; ) at = this.#mergeFrom(table, keys, at, merged);
    return merged;
  }

  finalize(): void {
    for (const statement of [this.#ofKey, this.#next, this.#write, this.#remove]) statement.finalize();
  }

  /** Merges the keys from `at` on that fall into the same block, or into one merged with it. Returns the first behind them. */
  #mergeFrom(table: Table, keys: Int32Array, first: number, merged: Merged): number {
    const pieces = this.#pieces;
    let block = this.#blockOf(table.orderKey(keys[first]!), table.tie(keys[first]!));
    pieces.begin(block ?? { okey: EMPTY_BYTES, tie: EMPTY_BYTES });
    let at = first;
    for (;;) {
      const next = block === undefined ? undefined : this.#boundBehind(block);
      at = this.#mergeBlock(table, keys, at, block, next, pieces, merged);
      if (next === undefined || pieces.openBytes >= BYTES_MIN) break;
      block = this.#blockOf(next.okey, next.tie)!;
      this.#remove.run(block.okey, block.tie);
    }
    const { bound } = pieces;
    if (!pieces.finish()) this.#remove.run(bound.okey, bound.tie);
    return at;
  }

  #mergeBlock(
    table: Table,
    keys: Int32Array,
    first: number,
    block: StoredBlock | undefined,
    next: BlockBound | undefined,
    pieces: Pieces,
    merged: Merged,
  ): number {
    const view = block === undefined ? undefined : new BlockView(block.records);
    const count = view?.count ?? 0;
    let index = 0;
    let at = first;
    for (; at < keys.length; at++) {
      const key = keys[at]!;
      const orderKey = table.orderKey(key);
      const tie = table.tie(key);
      if (next !== undefined && (compareBytes(orderKey, next.okey) || compareBytes(tie, next.tie)) >= 0) break;
      const version = table.newest(key);
      if (version === NOWHERE) continue;
      let compared = index < count ? view!.compare(this.#order, orderKey, tie, index) : -1;
      while (compared > 0) {
        pieces.addStored(view!, index++);
        compared = index < count ? view!.compare(this.#order, orderKey, tie, index) : -1;
      }
      if (compared === 0) index++;
      merged.rows++;
      merged.bytes += table.keyLength(key) + table.rowLength(version);
      if (table.isTombstone(version)) continue;
      pieces.add(table.row(version), this.#order.decode(orderKey, tie), table.crc(version));
    }
    while (index < count) pieces.addStored(view!, index++);
    return at;
  }

  #blockOf(orderKey: Uint8Array, tie: Uint8Array): StoredBlock | undefined {
    const block = this.#ofKey.get(orderKey, tie) as StoredBlock | null;
    if (block === null) return undefined;
    if (isWhole(block)) return block;
    throw new Refusal(
      "DATA_LOSS",
      `${this.#path}: ${placeOf(block)}: a block has another checksum than it was written with`,
    );
  }

  #boundBehind({ okey, tie }: BlockBound): BlockBound | undefined {
    return (this.#next.get(okey, tie) as BlockBound | null) ?? undefined;
  }
}

/** Where a block lies, for people. */
export function placeOf({ okey }: BlockBound): string {
  return `block ${okey.length === 0 ? "0" : `0x${Buffer.from(okey.subarray(0, 64)).toString("hex")}`}`;
}

/** What a record of another block adds to a piece. */
function storedSize(view: BlockView, index: number): number {
  const extras = view.hasExtras(index) ? view.row(index).length - view.bodyLength(index) : 0;
  return BlockBuilder.fieldSize(view.end(index) - view.start(index), extras);
}

/** Cuts the records of one merge into blocks; of the last two none is left much smaller than the other. */
class Pieces {
  readonly #order: KeyOrder;
  readonly #write: (bound: BlockBound, block: Uint8Array) => void;
  bound: BlockBound = { okey: EMPTY_BYTES, tie: EMPTY_BYTES };
  #open = new BlockBuilder();
  /** Takes the place of `#open` when that is the first to be full. */
  #spare = new BlockBuilder();
  /** A full piece that may have to share with the last one. */
  #full: BlockBuilder | undefined;
  #fullBound: BlockBound = this.bound;

  constructor(order: KeyOrder, write: (bound: BlockBound, block: Uint8Array) => void) {
    this.#order = order;
    this.#write = write;
  }

  begin(bound: BlockBound): void {
    this.bound = bound;
  }

  /** Bytes that the merge holds and has not cut off yet. */
  get openBytes(): number {
    return this.#open.count === 0 && this.#full === undefined ? 0 : this.#open.size + (this.#full?.size ?? 0);
  }

  add(row: Uint8Array, key: Uint8Array, crc: number): void {
    this.#cutBefore(BlockBuilder.recordSize(row, key));
    this.#open.add(row, key, crc);
  }

  addStored(view: BlockView, index: number): void {
    this.#cutBefore(storedSize(view, index));
    this.#open.addStored(view, index);
  }

  #cutBefore(bytes: number): void {
    if (this.#open.count === 0 || this.#open.size + bytes <= KEY_VALUE_BLOCK_BYTES_MAX) return;
    const isFirst = this.#full === undefined;
    const empty = this.#full ?? this.#spare;
    if (!isFirst) this.#write(this.#fullBound, empty.finish(this.#fullBound));
    this.#fullBound = isFirst ? this.bound : this.#open.firstBound(this.#order);
    this.#full = this.#open;
    this.#open = empty;
  }

  /** Writes what is left; false when there were no records at all. */
  finish(): boolean {
    if (this.#full === undefined) {
      if (this.#open.count === 0) return false;
      this.#write(this.bound, this.#open.finish(this.bound));
      return true;
    }
    const full = this.#full;
    this.#full = undefined;
    this.#spare = full;
    if (this.#open.size >= KEY_VALUE_BLOCK_BYTES_MAX / 2) this.#writeBoth(full, this.#open);
    else this.#share(full, this.#open);
    return true;
  }

  #writeBoth(full: BlockBuilder, open: BlockBuilder): void {
    this.#write(this.#fullBound, full.finish(this.#fullBound));
    if (open.count === 0) return;
    const bound = open.firstBound(this.#order);
    this.#write(bound, open.finish(bound));
  }

  /** Divides the records of the last two pieces by half. */
  #share(full: BlockBuilder, open: BlockBuilder): void {
    const half = (full.size + open.size) / 2;
    const views = [full, open].filter(({ count }) => count > 0).map((piece) => new BlockView(piece.finish(this.bound)));
    const left = new BlockBuilder();
    const right = new BlockBuilder();
    for (const view of views) {
      for (let index = 0; index < view.count; index++) {
        const fits = left.size < half && left.size + storedSize(view, index) <= KEY_VALUE_BLOCK_BYTES_MAX;
        const piece = right.count === 0 && (left.count === 0 || fits) ? left : right;
        piece.addStored(view, index);
      }
    }
    this.#writeBoth(left, right);
  }
}
