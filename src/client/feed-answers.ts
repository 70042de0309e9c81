/**
 * The messages of sessions, notifications and sequence updates, read without reflection. feed-answers.test.ts compares
 * them with the generated code.
 *
 * Source: protocol.md §2.4, §2.5.
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { type Int64, Reader } from "../wire/reader.ts";
import { Change } from "./changes.ts";
import { type WireKey, wireKey } from "./keys.ts";

export interface NotificationBatch {
  readonly shard: number;
  /** Of the write that made the changes. */
  readonly offset: Int64;
  readonly changes: Change[];
}

const CHANGE_TYPES = ["created", "modified", "deleted", "rangeDeleted"] as const;

/** The id in a CreateSessionResponse. */
export function decodeSessionId(message: Bytes): Int64 {
  const reader = new Reader(message);
  let id: Int64 = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) id = reader.int64();
    else reader.skip(tag);
  }
  return id;
}

/** The key in a GetSequenceUpdatesResponse. */
export function decodeSequenceKey(message: Bytes): WireKey {
  const reader = new Reader(message);
  let key: WireKey = "";
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x0a) key = wireKey(reader.view());
    else reader.skip(tag);
  }
  return key;
}

/** Reads a NotificationBatch; changes of a type that is not known are passed over. Throws INVALID_ARGUMENT (Refusal) when it is none. */
export function decodeNotificationBatch(message: Bytes): NotificationBatch {
  const reader = new Reader(message);
  let shard = 0;
  let offset: Int64 = 0;
  const changes: Change[] = [];
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) shard = Number(reader.int64());
    else if (tag === 0x10) offset = reader.int64();
    else if (tag === 0x22) {
      const change = decodeEntry(new Reader(reader.view()));
      if (change !== undefined) changes.push(change);
    } else reader.skip(tag);
  }
  return { shard, offset, changes };
}

function decodeEntry(reader: Reader): Change | undefined {
  let key: WireKey = "";
  let value = EMPTY_BYTES;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x0a) key = wireKey(reader.view());
    else if (tag === 0x12) value = reader.view();
    else reader.skip(tag);
  }
  const fields = new Reader(value);
  let type = 0;
  let versionId: Int64 | undefined;
  let keyRangeLast: WireKey | undefined;
  while (fields.more()) {
    const tag = fields.tag();
    if (tag === 0x08) type = fields.uint32();
    else if (tag === 0x10) versionId = fields.int64();
    else if (tag === 0x1a) keyRangeLast = wireKey(fields.view());
    else fields.skip(tag);
  }
  const name = CHANGE_TYPES[type];
  return name === undefined ? undefined : new Change(name, key, versionId, keyRangeLast);
}
