/**
 * One applied offset of a shard, readable over several ticks: its tables up to where they ended then, and a connection
 * of its own that pins the file.
 */
import { assert } from "../../lib/assert.ts";
import type { Bytes } from "../../lib/bytes.ts";
import { type KeyOrder, orderKeyOf, tieOf } from "../../model/keys.ts";
import { Refusal } from "../../model/refusal.ts";
import type { AppliedState, Clock, Cursor, KeyRange, KeyValueSnapshot } from "../../ports.ts";
import { MergedCursor } from "./cursor.ts";
import { type KeyValueReader, StoredCursor } from "./reader.ts";
import { type Address, NOWHERE, probeOf, type Table } from "./table.ts";
import type { OrderRange, TableOrder } from "./table-order.ts";

/** A table with its order: what range reads need. */
export interface Layer {
  readonly table: Table;
  readonly order: TableOrder;
}

/** What a snapshot reads from. Tables are pinned, newest first; the reader pins the file. */
export interface SnapshotState {
  readonly order: KeyOrder;
  readonly clock: Clock;
  readonly applied: AppliedState;
  readonly layers: readonly (Layer & { readonly end: Address })[];
  /** Undefined: there is nothing in the file. */
  readonly reader: KeyValueReader | undefined;
}

/** A range of raw keys in order keys. */
export function orderRange(order: KeyOrder, range: KeyRange): OrderRange {
  const bound = (key: Bytes | undefined, inclusive: boolean) =>
    key === undefined ? undefined : { orderKey: orderKeyOf(order, key), tie: tieOf(order, key), inclusive };
  return {
    from: bound(range.from, range.fromInclusive ?? true),
    to: bound(range.to, range.toInclusive ?? false),
    reverse: range.reverse ?? false,
  };
}

export class SqliteSnapshot implements KeyValueSnapshot {
  readonly applied: AppliedState;
  readonly #order: KeyOrder;
  readonly #layers: SnapshotState["layers"];
  readonly #reader: KeyValueReader | undefined;
  readonly #free: () => void;
  #cancelCut: () => void = () => {};
  #state: "open" | "released" | "cut" = "open";
  readonly #clock: Clock;
  #steps = 0;
  /** When it was last read from, monotonic milliseconds. */
  usedAt: number;

  /** `free` gives back what `state` holds. */
  constructor({ order, clock, applied, layers, reader }: SnapshotState, free: () => void) {
    this.#order = order;
    this.#clock = clock;
    this.applied = applied;
    this.#layers = layers;
    this.#reader = reader;
    this.#free = free;
    this.usedAt = this.#clock.monotonicMs();
  }

  cutAfter(cancel: () => void): void {
    this.#cancelCut = cancel;
  }

  cursor(range: KeyRange): Cursor {
    this.#check();
    const order = this.#order;
    const inOrder = orderRange(order, range);
    const tables = this.#layers
      .filter(({ table }) => table.keyCount > 0)
      .map((layer) => layer.order.cursor(inOrder, layer.end));
    this.usedAt = this.#clock.monotonicMs();
    const stored = this.#reader && new StoredCursor(this.#reader, order, inOrder);
    return new MergedCursor(order, { tables, stored, reverse: inOrder.reverse }, () => this.#check());
  }

  get(key: Bytes): Bytes | undefined {
    this.#check();
    const orderKey = orderKeyOf(this.#order, key);
    const tie = tieOf(this.#order, key);
    const probe = probeOf(orderKey, tie);
    for (const { table, end } of this.#layers) {
      const found = table.find(probe);
      const version = found === NOWHERE ? NOWHERE : table.versionBelow(found, end);
      if (version !== NOWHERE) return table.isTombstone(version) ? undefined : table.row(version);
    }
    return this.#reader?.get(this.#order, orderKey, tie)?.row;
  }

  release(): void {
    this.#end("released");
  }

  cut(): void {
    this.#end("cut");
  }

  #end(state: "released" | "cut"): void {
    if (this.#state !== "open") return;
    this.#state = state;
    this.#cancelCut();
    this.#free();
  }

  /** Before each step of a cursor, so it must cost little: time is taken once in a while. */
  #check(): void {
    if ((this.#steps++ & 0xf) === 0) this.usedAt = this.#clock.monotonicMs();
    if (this.#state === "cut")
      throw new Refusal("ABORTED", "oxia: operation was aborted: the range was read too slowly");
    assert(this.#state === "open", "a snapshot was read after its release");
  }
}
