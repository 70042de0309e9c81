/**
 * Keys on their way between a program and the wire. A key is any byte string; programs mostly have text.
 *
 * Inside the client a key is a **wire key**: a string when all its bytes are below 128 (then characters are bytes,
 * nothing is allocated, and engines compare and hash it at native speed), else the bytes themselves.
 *
 * Source: semantics.md §2.3, "Legacy comparator".
 */
import { type Bytes, compareBytes, text, utf8 } from "../lib/bytes.ts";
import { InvalidArgumentError } from "./errors.ts";

/** A key as a program gives it: text, sent as UTF-8, or the bytes themselves. */
export type Key = string | Uint8Array;

export type WireKey = string | Bytes;

const INTERNAL = "__oxia/";
const SLASH = 0x2f;

function isAscii(key: string): boolean {
  for (let i = 0; i < key.length; i++) if (key.charCodeAt(i) >= 0x80) return false;
  return true;
}

/** Refuses text with half a surrogate pair: it has no UTF-8. Copies bytes, so that the caller may change theirs. */
export function wireKey(key: Key): WireKey {
  if (typeof key === "string") {
    if (isAscii(key)) return key;
    if (!key.isWellFormed()) throw new InvalidArgumentError("a key has an unpaired surrogate; give such keys as bytes");
    return utf8(key);
  }
  if (!(key instanceof Uint8Array)) throw new InvalidArgumentError("a key is a string or a Uint8Array");
  return wireKeyOfBytes(key) ?? key.slice();
}

/** The wire key of bytes that are all below 128; undefined when they are not. */
function wireKeyOfBytes(bytes: Bytes): string | undefined {
  for (let i = 0; i < bytes.length; i++) if (bytes[i]! >= 0x80) return undefined;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** The bytes of a wire key, in bytes of the caller's own. */
export function keyBytes(key: WireKey): Bytes {
  return typeof key === "string" ? utf8(key) : key.slice();
}

/** The text of a wire key; what is not UTF-8 becomes U+FFFD. */
export function keyText(key: WireKey): string {
  return typeof key === "string" ? key : text(key);
}

/** Whether the key lies in the region that belongs to the server. */
export function isInternalKey(key: WireKey): boolean {
  if (typeof key === "string") return key.startsWith(INTERNAL);
  for (let i = 0; i < INTERNAL.length; i++) if (key[i] !== INTERNAL.charCodeAt(i)) return false;
  return true;
}

export function equalKeys(a: WireKey, b: WireKey): boolean {
  // a key has one form only, so that two of different forms are different keys
  if (typeof a === "string" || typeof b === "string") return a === b;
  return compareBytes(a, b) === 0;
}

/**
 * The order in which results of several shards are merged, as in all official clients: keys are paths, compared part by
 * part. It is not the order in which one shard keeps its keys.
 */
export function compareAcrossShards(a: WireKey, b: WireKey): number {
  if (typeof a === "string" && typeof b === "string") return compareText(a, b);
  return comparePaths(asBytes(a), asBytes(b));
}

function asBytes(key: WireKey): Bytes {
  return typeof key === "string" ? utf8(key) : key;
}

/** As comparePaths, decided at the first character in which the two differ. */
function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  let at = 0;
  while (at < length && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  if (at === a.length && at === b.length) return 0;
  const slashA = a.indexOf("/", at);
  const slashB = b.indexOf("/", at);
  if (slashA < 0 !== slashB < 0) return slashA < 0 ? -1 : 1;
  // the part that ends here is the shorter one
  if (at === a.length || at === slashA) return -1;
  if (at === b.length || at === slashB) return 1;
  return a.charCodeAt(at) - b.charCodeAt(at);
}

function comparePaths(a: Bytes, b: Bytes): number {
  let restA = a;
  let restB = b;
  while (restA.length > 0 && restB.length > 0) {
    const slashA = restA.indexOf(SLASH);
    const slashB = restB.indexOf(SLASH);
    if (slashA < 0 && slashB < 0) return compareBytes(restA, restB);
    if (slashA < 0) return -1;
    if (slashB < 0) return 1;
    const difference = compareBytes(restA.subarray(0, slashA), restB.subarray(0, slashB));
    if (difference !== 0) return difference;
    restA = restA.subarray(slashA + 1);
    restB = restB.subarray(slashB + 1);
  }
  return restA.length - restB.length;
}
