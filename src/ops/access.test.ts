/** Tokens and addresses: who is known, and what a file of tokens may hold. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Access, bearerToken, isLoopback, TOKEN_CHARACTERS_MAX, TOKEN_CHARACTERS_MIN, TOKENS_MAX } from "./access.ts";

const directory = mkdtempSync(join(tmpdir(), "varia-access-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function open(text: string): Access {
  const path = join(directory, "tokens");
  writeFileSync(path, text);
  return Access.open(path);
}

const token = (letter: string, length = TOKEN_CHARACTERS_MIN) => letter.repeat(length);

test("a token gives its role, and no other does", () => {
  const access = open(`# of the cluster\n\nviewer ${token("v")}\r\n  admin\t${token("a")}  \n${token("b")}\n`);
  expect(access.needsToken).toBe(true);
  expect(["v", "a", "b", "x"].map((letter) => access.roleOf(token(letter)))).toEqual([
    "viewer",
    "admin",
    "admin",
    undefined,
  ]);
  for (const wrong of ["", "viewer", `${token("a")}a`, token("a").slice(1)])
    expect(access.roleOf(wrong)).toBeUndefined();
});

test("without a file no token is needed, and none is known", () => {
  const access = Access.open(undefined);
  expect([access.needsToken, access.roleOf("")]).toEqual([false, undefined]);
});

test("a file that cannot be used says where, and shows no token", () => {
  const secret = token("s");
  for (const [text, words] of [
    ["# nothing\n", "there is no token in it"],
    [`owner ${secret}`, 'line 1: "owner" is no role'],
    [`\nviewer ${token("s", TOKEN_CHARACTERS_MIN - 1)}`, "line 2: a token has 16 to 512 characters"],
    [token("s", TOKEN_CHARACTERS_MAX + 1), "line 1: a token has 16 to 512 characters"],
    [`admin ${secret} ${secret}`, "nothing behind them"],
    [Array.from({ length: TOKENS_MAX + 1 }, () => secret).join("\n"), "at most 100 are taken"],
  ] as const) {
    const failing = () => open(text);
    expect(failing).toThrow(words);
    expect(failing).not.toThrow(secret);
  }
  expect(() => Access.open(join(directory, "missing"))).toThrow("--admin-token-file: ");
});

test("a bearer token is told from other headers, whatever the case of its scheme", () => {
  for (const header of ["Bearer a.b-c", "bearer a.b-c", "BEARER   a.b-c"]) expect(bearerToken(header)).toBe("a.b-c");
  for (const none of [null, undefined, "", "Bearer", "Bearer ", "Bearer a b", "Basic a.b-c", "a.b-c", " Bearer a"]) {
    expect([none, bearerToken(none)]).toEqual([none, undefined]);
  }
});

test("addresses of this machine are told from others", () => {
  for (const own of ["127.0.0.1", "127.8.9.1:50123", "::1", "[::1]:80", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:9"]) {
    expect([own, isLoopback(own)]).toEqual([own, true]);
  }
  for (const other of [
    "",
    "10.0.0.1",
    "128.0.0.1",
    "::2",
    "fe80::1",
    "1127.0.0.1",
    "127.0.0.1.evil.example",
    "::ffff:10.0.0.1",
    "localhost.example",
  ]) {
    expect([other, isLoopback(other)]).toEqual([other, false]);
  }
});
