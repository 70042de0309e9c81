/** Planted bugs fit the sources that they are planted in: each replaces pieces that stand there once. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MUTANTS, mutated } from "./mutants.ts";

const root = join(import.meta.dir, "..", "..");

for (const { name, edits } of MUTANTS) {
  test(`its pieces stand once each: ${name}`, () => {
    const texts = new Map<string, string>();
    for (const edit of edits) {
      const before = texts.get(edit.file) ?? readFileSync(join(root, edit.file), "utf8");
      const after = mutated(before, edit);
      expect(after).not.toBe(before);
      texts.set(edit.file, after);
    }
    for (const text of texts.values()) {
      expect(() => new Bun.Transpiler({ loader: "ts" }).transformSync(text)).not.toThrow();
    }
  });
}

test("names are unique, and every rule has one", () => {
  expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
  const rules = new Set(MUTANTS.map(({ rule }) => rule.split(" ")[0]));
  for (const rule of ["§1", "§2", "§3", "§4", "§5", "§6", "§7", "§8", "§9"]) expect(rules).toContain(rule);
});

test("a piece that is missing or stands twice is an error", () => {
  const [{ edits }] = MUTANTS as [(typeof MUTANTS)[number]];
  const [edit] = edits as [(typeof edits)[number]];
  expect(() => mutated("", edit)).toThrow("0 times");
  expect(() => mutated(edit.find + edit.find, edit)).toThrow("2 times");
});
