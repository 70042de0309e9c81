/**
 * What of a request can be checked without the state, checked before it is logged: nothing that is logged can stop a
 * shard (architecture.md, "Safer", 10 and 11). What depends on writes in flight is decided at apply.
 */
import { isInternal } from "../model/keys.ts";
import { WRITE_DERIVED_BYTES_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Put, Read, Write } from "../wire/requests.ts";

/** KeyComparisonType on the wire. */
export const COMPARISON = { EQUAL: 0, FLOOR: 1, CEILING: 2, LOWER: 3, HIGHER: 4 } as const;

/** Bytes that a delta adds to a sequence key, and that a shadow has before the escaped key. */
const SEQUENCE_PART_BYTES = 21;
const SESSION_KEY_BYTES = 32;

/** Throws INVALID_ARGUMENT for a write that must not be logged. */
export function validateWrite(write: Write): void {
  let derivedBytes = 0;
  for (const put of write.puts) {
    validatePut(put);
    derivedBytes += derivedBytesMax(put);
  }
  if (derivedBytes > WRITE_DERIVED_BYTES_MAX) {
    throw new Refusal(
      "INVALID_ARGUMENT",
      `index entries, sessions and sequences of this write would take ${derivedBytes} bytes of keys; ${WRITE_DERIVED_BYTES_MAX} are allowed`,
    );
  }
  for (const { key } of write.deletes) if (isInternal(key)) throw internalKey();
  for (const { startInclusive } of write.deleteRanges) if (isInternal(startInclusive)) throw internalKey();
}

function validatePut(put: Put): void {
  if (isInternal(put.key)) throw internalKey();
  if (put.sequenceKeyDeltas !== undefined) validateSequence(put);
}

function validateSequence(put: Put): void {
  if (put.partitionKey === undefined) {
    throw new Refusal("INVALID_ARGUMENT", "oxia: sequential key operation requires partition key");
  }
  if (put.sequenceKeyDeltas?.[0] === 0) {
    throw new Refusal("INVALID_ARGUMENT", "oxia: sequential key operation requires first delta do be > 0");
  }
}

/** Bytes of the keys that a put makes beside its own, at most: escaped, a byte may become three, of a secondary key four. */
function derivedBytesMax({ key, sequenceKeyDeltas, sessionId, secondaryIndexes }: Put): number {
  const ownBytes = key.length + SEQUENCE_PART_BYTES * (sequenceKeyDeltas?.length ?? 0);
  let bytes = ownBytes - key.length;
  if (sessionId !== undefined) bytes += SESSION_KEY_BYTES + 3 * ownBytes;
  for (const index of secondaryIndexes ?? []) bytes += 3 * index.name.length + 4 * index.key.length + 3 * ownBytes;
  return bytes;
}

/** Throws INVALID_ARGUMENT for a comparison type that does not exist. */
export function validateRead(read: Read): void {
  for (const get of read.gets) {
    if (get.comparison > COMPARISON.HIGHER) {
      throw new Refusal("INVALID_ARGUMENT", `comparison_type ${get.comparison | 0} does not exist`);
    }
  }
}

function internalKey(): Refusal {
  return new Refusal("INVALID_ARGUMENT", "keys under `__oxia/` are internal and cannot be written");
}
