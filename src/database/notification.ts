/**
 * What one write entry tells subscribers: a `NotificationBatch` with one entry a key, the last operation on it, sorted
 * by key bytes. A range deletion is keyed by its start. Internal keys and failed operations are not told of.
 *
 * Source: semantics.md §5.1; protocol.md §2.5.
 */
import { type Bytes, compareBytes, equalBytes } from "../lib/bytes.ts";
import type { ShardId } from "../model/ids.ts";
import type { Int64 } from "../wire/reader.ts";
import { int64Size, Writer } from "../wire/writer.ts";
import type { EntryPosition } from "./apply.ts";
import { fieldSize } from "./record.ts";

/** NotificationType on the wire. */
const TYPE = { KEY_CREATED: 0, KEY_MODIFIED: 1, KEY_DELETED: 2, KEY_RANGE_DELETED: 3 } as const;

interface Change {
  readonly key: Bytes;
  readonly type: number;
  readonly versionId: Int64 | undefined;
  /** Exclusive end of a deleted range. */
  readonly rangeEnd: Bytes | undefined;
}

/** Gathers the changes of one entry. Keys are borrowed until `encode`. */
export class Notifications {
  #changes: Change[] = [];

  put(key: Bytes, versionId: Int64, created: boolean): void {
    const type = created ? TYPE.KEY_CREATED : TYPE.KEY_MODIFIED;
    this.#changes.push({ key, type, versionId, rangeEnd: undefined });
  }

  deleted(key: Bytes): void {
    this.#changes.push({ key, type: TYPE.KEY_DELETED, versionId: undefined, rangeEnd: undefined });
  }

  /** Also when nothing matched. */
  rangeDeleted(startInclusive: Bytes, endExclusive: Bytes): void {
    this.#changes.push({
      key: startInclusive,
      type: TYPE.KEY_RANGE_DELETED,
      versionId: undefined,
      rangeEnd: endExclusive,
    });
  }

  /** The serialised NotificationBatch, in bytes of its own: also for an entry that changed nothing. */
  encode(shard: ShardId, at: EntryPosition): Bytes {
    const changes = lastPerKey(this.#changes);
    const batch = new Writer(32 + 48 * changes.length);
    encodeHeader(batch, shard, at.offset);
    batch.byte(0x19);
    batch.fixed64(at.timestamp);
    for (const change of changes) encodeChange(batch, change);
    return batch.finish();
  }
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
function lastPerKey(changes: readonly Change[]): Change[] {
  const sorted = changes.length > 1 ? changes.toSorted((a, b) => compareBytes(a.key, b.key)) : changes;
  return sorted.filter((change, at) => at + 1 === sorted.length || !equalBytes(change.key, sorted[at + 1]!.key));
}

/** NotificationEntry { key, Notification { type, version_id, key_range_last } }; the key always, even when empty. */
function encodeChange(batch: Writer, { key, type, versionId, rangeEnd }: Change): void {
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
