/**
 * The writes that make and end sessions: a put of the session's record, a delete of it. A leader proposes them like a
 * client's write, and apply makes of a session's end the end of its records.
 *
 *     SessionMetadata { timeout_ms = 1, identity = 2 }
 *
 * Source: protocol.md §6; semantics.md §4.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { SessionId, ShardId } from "../model/ids.ts";
import { Reader } from "../wire/reader.ts";
import { varintSize, Writer } from "../wire/writer.ts";
import { fieldSize } from "./record.ts";
import { sessionKey } from "./session-key.ts";

/** The WriteRequest that makes a session. */
export function encodeSessionStart(shard: ShardId, id: SessionId, timeoutMs: number, identity: Bytes): Bytes {
  const metadata = new Writer(32 + identity.length);
  metadata.byte(0x08);
  metadata.varint(timeoutMs);
  if (identity.length > 0) metadata.field(0x12, identity);
  const value = metadata.finish();
  const key = sessionKey(id);
  const request = new Writer(64 + value.length);
  encodeShard(request, shard);
  request.byte(0x12);
  request.varint(fieldSize(key.length) + fieldSize(value.length));
  request.field(0x0a, key);
  request.field(0x12, value);
  return request.finish();
}

/** The WriteRequest that ends sessions. */
export function encodeSessionEnds(shard: ShardId, ids: readonly SessionId[]): Bytes {
  const request = new Writer(16 + 48 * ids.length);
  encodeShard(request, shard);
  for (const id of ids) {
    const key = sessionKey(id);
    request.byte(0x1a);
    request.varint(1 + varintSize(key.length) + key.length);
    request.field(0x0a, key);
  }
  return request.finish();
}

function encodeShard(request: Writer, shard: ShardId): void {
  request.byte(0x08);
  request.varint(shard);
}

/** The timeout in a session record's value, milliseconds. */
export function sessionTimeoutMs(metadata: Bytes): number {
  const reader = new Reader(metadata);
  let timeoutMs = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) timeoutMs = reader.uint32();
    else reader.skip(tag);
  }
  return timeoutMs;
}
