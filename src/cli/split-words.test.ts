import { expect, test } from "bun:test";
import { splitWords } from "./split-words.ts";

test("words are apart by blanks, outside of quotes", () => {
  for (const [line, words] of [
    ["", []],
    ["  put a\tb ", ["put", "a", "b"]],
    [`put 'a b' "c d"`, ["put", "a b", "c d"]],
    [`a'b'"c"d`, ["abcd"]],
    [`'' ""`, ["", ""]],
    [String.raw`a\ b \' "\"\\\n" '\'`, ["a b", "'", String.raw`"\\n`, "\\"]],
  ] as const) {
    expect(splitWords(line)).toMatchObject({ words, open: false });
  }
});

test("what is not closed is told", () => {
  for (const line of [`put "a`, "put 'a b", "put a\\"]) expect(splitWords(line).open).toBe(true);
});

test("the last word's start is where a completion goes", () => {
  expect(splitWords("get /a/b").lastStart).toBe(4);
  expect(splitWords("get ").lastStart).toBe(4);
  expect(splitWords("").lastStart).toBe(0);
  expect(splitWords(`get "a b`).lastStart).toBe(4);
});
