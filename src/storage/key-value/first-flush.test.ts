/** The file of a state comes with its first flush, whole; until then nothing is read from the disk. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { contents, fill, open, PLACE } from "../../../test/contract/key-values.ts";
import { systemClock } from "../../ops/clock.ts";
import { SqliteKeyValues } from "./key-values.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-first-flush-"));
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const MiB = 1024 * 1024;
const faults: Error[] = [];
const started: SqliteKeyValues[] = [];
let directories = 0;

afterEach(async () => {
  for (const each of started.splice(0)) await each.close();
  expect(faults).toEqual([]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(directory: string): SqliteKeyValues {
  const keyValues = new SqliteKeyValues({
    ...{ directory, verify: true, released: () => {}, clock: systemClock, logger: silent },
    ...{ tableBytesMax: 8 * MiB, cacheBytesMax: MiB, sqliteCacheBytesMax: MiB },
    onFault: (error) => faults.push(error),
  });
  started.push(keyValues);
  return keyValues;
}

function fresh() {
  const directory = join(folder, `${directories++}`);
  return { directory, file: join(directory, PLACE.namespace, `shard-${PLACE.shard}.sqlite`) };
}

test("a state that nothing was flushed to has no file, and is read, scanned and trimmed all the same", async () => {
  const { directory, file } = fresh();
  const kv = await open(start(directory));
  expect([existsSync(file), kv.notifications(-1)]).toEqual([false, []]);
  await kv.trimNotifications(Date.now());
  fill(kv, 20);
  const read = contents(kv);
  const snapshot = await kv.snapshot();
  const cursor = snapshot.cursor({});
  let rows = 0;
  while (cursor.next()) rows++;
  expect(rows).toBe(kv.rowCount);
  snapshot.release();
  expect(existsSync(file)).toBe(false);
  await kv.flush();
  expect(existsSync(file)).toBe(true);
  expect(contents(kv)).toEqual(read);
  // read and written by way of a -wal, as SQLite's header says
  expect([...readFileSync(file).subarray(18, 20)]).toEqual([2, 2]);
  await started.pop()!.close();
  expect(contents(await open(start(directory)))).toEqual(read);
});

test("a snapshot that is taken while the first flush ends sees all of it", async () => {
  const { directory } = fresh();
  const kv = await open(start(directory));
  fill(kv, 500);
  const wanted = kv.rowCount;
  const flushing = kv.flush();
  for (let nth = 0; nth < 20; nth++) {
    const snapshot = await kv.snapshot();
    const cursor = snapshot.cursor({});
    let rows = 0;
    while (cursor.next()) rows++;
    snapshot.release();
    expect(rows).toBe(wanted);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await flushing;
});

test("what a crash has left of a file that was being made is of no harm", async () => {
  const { directory, file } = fresh();
  const first = start(directory);
  fill(await open(first), 3);
  await started.pop()!.close();
  const whole = readFileSync(file);
  rmSync(file);
  for (const suffix of ["-wal", "-shm"]) rmSync(file + suffix, { force: true });
  writeFileSync(`${file}.new`, whole.subarray(0, 5_000));
  writeFileSync(`${file}-wal`, "of another file");
  const kv = await open(start(directory));
  expect([kv.applied.offset, kv.rowCount]).toEqual([-1, 0]);
  fill(kv, 7);
  const read = contents(kv);
  await started.pop()!.close();
  expect(existsSync(`${file}.new`)).toBe(false);
  expect(contents(await open(start(directory)))).toEqual(read);
});
