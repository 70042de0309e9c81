/**
 * Keys that the server builds: a prefix and one or more counters, each `-` and 20 decimal digits.
 *
 *     put on `a` with deltas [6, 9] behind a-00000000000000000008  →  a-00000000000000000014-00000000000000000009
 *
 * Counters are unsigned 64-bit and wrap. The highest key of a prefix is read from the state, below the one whose first
 * counter is the largest; the one found last is kept with its prefix, until somebody else writes a key of that form or
 * one is deleted.
 *
 * Invariant: a highest key that is remembered is the one that the state gives: a replica that has just restarted
 * remembers none, and must build the same keys.
 *
 * Source: semantics.md §1.5.
 */
import { type Bytes, compareBytes, concatBytes, equalBytes, startsWith, text, utf8 } from "../lib/bytes.ts";
import { SEQUENCES_REMEMBERED_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { KeyValue } from "../ports.ts";
import type { Int64 } from "../wire/reader.ts";

const DASH = 0x2d;
const ZERO = 0x30;
const DIGITS = 20;
const PART_LENGTH = 1 + DIGITS;
const COUNTER_MAX = 2n ** 64n - 1n;
const FIRST = utf8("-");
const END = utf8(`-${COUNTER_MAX}`);

interface Highest {
  readonly prefix: Bytes;
  readonly key: Bytes;
  readonly counters: readonly Int64[];
}

/** What a put with deltas writes. */
export interface NextKey extends Highest {
  /** Known not to be there: it lies above the highest key, unless the first counter has wrapped or reached the end of the search. */
  readonly isNew: boolean;
}

export class Sequences {
  readonly #kv: KeyValue;
  /** By a hash of the prefix; of two with the same hash the later one is remembered. */
  readonly #remembered = new Map<number, Highest>();

  constructor(kv: KeyValue) {
    this.#kv = kv;
  }

  /** The key that a put with these deltas gets. Throws INVALID_ARGUMENT when the highest key has more counters. */
  next(prefix: Bytes, deltas: readonly Int64[]): NextKey {
    const before = this.#highest(prefix)?.counters ?? [];
    if (deltas.length < before.length) {
      throw new Refusal("INVALID_ARGUMENT", "oxia: sequential key operation missing some sequence deltas");
    }
    const counters = deltas.map((delta, at) => sum(before[at] ?? 0, delta));
    const first = counters[0]!;
    const isNew = first > (before[0] ?? 0) && first < COUNTER_MAX;
    return { prefix, key: keyOf(prefix, counters), counters, isNew };
  }

  /** A key that `next` gave was written: it is the highest now, unless a sum has wrapped or reached the end of the search. */
  written(next: NextKey): void {
    const { prefix, key, counters } = next;
    // it may be a key of other sequences too
    this.#forgetPrefixesOf(key, prefix.length);
    if (counters[0]! >= COUNTER_MAX) return;
    const before = this.#recall(prefix);
    if (before !== undefined && !next.isNew && compareBytes(key, before.key) < 0) return;
    this.#remember({ prefix: before?.prefix ?? prefix.slice(), key, counters });
  }

  /** The highest key of a prefix, if it has one. */
  highestKey(prefix: Bytes): Bytes | undefined {
    return this.#highest(prefix)?.key;
  }

  /** Whether `next` needs no look at keys in order. */
  isRemembered(prefix: Bytes): boolean {
    return this.#recall(prefix) !== undefined;
  }

  /** A key that `next` did not give was put, or one was deleted: the highest key of some prefix may be another one. */
  changed(key: Bytes): void {
    this.#forgetPrefixesOf(key, -1);
  }

  /** Of all prefixes that a key is of but the one of length `but`. */
  #forgetPrefixesOf(key: Bytes, but: number): void {
    for (let end = key.length - PART_LENGTH; end >= 0 && isPart(key, end); end -= PART_LENGTH) {
      if (end !== but) this.#remembered.delete(hashOf(key, end));
    }
  }

  /** Changes were undone. */
  forget(): void {
    this.#remembered.clear();
  }

  #highest(prefix: Bytes): Highest | undefined {
    const remembered = this.#recall(prefix);
    if (remembered !== undefined) return remembered;
    const cursor = this.#kv.cursor({
      from: concatBytes(prefix, FIRST),
      to: concatBytes(prefix, END),
      reverse: true,
    });
    while (cursor.next()) {
      const key = cursor.key.slice();
      // others may have keys between: they are no part of the sequence
      const counters = startsWith(key, prefix) ? countersIn(key, prefix.length) : undefined;
      if (counters === undefined) continue;
      const highest = { prefix: prefix.slice(), key, counters };
      this.#remember(highest);
      return highest;
    }
    return undefined;
  }

  #recall(prefix: Bytes): Highest | undefined {
    const found = this.#remembered.get(hashOf(prefix, prefix.length));
    return found !== undefined && equalBytes(found.prefix, prefix) ? found : undefined;
  }

  #remember(highest: Highest): void {
    const { prefix } = highest;
    this.#remembered.set(hashOf(prefix, prefix.length), highest);
    if (this.#remembered.size > SEQUENCES_REMEMBERED_MAX) {
      this.#remembered.delete(this.#remembered.keys().next().value!);
    }
  }
}

/** FNV-1a over the first `length` bytes. */
function hashOf(bytes: Bytes, length: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash;
}

/** The prefix and a part for each counter. */
function keyOf(prefix: Bytes, counters: readonly Int64[]): Bytes {
  const key = new Uint8Array(prefix.length + PART_LENGTH * counters.length);
  key.set(prefix);
  let at = prefix.length;
  for (const counter of counters) {
    key[at] = DASH;
    at += PART_LENGTH;
    writeDigits(key, at, counter);
  }
  return key;
}

/** Writes DIGITS decimal digits that end before `end`. */
function writeDigits(target: Bytes, end: number, counter: Int64): void {
  if (typeof counter === "bigint") {
    target.set(utf8(String(counter).padStart(DIGITS, "0")), end - DIGITS);
    return;
  }
  let rest = counter;
  for (let at = end - 1; at >= end - DIGITS; at--) {
    const less = Math.floor(rest / 10);
    target[at] = ZERO + (rest - less * 10);
    rest = less;
  }
}

/** Wraps at 2^64. */
function sum(counter: Int64, delta: Int64): Int64 {
  if (typeof counter === "number" && typeof delta === "number" && Number.isSafeInteger(counter + delta)) {
    return counter + delta;
  }
  const whole = BigInt.asUintN(64, BigInt(counter) + BigInt(delta));
  const small = Number(whole);
  return Number.isSafeInteger(small) ? small : whole;
}

/** The counters behind the prefix; undefined when what follows is anything else. */
function countersIn(key: Bytes, prefixLength: number): Int64[] | undefined {
  const length = key.length - prefixLength;
  if (length === 0 || length % PART_LENGTH !== 0) return undefined;
  const counters: Int64[] = [];
  for (let at = prefixLength; at < key.length; at += PART_LENGTH) {
    if (!isPart(key, at)) return undefined;
    const counter = BigInt(text(key.subarray(at + 1, at + PART_LENGTH)));
    if (counter > COUNTER_MAX) return undefined;
    const small = Number(counter);
    counters.push(Number.isSafeInteger(small) ? small : counter);
  }
  return counters;
}

/** Whether `-` and 20 digits begin at `at`. */
function isPart(key: Bytes, at: number): boolean {
  if (key[at] !== DASH || key.length < at + PART_LENGTH) return false;
  for (let i = at + 1; i < at + PART_LENGTH; i++) if (key[i]! < ZERO || key[i]! > ZERO + 9) return false;
  return true;
}
