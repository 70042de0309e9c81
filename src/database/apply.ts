/**
 * Applies log entries to a shard's state: the one way state changes. A function of the entry and the state alone:
 * every replica computes the same bytes, so time and every choice are taken from the entry.
 *
 * An entry is one atomic batch: all puts in order, then all deletes, then all delete-ranges, each seeing the effects
 * of the earlier ones. A per-operation failure is a status in its response and hurts no other operation.
 *
 * An operation that must not happen at all (a sequence without enough deltas) undoes its whole entry, which stays in the
 * log and changes nothing; every replica finds the same.
 *
 * Invariant: entries are applied in offset order, each once: entry.offset = applied.offset + 1.
 * Source: semantics.md §1; Oxia's dataserver/database.
 */
import { assert, unreachable } from "../lib/assert.ts";
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import type { LogEntry, Offset, SessionId, Term, Timestamp } from "../model/ids.ts";
import { INTERNAL_PREFIX, isInternal, type KeyOrder } from "../model/keys.ts";
import { SESSIONS_REMEMBERED_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { KeyRange, KeyValue } from "../ports.ts";
import { decodeEntryValue } from "../wire/log-entry.ts";
import type { Int64 } from "../wire/reader.ts";
import type { Delete, DeleteRange, Put, SecondaryIndex, Write } from "../wire/requests.ts";
import { rowParts } from "../wire/stored-record.ts";
import { Writer } from "../wire/writer.ts";
import { Notifications } from "./notification.ts";
import { encodeRow, fieldSize, rowSecondaryIndexes, storedVersion } from "./record.ts";
import { changedEntries } from "./secondary-index.ts";
import { type NextKey, Sequences } from "./sequence.ts";
import { sessionIdOf, sessionKey, shadowedKey, shadowKey, shadowsRange } from "./session-key.ts";
import { sessionTimeoutMs } from "./session-record.ts";

/** Status on the wire. */
const STATUS = { OK: 0, KEY_NOT_FOUND: 1, UNEXPECTED_VERSION_ID: 2, SESSION_DOES_NOT_EXIST: 3 } as const;
type Status = (typeof STATUS)[keyof typeof STATUS];

/** Keys removed per step of a delete-range or a session's end: a cursor ends with the first change, so keys are gathered first. */
const DELETE_STEP = 1024;

/** Where in the log a write stands. */
export interface EntryPosition {
  readonly term: Term;
  readonly offset: Offset;
  readonly timestamp: Timestamp;
}

/** What a shard's leader is told of entries once they are applied. */
export interface ApplyListener {
  sessionStarted(id: SessionId, timeoutMs: number): void;
  sessionEnded(id: SessionId): void;
  /** The highest key of a sequence is now `key`. */
  sequenceAdvanced(prefix: Bytes, key: Bytes): void;
}

export interface ApplyOptions {
  readonly order: KeyOrder;
  readonly notificationsEnabled: boolean;
}

/** What an entry does to sessions and sequences, told when it is through. */
type Effect = (listener: ApplyListener) => void;

/** What is needed of a record that a put replaces or a delete removes: it is borrowed, and soon gone. */
interface Replaced {
  readonly versionId: Int64;
  readonly modificationsCount: Int64;
  readonly createdTimestamp: Int64;
  readonly sessionId: Int64 | undefined;
  readonly secondaryIndexes: readonly SecondaryIndex[];
}

const NO_INDEXES: readonly SecondaryIndex[] = [];
/** A row larger than this is not kept as scratch. */
const ROW_SCRATCH_BYTES_MAX = 1024 * 1024;

export class Applier {
  readonly #kv: KeyValue;
  readonly #order: KeyOrder;
  readonly #sequences: Sequences;
  readonly #notifications: Notifications | undefined;
  /** Sessions known to exist, so that a batch of ephemeral puts looks once. */
  readonly #sessions = new Set<Int64>();
  readonly #row = new Writer(1024);
  #effects: Effect[] = [];
  /** Set while the replica leads. */
  listener: ApplyListener | undefined;

  constructor(kv: KeyValue, { order, notificationsEnabled }: ApplyOptions) {
    this.#kv = kv;
    this.#order = order;
    this.#sequences = new Sequences(kv);
    this.#notifications = notificationsEnabled ? new Notifications() : undefined;
  }

  /** Applies an entry read from a log or sent by a leader; its responses are nobody's. */
  applyEntry(entry: LogEntry): void {
    const value = decodeEntryValue(entry.value);
    switch (value.kind) {
      case "write":
        this.#applyWrites(value.writes, entry, undefined);
        return;
      case "control":
        this.applyControl(entry);
        return;
      default:
        unreachable(value);
    }
  }

  /** A control entry changes no record, and tells subscribers nothing: the state only moves on to its offset. */
  applyControl(at: EntryPosition): void {
    this.#assertNext(at.offset);
    this.#kv.commit({ offset: at.offset, term: at.term, versionId: this.#kv.applied.versionId });
  }

  /** Applies one client write. Its serialised WriteResponse, in bytes of its own, or why nothing of it happened. */
  applyWrite(write: Write, at: EntryPosition): Bytes | Refusal {
    const response = new Writer(64 + 40 * (write.puts.length + write.deletes.length));
    return this.#applyWrites([write], at, response) ?? response.finish();
  }

  /** Whether applying this write reads keys in order, so that `KeyValue.ordered` should come first. */
  readsInOrder({ puts, deletes, deleteRanges }: Write): boolean {
    return (
      deleteRanges.length > 0 ||
      deletes.some(({ key }) => isInternal(key)) ||
      puts.some(({ key, sequenceKeyDeltas }) => sequenceKeyDeltas !== undefined && !this.#sequences.isRemembered(key))
    );
  }

  /** The highest key of a sequence, if it has one. */
  highestSequenceKey(prefix: Bytes): Bytes | undefined {
    return this.#sequences.highestKey(prefix);
  }

  #applyWrites(writes: readonly Write[], at: EntryPosition, response: Writer | undefined): Refusal | undefined {
    this.#assertNext(at.offset);
    const before = this.#kv.applied.versionId;
    let versionId = before;
    let refusal: Refusal | undefined;
    try {
      for (const write of writes) {
        for (const put of write.puts) versionId = this.#applyPut(put, versionId, at.timestamp, response);
        for (const remove of write.deletes) this.#applyDelete(remove, response);
        for (const range of write.deleteRanges) this.#applyDeleteRange(range, response);
      }
    } catch (error) {
      this.#undo();
      if (!(error instanceof Refusal) || error.reason !== "INVALID_ARGUMENT") throw error;
      refusal = error;
      versionId = before;
    }
    const entries = this.#notifications?.take();
    this.#kv.commit(
      { offset: at.offset, term: at.term, versionId },
      entries === undefined ? undefined : { timestamp: at.timestamp, entries },
    );
    if (this.#effects.length > 0) this.#tell();
    return refusal;
  }

  #undo(): void {
    this.#kv.rollback();
    this.#notifications?.take();
    this.#sequences.forget();
    this.#sessions.clear();
    this.#effects = [];
  }

  #tell(): void {
    const effects = this.#effects;
    this.#effects = [];
    if (this.listener !== undefined) for (const effect of effects) effect(this.listener);
  }

  #assertNext(offset: Offset): void {
    assert(offset === this.#kv.applied.offset + 1, "applied out of order", offset, this.#kv.applied.offset);
  }

  // --- puts -----------------------------------------------------------------------------------------------------

  /** Returns the shard's version counter afterwards. */
  #applyPut(put: Put, counter: number, now: Timestamp, response: Writer | undefined): number {
    const deltas = put.sequenceKeyDeltas;
    if (deltas !== undefined && put.expectedVersionId !== undefined) {
      if (response !== undefined) respondStatus(response, 0x0a, STATUS.UNEXPECTED_VERSION_ID);
      return counter;
    }
    const sequenced = deltas === undefined ? undefined : this.#sequences.next(put.key, deltas);
    const key = sequenced?.key ?? put.key;
    const isNew = sequenced?.isNew === true;
    const hasSession = put.sessionId === undefined || this.#sessionExists(put.sessionId);
    const old = isNew ? undefined : this.#kv.get(key);
    const before = old === undefined ? undefined : replacedBy(old);
    if (!versionMatches(put.expectedVersionId, before?.versionId)) {
      if (response !== undefined) respondStatus(response, 0x0a, STATUS.UNEXPECTED_VERSION_ID);
      return counter;
    }
    if (!hasSession) {
      if (response !== undefined) respondStatus(response, 0x0a, STATUS.SESSION_DOES_NOT_EXIST);
      return counter;
    }
    const next = put.overrideVersionId === undefined ? counter + 1 : counter;
    const versionId = put.overrideVersionId ?? next;
    const modificationsCount =
      put.overrideModificationsCount ?? (before === undefined ? 0 : increment(before.modificationsCount));
    const createdTimestamp = before === undefined ? now : before.createdTimestamp;
    // the entries are told apart before the old row, which is borrowed, is replaced
    const indexes = this.#changedIndexes(
      key,
      before?.secondaryIndexes ?? NO_INDEXES,
      put.secondaryIndexes ?? NO_INDEXES,
    );
    encodeRow(this.#row, put, { versionId, modificationsCount, createdTimestamp, modifiedTimestamp: now });
    const row = this.#row.finish();
    if (isNew) this.#kv.putNew(key, row);
    else this.#kv.put(key, row);
    if (response !== undefined) respondPut(response, row, deltas === undefined ? undefined : key);
    if (before?.sessionId !== put.sessionId) this.#moveShadow(key, before?.sessionId, put.sessionId);
    this.#writeIndexes(indexes);
    if (isInternal(key)) this.#putSession(key, put.value);
    else this.#notifications?.put(key, versionId, modificationsCount === 0);
    if (sequenced !== undefined) this.#advanced(sequenced);
    else this.#sequences.changed(key);
    if (this.#row.bytes.length > ROW_SCRATCH_BYTES_MAX) this.#row.bytes = new Uint8Array(1024);
    return next;
  }

  #sessionExists(id: Int64): boolean {
    if (this.#sessions.has(id)) return true;
    if (this.#kv.get(sessionKey(id)) === undefined) return false;
    if (this.#sessions.size >= SESSIONS_REMEMBERED_MAX) this.#sessions.clear();
    this.#sessions.add(id);
    return true;
  }

  #moveShadow(key: Bytes, from: Int64 | undefined, to: Int64 | undefined): void {
    if (from !== undefined) this.#kv.delete(shadowKey(from, key));
    if (to !== undefined) this.#kv.put(shadowKey(to, key), EMPTY_BYTES);
  }

  #changedIndexes(key: Bytes, before: readonly SecondaryIndex[], after: readonly SecondaryIndex[]) {
    return before.length === 0 && after.length === 0 ? undefined : changedEntries(this.#order, key, before, after);
  }

  #writeIndexes(changes: { readonly removed: readonly Bytes[]; readonly added: readonly Bytes[] } | undefined): void {
    if (changes === undefined) return;
    for (const entry of changes.removed) this.#kv.delete(entry);
    for (const entry of changes.added) this.#kv.put(entry, EMPTY_BYTES);
  }

  /** Only a leader puts internal keys, and only of sessions. */
  #putSession(key: Bytes, metadata: Bytes): void {
    const id = sessionIdOf(key);
    if (id === undefined) return;
    const timeoutMs = sessionTimeoutMs(metadata);
    this.#effects.push((listener) => listener.sessionStarted(id, timeoutMs));
  }

  #advanced(next: NextKey): void {
    this.#sequences.written(next);
    this.#effects.push((listener) => listener.sequenceAdvanced(next.prefix, next.key));
  }

  // --- deletes --------------------------------------------------------------------------------------------------

  #applyDelete(remove: Delete, response: Writer | undefined): void {
    const old = this.#kv.get(remove.key);
    const before = old === undefined ? undefined : replacedBy(old);
    const status = deleteStatus(before?.versionId, remove.expectedVersionId);
    if (status === STATUS.OK && before !== undefined) {
      this.#remove(remove.key, before);
      if (isInternal(remove.key)) this.#endSession(remove.key);
      else this.#notifications?.deleted(remove.key);
    }
    if (response !== undefined) respondStatus(response, 0x12, status);
  }

  /** Deletes a record with its shadow and its index entries. */
  #remove(key: Bytes, { sessionId, secondaryIndexes }: Replaced): void {
    const indexes = this.#changedIndexes(key, secondaryIndexes, NO_INDEXES);
    this.#kv.delete(key);
    this.#sequences.changed(key);
    this.#moveShadow(key, sessionId, undefined);
    this.#writeIndexes(indexes);
  }

  /** Deletes all records of a session whose own record is gone. */
  #endSession(key: Bytes): void {
    const id = sessionIdOf(key);
    if (id === undefined) return;
    this.#sessions.delete(id);
    for (const shadow of this.#keysIn(shadowsRange(id, this.#order.sorting))) {
      const recordKey = shadowedKey(shadow);
      const row = this.#kv.get(recordKey);
      const record = row === undefined ? undefined : replacedBy(row);
      if (record !== undefined && record.sessionId === id) {
        this.#remove(recordKey, record);
        this.#notifications?.deleted(recordKey);
      } else this.#kv.delete(shadow);
    }
    this.#effects.push((listener) => listener.sessionEnded(id));
  }

  /** An empty end means the end of the user keys; internal keys are never in the range. */
  #applyDeleteRange(range: DeleteRange, response: Writer | undefined): void {
    const { startInclusive, endExclusive } = range;
    const to = endExclusive.length === 0 || isInternal(endExclusive) ? INTERNAL_PREFIX : endExclusive;
    for (const key of this.#keysIn({ from: startInclusive, to })) {
      const row = this.#kv.get(key);
      if (row !== undefined) this.#remove(key, replacedBy(row));
    }
    this.#notifications?.rangeDeleted(startInclusive, endExclusive);
    if (response !== undefined) respondStatus(response, 0x1a, STATUS.OK);
  }

  /** The keys of a range, each of which the caller deletes before it takes the next step of them. */
  *#keysIn(range: KeyRange): Generator<Bytes> {
    let rest = range;
    for (;;) {
      const keys: Bytes[] = [];
      const cursor = this.#kv.cursor(rest);
      while (keys.length < DELETE_STEP && cursor.next()) keys.push(cursor.key.slice());
      yield* keys;
      if (keys.length < DELETE_STEP) return;
      // what was deleted is not walked over again
      rest = { ...range, from: keys.at(-1)!, fromInclusive: false };
    }
  }
}

/** Copies of what is needed of a row, but for the secondary indexes, which are views of it. */
function replacedBy(row: Bytes): Replaced {
  const { versionId, modificationsCount, createdTimestamp, sessionId } = storedVersion(row);
  const secondaryIndexes = rowParts(row).bodyEnd < row.length ? rowSecondaryIndexes(row) : NO_INDEXES;
  return { versionId, modificationsCount, createdTimestamp, sessionId, secondaryIndexes };
}

/** Absent: anything. -1: the key must be absent. Else: the key must have that version id. */
function versionMatches(expected: Int64 | undefined, actual: Int64 | undefined): boolean {
  if (expected === undefined) return true;
  if (expected === -1 && actual === undefined) return true;
  return actual !== undefined && expected === actual && expected !== -1;
}

/** One more, wrapping as a signed 64-bit integer does: a count that a client has overridden may be the largest. */
function increment(count: Int64): Int64 {
  if (typeof count === "number" && count < Number.MAX_SAFE_INTEGER) return count + 1;
  const next = BigInt.asIntN(64, BigInt(count) + 1n);
  const asNumber = Number(next);
  return Number.isSafeInteger(asNumber) ? asNumber : next;
}

function deleteStatus(versionId: Int64 | undefined, expected: Int64 | undefined): Status {
  if (versionId === undefined) {
    return expected === undefined || expected === -1 ? STATUS.KEY_NOT_FOUND : STATUS.UNEXPECTED_VERSION_ID;
  }
  if (expected === undefined) return STATUS.OK;
  return expected !== -1 && expected === versionId ? STATUS.OK : STATUS.UNEXPECTED_VERSION_ID;
}

function respondStatus(response: Writer, tag: number, status: Status): void {
  if (status === STATUS.OK) {
    response.field(tag, EMPTY_BYTES);
    return;
  }
  response.byte(tag);
  response.varint(2);
  response.byte(0x08);
  response.byte(status);
}

/** PutResponse { version = 2, key = 3 }: the version cut from the row, which begins with just that field; the key only when it was built here. */
function respondPut(response: Writer, row: Bytes, key: Bytes | undefined): void {
  const { versionEnd } = rowParts(row);
  response.byte(0x0a);
  response.varint(versionEnd + (key === undefined ? 0 : fieldSize(key.length)));
  response.slice(row, 0, versionEnd);
  if (key !== undefined) response.field(0x1a, key);
}
