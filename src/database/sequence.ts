/**
 * Keys that the server builds: a prefix and one or more counters, each `-` and 20 decimal digits.
 *
 *     put on `a` with deltas [6, 9] behind a-00000000000000000008  →  a-00000000000000000014-00000000000000000009
 *
 * Counters are unsigned 64-bit and wrap. The highest key of a prefix is read from the state, below the one whose first
 * counter is the largest; the one found last is kept with its prefix, and trusted as long as its record is there and
 * nobody else has written a key of that form.
 *
 * Invariant: a highest key that is remembered is the one that the state gives: a replica that has just restarted
 * remembers none, and must build the same keys.
 *
 * Source: semantics.md §1.5.
 */
import { type Bytes, compareBytes, concatBytes, utf8 } from "../lib/bytes.ts";
import { SEQUENCES_REMEMBERED_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { KeyValue } from "../ports.ts";
import type { Int64 } from "../wire/reader.ts";

const DASH = 0x2d;
const DIGITS = 20;
const PART_LENGTH = 1 + DIGITS;
const COUNTER_MAX = 2n ** 64n - 1n;
const FIRST = utf8("-");
const END = utf8(`-${COUNTER_MAX}`);

interface Highest {
  readonly key: Bytes;
  readonly counters: readonly Int64[];
}

export class Sequences {
  readonly #kv: KeyValue;
  /** By prefix, as latin1 text; the oldest first. */
  readonly #remembered = new Map<string, Highest>();

  constructor(kv: KeyValue) {
    this.#kv = kv;
  }

  /**
   * The key that a put with these deltas gets, and whether it is known not to be there: it lies above the highest one,
   * unless the first counter has wrapped or reached the end of the search. Throws INVALID_ARGUMENT when the highest key has more counters.
   */
  next(prefix: Bytes, deltas: readonly Int64[]): { readonly key: Bytes; readonly isNew: boolean } {
    const before = this.#highest(prefix)?.counters ?? [];
    if (deltas.length < before.length) {
      throw new Refusal("INVALID_ARGUMENT", "oxia: sequential key operation missing some sequence deltas");
    }
    const counters = deltas.map((delta, at) => sum(before[at] ?? 0, delta));
    const key = concatBytes(
      prefix,
      utf8(counters.map((counter) => `-${String(counter).padStart(DIGITS, "0")}`).join("")),
    );
    const first = counters[0]!;
    return { key, isNew: first > (before[0] ?? 0) && first < COUNTER_MAX };
  }

  /** A key that `next` gave was written: it is the highest now, unless a sum has wrapped or reached the end of the search. */
  written(prefix: Bytes, key: Bytes): void {
    const before = this.#remembered.get(latin1(prefix));
    // the prefix may itself be a key of another sequence
    this.otherPut(key);
    if (compareBytes(key, concatBytes(prefix, END)) >= 0) return;
    if (before !== undefined && compareBytes(key, before.key) < 0) return;
    this.#remember(prefix, { key, counters: countersIn(key, prefix.length)! });
  }

  /** The highest key of a prefix, if it has one. */
  highestKey(prefix: Bytes): Bytes | undefined {
    return this.#highest(prefix)?.key;
  }

  /** Whether `next` needs no look at keys in order. */
  isRemembered(prefix: Bytes): boolean {
    return this.#remembered.has(latin1(prefix));
  }

  /** A key was put that `next` did not give: it may be the highest of some prefix. */
  otherPut(key: Bytes): void {
    for (let end = key.length - PART_LENGTH; end >= 0 && isPart(key, end); end -= PART_LENGTH) {
      this.#remembered.delete(latin1(key.subarray(0, end)));
    }
  }

  /** Changes were undone. */
  forget(): void {
    this.#remembered.clear();
  }

  #highest(prefix: Bytes): Highest | undefined {
    const remembered = this.#remembered.get(latin1(prefix));
    if (remembered !== undefined && this.#kv.get(remembered.key) !== undefined) return remembered;
    const cursor = this.#kv.cursor({
      from: concatBytes(prefix, FIRST),
      to: concatBytes(prefix, END),
      reverse: true,
    });
    while (cursor.next()) {
      const key = cursor.key.slice();
      // others may have keys between: they are no part of the sequence
      const counters = startsAt(key, prefix) ? countersIn(key, prefix.length) : undefined;
      if (counters === undefined) continue;
      this.#remember(prefix, { key, counters });
      return { key, counters };
    }
    return undefined;
  }

  #remember(prefix: Bytes, highest: Highest): void {
    const name = latin1(prefix);
    this.#remembered.delete(name);
    this.#remembered.set(name, highest);
    if (this.#remembered.size > SEQUENCES_REMEMBERED_MAX) {
      this.#remembered.delete(this.#remembered.keys().next().value!);
    }
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

function startsAt(key: Bytes, prefix: Bytes): boolean {
  if (key.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (key[i] !== prefix[i]) return false;
  return true;
}

/** The counters behind the prefix; undefined when what follows is anything else. */
function countersIn(key: Bytes, prefixLength: number): Int64[] | undefined {
  const length = key.length - prefixLength;
  if (length === 0 || length % PART_LENGTH !== 0) return undefined;
  const counters: Int64[] = [];
  for (let at = prefixLength; at < key.length; at += PART_LENGTH) {
    if (!isPart(key, at)) return undefined;
    const counter = BigInt(latin1(key.subarray(at + 1, at + PART_LENGTH)));
    if (counter > COUNTER_MAX) return undefined;
    const small = Number(counter);
    counters.push(Number.isSafeInteger(small) ? small : counter);
  }
  return counters;
}

/** Whether `-` and 20 digits begin at `at`. */
function isPart(key: Bytes, at: number): boolean {
  if (key[at] !== DASH || key.length < at + PART_LENGTH) return false;
  for (let i = at + 1; i < at + PART_LENGTH; i++) if (key[i]! < 0x30 || key[i]! > 0x39) return false;
  return true;
}

function latin1(bytes: Bytes): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}
