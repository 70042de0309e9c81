/**
 * The KeyValue port in the plainest form that is right: one sorted array, replaced at each change. The SQLite adapter is
 * compared with it, and tests of database/ and replication/ run on it.
 */
import { assert } from "../../src/lib/assert.ts";
import { type Bytes, equalBytes } from "../../src/lib/bytes.ts";
import { NO_OFFSET, type Offset, type Timestamp } from "../../src/model/ids.ts";
import { compareKeys, type KeyOrder } from "../../src/model/keys.ts";
import { NOTIFICATION_BATCHES_PER_READ_MAX, SNAPSHOT_CHUNK_BYTES_MAX } from "../../src/model/limits.ts";
import type {
  AppliedState,
  Cursor,
  KeyRange,
  KeyValue,
  KeyValueSnapshot,
  NotificationEntries,
  StateSender,
} from "../../src/ports.ts";
import { hashToBigInt } from "../../src/storage/key-value/record-hash.ts";
import { appendOneByOne } from "../../src/wire/stored-record.ts";
import { hashOf, type ModelState, type Row } from "./model-rows.ts";
import { headOf, pieceWriter } from "./model-state.ts";

export class ModelKeyValue implements KeyValue {
  applied: AppliedState = { offset: -1, term: -1, versionId: -1 };
  readonly full = false;
  readonly damage = undefined;
  readonly scanned = true;
  readonly #order: KeyOrder;
  #rows: readonly Row[] = [];
  #committed: readonly Row[] = [];
  readonly #notifications: NotificationEntries[] = [];
  notificationsTrimmed: Offset = NO_OFFSET;

  /** Empty, or a state that was captured before. */
  constructor(order: KeyOrder, from?: ModelState) {
    this.#order = order;
    if (from === undefined) return;
    this.applied = from.applied;
    this.#rows = from.rows;
    this.#committed = from.rows;
    this.#notifications.push(...from.notifications);
    this.notificationsTrimmed = from.notificationsTrimmed;
  }

  /** The state as last committed. */
  capture(): ModelState {
    const { applied, notificationsTrimmed } = this;
    return { applied, rows: this.#committed, notifications: [...this.#notifications], notificationsTrimmed };
  }

  get rowCount(): number {
    return this.#rows.length;
  }

  get stateHash(): bigint {
    return hashToBigInt(hashOf(this.#order, this.#rows));
  }

  get(key: Bytes): Bytes | undefined {
    const found = this.#rows[this.#place(key)];
    return found !== undefined && equalBytes(found.key, key) ? found.row : undefined;
  }

  put(key: Bytes, row: Bytes): void {
    const at = this.#place(key);
    const replaced = this.get(key) === undefined ? 0 : 1;
    this.#rows = this.#rows.toSpliced(at, replaced, { key: key.slice(), row: row.slice() });
  }

  putNew(key: Bytes, row: Bytes): void {
    assert(this.get(key) === undefined, "a key that was said to be absent is there");
    this.put(key, row);
  }

  delete(key: Bytes): boolean {
    if (this.get(key) === undefined) return false;
    this.#rows = this.#rows.toSpliced(this.#place(key), 1);
    return true;
  }

  commit(state: AppliedState, notifications?: Pick<NotificationEntries, "timestamp" | "entries">): void {
    assert(state.offset > this.applied.offset, "committed out of order", state.offset, this.applied.offset);
    this.applied = state;
    this.#committed = this.#rows;
    if (notifications !== undefined) this.#notifications.push({ offset: state.offset, ...notifications });
  }

  notifications(after: Offset): readonly NotificationEntries[] {
    return this.#notifications.filter(({ offset }) => offset > after).slice(0, NOTIFICATION_BATCHES_PER_READ_MAX);
  }

  async trimNotifications(before: Timestamp): Promise<void> {
    while ((this.#notifications[0]?.timestamp ?? before) < before) {
      this.notificationsTrimmed = this.#notifications.shift()!.offset;
    }
  }

  rollback(): void {
    this.#rows = this.#committed;
  }

  room(): undefined {
    return undefined;
  }

  async ordered(): Promise<void> {}

  cursor(range: KeyRange): Cursor {
    return this.#cursorOver(this.#rows, range);
  }

  async snapshot(): Promise<KeyValueSnapshot> {
    const rows = this.#rows;
    const get = (key: Bytes) => rows.find((row) => equalBytes(row.key, key))?.row;
    return { applied: this.applied, cursor: (range) => this.#cursorOver(rows, range), get, release() {} };
  }

  async flush(): Promise<void> {}

  async send(): Promise<StateSender> {
    const state = this.capture();
    const pieces = pieceWriter(this.#order, state, SNAPSHOT_CHUNK_BYTES_MAX);
    const { applied, rowCount, hash } = headOf(this.#order, state).state;
    return { applied, rowCount, stateHash: hashToBigInt(hash), next: async () => pieces.next(), release() {} };
  }

  async close(): Promise<void> {}

  /** Index of the first row at or after the key. */
  #place(key: Bytes): number {
    let low = 0;
    let high = this.#rows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareKeys(this.#order, this.#rows[middle]!.key, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #cursorOver(rows: readonly Row[], range: KeyRange): Cursor {
    const compare = (a: Bytes, b: Bytes) => Math.sign(compareKeys(this.#order, a, b));
    const after = (key: Bytes) =>
      range.from === undefined || compare(key, range.from) > (range.fromInclusive === false ? 0 : -1);
    const before = (key: Bytes) =>
      range.to === undefined || compare(key, range.to) < (range.toInclusive === true ? 1 : 0);
    const inRange = rows.filter(({ key }) => after(key) && before(key));
    if (range.reverse === true) inRange.reverse();
    let at = -1;
    return {
      next: () => ++at < inRange.length,
      get key() {
        return inRange[at]!.key;
      },
      get row() {
        return inRange[at]!.row;
      },
      appendRecords(target, recordsMax, bytesMax) {
        return appendOneByOne(this, target, recordsMax, bytesMax);
      },
    };
  }
}
