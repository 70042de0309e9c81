import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { ManualClock } from "../../../test/harness/manual-clock.ts";
import { utf8 } from "../../lib/bytes.ts";
import { keyOrder } from "../../model/keys.ts";
import { IDLE_FLUSH_MS, KEY_VALUE_PAGE_BYTES, SNAPSHOT_READERS_MAX } from "../../model/limits.ts";
import { systemClock } from "../../ops/clock.ts";
import type { Clock } from "../../ports.ts";
import { Writer } from "../../wire/writer.ts";
import type { StoredBlock } from "./block.ts";
import { KeyValueNode } from "./node.ts";
import type { SqliteKeyValue } from "./shard-state.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-faults-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const silent = { debug() {}, info() {}, warn() {}, error() {} };
let nth = 0;

function startNode(tableBytesMax = 16 * 1024 * 1024, clock: Clock = systemClock): KeyValueNode {
  return new KeyValueNode({
    tableBytesMax,
    cacheBytesMax: 1024 * 1024,
    sqliteCacheBytesMax: 1024 * 1024,
    clock,
    logger: silent,
    onFault: (error) => {
      throw error;
    },
  });
}

async function open(node: KeyValueNode, path: string, how: Partial<Parameters<KeyValueNode["open"]>[0]> = {}) {
  const opened = await node.open({ path, order: keyOrder("hierarchical"), verify: true, onDamage: "refuse", ...how });
  return (opened as { keyValue: SqliteKeyValue }).keyValue;
}

function rowOf(valueBytes: number): Uint8Array {
  const row = new Writer();
  row.field(0x12, utf8("v"));
  row.field(0x1a, new Uint8Array(valueBytes).fill(7));
  return row.finish().slice();
}

const numbered = (n: number) => utf8(`r${String(n).padStart(4, "0")}`);

/** A file with 1,000 records and as many index entries, whose rows are empty. */
async function makeFile(): Promise<string> {
  const path = join(folder, `${nth++}.sqlite`);
  const node = startNode();
  const kv = await open(node, path);
  for (let n = 0; n < 1000; n++) {
    kv.put(numbered(n), rowOf(200));
    kv.put(utf8(`__oxia/idx/i/${n}`), new Uint8Array(0));
    kv.commit({ offset: n, term: 1, versionId: n }, { timestamp: n, entries: utf8("x") });
  }
  await node.close();
  return path;
}

/** Flips a bit in the first block. */
function garbleFirstBlock(path: string): void {
  const database = new Database(path);
  const block = database.query("SELECT okey, tie, records FROM block ORDER BY okey, tie LIMIT 1").get() as StoredBlock;
  block.records[100]! ^= 1;
  database.query("UPDATE block SET records = ? WHERE okey = ? AND tie = ?").run(block.records, block.okey, block.tie);
  database.close();
}

test("entries larger than the tables' budget make their room one after the other", async () => {
  const node = startNode(1024 * 1024);
  const kv = await open(node, join(folder, "large.sqlite"));
  for (let offset = 0; offset < 6; offset++) {
    const room = kv.room();
    if (room !== undefined) await room;
    kv.put(numbered(offset), rowOf(3 * 1024 * 1024));
    kv.commit({ offset, term: 1, versionId: offset });
  }
  expect(kv.rowCount).toBe(6);
  await node.close();
});

test("a shard whose writers pause is flushed, a small one is left alone", async () => {
  const clock = new ManualClock();
  const node = startNode(64 * 1024 * 1024, clock);
  const busy = await open(node, join(folder, "busy.sqlite"));
  const idle = await open(node, join(folder, "idle.sqlite"));
  const small = await open(node, join(folder, "small.sqlite"));
  for (const kv of [busy, idle]) kv.put(numbered(0), rowOf(2 * 1024 * 1024));
  small.put(numbered(0), rowOf(10));
  for (const kv of [busy, idle, small]) kv.commit({ offset: 0, term: 1, versionId: 0 });
  clock.advance(IDLE_FLUSH_MS);
  busy.put(numbered(1), rowOf(10));
  busy.commit({ offset: 1, term: 1, versionId: 1 });
  clock.advance(IDLE_FLUSH_MS);
  while (idle.flushedOffset < 0) await new Promise((resolve) => setImmediate(resolve));
  expect([busy.flushedOffset, idle.flushedOffset, small.flushedOffset]).toEqual([-1, 0, -1]);
  await node.close();
});

test("what is saved of a damaged file holds every record that has its checksum, those without a row too", async () => {
  const path = await makeFile();
  garbleFirstBlock(path);
  const node = startNode();
  const kv = await open(node, path, { onDamage: "salvage" });
  expect(kv.rowCount).toBe(1999);
  for (let n = 0; n < 1000; n++) expect(kv.get(utf8(`__oxia/idx/i/${n}`))?.length).toBe(0);
  await node.close();
});

test("a file that is saved twice keeps both damaged ones aside", async () => {
  const path = await makeFile();
  for (let round = 0; round < 2; round++) {
    garbleFirstBlock(path);
    const node = startNode();
    await open(node, path, { onDamage: "salvage" });
    await node.close();
  }
  const aside = readdirSync(folder).filter((name) => name.startsWith(`${basename(path)}.damaged`));
  expect(aside).toContain(`${basename(path)}.damaged`);
  expect(aside).toContain(`${basename(path)}.damaged-2`);
});

test("pages that SQLite cannot read are DATA_LOSS to whoever reads them", async () => {
  const path = await makeFile();
  const database = new Database(path);
  const [[pages]] = database.query("PRAGMA page_count").values() as [[number]];
  const roots = new Set(
    database
      .query("SELECT rootpage FROM sqlite_master")
      .values()
      .map(([page]) => page),
  );
  database.close();
  const file = openSync(path, "r+");
  for (let page = 2; page <= pages; page++) {
    if (!roots.has(page)) writeSync(file, new Uint8Array(16).fill(0xfe), 0, 16, (page - 1) * KEY_VALUE_PAGE_BYTES);
  }
  closeSync(file);
  const node = startNode();
  const kv = await open(node, path, { verify: false });
  for (const read of [() => kv.get(numbered(100)), () => kv.cursor({}).next(), () => kv.notifications(-1)]) {
    expect(read).toThrow(expect.objectContaining({ reason: "DATA_LOSS" }));
  }
  await node.close();
});

test("snapshots that cannot be opened give their places back", async () => {
  const path = await makeFile();
  const node = startNode();
  const kv = await open(node, path);
  renameSync(path, `${path}.away`);
  for (let n = 0; n < SNAPSHOT_READERS_MAX; n++) await expect(kv.snapshot()).rejects.toThrow();
  renameSync(`${path}.away`, path);
  const snapshot = await kv.snapshot();
  expect(snapshot.cursor({}).next()).toBe(true);
  snapshot.release();
  await node.close();
});

test("a snapshot is of one moment, whatever is committed while it is made", async () => {
  const node = startNode();
  const kv = await open(node, join(folder, "moment.sqlite"));
  kv.put(utf8("old"), rowOf(1));
  kv.commit({ offset: 0, term: 1, versionId: 0 });
  for (let offset = 1; offset < 20; offset++) {
    const made = kv.snapshot();
    for (let hops = 0; hops < offset % 10; hops++) await Promise.resolve();
    kv.put(utf8("old"), rowOf(offset + 1));
    kv.put(utf8(`new-${offset}`), rowOf(1));
    kv.commit({ offset, term: 1, versionId: offset });
    const snapshot = await made;
    const sees = snapshot.applied.offset === offset;
    expect(snapshot.get(utf8("old"))!.length === rowOf(offset + 1).length).toBe(sees);
    const keys: string[] = [];
    for (const cursor = snapshot.cursor({}); cursor.next(); ) keys.push(Buffer.from(cursor.key).toString());
    expect(keys.includes(`new-${offset}`)).toBe(sees);
    snapshot.release();
  }
  await node.close();
});
