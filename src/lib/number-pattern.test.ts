import { expect, test } from "bun:test";
import { numberPattern } from "./number-pattern.ts";

test("the numbers of the range match, with zeros before them too, and no others", () => {
  for (const max of [1, 7, 9, 10, 19, 99, 100, 109, 655, 1000, 1090, 4096]) {
    for (const min of [0, 1] as const) {
      const pattern = new RegExp(`^${numberPattern(min, max)}$`, "u");
      for (let number = 0; number <= 10 * max + 1; number++) {
        const isIn = number >= min && number <= max;
        for (const text of [String(number), `00${number}`]) {
          expect([min, max, text, pattern.test(text)]).toEqual([min, max, text, isIn]);
        }
      }
      for (const text of ["", "-1", "1.0", " 1", "1 ", "a"]) expect(pattern.test(text)).toBe(false);
    }
  }
});
