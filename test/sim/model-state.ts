/** A model state in the pieces in which states are sent, and back: the same bytes as those of the SQLite adapter. */
import { type Bytes, EMPTY_BYTES } from "../../src/lib/bytes.ts";
import type { KeyOrder, KeySorting } from "../../src/model/keys.ts";
import { KEY_VALUE_BLOCK_BYTES_MAX } from "../../src/model/limits.ts";
import type { NotificationEntries } from "../../src/ports.ts";
import { BlockBuilder, BlockView, type StoredBlock } from "../../src/storage/key-value/block.ts";
import { StateCheck, type StateClaim } from "../../src/storage/key-value/state-check.ts";
import { ItemReader, itemParts, type StateHead } from "../../src/storage/key-value/state-items.ts";
import { PieceReader, PieceWriter } from "../../src/storage/key-value/state-pieces.ts";
import { hashOf, type ModelState, type Row, rowCrc } from "./model-rows.ts";

/** What a state is at, as it is told ahead of its records. */
export function headOf(order: KeyOrder, { applied, rows, notifications, notificationsTrimmed }: ModelState): StateHead {
  const told = notifications.at(-1)?.offset ?? notificationsTrimmed;
  const state = { applied, told, rowCount: rows.length, hash: hashOf(order, rows) };
  return { sorting: order.sorting, state, trimmed: notificationsTrimmed };
}

/** Cuts a state into pieces of at most so many bytes. */
export function pieceWriter(order: KeyOrder, state: ModelState, bytesMax: number): PieceWriter {
  return new PieceWriter(parts(order, state), bytesMax);
}

function* parts(order: KeyOrder, state: ModelState): Generator<Bytes> {
  yield* itemParts({ kind: "head", head: headOf(order, state) });
  for (const block of blocksOf(order, state.rows)) yield* itemParts({ kind: "block", block });
  for (const told of state.notifications) yield* itemParts({ kind: "notification", told });
  yield* itemParts({ kind: "end" });
}

function* blocksOf(order: KeyOrder, rows: readonly Row[]): Generator<StoredBlock> {
  const builder = new BlockBuilder();
  let bound = { okey: EMPTY_BYTES, tie: EMPTY_BYTES };
  for (const one of rows) {
    if (builder.count > 0 && builder.size + BlockBuilder.recordSize(one.row, one.key) > KEY_VALUE_BLOCK_BYTES_MAX) {
      yield { ...bound, records: builder.finish(bound) };
    }
    builder.add(one.row, one.key, rowCrc(order, one));
    if (builder.count === 1 && one !== rows[0]) bound = builder.firstBound(order);
  }
  if (builder.count > 0) yield { ...bound, records: builder.finish(bound) };
}

/** Puts a state together again from its pieces. */
export class ModelStateReader {
  readonly #pieces = new PieceReader();
  readonly #items = new ItemReader();
  readonly #check: StateCheck;
  readonly #rows: Row[] = [];
  readonly #notifications: NotificationEntries[] = [];

  constructor(sorting: KeySorting) {
    this.#check = new StateCheck(sorting);
  }

  /** Throws INVALID_ARGUMENT when it is not the next piece of a state. */
  add(piece: Bytes): void {
    for (const item of this.#items.add(this.#pieces.add(piece))) {
      this.#check.add(item);
      if (item.kind === "block") this.#addRows(new BlockView(item.block.records));
      if (item.kind === "notification") {
        this.#notifications.push({ ...item.told, entries: item.told.entries.slice() });
      }
    }
  }

  /** The state. Throws INVALID_ARGUMENT when it is not what is claimed, or not all of it has come. */
  whole(claim: StateClaim): ModelState {
    const { state, trimmed } = this.#check.whole(claim);
    return {
      applied: state.applied,
      rows: this.#rows,
      notifications: this.#notifications,
      notificationsTrimmed: trimmed,
    };
  }

  #addRows(view: BlockView): void {
    for (let index = 0; index < view.count; index++) {
      this.#rows.push({ key: view.key(index).slice(), row: view.row(index).slice() });
    }
  }
}
