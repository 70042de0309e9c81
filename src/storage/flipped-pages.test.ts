/**
 * Single flipped bits in the first pages of the node's files, where SQLite keeps what the rest of a file is: each is
 * found on opening, or is without effect. None keeps the server from starting.
 */
import { afterAll, expect, test } from "bun:test";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { life } from "../../test/contract/log.ts";
import { append, Place, threeSegments } from "../../test/harness/log-place.ts";
import { systemClock } from "../ops/clock.ts";
import type { Opened } from "./key-value/flush.ts";
import { FlushService } from "./key-value/flush-service.ts";
import { SqliteKeyValues } from "./key-value/key-values.ts";
import { promisesPath, segmentPath } from "./log-files.ts";

const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "varia-flipped-pages-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Bytes at which a file of SQLite says most about itself: its header, and the rest of its first page that is in use. */
const HEADER_BYTES = 110;
const PAGE_BYTES = 4096;

/** The file's content with one bit flipped, for bit after bit. */
function* flipped(path: string, everyNth: number): Generator<{ readonly at: number; readonly content: Uint8Array }> {
  const content = readFileSync(path);
  for (let at = 0; at < Math.min(content.length, PAGE_BYTES); at++) {
    if (at >= HEADER_BYTES && (content[at] === 0 || at % everyNth > 0)) continue;
    const changed = Uint8Array.from(content);
    changed[at]! ^= 1 << ((at / everyNth) & 7);
    yield { at, content: changed };
  }
}

test("of the log", () => {
  const whole = new Place(join(folder, "log"));
  mkdirSync(whole.directory);
  const writer = threeSegments(whole);
  writer.create(2, life());
  writer.promise(2, 1);
  append(writer, 2, 1, 0, 5);
  writer.close();
  const place = new Place(join(folder, "log-now"));
  const found = { damaged: 0, whole: 0 };
  const files = [promisesPath(whole.directory), segmentPath(whole.directory, 1), segmentPath(whole.directory, 3)];
  for (const file of files) {
    for (const { at, content } of flipped(file, 3)) {
      rmSync(place.directory, { recursive: true, force: true });
      cpSync(whole.directory, place.directory, { recursive: true });
      writeFileSync(file.replace(whole.directory, place.directory), content);
      const opened = place.open({ ballastBytes: 0 });
      const replicas = opened.replicas();
      opened.close();
      if (replicas.some(({ damage }) => damage !== undefined)) found.damaged++;
      else {
        expect({ file, at, heads: replicas.map(({ head }) => head.offset) }).toEqual({ file, at, heads: [29, 29, 5] });
        found.whole++;
      }
    }
  }
  expect(found.damaged).toBeGreaterThan(100);
  expect(found.whole).toBeGreaterThan(100);
}, 60_000);

test("of a key-value file", async () => {
  const directory = join(folder, "data");
  const fail = (error: Error) => {
    throw error;
  };
  const logger = { debug() {}, info() {}, warn() {}, error() {} };
  const keyValues = new SqliteKeyValues({
    directory,
    verify: true,
    released() {},
    tableBytesMax: 1024 * 1024,
    cacheBytesMax: 0,
    sqliteCacheBytesMax: 256 * 1024,
    clock: systemClock,
    logger,
    onFault: fail,
  });
  const opened = await keyValues.open({ namespace: "n", shard: 0, sorting: "natural" }, { term: -1, offset: -1 });
  if ("damage" in opened) throw new Error(opened.damage.what);
  const { keyValue } = opened;
  for (let n = 0; n < 200; n++) keyValue.put(new TextEncoder().encode(`key ${n}`), new Uint8Array(20).fill(n));
  keyValue.commit({ offset: 0, term: 1, versionId: 0 });
  await keyValues.close();
  const path = join(directory, "n", "shard-0.sqlite");
  const now = join(folder, "shard-0.sqlite");
  const found = { damaged: 0, whole: 0 };
  for (const { at, content } of flipped(path, 3)) {
    for (const suffix of ["-wal", "-shm"]) rmSync(now + suffix, { force: true });
    copyFileSync(path, now);
    writeFileSync(now, content);
    const service = new FlushService();
    const request = {
      kind: "open",
      path: now,
      sorting: "natural",
      verifyBytesMax: Number.POSITIVE_INFINITY,
      base: undefined,
    } as const;
    const reply = service.receive({ id: 0, request });
    service.receive({ id: 1, request: { kind: "stop" } });
    expect({ at, reply }).toMatchObject({ at, reply: { ok: true } });
    const { damage, state } = (reply as { readonly answer: Opened }).answer;
    if (damage !== undefined) found.damaged++;
    else {
      expect({ at, rows: state?.rowCount }).toEqual({ at, rows: 200 });
      found.whole++;
    }
  }
  expect(found.damaged).toBeGreaterThan(30);
  expect(found.whole).toBeGreaterThan(30);
}, 60_000);
