/**
 * Reads of a shard's applied state: gets with every comparison, lists and range scans. Answers are encoded as they
 * are found, straight from the stored rows.
 *
 * Clients see user keys. An EQUAL get (and a FLOOR that hits exactly) may read an internal key; every other comparison
 * steps over the internal region, which lies after all user keys in both orders; range reads include it when asked to.
 *
 * Source: semantics.md §2.
 */
import { assert, unreachable } from "../lib/assert.ts";
import { type Bytes, equalBytes } from "../lib/bytes.ts";
import { compareKeys, INTERNAL_PREFIX, isInternal, type KeyOrder } from "../model/keys.ts";
import { RANGE_SCAN_RECORDS_MAX, REPLY_BYTES_SOFT_MAX } from "../model/limits.ts";
import type { Cursor, KeyRange, KeyValue, KeyValueSnapshot } from "../ports.ts";
import type { Get, RangeRead } from "../wire/requests.ts";
import { appendOneByOne, rowParts } from "../wire/stored-record.ts";
import { varintSize, type Writer } from "../wire/writer.ts";
import type { BookkeepingRecord } from "./bookkeeping.ts";
import { fieldSize } from "./record.ts";
import { decodeIndexEntry, findIndexEntry } from "./secondary-index.ts";
import { COMPARISON } from "./validate.ts";

/** What a get reads from. */
export interface ReadState {
  readonly kv: KeyValue;
  readonly order: KeyOrder;
  bookkeeping(): BookkeepingRecord[];
}

const KEY_NOT_FOUND = 1;
const RESULT_TAG = 0x0a;
const KEY_TAG = 0x22;
const SECONDARY_KEY_TAG = 0x2a;
/** All user keys, from the last one down. */
const BELOW_INTERNAL: KeyRange = { to: INTERNAL_PREFIX, reverse: true };

/** Whether a get reads keys in order, so that `KeyValue.ordered` should come first. */
export function getReadsInOrder(get: Get): boolean {
  return get.comparison !== COMPARISON.EQUAL || get.secondaryIndexName !== undefined;
}

/** Appends the GetResponse of `get`, as the next result of a ReadResponse. Returns the bytes of its value. */
export function answerGet(state: ReadState, get: Get, response: Writer): number {
  if (get.secondaryIndexName !== undefined) return answerIndexGet(state, get, get.secondaryIndexName, response);
  if (get.comparison === COMPARISON.EQUAL || (get.comparison === COMPARISON.FLOOR && isInternal(get.key))) {
    const row = state.kv.get(get.key) ?? bookkeepingRow(state, get.key);
    const key = get.comparison === COMPARISON.EQUAL ? undefined : get.key;
    if (row !== undefined) return encodeResult(response, key, row, get.includeValue);
    if (key === undefined) return answerNotFound(response);
  }
  const cursor = state.kv.cursor(comparisonRange(get));
  if (!cursor.next()) return answerNotFound(response);
  return encodeResult(response, cursor.key, cursor.row, get.includeValue);
}

/** Over a secondary index: the record's own key and its secondary key are told, whatever the comparison. */
function answerIndexGet({ kv, order }: ReadState, get: Get, name: Bytes, response: Writer): number {
  const query = { name, secondary: get.key, comparison: get.comparison };
  const entry = findIndexEntry(kv, order, query);
  const row = entry === undefined ? undefined : kv.get(entry.primary);
  if (entry === undefined || row === undefined) return answerNotFound(response);
  return encodeResult(response, entry.primary, row, get.includeValue, entry.secondary);
}

function bookkeepingRow(state: ReadState, key: Bytes): Bytes | undefined {
  if (!isInternal(key)) return undefined;
  return state.bookkeeping().find((record) => equalBytes(record.key, key))?.row;
}

/** The range whose first record answers the comparison. */
function comparisonRange(get: Get): KeyRange {
  const { key } = get;
  switch (get.comparison) {
    case COMPARISON.FLOOR:
      return isInternal(key) ? BELOW_INTERNAL : { to: key, toInclusive: true, reverse: true };
    case COMPARISON.CEILING:
      return { from: key, to: INTERNAL_PREFIX };
    case COMPARISON.LOWER:
      return isInternal(key) ? BELOW_INTERNAL : { to: key, reverse: true };
    case COMPARISON.HIGHER:
      return { from: key, fromInclusive: false, to: INTERNAL_PREFIX };
    default:
      return unreachable(get.comparison as never);
  }
}

/** GetResponse { status = KEY_NOT_FOUND }. */
function answerNotFound(response: Writer): number {
  response.byte(RESULT_TAG);
  response.byte(2);
  response.byte(0x08);
  response.byte(KEY_NOT_FOUND);
  return 0;
}

/** GetResponse { version, value?, key?, secondary_index_key? }: cut from the row. Returns the bytes of the value. */
function encodeResult(
  response: Writer,
  key: Bytes | undefined,
  row: Bytes,
  includeValue: boolean,
  secondary?: Bytes,
): number {
  const { versionEnd, valueStart, bodyEnd } = rowParts(row);
  const body = includeValue ? bodyEnd : versionEnd;
  const size =
    body +
    (key === undefined ? 0 : fieldSize(key.length)) +
    (secondary === undefined ? 0 : fieldSize(secondary.length));
  response.reserve(1 + varintSize(size) + size);
  response.byte(RESULT_TAG);
  response.varint(size);
  response.slice(row, 0, body);
  if (key !== undefined) {
    response.byte(KEY_TAG);
    response.varint(key.length);
    response.slice(key, 0, key.length);
  }
  if (secondary !== undefined) response.field(SECONDARY_KEY_TAG, secondary);
  return includeValue ? bodyEnd - valueStart : 0;
}

/** The keys that a list or range scan covers. Empty bounds are open; without internal keys the end is the end of the user keys. */
export function rangeOf(read: RangeRead): KeyRange {
  const to =
    read.endExclusive.length === 0 || (isInternal(read.endExclusive) && !read.includeInternalKeys)
      ? INTERNAL_PREFIX
      : read.endExclusive;
  const open = read.endExclusive.length === 0 && read.includeInternalKeys;
  return open ? { from: read.startInclusive } : { from: read.startInclusive, to };
}

/** Fills one RangeScanResponse; false when the range is at its end. */
export function fillRangeScan(cursor: Cursor, response: Writer): boolean {
  return cursor.appendRecords(response, RANGE_SCAN_RECORDS_MAX, REPLY_BYTES_SOFT_MAX);
}

/** Fills one ListResponse; false when the range is at its end. */
export function fillList(cursor: Cursor, response: Writer): boolean {
  let keyBytes = 0;
  while (keyBytes < REPLY_BYTES_SOFT_MAX) {
    if (!cursor.next()) return false;
    response.field(RESULT_TAG, cursor.key);
    keyBytes += cursor.key.length + 1;
  }
  return true;
}

/** An index read over one snapshot. */
export interface IndexRead {
  readonly order: KeyOrder;
  readonly name: Bytes;
  readonly snapshot: KeyValueSnapshot;
}

/** Fills one ListResponse with the primary keys that entries of an index name; false when the range is at its end. */
export function fillIndexList(read: IndexRead, cursor: Cursor, response: Writer): boolean {
  let keyBytes = 0;
  while (keyBytes < REPLY_BYTES_SOFT_MAX) {
    if (!cursor.next()) return false;
    const { primary } = decodeIndexEntry(read.order, read.name, cursor.key);
    response.field(RESULT_TAG, primary);
    keyBytes += primary.length + 1;
  }
  return true;
}

/**
 * Fills one RangeScanResponse with the records that entries of an index name; false when the range is at its end. The
 * secondary key is told too, which the reference leaves out: without it nobody can merge several shards in the index's order.
 */
export function fillIndexScan(read: IndexRead, cursor: Cursor, response: Writer): boolean {
  const first = response.length;
  for (let records = 0; records < RANGE_SCAN_RECORDS_MAX && response.length - first < REPLY_BYTES_SOFT_MAX; records++) {
    if (!cursor.next()) return false;
    const { primary, secondary } = decodeIndexEntry(read.order, read.name, cursor.key);
    const row = read.snapshot.get(primary);
    assert(row !== undefined, "an index entry without its record");
    encodeResult(response, primary, row, true, secondary);
  }
  return true;
}

/** Merges the bookkeeping records that lie in the range into a forward cursor over the stored ones. */
export function withBookkeeping(
  cursor: Cursor,
  records: readonly BookkeepingRecord[],
  range: KeyRange,
  order: KeyOrder,
): Cursor {
  const { from, to } = range;
  const inRange = records.filter(
    ({ key }) =>
      (from === undefined || compareKeys(order, key, from) >= 0) &&
      (to === undefined || compareKeys(order, key, to) < 0),
  );
  return inRange.length === 0 ? cursor : new MergedCursor(cursor, inRange, order);
}

class MergedCursor implements Cursor {
  readonly #stored: Cursor;
  readonly #records: readonly BookkeepingRecord[];
  readonly #order: KeyOrder;
  #next = 0;
  /** Whether `#stored` stands at a record that was not given out yet, and whether it has any more. */
  #waiting = false;
  #more = true;
  #current: { readonly key: Bytes; readonly row: Bytes } | undefined;

  constructor(stored: Cursor, records: readonly BookkeepingRecord[], order: KeyOrder) {
    this.#stored = stored;
    this.#records = records;
    this.#order = order;
  }

  next(): boolean {
    if (!this.#waiting && this.#more) this.#waiting = this.#more = this.#stored.next();
    const record = this.#records[this.#next];
    if (this.#waiting && (record === undefined || compareKeys(this.#order, this.#stored.key, record.key) < 0)) {
      this.#current = this.#stored;
      this.#waiting = false;
      return true;
    }
    this.#current = record;
    this.#next++;
    return record !== undefined;
  }

  appendRecords(target: Writer, recordsMax: number, bytesMax: number): boolean {
    return appendOneByOne(this, target, recordsMax, bytesMax);
  }

  get key(): Bytes {
    return this.#current!.key;
  }

  get row(): Bytes {
    return this.#current!.row;
  }
}
