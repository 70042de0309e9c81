/** What a reader of notifications hears. */
import type { Int64 } from "../wire/reader.ts";
import { keyBytes, keyText, type WireKey } from "./keys.ts";

/** One change of one record, or the deletion of a range. */
export class Change {
  readonly type: "created" | "modified" | "deleted" | "rangeDeleted";
  /** The record's key, or the first key of the range; what is not UTF-8 in it is U+FFFD, and `keyBytes` has it as it is. */
  readonly key: string;
  /** Of the record as created or modified, else undefined. A number when it is a safe integer, else a bigint. */
  readonly versionId: Int64 | undefined;
  /** Of a deleted range: the key before which it ends. */
  readonly keyRangeLast: string | undefined;
  readonly #wireKey: WireKey;
  readonly #wireKeyRangeLast: WireKey | undefined;

  constructor(type: Change["type"], key: WireKey, versionId?: Int64, keyRangeLast?: WireKey) {
    this.type = type;
    this.key = keyText(key);
    this.versionId = versionId;
    this.keyRangeLast = keyRangeLast === undefined ? undefined : keyText(keyRangeLast);
    this.#wireKey = key;
    this.#wireKeyRangeLast = keyRangeLast;
  }

  /** The key's bytes, in bytes of the caller's own. */
  get keyBytes(): Uint8Array {
    return keyBytes(this.#wireKey);
  }

  get keyRangeLastBytes(): Uint8Array | undefined {
    return this.#wireKeyRangeLast === undefined ? undefined : keyBytes(this.#wireKeyRangeLast);
  }

  /** @internal */
  static wireKeyOf(change: Change): WireKey {
    return change.#wireKey;
  }
}

/** The server no longer had the notifications that followed the last one: whatever they told of is not known. */
export interface MissedChanges {
  readonly type: "missed";
  readonly shard: number;
  /** Writes of the shard that were not told of, at most. */
  readonly writesMax: number;
}

export type NotificationItem = Change | MissedChanges;
