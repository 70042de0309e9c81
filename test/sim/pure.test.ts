import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

test("the simulator takes no time, chance or event from outside", () => {
  const files = readdirSync(import.meta.dir).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  const found = files.flatMap((name) => {
    const code = readFileSync(join(import.meta.dir, name), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    const outside =
      /\b(Date\b|Math\.random|setTimeout|setInterval|setImmediate|performance|process\.|Bun\.|crypto|Worker\(|fetch\()|from "(node:[^"]+|bun[^"]*)"/g;
    return (code.match(outside) ?? []).map((match) => `${name}: ${match}`);
  });
  expect(found).toEqual(['scheduler.ts: from "bun:jsc"']);
});
