/**
 * What the client gives back. Objects of one class have all their properties from the start, so that the engine sees
 * one shape however many there are.
 */
import type { Int64 } from "../wire/reader.ts";
import { keyBytes, keyText, type WireKey } from "./keys.ts";

export interface Version {
  /** Given by the shard to each put, ascending. A number when it is a safe integer, else a bigint. */
  readonly versionId: Int64;
  /** Puts of this record since it was created; 0 for the first. A number when it is a safe integer, else a bigint. */
  readonly modificationsCount: Int64;
  /** Milliseconds since 1970-01-01 UTC, by the clock of the shard's leader. */
  readonly createdTimestamp: number;
  readonly modifiedTimestamp: number;
  /** The session that the record ends with; undefined when it outlives sessions. */
  readonly sessionId: Int64 | undefined;
  readonly clientIdentity: string | undefined;
}

/** A record that was put. */
export class PutResult {
  /** The key as text; what is not UTF-8 in it is U+FFFD, and `keyBytes` has it as it is. */
  readonly key: string;
  readonly version: Version;
  readonly #wireKey: WireKey;

  constructor(key: WireKey, version: Version) {
    this.key = keyText(key);
    this.version = version;
    this.#wireKey = key;
  }

  /** The key's bytes, in bytes of the caller's own. */
  get keyBytes(): Uint8Array {
    return keyBytes(this.#wireKey);
  }
}

/** A record that was found. */
export class GetResult {
  /** The key as text; what is not UTF-8 in it is U+FFFD, and `keyBytes` has it as it is. */
  readonly key: string;
  /** Bytes of the caller's own. Empty when the value is empty, or was not asked for. */
  readonly value: Uint8Array;
  readonly version: Version;
  /** The key of the index by which the record was found; undefined where the server names none. */
  readonly secondaryIndexKey: string | undefined;
  readonly #wireKey: WireKey;
  readonly #secondaryKey: WireKey | undefined;

  constructor(key: WireKey, value: Uint8Array, version: Version, secondaryKey?: WireKey) {
    this.key = keyText(key);
    this.value = value;
    this.version = version;
    this.secondaryIndexKey = secondaryKey === undefined ? undefined : keyText(secondaryKey);
    this.#wireKey = key;
    this.#secondaryKey = secondaryKey;
  }

  /** The key's bytes, in bytes of the caller's own. */
  get keyBytes(): Uint8Array {
    return keyBytes(this.#wireKey);
  }

  /** @internal For merging the results of shards. */
  static wireKeyOf(record: GetResult): WireKey {
    return record.#wireKey;
  }

  /** @internal The key by which an index sorts the record, where the server names it. */
  static secondaryKeyOf(record: GetResult): WireKey | undefined {
    return record.#secondaryKey;
  }
}
