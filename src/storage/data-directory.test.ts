import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DataDirectories } from "./data-directory.ts";
import { DATA_FORMAT } from "./manifest.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-directories-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("directories of another format, older or newer, are refused in words and left as they are", () => {
  const paths = { dataDir: join(folder, "data"), walDir: join(folder, "log") };
  const fixed = { mode: "standalone", shards: 1, keySorting: "hierarchical" } as const;
  new DataDirectories(paths, fixed).release();
  const path = join(paths.walDir, "varia.json");
  const { checksum, ...manifest } = JSON.parse(readFileSync(path, "utf8"));
  expect(checksum).toMatch(/^[\da-f]{8}$/);
  for (const [format, words] of [
    [DATA_FORMAT - 1, "older"],
    [DATA_FORMAT + 1, "newer"],
  ] as const) {
    // as a build writes it that knows no checksum
    const text = JSON.stringify({ ...manifest, format });
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

test("what a disk has damaged in one of both is written anew from the other; of both it is refused", () => {
  const paths = { dataDir: join(folder, "damaged", "data"), walDir: join(folder, "damaged", "log") };
  const fixed = { mode: "standalone", shards: 3, keySorting: "natural" } as const;
  const first = new DataDirectories(paths, fixed);
  expect(first.mended).toBeUndefined();
  first.release();
  const files = [join(paths.dataDir, "varia.json"), join(paths.walDir, "varia.json")] as const;
  const written = files.map((path) => readFileSync(path));
  for (const [nth, path] of files.entries()) {
    for (let bit = 0; bit < written[nth]!.length * 8; bit += 7) {
      const flipped = Buffer.from(written[nth]!);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      writeFileSync(path, flipped);
      const taken = new DataDirectories(paths, fixed);
      expect([bit, taken.instance, readFileSync(path)]).toEqual([bit, first.instance, written[nth]!]);
      if (taken.mended !== undefined) expect(taken.mended).toStartWith(`${path} was damaged`);
      taken.release();
    }
  }
  for (const path of files) writeFileSync(path, "{");
  expect(() => new DataDirectories(paths, fixed)).toThrow("is damaged, and the log directory does not say");
  expect(files.map((path) => readFileSync(path, "utf8"))).toEqual(["{", "{"]);
});
