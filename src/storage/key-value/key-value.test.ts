import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ModelKeyValue } from "../../../test/sim/model-key-value.ts";
import { type KeySorting, keyOrder } from "../../model/keys.ts";
import { systemClock } from "../../ops/clock.ts";
import type { Cursor, KeyValue, KeyValueSnapshot } from "../../ports.ts";
import { Writer } from "../../wire/writer.ts";
import { KeyValueNode } from "./node.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-kv-"));
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const faults: Error[] = [];
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function node(tableBytesMax = 1024 * 1024, cacheBytesMax = 1024 * 1024) {
  return new KeyValueNode({
    tableBytesMax,
    cacheBytesMax,
    sqliteCacheBytesMax: 1024 * 1024,
    clock: systemClock,
    logger: silent,
    onFault: (error) => faults.push(error),
  });
}

function rows(cursor: Cursor): string[] {
  const found: string[] = [];
  while (cursor.next())
    found.push(`${Buffer.from(cursor.key).toString("hex")}=${Buffer.from(cursor.row).toString("hex")}`);
  return found;
}

const byte = fc.constantFrom(0x61, 0x62, 0x2f, 0xff, 0x00, 0x5f);
const key = fc.array(byte, { maxLength: 4 }).map((bytes) => Uint8Array.from(bytes));
/** Rows of records with a value and extras of any length, and bytes that are none. */
const row = fc.oneof(
  fc.uint8Array({ maxLength: 30 }),
  fc
    .record({ version: fc.uint8Array({ maxLength: 5 }), value: fc.nat(3000), extras: fc.uint8Array({ maxLength: 9 }) })
    .map(({ version, value, extras }) => recordRow(version, new Uint8Array(value).fill(7), extras)),
);

function recordRow(version: Uint8Array, value: Uint8Array, extras: Uint8Array): Uint8Array {
  const writer = new Writer();
  writer.field(0x12, version);
  if (value.length > 0) writer.field(0x1a, value);
  writer.raw(extras);
  return writer.finish().slice();
}

/** Keys on several levels, so that they lie in several places of the order. */
function numbered(n: number): Uint8Array {
  return new TextEncoder().encode(n % 3 === 0 ? `a/${n}` : `a${n}`);
}

/** What a range scan sends, in replies of a few records. */
function replies(cursor: Cursor, recordsMax: number, bytesMax: number): string {
  const whole = new Writer();
  for (let more = true; more; ) {
    const reply = new Writer();
    more = cursor.appendRecords(reply, recordsMax, bytesMax);
    whole.raw(reply.finish());
  }
  return Buffer.from(whole.finish()).toString("hex");
}
const range = fc.record(
  { from: key, to: key, fromInclusive: fc.boolean(), toInclusive: fc.boolean(), reverse: fc.boolean() },
  { requiredKeys: [] },
);
const step = fc.oneof(
  { weight: 10, arbitrary: fc.record({ kind: fc.constant("put" as const), key, row }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("delete" as const), key }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("put many" as const), from: fc.nat(300), row }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("delete many" as const), from: fc.nat(300), count: fc.nat(200) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("get" as const), key }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("commit" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("rollback" as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("cursor" as const), range }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("snapshot" as const), range }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("read snapshots" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("flush" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
);

test("whatever happens in whatever order, it holds what the model holds", async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.constantFrom<KeySorting>("hierarchical", "natural"),
      async (steps, sorting) => {
        const path = join(folder, `${run++}.sqlite`);
        const order = keyOrder(sorting);
        let kvs = node();
        const open = async () => {
          const opened = await kvs.open({ path, order, verify: true, onDamage: "refuse" });
          if ("damage" in opened) throw new Error(JSON.stringify(opened.damage));
          return opened.keyValue as KeyValue;
        };
        let kv = await open();
        const model = new ModelKeyValue(order);
        const snapshots: [KeyValueSnapshot, KeyValueSnapshot, object][] = [];
        const commit = () => {
          const state = { offset: model.applied.offset + 1, term: 1, versionId: 5 };
          kv.commit(state);
          model.commit(state);
        };
        const readSnapshots = () => {
          for (const [ours, theirs, r] of snapshots.splice(0)) {
            expect(rows(ours.cursor(r))).toEqual(rows(theirs.cursor(r)));
            expect(replies(ours.cursor(r), 20, 3000)).toBe(replies(theirs.cursor(r), 20, 3000));
            ours.release();
          }
        };
        for (const s of steps) {
          switch (s.kind) {
            case "put":
              kv.get(s.key);
              kv.put(s.key, s.row);
              model.put(s.key, s.row);
              break;
            case "delete":
              expect(kv.delete(s.key)).toBe(model.delete(s.key));
              break;
            case "put many":
              for (let n = s.from; n < s.from + 100; n++) {
                kv.put(numbered(n), s.row);
                model.put(numbered(n), s.row);
              }
              break;
            case "delete many":
              for (let n = s.from; n < s.from + s.count; n++) {
                expect(kv.delete(numbered(n))).toBe(model.delete(numbered(n)));
              }
              break;
            case "get":
              expect(kv.get(s.key)?.slice()).toEqual(model.get(s.key)?.slice());
              break;
            case "commit":
              commit();
              break;
            case "rollback":
              kv.rollback();
              model.rollback();
              break;
            case "cursor":
              expect(rows(kv.cursor(s.range))).toEqual(rows(model.cursor(s.range)));
              expect(replies(kv.cursor(s.range), 7, 5000)).toBe(replies(model.cursor(s.range), 7, 5000));
              break;
            case "snapshot":
              commit();
              snapshots.push([await kv.snapshot(), await model.snapshot(), s.range]);
              break;
            case "read snapshots":
              readSnapshots();
              break;
            case "flush":
              commit();
              readSnapshots();
              await kv.flush();
              break;
            case "reopen":
              commit();
              readSnapshots();
              await kvs.close();
              kvs = node();
              kv = await open();
              break;
          }
          expect(kv.rowCount).toBe(model.rowCount);
          expect(kv.stateHash).toBe(model.stateHash);
          expect(kv.applied).toEqual(model.applied);
        }
        readSnapshots();
        commit();
        await kvs.close();
      },
    ),
    { numRuns: 150 },
  );
  expect(faults).toEqual([]);
}, 120_000);

test("tables past their budget are flushed while writes go on, and everything is read back", async () => {
  const path = join(folder, "big.sqlite");
  const order = keyOrder("hierarchical");
  const kvs = node(1024 * 1024, 512 * 1024);
  const opened = await kvs.open({ path, order, verify: true, onDamage: "refuse" });
  const kv = (opened as { keyValue: KeyValue }).keyValue;
  const value = new Uint8Array(128);
  const keyOf = (i: number) => new TextEncoder().encode(`key-${i}`);
  for (let i = 0; i < 40_000; i++) {
    value[0] = i;
    kv.put(keyOf((i * 7919) % 20_000), value);
    kv.commit({ offset: i, term: 1, versionId: i });
    const room = kv.room();
    if (room !== undefined) await room;
    else if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(kvs.stats.flushes).toBeGreaterThan(5);
  expect(kvs.memory.active + kvs.memory.frozen).toBeLessThan(1024 * 1024 + 300_000);
  expect(kvs.memory.cache).toBeLessThanOrEqual(512 * 1024);
  for (let i = 20_000; i < 40_000; i++) expect(kv.get(keyOf((i * 7919) % 20_000))?.[0]).toBe(i & 0xff);
  expect(kv.rowCount).toBe(20_000);
  const scanned = rows(kv.cursor({}));
  expect(scanned.length).toBe(20_000);
  await kvs.close();
  const again = node();
  const reopened = await again.open({ path, order, verify: true, onDamage: "refuse" });
  expect("keyValue" in reopened && reopened.keyValue.rowCount).toBe(20_000);
  await again.close();
}, 60_000);
