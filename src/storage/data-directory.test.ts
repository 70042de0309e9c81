import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DATA_FORMAT, DataDirectories } from "./data-directory.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-directories-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("directories of another format, older or newer, are refused in words and left as they are", () => {
  const paths = { dataDir: join(folder, "data"), walDir: join(folder, "log") };
  const fixed = { mode: "standalone", shards: 1, keySorting: "hierarchical" } as const;
  new DataDirectories(paths, fixed).release();
  for (const [format, words] of [
    [DATA_FORMAT - 1, "older"],
    [DATA_FORMAT + 1, "newer"],
  ] as const) {
    const path = join(paths.walDir, "varia.json");
    const text = readFileSync(path, "utf8").replace(/"format": \d+/, `"format": ${format}`);
    writeFileSync(path, text);
    expect(() => new DataDirectories(paths, fixed)).toThrow(words);
    expect(readFileSync(path, "utf8")).toBe(text);
  }
});

test("a directory of a standalone server is none of a data server's, and the other way round", () => {
  const paths = (name: string) => ({ dataDir: join(folder, name, "data"), walDir: join(folder, name, "log") });
  const alone = { mode: "standalone", shards: 1, keySorting: "hierarchical" } as const;
  const storage = { mode: "storage" } as const;
  new DataDirectories(paths("alone"), alone).release();
  new DataDirectories(paths("storage"), storage).release();
  expect(() => new DataDirectories(paths("alone"), storage)).toThrow("was created by `varia standalone`");
  expect(() => new DataDirectories(paths("storage"), alone)).toThrow("was created by `varia storage`");
  new DataDirectories(paths("storage"), storage).release();
});
