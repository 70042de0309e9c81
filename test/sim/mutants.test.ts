/** Planted bugs fit the source that they are planted in: each replaces a piece that stands there once. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MUTANTS, mutated } from "./mutants.ts";

const root = join(import.meta.dir, "..", "..");

for (const mutant of MUTANTS) {
  test(`its piece stands once in ${mutant.file}: ${mutant.name}`, () => {
    const text = readFileSync(join(root, mutant.file), "utf8");
    const planted = mutated(mutant, text);
    expect(planted).not.toBe(text);
    expect(() => new Bun.Transpiler({ loader: "ts" }).transformSync(planted)).not.toThrow();
  });
}

test("names are unique", () => {
  expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
});

test("a piece that is missing or stands twice is an error", () => {
  const [mutant] = MUTANTS;
  expect(() => mutated(mutant!, "")).toThrow("0 times");
  expect(() => mutated(mutant!, mutant!.find + mutant!.find)).toThrow("2 times");
});
