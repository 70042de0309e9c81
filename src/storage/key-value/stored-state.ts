/** What a KV file is at: the one row that each flush writes with its records. */
import type { Database } from "bun:sqlite";
import { crc32c } from "../../lib/crc32c.ts";
import { NO_OFFSET, NO_TERM, type Offset } from "../../model/ids.ts";
import type { AppliedState } from "../../ports.ts";
import type { RecordHash } from "./record-hash.ts";

/** What a file holds, as stored by its last flush. */
export interface StoredState {
  readonly applied: AppliedState;
  /** The last entry that told subscribers anything; -1 = none. */
  readonly told: Offset;
  readonly rowCount: number;
  readonly hash: RecordHash;
}

/** That of a file that nothing was flushed to. */
export const EMPTY_STATE: StoredState = {
  applied: { offset: NO_OFFSET, term: NO_TERM, versionId: -1 },
  told: NO_OFFSET,
  rowCount: 0,
  hash: { low: 0, high: 0 },
};

export const STATE_SCHEMA =
  "CREATE TABLE IF NOT EXISTS meta(id INTEGER PRIMARY KEY CHECK(id = 0), offset INTEGER NOT NULL, term INTEGER NOT NULL," +
  " version INTEGER NOT NULL, rows INTEGER NOT NULL, hash_low INTEGER NOT NULL, hash_high INTEGER NOT NULL, told INTEGER NOT NULL, crc INTEGER NOT NULL)";

type MetaRow = [
  offset: number,
  term: number,
  version: number,
  rows: number,
  low: number,
  high: number,
  told: number,
  crc: number,
];

function metaCrc(values: readonly number[]): number {
  return crc32c(new TextEncoder().encode(values.join(",")));
}

export function writeState(database: Database, { applied, told, rowCount, hash }: StoredState): void {
  const values = [applied.offset, applied.term, applied.versionId, rowCount, hash.low, hash.high, told];
  database
    .query("INSERT OR REPLACE INTO meta VALUES(0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
    .run(...(values as [number, number, number, number, number, number, number]), metaCrc(values));
}

/** Undefined for a file that nothing was flushed to. Throws when the stored state is not what was written. */
export function readState(database: Database): StoredState | undefined {
  const query = database.query("SELECT offset, term, version, rows, hash_low, hash_high, told, crc FROM meta");
  const [row] = query.values() as MetaRow[];
  if (row === undefined) return undefined;
  const [offset, term, versionId, rowCount, low, high, told, crc] = row;
  if (crc !== metaCrc(row.slice(0, 7)))
    throw new Error("the stored state has another checksum than it was written with");
  return { applied: { offset, term, versionId }, told, rowCount, hash: { low, high } };
}
