import { afterAll, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqlite } from "./sqlite.ts";
import { scanWal } from "./wal-scan.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-wal-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A -wal with twenty committed transactions, as a killed process leaves it. */
function makeWal(): string {
  const path = join(folder, "a.sqlite");
  const database = openSqlite(path, { mode: "create", synchronous: "FULL", autocheckpointPages: 0 });
  database.run("CREATE TABLE IF NOT EXISTS t (x BLOB)");
  for (let i = 0; i < 20; i++) database.run("INSERT INTO t VALUES (?)", [new Uint8Array(1000).fill(i)]);
  const copy = join(folder, "copy-wal");
  copyFileSync(`${path}-wal`, copy);
  database.close();
  return copy;
}

const wal = makeWal();
const bytes = readFileSync(wal);
const FRAME = 4096 + 24;
const frames = (bytes.length - 32) / FRAME;

function scanFlipped(at: number): number | undefined {
  const flipped = Uint8Array.from(bytes);
  flipped[at]! ^= 0x10;
  const path = join(folder, "flipped-wal");
  writeFileSync(path, flipped);
  return scanWal(path).damagedAt;
}

test("what a killed process leaves is whole, and a missing or empty file is fine", () => {
  expect(scanWal(wal)).toEqual({ goodFrames: frames, damagedAt: undefined });
  expect(scanWal(join(folder, "none"))).toEqual({ goodFrames: 0, damagedAt: undefined });
});

test("a file that is cut off anywhere is a torn tail, not damage", () => {
  for (let length = 0; length < bytes.length; length += 1777) {
    const path = join(folder, "torn-wal");
    copyFileSync(wal, path);
    truncateSync(path, length);
    expect(scanWal(path).damagedAt).toBeUndefined();
  }
});

test("a flipped bit with a finished transaction behind it is damage, wherever it is in a frame", () => {
  for (let frame = 0; frame < frames - 3; frame++) {
    for (const within of [0, 9, 17, 24, 1000, 4000]) {
      expect(scanFlipped(32 + frame * FRAME + within)).toBe(32 + frame * FRAME);
    }
  }
});

test("a flipped bit in the header is damage while frames follow it", () => {
  for (const at of [9, 13, 16, 20, 24, 28]) expect(scanFlipped(at)).toBeDefined();
});

test("a flipped bit in the very last transaction cannot be told from a torn tail", () => {
  expect(scanFlipped(bytes.length - 100)).toBeUndefined();
});
