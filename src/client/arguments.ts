/** What a program gives, checked and turned into what goes on the wire. All throw InvalidArgumentError at what cannot be meant. */
import { utf8 } from "../lib/bytes.ts";
import { CLIENT_INDEX_ENTRIES_MAX, CLIENT_SEQUENCE_DELTAS_MAX } from "../model/limits.ts";
import type { Int64 } from "../wire/reader.ts";
import { InvalidArgumentError } from "./errors.ts";
import { isInternalKey, type Key, type WireKey, wireKey } from "./keys.ts";
import type { PutOptions, RangeOptions } from "./options.ts";
import type { PutExtras, PutFields } from "./requests.ts";
import type { KeyRange } from "./shard-range.ts";

/** `expected_version_id` that says: must not exist. */
const MUST_NOT_EXIST = -1;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const UINT64_MAX = 2n ** 64n - 1n;

export function optionalKey(key: Key | undefined): WireKey | undefined {
  return key === undefined ? undefined : wireKey(key);
}

/** The key of a record that a program writes. Refuses the server's own region, so that one such key cannot fail a batch of others'. */
export function userKey(key: Key): WireKey {
  const user = wireKey(key);
  if (isInternalKey(user)) throw new InvalidArgumentError("keys that start with __oxia/ belong to the server");
  return user;
}

export function putFields(
  key: Key,
  value: string | Uint8Array,
  options: PutOptions,
  clientIdentity: WireKey,
): PutFields {
  return {
    key: userKey(key),
    value: typeof value === "string" ? utf8(value) : value,
    expectedVersionId: expectedVersion(options),
    partitionKey: optionalKey(options.partitionKey),
    overrideVersionId: int64("overrideVersionId", options.overrideVersionId),
    overrideModificationsCount: int64("overrideModificationsCount", options.overrideModificationsCount),
    extras: putExtras(options, clientIdentity),
  };
}

function putExtras(options: PutOptions, clientIdentity: WireKey): PutExtras | undefined {
  const { ephemeral, sequenceKeysDeltas = [], secondaryIndexes = [] } = options;
  if (ephemeral !== true && sequenceKeysDeltas.length === 0 && secondaryIndexes.length === 0) return undefined;
  if (sequenceKeysDeltas.length > 0) checkSequence(options, sequenceKeysDeltas);
  if (secondaryIndexes.length > CLIENT_INDEX_ENTRIES_MAX) {
    throw new InvalidArgumentError(`a record has at most ${CLIENT_INDEX_ENTRIES_MAX} index entries`);
  }
  return {
    sessionId: undefined,
    clientIdentity: ephemeral === true ? clientIdentity : undefined,
    sequenceKeysDeltas,
    secondaryIndexes: secondaryIndexes.map(({ name, key }) => ({ index: wireKey(name), key: wireKey(key) })),
  };
}

/** A sequence put that a server cannot apply may cost it more than the put (errors.md §2): what can be known is checked here. */
function checkSequence(options: PutOptions, deltas: readonly Int64[]): void {
  if (deltas.length > CLIENT_SEQUENCE_DELTAS_MAX) {
    throw new InvalidArgumentError(`a sequence has at most ${CLIENT_SEQUENCE_DELTAS_MAX} parts`);
  }
  for (const delta of deltas) {
    const whole = typeof delta === "bigint" ? delta <= UINT64_MAX : Number.isSafeInteger(delta);
    if (!whole || delta < 0) {
      throw new InvalidArgumentError("deltas are whole numbers from 0: safe integers or bigints of 64 bits");
    }
  }
  if (Number(deltas[0]) === 0) throw new InvalidArgumentError("the first delta of a sequence is at least 1");
  if (options.partitionKey === undefined) throw new InvalidArgumentError("a sequence needs a partition key");
  if (options.expectedVersionId !== undefined || options.mustNotExist === true) {
    throw new InvalidArgumentError("the key of a sequence is always a new one: no version can be expected of it");
  }
}

function expectedVersion({ expectedVersionId, mustNotExist }: PutOptions): Int64 | undefined {
  if (mustNotExist !== true) return int64("expectedVersionId", expectedVersionId);
  if (expectedVersionId !== undefined) throw new InvalidArgumentError("mustNotExist contradicts expectedVersionId");
  return MUST_NOT_EXIST;
}

export function int64(name: string, value: Int64 | undefined): Int64 | undefined {
  if (value === undefined || Number.isSafeInteger(value)) return value;
  if (typeof value === "bigint" && value >= INT64_MIN && value <= INT64_MAX) return value;
  throw new InvalidArgumentError(`${name} is not a 64-bit integer: a safe integer or a bigint`);
}

export function keyRange({
  startInclusive,
  endExclusive,
}: RangeOptions): Pick<KeyRange, "startInclusive" | "endExclusive"> {
  return { startInclusive: wireKey(startInclusive ?? ""), endExclusive: wireKey(endExclusive ?? "") };
}
