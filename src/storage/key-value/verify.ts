/**
 * Reads a KV file from end to end: to prove on opening that it holds what was written (safety.md §7), or to save what
 * can be read of one that does not.
 */
import type { Database } from "bun:sqlite";
import { NO_OFFSET } from "../../model/ids.ts";
import { type KeyOrder, orderKeyOf, tieOf } from "../../model/keys.ts";
import type { Damage } from "../../ports.ts";
import { BlockView, isWhole, recordCrc, recordCrcOf, type StoredBlock } from "./block.ts";
import { placeOf } from "./block-merge.ts";
import { ChunkPool } from "./chunk-pool.ts";
import { scanNotifications } from "./notification-store.ts";
import { addToHash, type RecordHash, sameHash } from "./record-hash.ts";
import type { StoredState } from "./stored-state.ts";
import { probeOf, Table } from "./table.ts";

/** Records saved at a time. */
const SALVAGED_AT_ONCE = 10_000;

/** All blocks in order. */
export function* blocks(database: Database): Generator<BlockView> {
  for (const { records } of storedBlocks(database, "ASC")) yield new BlockView(records);
}

function storedBlocks(database: Database, direction: "ASC" | "DESC"): Iterable<StoredBlock> {
  const query = database.query(`SELECT okey, tie, records FROM block ORDER BY okey ${direction}, tie ${direction}`);
  return query.iterate() as Iterable<StoredBlock>;
}

/** Checks the blocks of a state one after the other: each block's CRC, bounds and keys ascending, the CRC of each record. */
export class RecordCheck {
  readonly #order: KeyOrder;
  readonly hash: RecordHash = { low: 0, high: 0 };
  count = 0;
  #lastKey: Uint8Array | undefined;

  constructor(order: KeyOrder) {
    this.#order = order;
  }

  /** What is wrong with the next block, if anything is. Its bytes must stay as they are until the next one is added. */
  add(block: StoredBlock): string | undefined {
    if (!isWhole(block)) return "a block has another checksum than it was written with";
    const order = this.#order;
    const view = new BlockView(block.records);
    if (view.count === 0) return "a block has no records";
    if (this.count === 0 && block.okey.length > 0) return "the first block is missing";
    if (
      this.#lastKey !== undefined &&
      order.compareWithRaw(block.okey, block.tie, this.#lastKey, 0, this.#lastKey.length) <= 0
    ) {
      return "blocks overlap";
    }
    if (this.count > 0 && view.compare(order, block.okey, block.tie, 0) > 0) return "a key lies before its block";
    for (let index = 0; index < view.count; index++) {
      const wrong = this.#addRecord(view, index);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  }

  #addRecord(view: BlockView, index: number): string | undefined {
    const order = this.#order;
    const key = view.key(index);
    const last = this.#lastKey;
    const orderKey = orderKeyOf(order, key);
    const tie = tieOf(order, key);
    if (last !== undefined && order.compareWithRaw(orderKey, tie, last, 0, last.length) <= 0)
      return "keys are out of order";
    const crc = view.crc(index);
    if (crc !== recordCrcOf(orderKey, tie, view.row(index)))
      return "a record has another checksum than it was written with";
    addToHash(this.hash, crc, 1);
    this.#lastKey = key;
    this.count++;
    return undefined;
  }
}

/**
 * Reads everything: all blocks (RecordCheck), record count and additive hash as stored; then what entries told
 * subscribers. The first damage, if there is any.
 */
export function scan(
  database: Database,
  path: string,
  order: KeyOrder,
  state: StoredState | undefined,
): Damage | undefined {
  const check = new RecordCheck(order);
  for (const block of storedBlocks(database, "ASC")) {
    const what = check.add(block);
    if (what !== undefined) return { file: path, where: `row ${check.count}, ${placeOf(block)}`, what };
  }
  const { count } = check;
  const whole = (what: string): Damage => ({ file: path, where: `row ${count}`, what });
  if (count !== (state?.rowCount ?? 0)) return whole(`${count} records where ${state?.rowCount ?? 0} were written`);
  if (!sameHash(check.hash, state?.hash ?? { low: 0, high: 0 }))
    return whole("the records have another hash than they were written with");
  const told = scanNotifications(database, state?.told ?? NO_OFFSET);
  return told === undefined ? undefined : { file: path, ...told };
}

/**
 * The records that can still be read and have their CRC, as tables: from the front as far as blocks can be read, then
 * from the back. Of a block that is not whole each record is tried by itself.
 */
export function* readableRecords(database: Database, order: KeyOrder): Generator<Table> {
  for (const direction of ["ASC", "DESC"] as const) {
    let table = new Table(new ChunkPool());
    let failed = false;
    try {
      for (const block of storedBlocks(database, direction)) {
        salvageBlock(block.records, order, table);
        if (table.keyCount < SALVAGED_AT_ONCE) continue;
        yield table;
        table = new Table(new ChunkPool());
      }
    } catch {
      // an unreadable page ends this direction: the other one reads what lies behind it
      failed = true;
    }
    yield table;
    if (!failed) return;
  }
}

function salvageBlock(records: Uint8Array, order: KeyOrder, table: Table): void {
  const view = new BlockView(records);
  // what a damaged header says of it is not to be trusted
  const count = Math.min(view.count, records.length);
  for (let index = 0; index < count; index++) {
    try {
      const key = view.key(index);
      const row = view.row(index);
      const crc = view.crc(index);
      if (crc === recordCrc(order, key, row)) addTo(table, order, { key, row, crc });
    } catch {
      // lengths that point out of the block
    }
  }
}

function addTo(
  table: Table,
  order: KeyOrder,
  { key, row, crc }: { readonly key: Uint8Array; readonly row: Uint8Array; readonly crc: number },
): void {
  table.append(table.findOrAdd(probeOf(orderKeyOf(order, key), tieOf(order, key))), row, crc);
}
