/**
 * Key orders. A key is any byte string; a shard keeps its records in one of two orders, and everything that says
 * "before", "range", "floor" means that order.
 *
 * A key's **order key** is a byte string whose bytewise order is the shard's order:
 *
 *     hierarchical   2-byte big-endian number of '/' (at most 32767; one less when the key ends in "//"),
 *                    then the key with every '/' as 0xFF; internal keys have the top bit of the number set
 *     natural        one byte, 0 for user keys and 1 for internal ones, then the key
 *
 * Both put internal keys (`__oxia/…`) after all user keys. The hierarchical encoding is not injective over keys that
 * hold the byte 0xFF: those carry the raw key as a **tie**, compared after equal order keys. So two keys are ordered by
 * (order key, raw key), and (order key, tie) gives the raw key back.
 *
 * Source: semantics.md §2.3; architecture.md, "One KV per shard".
 */
import { type Bytes, compareBytes, EMPTY_BYTES, startsWith, utf8 } from "../lib/bytes.ts";

export const INTERNAL_PREFIX: Bytes = utf8("__oxia/");

/** Whether the key lies in the region that clients may read but not write. */
export function isInternal(key: Bytes): boolean {
  return key.length >= 7 && key[0] === 0x5f && startsWith(key, INTERNAL_PREFIX);
}

/** `isInternal` for a key that lies within `source`. */
function isInternalAt(source: Bytes, start: number, end: number): boolean {
  if (end - start < INTERNAL_PREFIX.length || source[start] !== 0x5f) return false;
  for (let i = 1; i < INTERNAL_PREFIX.length; i++) if (source[start + i] !== INTERNAL_PREFIX[i]) return false;
  return true;
}

export type KeySorting = "hierarchical" | "natural";

export interface KeyOrder {
  readonly sorting: KeySorting;
  /** Bytes that the order key has beyond its raw key. */
  readonly overhead: number;
  /** Writes the order key of `key` into `target` at `at` and returns its length, `key.length + overhead`. */
  encode(key: Bytes, target: Bytes, at: number): number;
  /** Whether the raw key must be kept beside its order key. */
  needsTie(key: Bytes): boolean;
  /** The raw key, in bytes of its own. `tie` is the raw key where `needsTie`, else empty. */
  decode(orderKey: Bytes, tie: Bytes): Bytes;
  /**
   * Compares (order key, tie) with the raw key that lies in `source` from `start` inclusive to `end` exclusive:
   * negative, zero or positive.
   */
  compareWithRaw(orderKey: Bytes, tie: Bytes, source: Bytes, start: number, end: number): number;
  /** The order key that stands before all internal keys and after all user keys. */
  readonly internalStart: Bytes;
}

const SLASH = 0x2f;
const SLASH_ENCODED = 0xff;
const SLASHES_MAX = 0x7fff;
const INTERNAL_BIT = 0x80;

const hierarchical: KeyOrder = {
  sorting: "hierarchical",
  overhead: 2,
  encode(key, target, at) {
    const length = key.length;
    let slashes = 0;
    let to = at + 2;
    for (let i = 0; i < length; i++) {
      const byte = key[i]!;
      if (byte === SLASH) {
        slashes++;
        target[to++] = SLASH_ENCODED;
      } else {
        target[to++] = byte;
      }
    }
    if (length >= 2 && key[length - 1] === SLASH && key[length - 2] === SLASH) slashes--;
    if (slashes > SLASHES_MAX) slashes = SLASHES_MAX;
    target[at] = (slashes >> 8) | (isInternal(key) ? INTERNAL_BIT : 0);
    target[at + 1] = slashes & 0xff;
    return length + 2;
  },
  needsTie(key) {
    return key.includes(SLASH_ENCODED);
  },
  decode(orderKey, tie) {
    if (tie.length > 0) return tie.slice();
    const key = orderKey.slice(2);
    for (let i = 0; i < key.length; i++) if (key[i] === SLASH_ENCODED) key[i] = SLASH;
    return key;
  },
  compareWithRaw(orderKey, tie, source, start, end) {
    const length = end - start;
    let slashes = 0;
    let needsTie = false;
    for (let i = start; i < end; i++) {
      const byte = source[i]!;
      if (byte === SLASH) slashes++;
      else if (byte === SLASH_ENCODED) needsTie = true;
    }
    if (length >= 2 && source[end - 1] === SLASH && source[end - 2] === SLASH) slashes--;
    if (slashes > SLASHES_MAX) slashes = SLASHES_MAX;
    if (isInternalAt(source, start, end)) slashes |= INTERNAL_BIT << 8;
    const levels = ((orderKey[0]! << 8) | orderKey[1]!) - slashes;
    if (levels !== 0) return levels;
    const shorter = Math.min(orderKey.length - 2, length);
    for (let i = 0; i < shorter; i++) {
      const byte = source[start + i]!;
      const difference = orderKey[i + 2]! - (byte === SLASH ? SLASH_ENCODED : byte);
      if (difference !== 0) return difference;
    }
    if (orderKey.length - 2 !== length) return orderKey.length - 2 - length;
    return needsTie ? compareBytes(tie, source.subarray(start, end)) : tie.length;
  },
  internalStart: Uint8Array.of(INTERNAL_BIT, 0),
};

const natural: KeyOrder = {
  sorting: "natural",
  overhead: 1,
  encode(key, target, at) {
    target[at] = isInternal(key) ? 1 : 0;
    target.set(key, at + 1);
    return key.length + 1;
  },
  needsTie() {
    return false;
  },
  decode(orderKey) {
    return orderKey.slice(1);
  },
  compareWithRaw(orderKey, _tie, source, start, end) {
    const region = orderKey[0]! - (isInternalAt(source, start, end) ? 1 : 0);
    if (region !== 0) return region;
    const length = end - start;
    const shorter = Math.min(orderKey.length - 1, length);
    for (let i = 0; i < shorter; i++) {
      const difference = orderKey[i + 1]! - source[start + i]!;
      if (difference !== 0) return difference;
    }
    return orderKey.length - 1 - length;
  },
  internalStart: Uint8Array.of(1),
};

export function keyOrder(sorting: KeySorting): KeyOrder {
  return sorting === "hierarchical" ? hierarchical : natural;
}

/** The order key of `key` in bytes of its own. */
export function orderKeyOf(order: KeyOrder, key: Bytes): Bytes {
  const orderKey = new Uint8Array(key.length + order.overhead);
  order.encode(key, orderKey, 0);
  return orderKey;
}

/** Compares two raw keys in the shard's order. */
export function compareKeys(order: KeyOrder, a: Bytes, b: Bytes): number {
  return compareBytes(orderKeyOf(order, a), orderKeyOf(order, b)) || compareBytes(a, b);
}

/** The tie of `key`: itself where its order key is shared, else empty. Borrowed from `key`. */
export function tieOf(order: KeyOrder, key: Bytes): Bytes {
  return order.needsTie(key) ? key : EMPTY_BYTES;
}
