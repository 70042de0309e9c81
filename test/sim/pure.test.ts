import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const OUTSIDE =
  /\b(Date\b|Math\.random|setTimeout|setInterval|setImmediate|performance\.|(?<!-)process\.|Bun\.|crypto\b|Worker\(|fetch\()|from "(node:[^"]+|bun[^"]*)"/g;

/** What the files of a folder take from outside, without comments and tests. */
function outside(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return names
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .flatMap((name) => {
      const code = readFileSync(join(folder, name), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
      return (code.match(OUTSIDE) ?? []).map((match) => `${name}: ${match}`);
    });
}

test("the simulator takes no time, chance or event from outside", () => {
  // campaigns of many seeds stand around it
  const around = /^(reference\/)?(campaign|workers|seed-worker|endless-worker|seed-record|mutate|mutant-table)\.ts: /;
  const found = outside(import.meta.dir).filter((what) => !around.test(what));
  expect(found).toEqual(['scheduler.ts: from "bun:jsc"']);
});

test("nor does what runs in it, beside its ports", () => {
  const src = join(import.meta.dir, "../../src");
  const names = ["client", "coordination", "database", "model", "protocol", "replication", "wire"];
  const found = names.flatMap((name) => outside(join(src, name)).map((what) => `${name}/${what}`));
  // connections and the platform, which `connect` alone plugs in
  const real = found.filter((what) => !/^client\/(http2-[a-z0-9]+|platform|connect)\.ts: /.test(what));
  expect(real).toEqual([]);
});
