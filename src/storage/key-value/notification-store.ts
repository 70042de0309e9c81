/**
 * What entries told subscribers, in the KV file: appended by the flush that brings the entries' records, read by
 * subscribers that are behind, removed from the front.
 *
 *     notification   offset → the offset before it, timestamp, CRC, entries (database/notification.ts)
 *     trimmed        one row: what was told up to this offset may be gone
 *
 * A flipped bit in a b-tree page can hide rows: each names the one before it, so that a reader sees the hole, and the
 * file's state names the last.
 */
import type { Database } from "bun:sqlite";
import { crc32c } from "../../lib/crc32c.ts";
import { NO_OFFSET, type Offset, type Timestamp } from "../../model/ids.ts";
import { NOTIFICATION_BATCHES_PER_READ_MAX, NOTIFICATION_BYTES_PER_READ_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type { NotificationEntries } from "../../ports.ts";
import type { NotificationRun } from "./notification-tail.ts";

export const NOTIFICATION_SCHEMA = [
  "CREATE TABLE IF NOT EXISTS notification(offset INTEGER PRIMARY KEY, before INTEGER NOT NULL, timestamp INTEGER NOT NULL, crc INTEGER NOT NULL, entries BLOB NOT NULL)",
  "CREATE TABLE IF NOT EXISTS trimmed(id INTEGER PRIMARY KEY CHECK(id = 0), offset INTEGER NOT NULL, crc INTEGER NOT NULL)",
];

/** As it stands in a file. */
export interface NotificationState {
  /** The last entry that told anything, of those in the file or removed from it; NO_OFFSET when there was none. */
  readonly last: Offset;
  readonly trimmed: Offset;
}

/** As the columns are named. */
export interface NotificationRow {
  readonly offset: number;
  readonly before: number;
  readonly timestamp: number;
  readonly crc: number;
  readonly entries: Uint8Array;
}

function rowCrc(offset: Offset, before: Offset, timestamp: Timestamp, entries: Uint8Array): number {
  return crc32c(entries, 0, entries.length, numbersCrc(offset, before, timestamp));
}

function numbersCrc(...numbers: number[]): number {
  return crc32c(new TextEncoder().encode(numbers.join(",")));
}

/** Throws DATA_LOSS when what is stored of it is not what was written. */
export function readTrimmed(database: Database): Offset {
  const [row] = database.query("SELECT offset, crc FROM trimmed").values() as [number, number][];
  if (row === undefined) return NO_OFFSET;
  if (row[1] !== numbersCrc(row[0])) {
    throw new Refusal("DATA_LOSS", "where the notifications begin has another checksum than it was written with");
  }
  return row[0];
}

/** Says that what was told up to `offset` may be gone, within the caller's transaction. */
export function writeTrimmed(database: Database, offset: Offset): void {
  database.query("INSERT OR REPLACE INTO trimmed VALUES(0, ?1, ?2)").run(offset, numbersCrc(offset));
}

/** Appends a run, within the caller's transaction. Returns the bytes written. */
export function appendNotifications(database: Database, run: NotificationRun): number {
  let { before } = run;
  let at = 0;
  for (let index = 0; index < run.offsets.length; index++) {
    const offset = run.offsets[index]!;
    const entries = run.bytes.subarray(at, at + run.lengths[index]!);
    insertNotification(database, before, { offset, timestamp: run.timestamps[index]!, entries });
    before = offset;
    at += entries.length;
  }
  return at;
}

/** Stores what one entry told, within the caller's transaction; `before` is the one before it that told anything. */
export function insertNotification(
  database: Database,
  before: Offset,
  { offset, timestamp, entries }: NotificationEntries,
): void {
  const insert = database.query("INSERT OR REPLACE INTO notification VALUES(?1, ?2, ?3, ?4, ?5)");
  insert.run(offset, before, timestamp, rowCrc(offset, before, timestamp, entries), entries);
}

/**
 * Removes up to `batchesMax` entries that are older than `before`, from the front, in a transaction of its own. The
 * last one removed, or undefined when the oldest is young enough.
 */
export function trimNotifications(database: Database, before: Timestamp, batchesMax: number): Offset | undefined {
  const rows = database
    .query("SELECT offset, timestamp FROM notification ORDER BY offset LIMIT ?1")
    .values(batchesMax) as [number, number][];
  let last: Offset | undefined;
  for (const [offset, timestamp] of rows) {
    if (timestamp >= before) break;
    last = offset;
  }
  if (last === undefined) return undefined;
  database.run("BEGIN IMMEDIATE");
  try {
    database.query("DELETE FROM notification WHERE offset <= ?1").run(last);
    writeTrimmed(database, last);
    database.run("COMMIT");
  } catch (error) {
    if (database.inTransaction) database.run("ROLLBACK");
    throw error;
  }
  return last;
}

export const READ_NOTIFICATIONS =
  "SELECT offset, before, timestamp, crc, entries FROM notification WHERE offset > ?1 ORDER BY offset LIMIT ?2";

/**
 * Checks what was read behind `after`, up to the bounds of one read. `trimmed` is what may be gone, read after the rows:
 * it is never behind them. Throws DATA_LOSS, naming file and offset.
 */
export function checkedNotifications(
  path: string,
  rows: readonly NotificationRow[],
  { after, trimmed }: { readonly after: Offset; readonly trimmed: Offset },
): NotificationEntries[] {
  const found: NotificationEntries[] = [];
  let bytes = 0;
  let known: Offset | undefined;
  for (const row of rows) {
    const what = rowDamage(row, known, Math.max(after, trimmed));
    if (what !== undefined) throw new Refusal("DATA_LOSS", `${path}: notifications of offset ${row.offset}: ${what}`);
    const { offset, timestamp, entries } = row;
    bytes += entries.length;
    if (found.length > 0 && bytes > NOTIFICATION_BYTES_PER_READ_MAX) break;
    found.push({ offset, timestamp, entries });
    known = offset;
    if (found.length === NOTIFICATION_BATCHES_PER_READ_MAX) break;
  }
  return found;
}

/** What is wrong with a row that follows the one of offset `known`, or is the first behind `start`. */
function rowDamage(row: NotificationRow, known: Offset | undefined, start: Offset): string | undefined {
  const { offset, before, timestamp, crc, entries } = row;
  if (crc !== rowCrc(offset, before, timestamp, entries))
    return "they have another checksum than they were written with";
  return (known === undefined ? before > start : before !== known) ? "those before them are missing" : undefined;
}

/**
 * Reads all that is stored, in order, and checks it on the way. `last` is what the file's state says was told last, and
 * `trimmed` up to where it may be gone. Throws DATA_LOSS, naming file and offset.
 */
export function* checkedRows(
  path: string,
  rows: Iterable<NotificationRow>,
  { trimmed, last }: { readonly trimmed: Offset; readonly last: Offset },
): Generator<NotificationEntries> {
  const damage = (offset: Offset, what: string) =>
    new Refusal("DATA_LOSS", `${path}: notifications of offset ${offset}: ${what}`);
  let known: Offset | undefined;
  for (const row of rows) {
    const what = rowDamage(row, known, trimmed);
    if (what !== undefined) throw damage(row.offset, what);
    known = row.offset;
    yield row;
  }
  if ((known ?? trimmed) < last) throw damage(last, "they are missing");
}

/** Reads all that is stored. Where the first damage is and what it is; `last` is what the file's state says was told last. */
export function scanNotifications(
  database: Database,
  last: Offset,
): { readonly where: string; readonly what: string } | undefined {
  const trimmed = readTrimmed(database);
  let known = trimmed;
  let isFirst = true;
  const rows = database
    .query("SELECT offset, before, timestamp, crc, entries FROM notification ORDER BY offset")
    .iterate() as Iterable<NotificationRow>;
  for (const row of rows) {
    const { offset } = row;
    const what = rowDamage(row, isFirst ? undefined : known, trimmed);
    if (what !== undefined) return { where: `offset ${offset}`, what: `notifications: ${what}` };
    isFirst = false;
    known = offset;
  }
  return known < last ? { where: `offset ${last}`, what: "notifications are missing" } : undefined;
}
