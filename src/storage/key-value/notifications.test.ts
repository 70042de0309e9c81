import { Database } from "bun:sqlite";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { NO_OFFSET, type Offset } from "../../model/ids.ts";
import { keyOrder } from "../../model/keys.ts";
import {
  NOTIFICATION_BATCHES_PER_READ_MAX,
  NOTIFICATION_BATCHES_PER_TRIM_MAX,
  NOTIFICATION_BYTES_PER_READ_MAX,
} from "../../model/limits.ts";
import type { Refusal } from "../../model/refusal.ts";
import { systemClock } from "../../ops/clock.ts";
import type { Damage, KeyValue, NotificationEntries } from "../../ports.ts";
import { KeyValueNode } from "./node.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-told-"));
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const faults: Error[] = [];
let path = "";
let files = 0;
let node: KeyValueNode;
let kv: KeyValue;

function newNode(): KeyValueNode {
  return new KeyValueNode({
    tableBytesMax: 64 * 1024 * 1024,
    cacheBytesMax: 1024 * 1024,
    sqliteCacheBytesMax: 1024 * 1024,
    clock: systemClock,
    logger: silent,
    onFault: (error) => faults.push(error),
  });
}

async function open(verify = true): Promise<Damage | undefined> {
  node = newNode();
  const opened = await node.open({ path, order: keyOrder("hierarchical"), verify, onDamage: "refuse" });
  if ("damage" in opened) return opened.damage;
  kv = opened.keyValue;
  return undefined;
}

async function reopen(verify = true): Promise<Damage | undefined> {
  await node.close();
  return open(verify);
}

beforeEach(async () => {
  path = join(folder, `${files++}.sqlite`);
  expect(await open()).toBeUndefined();
});

afterEach(async () => {
  await node.close();
  expect(faults).toEqual([]);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Commits one entry that told `bytes`, by default a few that name its offset. */
function commit(
  bytes: Uint8Array = Uint8Array.of(1, kv.applied.offset + 1),
  timestamp = 1_000 + kv.applied.offset + 1,
): void {
  const offset = kv.applied.offset + 1;
  kv.put(new TextEncoder().encode(`k${offset % 7}`), Uint8Array.of(0x12, 0));
  kv.commit({ offset, term: 1, versionId: offset }, { timestamp, entries: bytes });
}

function commitMany(count: number, bytes?: Uint8Array): void {
  for (let n = 0; n < count; n++) commit(bytes);
}

const offsets = (found: readonly NotificationEntries[]) => found.map(({ offset }) => offset);
const upTo = (from: number, toInclusive: number) =>
  Array.from({ length: toInclusive - from + 1 }, (_, at) => from + at);

/** All that is told behind `after`, read by read. */
function readAll(after: Offset = NO_OFFSET): NotificationEntries[] {
  const all: NotificationEntries[] = [];
  for (let at = after; ; at = all.at(-1)!.offset) {
    const found = kv.notifications(at);
    if (found.length === 0) return all;
    all.push(...found);
  }
}

const sqlite = (...statements: string[]) => {
  const database = new Database(path);
  // a Worker that was just ended may still be letting go of the file
  database.run("PRAGMA busy_timeout = 10000");
  for (const statement of statements) database.run(statement);
  database.close();
};

test("a new file has told nothing", () => {
  expect(kv.notifications(NO_OFFSET)).toEqual([]);
  expect(kv.notifications(100)).toEqual([]);
  expect(kv.notificationsTrimmed).toBe(NO_OFFSET);
});

describe.each(["memory", "the file", "a file opened anew"])("from %s", (place) => {
  const settle = async () => {
    if (place === "the file") await kv.flush();
    if (place === "a file opened anew") expect(await reopen()).toBeUndefined();
  };

  test("entries come back as they were told, behind any offset", async () => {
    commit(new Uint8Array(0), 5);
    commit(Uint8Array.of(1, 2, 3), 7);
    commit(Uint8Array.of(9), 6);
    await settle();
    expect(
      kv.notifications(NO_OFFSET).map(({ offset, timestamp, entries }) => [offset, timestamp, [...entries]]),
    ).toEqual([
      [0, 5, []],
      [1, 7, [1, 2, 3]],
      [2, 6, [9]],
    ]);
    expect(offsets(kv.notifications(-100))).toEqual([0, 1, 2]);
    expect(offsets(kv.notifications(1))).toEqual([2]);
    expect(kv.notifications(2)).toEqual([]);
    expect(kv.notifications(2 ** 60)).toEqual([]);
  });

  test("entries that told nothing leave gaps", async () => {
    commit();
    kv.commit({ offset: 1, term: 2, versionId: 0 });
    commit();
    kv.commit({ offset: 3, term: 3, versionId: 2 });
    await settle();
    expect(offsets(kv.notifications(NO_OFFSET))).toEqual([0, 2]);
    expect(offsets(kv.notifications(1))).toEqual([2]);
    expect(kv.notifications(2)).toEqual([]);
    commit();
    expect(offsets(readAll())).toEqual([0, 2, 4]);
  });

  test("one read gives so many entries at most, and the next goes on behind them", async () => {
    const max = NOTIFICATION_BATCHES_PER_READ_MAX;
    commitMany(2 * max + 1);
    await settle();
    expect(offsets(kv.notifications(NO_OFFSET))).toEqual(upTo(0, max - 1));
    expect(offsets(kv.notifications(max - 1))).toEqual(upTo(max, 2 * max - 1));
    expect(offsets(kv.notifications(2 * max - 1))).toEqual([2 * max]);
    expect(offsets(kv.notifications(max))).toEqual(upTo(max + 1, 2 * max));
  });

  test("one read gives so many bytes at most, but one entry at least", async () => {
    const half = new Uint8Array(NOTIFICATION_BYTES_PER_READ_MAX / 2);
    const overHalf = new Uint8Array(NOTIFICATION_BYTES_PER_READ_MAX / 2 + 1);
    const over = new Uint8Array(NOTIFICATION_BYTES_PER_READ_MAX + 1);
    for (const bytes of [half, half, overHalf, half, over, half, over]) commit(bytes);
    await settle();
    expect(offsets(kv.notifications(NO_OFFSET))).toEqual([0, 1]);
    expect(offsets(kv.notifications(0))).toEqual([1]);
    expect(offsets(kv.notifications(1))).toEqual([2]);
    expect(offsets(kv.notifications(3))).toEqual([4]);
    expect(offsets(kv.notifications(4))).toEqual([5]);
    expect(offsets(readAll())).toEqual(upTo(0, 6));
  });

  test("what is old is trimmed from the front, and the rest stays", async () => {
    for (let n = 0; n < 10; n++) commit(undefined, 100 + n);
    await settle();
    await kv.trimNotifications(104);
    expect(kv.notificationsTrimmed).toBe(3);
    expect(offsets(readAll())).toEqual(upTo(4, 9));
    expect(offsets(kv.notifications(1))).toEqual(upTo(4, 9));
    expect(offsets(kv.notifications(6))).toEqual(upTo(7, 9));
    await kv.trimNotifications(104);
    await kv.trimNotifications(50);
    expect(kv.notificationsTrimmed).toBe(3);
  });

  test("what is behind an entry that is young enough stays, however old: a clock may jump", async () => {
    for (const timestamp of [100, 200, 100, 100]) commit(undefined, timestamp);
    await settle();
    await kv.trimNotifications(150);
    expect(offsets(readAll())).toEqual([1, 2, 3]);
    await kv.trimNotifications(201);
    expect(readAll()).toEqual([]);
    expect(kv.notificationsTrimmed).toBe(3);
  });

  test("all of it may be trimmed, and what is told from then on is read", async () => {
    commitMany(5);
    await settle();
    await kv.trimNotifications(10_000);
    expect(kv.notificationsTrimmed).toBe(4);
    expect(readAll()).toEqual([]);
    commit();
    expect(offsets(readAll())).toEqual([5]);
    expect(await reopen()).toBeUndefined();
    expect(kv.notificationsTrimmed).toBe(4);
    expect(offsets(readAll())).toEqual([5]);
    expect(offsets(readAll(2))).toEqual([5]);
  });
});

test("reads go from the file on into memory", async () => {
  commitMany(130);
  await kv.flush();
  commitMany(130);
  expect(offsets(readAll())).toEqual(upTo(0, 259));
  expect(offsets(readAll(120))).toEqual(upTo(121, 259));
  expect(offsets(readAll(129))).toEqual(upTo(130, 259));
});

test("while a flush runs everything is there, from any offset, and what is told meanwhile too", async () => {
  commitMany(150);
  await kv.flush();
  commitMany(5_000, new Uint8Array(200));
  let flushing = true;
  const flush = kv.flush().then(() => {
    flushing = false;
  });
  let turns = 0;
  while (flushing) {
    commit();
    const last = kv.applied.offset;
    for (const after of [NO_OFFSET, 140, 149, 150, 5_100, last - 1]) {
      const found = offsets(kv.notifications(after));
      // how far one read goes depends on how far the flush is
      expect(found.length).toBeGreaterThan(0);
      expect(found).toEqual(upTo(after + 1, after + found.length));
      expect(found.at(-1)!).toBeLessThanOrEqual(last);
    }
    turns++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await flush;
  expect(turns).toBeGreaterThan(1);
  expect(offsets(readAll())).toEqual(upTo(0, kv.applied.offset));
});

test("more than one transaction's worth is trimmed in one go, across memory and file", async () => {
  const count = NOTIFICATION_BATCHES_PER_TRIM_MAX + 1_000;
  commitMany(count);
  await kv.flush();
  commitMany(500);
  await kv.trimNotifications(1_000 + count + 200);
  expect(kv.notificationsTrimmed).toBe(count + 199);
  expect(offsets(readAll())).toEqual(upTo(count + 200, count + 499));
  expect(await reopen()).toBeUndefined();
  expect(kv.notificationsTrimmed).toBe(count + 199);
  expect(offsets(readAll(17))).toEqual(upTo(count + 200, count + 499));
});

test("entries in memory that are all young stay there: nothing is flushed for them", async () => {
  commitMany(5);
  const { flushes } = node.stats;
  await kv.trimNotifications(0);
  expect(node.stats.flushes).toBe(flushes);
  expect(kv.notificationsTrimmed).toBe(NO_OFFSET);
  expect(offsets(readAll())).toEqual(upTo(0, 4));
});

test("what an entry told goes into the file with its records, or not at all", async () => {
  commitMany(3);
  await kv.flush();
  const database = new Database(path, { readonly: true });
  const stored = database.query("SELECT (SELECT max(offset) FROM notification) AS last, offset, told FROM meta").get();
  database.close();
  expect(stored).toEqual({ last: 2, offset: 2, told: 2 });
});

const damages: [what: string, statement: string, where: number][] = [
  ["a flipped bit of an entry", "UPDATE notification SET entries = x'0104' WHERE offset = 5", 5],
  ["another time", "UPDATE notification SET timestamp = timestamp + 1 WHERE offset = 5", 5],
  ["another offset before it", "UPDATE notification SET before = 3 WHERE offset = 5", 5],
  ["an offset that moved", "UPDATE notification SET offset = 100 WHERE offset = 9", 100],
  ["a row that is gone", "DELETE FROM notification WHERE offset = 5", 6],
  ["several that are gone", "DELETE FROM notification WHERE offset IN (4, 5, 6)", 7],
  ["the first row gone", "DELETE FROM notification WHERE offset = 0", 1],
  ["the last row gone", "DELETE FROM notification WHERE offset = 9", 9],
  ["all of them gone", "DELETE FROM notification", 9],
];

test.each(damages)("%s is found on opening", async (_, statement, where) => {
  commitMany(10);
  await node.close();
  sqlite(statement);
  const damage = await open();
  expect(damage).toMatchObject({ file: path, where: `offset ${where}` });
  expect(damage!.what).toContain("notifications");
  sqlite("DELETE FROM notification", "DELETE FROM meta", "DELETE FROM block");
});

test.each(damages)("%s is found on reading, and nothing behind it is given out", async (_, statement) => {
  commitMany(10);
  await node.close();
  sqlite(statement);
  expect(await open(false)).toBeUndefined();
  commitMany(5);
  let failure: unknown;
  const given: number[] = [];
  try {
    for (let after = NO_OFFSET; given.length < 100; after = given.at(-1)!)
      given.push(...offsets(kv.notifications(after)));
  } catch (error) {
    failure = error;
  }
  expect((failure as Refusal).reason).toBe("DATA_LOSS");
  expect((failure as Refusal).message).toContain(path);
  expect(given).toEqual(upTo(0, given.length - 1));
  // what is in memory is whole
  expect(offsets(kv.notifications(9))).toEqual(upTo(10, 14));
});

test("damage where the history begins is found, verified or not", async () => {
  commitMany(10);
  await kv.trimNotifications(1_005);
  await node.close();
  sqlite("UPDATE trimmed SET offset = 7");
  for (const verify of [true, false]) {
    expect((await open(verify))?.what).toContain("checksum");
    await node.close();
  }
  sqlite("UPDATE trimmed SET offset = 4");
  expect(await open()).toBeUndefined();
  expect(offsets(readAll())).toEqual(upTo(5, 9));
});

test("a lost mark of where the history begins is seen as missing entries", async () => {
  commitMany(10);
  await kv.trimNotifications(1_005);
  await node.close();
  sqlite("DELETE FROM trimmed");
  expect(await open()).toMatchObject({ where: "offset 5" });
  node = newNode();
});

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ tell: fc.nat(120), size: fc.constantFrom(0, 10, 300_000), old: fc.nat(30) }) },
  { weight: 2, arbitrary: fc.constant("control" as const) },
  { weight: 3, arbitrary: fc.constant("flush" as const) },
  { weight: 2, arbitrary: fc.constant("start a flush" as const) },
  { weight: 1, arbitrary: fc.constant("reopen" as const) },
  { weight: 2, arbitrary: fc.record({ trim: fc.integer({ min: -40, max: 5 }) }) },
  { weight: 6, arbitrary: fc.record({ read: fc.integer({ min: -2, max: 400 }) }) },
);

test("whatever happens in whatever order, what was told is read, without a gap", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      await node.close();
      path = join(folder, `${files++}.sqlite`);
      await open();
      let model: { offset: number; timestamp: number; size: number }[] = [];
      let now = 1_000;
      for (const each of steps) {
        if (each === "control") kv.commit({ offset: kv.applied.offset + 1, term: 1, versionId: 0 });
        else if (each === "flush") await kv.flush();
        else if (each === "start a flush") void kv.flush();
        else if (each === "reopen") expect(await reopen()).toBeUndefined();
        else if ("trim" in each) {
          await kv.trimNotifications(now + each.trim);
          while ((model[0]?.timestamp ?? Infinity) < now + each.trim) model = model.slice(1);
        } else if ("read" in each) {
          const found = readAll(each.read).map(({ offset, timestamp, entries }) => ({
            offset,
            timestamp,
            size: entries.length,
          }));
          expect(found).toEqual(model.filter(({ offset }) => offset > each.read));
        } else {
          for (let n = 0; n < (each.size > 1_000 ? 3 : each.tell); n++) {
            const told = { offset: kv.applied.offset + 1, timestamp: now++ - each.old, size: each.size };
            commit(new Uint8Array(each.size), told.timestamp);
            model.push(told);
          }
        }
      }
      expect(offsets(readAll())).toEqual(model.map(({ offset }) => offset));
    }),
    { numRuns: 60 },
  );
}, 120_000);
