/**
 * Secondary index entries: internal keys that lie in the order of the secondary key, so that an index query is a plain
 * range read over keys alone:
 *
 *     __oxia/idx/<escaped index>/<order key of the secondary> 01 <its tie> 01 <escaped primary>
 *
 * Order key and tie (model/keys.ts) are written such that the bytes 00, 01, '/' and FF do not occur and the order
 * stays: 00–02 become 02 10–12, 2E and '/' become 2E 10–11, FE and FF become FE 10–11. An entry then has exactly three
 * slashes and sorts bytewise in both key orders: by index, secondary, escaped primary. Its row is empty.
 *
 * Source: protocol.md §6.1; semantics.md §3.
 */
import { type Bytes, compareBytes, concatBytes, equalBytes, utf8 } from "../lib/bytes.ts";
import { type KeyOrder, orderKeyOf } from "../model/keys.ts";
import type { KeyRange, KeyValue } from "../ports.ts";
import type { SecondaryIndex } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { escapeKey, unescapeKey, writeEscapedKey } from "./session-key.ts";
import { COMPARISON } from "./validate.ts";

const PREFIX = utf8("__oxia/idx/");
const SLASH_BYTE = 0x2f;
const SLASH = Uint8Array.of(SLASH_BYTE);
const SEPARATOR = 0x01;

export interface IndexEntry {
  readonly secondary: Bytes;
  readonly primary: Bytes;
}

export function indexEntryKey(order: KeyOrder, index: SecondaryIndex, primary: Bytes): Bytes {
  const key = new Writer(64 + 3 * index.name.length + 2 * index.key.length + 3 * primary.length);
  writeSecondaryStart(key, order, index.name, index.key);
  writeEscapedKey(key, primary);
  return key.finish();
}

/** What the key of an entry of index `name` says, in bytes of its own. */
export function decodeIndexEntry(order: KeyOrder, name: Bytes, key: Bytes): IndexEntry {
  const parts = key.subarray(indexStart(name).length);
  const tieAt = parts.indexOf(SEPARATOR) + 1;
  const primaryAt = parts.indexOf(SEPARATOR, tieAt) + 1;
  const orderKey = unescapeOrdered(parts.subarray(0, tieAt - 1));
  const tie = unescapeOrdered(parts.subarray(tieAt, primaryAt - 1));
  return { secondary: order.decode(orderKey, tie), primary: unescapeKey(parts.subarray(primaryAt)) };
}

/** Entries whose secondary key lies in [startInclusive, endExclusive); an empty bound is open, within the index. */
export function indexRange(
  order: KeyOrder,
  query: { readonly name: Bytes; readonly startInclusive: Bytes; readonly endExclusive: Bytes },
): KeyRange {
  const { name, startInclusive, endExclusive } = query;
  return {
    from: startInclusive.length === 0 ? indexFirst(name) : secondaryStart(order, name, startInclusive),
    to: endExclusive.length === 0 ? indexEnd(name) : secondaryStart(order, name, endExclusive),
  };
}

/**
 * The entry that answers a get over an index. EQUAL: the first with that very secondary key. FLOOR: the first of the
 * equals, else the last of the nearest lower. CEILING: the first of the lowest at or above. LOWER: the last of the
 * highest below. HIGHER: the first of the lowest above.
 */
export function findIndexEntry(
  kv: KeyValue,
  order: KeyOrder,
  query: { readonly name: Bytes; readonly secondary: Bytes; readonly comparison: number },
): IndexEntry | undefined {
  const { name, secondary, comparison } = query;
  const start = secondaryStart(order, name, secondary);
  const end = secondaryEnd(start);
  const first = (range: KeyRange): IndexEntry | undefined => {
    const cursor = kv.cursor(range);
    return cursor.next() ? decodeIndexEntry(order, name, cursor.key) : undefined;
  };
  const lower = () => first({ from: indexFirst(name), to: start, reverse: true });
  switch (comparison) {
    case COMPARISON.EQUAL:
      return first({ from: start, to: end });
    case COMPARISON.FLOOR:
      return first({ from: start, to: end }) ?? lower();
    case COMPARISON.CEILING:
      return first({ from: start, to: indexEnd(name) });
    case COMPARISON.LOWER:
      return lower();
    default:
      return first({ from: end, to: indexEnd(name) });
  }
}

const NO_CHANGE: { readonly removed: Bytes[]; readonly added: Bytes[] } = { removed: [], added: [] };

/**
 * Which entries a record's change takes away and which it adds: those that stay are in neither list. Duplicates within
 * one record are one entry.
 */
export function changedEntries(
  order: KeyOrder,
  primary: Bytes,
  before: readonly SecondaryIndex[],
  after: readonly SecondaryIndex[],
): { readonly removed: Bytes[]; readonly added: Bytes[] } {
  if (sameIndexes(before, after)) return NO_CHANGE;
  const keysOf = (indexes: readonly SecondaryIndex[]) =>
    indexes.map((index) => indexEntryKey(order, index, primary)).sort(compareBytes);
  const old = keysOf(before);
  const wanted = keysOf(after);
  const without = (keys: readonly Bytes[], others: readonly Bytes[]) => {
    let at = 0;
    return keys.filter((key, index) => {
      if (index > 0 && equalBytes(keys[index - 1]!, key)) return false;
      while (at < others.length && compareBytes(others[at]!, key) < 0) at++;
      return at === others.length || !equalBytes(others[at]!, key);
    });
  };
  return { removed: without(old, wanted), added: without(wanted, old) };
}

/** Whether two records name the same entries in the same order: what most overwrites do. */
function sameIndexes(a: readonly SecondaryIndex[], b: readonly SecondaryIndex[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ name, key }, at) => equalBytes(name, b[at]!.name) && equalBytes(key, b[at]!.key))
  );
}

function indexStart(name: Bytes): Bytes {
  return concatBytes(PREFIX, escapeKey(name), SLASH);
}

/** Before every entry of the index: none of them holds the byte 00. Without it an empty name's start would end in "//", one level up. */
function indexFirst(name: Bytes): Bytes {
  return concatBytes(indexStart(name), Uint8Array.of(0x00));
}

/** Past every entry of the index: none of them holds the byte FF. */
function indexEnd(name: Bytes): Bytes {
  return concatBytes(indexStart(name), Uint8Array.of(0xff));
}

/** Where the entries of one secondary key begin. */
function secondaryStart(order: KeyOrder, name: Bytes, secondary: Bytes): Bytes {
  const start = new Writer(32 + 3 * name.length + 2 * secondary.length);
  writeSecondaryStart(start, order, name, secondary);
  return start.finish().slice();
}

function writeSecondaryStart(target: Writer, order: KeyOrder, name: Bytes, secondary: Bytes): void {
  target.raw(PREFIX);
  writeEscapedKey(target, name);
  target.byte(SLASH_BYTE);
  writeEscapedOrdered(target, orderKeyOf(order, secondary));
  target.byte(SEPARATOR);
  if (order.needsTie(secondary)) writeEscapedOrdered(target, secondary);
  target.byte(SEPARATOR);
}

/** Just past the entries of one secondary key. */
function secondaryEnd(start: Bytes): Bytes {
  const end = start.slice();
  end[end.length - 1] = SEPARATOR + 1;
  return end;
}

/** Per byte: the byte that its pair begins with, or 0 where it stays as it is; and the second byte of the pair. */
const LEAD = new Uint8Array(256);
const FOLLOW = new Uint8Array(256);
const FOLLOW_FIRST = 0x10;
for (const [lead, from] of [
  [0x02, [0x00, 0x01, 0x02]],
  [0x2e, [0x2e, 0x2f]],
  [0xfe, [0xfe, 0xff]],
] as const) {
  for (const [at, byte] of from.entries()) {
    LEAD[byte] = lead;
    FOLLOW[byte] = FOLLOW_FIRST + at;
  }
}

function writeEscapedOrdered(target: Writer, bytes: Bytes): void {
  target.reserve(2 * bytes.length);
  const to = target.bytes;
  let at = target.length;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (LEAD[byte] === 0) {
      to[at++] = byte;
    } else {
      to[at++] = LEAD[byte]!;
      to[at++] = FOLLOW[byte]!;
    }
  }
  target.length = at;
}

function unescapeOrdered(escaped: Bytes): Bytes {
  const bytes = new Uint8Array(escaped.length);
  let length = 0;
  for (let at = 0; at < escaped.length; at++) {
    const byte = escaped[at]!;
    // 02 stands for 00 on, 2E and FE for themselves on
    const first = byte === 0x02 ? 0x00 : byte;
    bytes[length++] = LEAD[byte] === 0 ? byte : first + escaped[++at]! - FOLLOW_FIRST;
  }
  return bytes.subarray(0, length);
}
