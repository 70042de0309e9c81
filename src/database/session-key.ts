/**
 * The internal keys of sessions and of the records that die with them:
 *
 *     __oxia/session/%016x                  the session; SessionMetadata as its value
 *     __oxia/session/%016x/<escaped key>    the shadow of one ephemeral record; an empty row
 *
 * Escaped: percent-encoding that leaves `A–Z a–z 0–9 - _ . ~ $ & + = : @` and writes every other byte as `%XX`, upper
 * case. So an escaped key holds neither '/' nor a byte that the key orders treat specially.
 *
 * Source: protocol.md §6.1.
 */
import { type Bytes, utf8 } from "../lib/bytes.ts";
import type { SessionId } from "../model/ids.ts";
import type { KeySorting } from "../model/keys.ts";
import type { KeyRange } from "../ports.ts";
import type { Int64 } from "../wire/reader.ts";
import { Writer } from "../wire/writer.ts";

const PREFIX = "__oxia/session/";
const ID_DIGITS = 16;
const SESSION_KEY_LENGTH = PREFIX.length + ID_DIGITS;
const SLASH = 0x2f;

/** Also for ids that cannot exist (negative, past 2^53): a put may name any. */
export function sessionKey(id: Int64): Bytes {
  return utf8(PREFIX + hex(id));
}

function hex(id: Int64): string {
  return BigInt.asUintN(64, BigInt(id)).toString(16).padStart(ID_DIGITS, "0");
}

/** The id of a session key, undefined for any other key (a shadow too). */
export function sessionIdOf(key: Bytes): SessionId | undefined {
  if (key.length !== SESSION_KEY_LENGTH) return undefined;
  const text = String.fromCharCode(...key);
  const digits = text.slice(PREFIX.length);
  return text.startsWith(PREFIX) && /^[0-9a-f]+$/.test(digits) ? Number.parseInt(digits, 16) : undefined;
}

export function shadowKey(id: Int64, recordKey: Bytes): Bytes {
  const escaped = escapeKey(recordKey);
  const key = new Uint8Array(SESSION_KEY_LENGTH + 1 + escaped.length);
  key.set(sessionKey(id));
  key[SESSION_KEY_LENGTH] = SLASH;
  key.set(escaped, SESSION_KEY_LENGTH + 1);
  return key;
}

/** The record that a shadow stands for. */
export function shadowedKey(shadow: Bytes): Bytes {
  return unescapeKey(shadow.subarray(SESSION_KEY_LENGTH + 1));
}

/** All sessions, and with natural order their shadows in between: `sessionIdOf` tells them apart. */
export function sessionsRange(sorting: KeySorting): KeyRange {
  // Hierarchical: one folder's children. Natural: every key with the prefix; '0' follows '/'.
  return { from: utf8(PREFIX), to: utf8(sorting === "hierarchical" ? `${PREFIX}/` : "__oxia/session0") };
}

/** All shadows of one session. */
export function shadowsRange(id: Int64, sorting: KeySorting): KeyRange {
  const session = PREFIX + hex(id);
  return { from: utf8(`${session}/`), to: utf8(sorting === "hierarchical" ? `${session}//` : `${session}0`) };
}

const PLAIN = new Uint8Array(256);
for (const char of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~$&+=:@")
  PLAIN[char.charCodeAt(0)] = 1;
const HEX = utf8("0123456789ABCDEF");
const PERCENT = 0x25;

export function escapeKey(key: Bytes): Bytes {
  const escaped = new Writer(3 * key.length);
  writeEscapedKey(escaped, key);
  return escaped.finish();
}

export function writeEscapedKey(target: Writer, key: Bytes): void {
  target.reserve(3 * key.length);
  const to = target.bytes;
  let at = target.length;
  for (let i = 0; i < key.length; i++) {
    const byte = key[i]!;
    if (PLAIN[byte] === 1) {
      to[at++] = byte;
    } else {
      to[at++] = PERCENT;
      to[at++] = HEX[byte >> 4]!;
      to[at++] = HEX[byte & 15]!;
    }
  }
  target.length = at;
}

export function unescapeKey(escaped: Bytes): Bytes {
  const key = new Uint8Array(escaped.length);
  let length = 0;
  for (let at = 0; at < escaped.length; at++) {
    if (escaped[at] === PERCENT) {
      key[length++] = (nibble(escaped[at + 1]!) << 4) | nibble(escaped[at + 2]!);
      at += 2;
    } else {
      key[length++] = escaped[at]!;
    }
  }
  return key.slice(0, length);
}

function nibble(digit: number): number {
  return digit <= 0x39 ? digit - 0x30 : (digit | 0x20) - 0x57;
}
