import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Bytes, utf8 } from "../lib/bytes.ts";
import { compareKeys, type KeySorting, keyOrder } from "../model/keys.ts";
import type { KeyRange } from "../ports.ts";
import {
  escapeKey,
  sessionIdOf,
  sessionKey,
  sessionsRange,
  shadowedKey,
  shadowKey,
  shadowsRange,
  unescapeKey,
} from "./session-key.ts";

const text = (bytes: Bytes) => Buffer.from(bytes).toString("latin1");

test("session keys are sixteen hex digits, whatever the id", () => {
  expect(text(sessionKey(26))).toBe("__oxia/session/000000000000001a");
  expect(text(sessionKey(-1))).toBe("__oxia/session/ffffffffffffffff");
  expect(sessionIdOf(sessionKey(26))).toBe(26);
  expect(sessionIdOf(shadowKey(26, utf8("a")))).toBeUndefined();
  expect(sessionIdOf(utf8("__oxia/session/00000000000000zz"))).toBeUndefined();
});

test("escaping leaves what URLs leave in a path segment and gives every key back", () => {
  expect(text(escapeKey(utf8("/a b/é~$&+=:@%")))).toBe("%2Fa%20b%2F%C3%A9~$&+=:@%25");
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 50 }), (key) => {
      expect(unescapeKey(escapeKey(key))).toEqual(key);
      expect(shadowedKey(shadowKey(7, key))).toEqual(key);
    }),
  );
});

test("the ranges hold exactly the sessions and the shadows of one session, in both orders", () => {
  const within = (sorting: KeySorting, range: KeyRange, key: Bytes) =>
    compareKeys(keyOrder(sorting), key, range.from!) >= 0 && compareKeys(keyOrder(sorting), key, range.to!) < 0;
  fc.assert(
    fc.property(fc.nat(), fc.uint8Array({ maxLength: 10 }), (id, key) => {
      for (const sorting of ["hierarchical", "natural"] as const) {
        expect(within(sorting, sessionsRange(sorting), sessionKey(id))).toBe(true);
        expect(within(sorting, shadowsRange(id, sorting), shadowKey(id, key))).toBe(true);
        expect(within(sorting, shadowsRange(id + 1, sorting), shadowKey(id, key))).toBe(false);
        expect(within(sorting, shadowsRange(id, sorting), sessionKey(id))).toBe(false);
        expect(within(sorting, sessionsRange(sorting), utf8("__oxia/term"))).toBe(false);
      }
      expect(within("hierarchical", sessionsRange("hierarchical"), shadowKey(id, key))).toBe(false);
    }),
  );
});
