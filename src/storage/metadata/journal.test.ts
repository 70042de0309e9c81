import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DirectoryRefused } from "../directory-refused.ts";
import { JournalFile } from "./journal.ts";

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "varia-journal-"));
  path = join(directory, "new", "journal.sqlite");
});

afterEach(() => rmSync(directory, { recursive: true }));

function rows(room: string) {
  const journal = JournalFile.open(path);
  const found = journal.room(room).read();
  journal.close();
  return found.map(({ id, text }) => [id, text]);
}

test("what is put is there when it is opened again, by number; rooms do not see each other", () => {
  const journal = JournalFile.open(path);
  expect(journal.damage).toBeUndefined();
  const events = journal.room("event");
  events.write({ put: [10, 9, 2].map((id) => ({ id, text: `event ${id}` })), drop: [] });
  events.write({ put: [{ id: 9, text: "again" }], drop: [2, 77] });
  journal.room("operation").write({ put: [{ id: 9, text: "other" }], drop: [] });
  journal.close();
  expect(rows("event")).toEqual([
    [9, "again"],
    [10, "event 10"],
  ]);
  expect(rows("operation")).toEqual([[9, "other"]]);
  expect(rows("nothing")).toEqual([]);
});

test("one process has it", () => {
  const journal = JournalFile.open(path);
  expect(() => JournalFile.open(path)).toThrow(DirectoryRefused);
  journal.close();
});

test("a row that is damaged is left out, and the others are there", () => {
  const journal = JournalFile.open(path);
  journal.room("event").write({ put: [1, 2].map((id) => ({ id, text: `marked ${id}` })), drop: [] });
  journal.close();
  const bytes = readFileSync(path);
  const at = bytes.indexOf("marked 1");
  bytes[at] = "M".charCodeAt(0);
  writeFileSync(path, bytes);
  const opened = JournalFile.open(path);
  expect(opened.damage).toContain("1 rows were damaged");
  expect(opened.room("event").read()).toEqual([{ id: 2, text: "marked 2" }]);
  opened.close();
  const again = JournalFile.open(path);
  expect(again.damage).toBeUndefined();
  again.close();
});

test("a file that cannot be read is put aside for a new one", () => {
  const journal = JournalFile.open(path);
  journal.room("event").write({ put: [{ id: 1, text: "x" }], drop: [] });
  journal.close();
  writeFileSync(path, Buffer.alloc(8192, 7));
  const opened = JournalFile.open(path);
  expect(opened.damage).toContain("put aside as");
  expect(existsSync(`${path}.damaged`)).toBe(true);
  opened.room("event").write({ put: [{ id: 1, text: "y" }], drop: [] });
  opened.close();
  expect(rows("event")).toEqual([[1, "y"]]);
});
