/**
 * What one write entry tells subscribers: a `NotificationBatch` with one entry a key, the last operation on it, sorted
 * by key bytes. A range deletion is keyed by its start. Internal keys and failed operations are not told of.
 *
 * Source: semantics.md §5.1; protocol.md §2.5.
 */
import { type Bytes, compareBytes, equalBytes } from "../lib/bytes.ts";
import type { Offset, ShardId, Timestamp } from "../model/ids.ts";
import { type Int64, Reader } from "../wire/reader.ts";
import { int64Size, Writer } from "../wire/writer.ts";
import { fieldSize } from "./record.ts";

/** NotificationType on the wire. */
const TYPE = { KEY_CREATED: 0, KEY_MODIFIED: 1, KEY_DELETED: 2, KEY_RANGE_DELETED: 3 } as const;

/**
 * Gathers the changes of one entry as they happen: entries of a batch in wire form, neither sorted nor unique yet. That
 * is what is stored; `encodeBatch` makes a batch of it when somebody reads.
 */
export class Notifications {
  readonly #entries = new Writer(1024);

  put(key: Bytes, versionId: Int64, created: boolean): void {
    const type = created ? TYPE.KEY_CREATED : TYPE.KEY_MODIFIED;
    encodeChange(this.#entries, key, type, versionId, undefined);
  }

  deleted(key: Bytes): void {
    encodeChange(this.#entries, key, TYPE.KEY_DELETED, undefined, undefined);
  }

  /** Also when nothing matched. The end is exclusive. */
  rangeDeleted(startInclusive: Bytes, endExclusive: Bytes): void {
    encodeChange(this.#entries, startInclusive, TYPE.KEY_RANGE_DELETED, undefined, endExclusive);
  }

  /** What was gathered since the last call, in bytes of its own. */
  take(): Bytes {
    const entries = this.#entries.finish().slice();
    this.#entries.reset();
    if (this.#entries.bytes.length > SCRATCH_BYTES_MAX) this.#entries.bytes = new Uint8Array(1024);
    return entries;
  }
}

/** A gathering buffer larger than this is not kept. */
const SCRATCH_BYTES_MAX = 1024 * 1024;

/** The serialised NotificationBatch of an entry, from what `take` gave: also for an entry that changed nothing. */
export function encodeBatch(
  shard: ShardId,
  at: { readonly offset: Offset; readonly timestamp: Timestamp },
  entries: Bytes,
): Bytes {
  const batch = new Writer(32 + entries.length);
  encodeHeader(batch, shard, at.offset);
  batch.byte(0x19);
  batch.fixed64(at.timestamp);
  for (const { start, end } of lastPerKey(entries)) batch.slice(entries, start, end);
  return batch.finish();
}

/** One entry of a batch, as it lies in the bytes gathered. */
interface Change {
  readonly key: Bytes;
  readonly start: number;
  readonly end: number;
}

/** The first message of a subscription without a start: where the shard stands, no entries, timestamp 0. */
export function encodeStartBatch(shard: ShardId, committed: number): Bytes {
  const batch = new Writer(24);
  encodeHeader(batch, shard, committed);
  return batch.finish();
}

function encodeHeader(batch: Writer, shard: ShardId, offset: number): void {
  if (shard !== 0) {
    batch.byte(0x08);
    batch.varint(shard);
  }
  if (offset !== 0) {
    batch.byte(0x10);
    batch.int64(offset);
  }
}

/** Sorted by key bytes; of several changes of a key the last one counts. Array.sort is stable. */
function lastPerKey(entries: Bytes): Change[] {
  const changes = changesIn(entries);
  let isSorted = true;
  for (let at = 1; at < changes.length && isSorted; at++) {
    isSorted = compareBytes(changes[at - 1]!.key, changes[at]!.key) < 0;
  }
  if (isSorted) return changes;
  const sorted = changes.sort((a, b) => compareBytes(a.key, b.key));
  return sorted.filter((change, at) => at + 1 === sorted.length || !equalBytes(change.key, sorted[at + 1]!.key));
}

function changesIn(entries: Bytes): Change[] {
  const changes: Change[] = [];
  const reader = new Reader(entries);
  while (reader.more()) {
    const start = reader.pos;
    reader.tag();
    const end = reader.messageEnd();
    reader.tag();
    const key = reader.view();
    reader.pos = end;
    changes.push({ key, start, end });
  }
  return changes;
}

/** NotificationEntry { key, Notification { type, version_id, key_range_last } }; the key always, even when empty. */
function encodeChange(
  batch: Writer,
  key: Bytes,
  type: number,
  versionId: Int64 | undefined,
  rangeEnd: Bytes | undefined,
): void {
  const value =
    (type === 0 ? 0 : 2) +
    (versionId === undefined ? 0 : 1 + int64Size(versionId)) +
    (rangeEnd === undefined ? 0 : fieldSize(rangeEnd.length));
  batch.byte(0x22);
  batch.varint(fieldSize(key.length) + fieldSize(value));
  batch.byte(0x0a);
  batch.varint(key.length);
  batch.slice(key, 0, key.length);
  batch.byte(0x12);
  batch.varint(value);
  if (type !== 0) {
    batch.byte(0x08);
    batch.byte(type);
  }
  if (versionId !== undefined) {
    batch.byte(0x10);
    batch.int64(versionId);
  }
  if (rangeEnd !== undefined) batch.field(0x1a, rangeEnd);
}
