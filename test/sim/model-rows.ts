/** What a model state holds, and the hash of it. */
import { type Bytes, concatBytes } from "../../src/lib/bytes.ts";
import { crc32c } from "../../src/lib/crc32c.ts";
import type { Offset } from "../../src/model/ids.ts";
import { type KeyOrder, orderKeyOf, tieOf } from "../../src/model/keys.ts";
import type { AppliedState, NotificationEntries } from "../../src/ports.ts";
import { addToHash, type RecordHash } from "../../src/storage/key-value/record-hash.ts";

/** A record. Nothing of it changes any more. */
export interface Row {
  readonly key: Bytes;
  readonly row: Bytes;
}

/** A committed state as a whole. Nothing of it changes any more. */
export interface ModelState {
  readonly applied: AppliedState;
  readonly rows: readonly Row[];
  readonly notifications: readonly NotificationEntries[];
  readonly notificationsTrimmed: Offset;
}

/** CRCs that were asked for before: most rows of a state are those of the state before. */
const known = new WeakMap<Row, number>();

/** The CRC of a record as the checksum feature has it (record-hash.ts). A row is always asked for under one key order. */
export function rowCrc(order: KeyOrder, one: Row): number {
  let crc = known.get(one);
  if (crc === undefined) {
    crc = crc32c(concatBytes(orderKeyOf(order, one.key), tieOf(order, one.key), one.row));
    known.set(one, crc);
  }
  return crc;
}

export function hashOf(order: KeyOrder, rows: readonly Row[]): RecordHash {
  const hash = { low: 0, high: 0 };
  for (const one of rows) addToHash(hash, rowCrc(order, one), 1);
  return hash;
}
