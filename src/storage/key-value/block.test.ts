import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Bytes, EMPTY_BYTES, utf8 } from "../../lib/bytes.ts";
import { keyOrder, orderKeyOf, tieOf } from "../../model/keys.ts";
import { KEY_VALUE_BLOCK_BYTES_MAX } from "../../model/limits.ts";
import { Writer } from "../../wire/writer.ts";
import { BlockBuilder, BlockView, isWhole, recordCrc, type StoredBlock } from "./block.ts";
import { BLOCK_SCHEMA, BlockMerger } from "./block-merge.ts";
import { ChunkPool } from "./chunk-pool.ts";
import { hashKey, Table } from "./table.ts";

const order = keyOrder("hierarchical");
const FIRST = { okey: EMPTY_BYTES, tie: EMPTY_BYTES };

function rowOf(value: number, extras = 0): Bytes {
  const row = new Writer();
  row.field(0x12, utf8("v"));
  if (value > 0) row.field(0x1a, new Uint8Array(value).fill(value));
  row.raw(new Uint8Array(extras).fill(0x32));
  return row.finish();
}

function tableOf(records: ReadonlyMap<string, Bytes | undefined>): Table {
  const table = new Table(new ChunkPool());
  for (const [text, row] of records) {
    const key = utf8(text);
    const orderKey = orderKeyOf(order, key);
    const probe = {
      bytes: orderKey,
      orderKeyLength: orderKey.length,
      tieLength: 0,
      hash: hashKey(orderKey, orderKey.length),
    };
    table.append(table.findOrAdd(probe), row, row === undefined ? 0 : recordCrc(order, key, row));
  }
  return table;
}

/** A file of blocks beside a map of what should be in it. */
class Blocks {
  readonly database = new Database(":memory:");
  readonly #merger: BlockMerger;
  readonly records = new Map<string, Bytes>();

  constructor() {
    this.database.run(BLOCK_SCHEMA);
    this.#merger = new BlockMerger(this.database, "memory", order);
  }

  merge(changes: ReadonlyMap<string, Bytes | undefined>): void {
    this.#merger.merge(tableOf(changes));
    for (const [key, row] of changes) {
      if (row === undefined) this.records.delete(key);
      else this.records.set(key, row);
    }
  }

  stored(): StoredBlock[] {
    return this.database.query("SELECT okey, tie, records FROM block ORDER BY okey, tie").all() as StoredBlock[];
  }

  /** Checks what block-merge.ts calls its invariant, and the records. */
  check(): BlockView[] {
    const blocks = this.stored();
    const views = blocks.map(({ records }) => new BlockView(records));
    const found: [string, string][] = [];
    for (const [at, block] of blocks.entries()) {
      expect(isWhole(block)).toBe(true);
      if (at === 0) expect(block.okey.length).toBe(0);
      const view = views[at]!;
      expect(view.count).toBeGreaterThan(0);
      if (view.count > 1) expect(block.records.length).toBeLessThanOrEqual(KEY_VALUE_BLOCK_BYTES_MAX);
      const next = blocks[at + 1];
      for (let index = 0; index < view.count; index++) {
        const key = view.key(index);
        const text = Buffer.from(key).toString();
        if (at > 0) expect(order.compareWithRaw(block.okey, block.tie, key, 0, key.length)).toBeLessThanOrEqual(0);
        if (next !== undefined)
          expect(order.compareWithRaw(next.okey, next.tie, key, 0, key.length)).toBeGreaterThan(0);
        expect(view.crc(index)).toBe(recordCrc(order, key, view.row(index)));
        found.push([text, Buffer.from(view.row(index)).toString("hex")]);
      }
    }
    const byOrder = [...this.records].sort(([a], [b]) =>
      Buffer.compare(orderKeyOf(order, utf8(a)), orderKeyOf(order, utf8(b))),
    );
    expect(found).toEqual(byOrder.map(([key, row]) => [key, Buffer.from(row).toString("hex")]));
    return views;
  }
}

const numbered = (n: number) => `key-${String(n).padStart(6, "0")}`;

test("a block gives back its records, with and without value and extras, and finds each by its key", () => {
  const builder = new BlockBuilder();
  const keys = ["a", "b", "c", "a/x", "b/y"];
  const rows = [rowOf(0), rowOf(10, 5), rowOf(300), rowOf(0, 3), rowOf(128, 200)];
  for (const [at, key] of keys.entries()) builder.add(rows[at]!, utf8(key), at + 1);
  const size = builder.size;
  const records = builder.finish(FIRST);
  expect(records.length).toBe(size);
  expect(isWhole({ ...FIRST, records })).toBe(true);
  const view = new BlockView(records);
  expect(view.count).toBe(5);
  for (const [at, text] of keys.entries()) {
    const key = utf8(text);
    expect(Buffer.from(view.key(at)).toString()).toBe(text);
    expect(view.row(at)).toEqual(rows[at]!);
    expect(view.crc(at)).toBe(at + 1);
    expect(view.lowerBound(order, orderKeyOf(order, key), tieOf(order, key))).toBe(at);
    expect(view.lowerBound(order, orderKeyOf(order, key), tieOf(order, key), true)).toBe(at + 1);
  }
  expect(view.lowerBound(order, orderKeyOf(order, utf8("bb")), EMPTY_BYTES)).toBe(2);
  expect(view.lowerBound(order, orderKeyOf(order, utf8("x/y/z")), EMPTY_BYTES)).toBe(5);
  const copy = new BlockBuilder();
  for (let index = 0; index < 5; index++) copy.addStored(view, index);
  expect(copy.finish(FIRST)).toEqual(records);
});

test("no flipped bit, no cut and no other bound passes for what was written", () => {
  const builder = new BlockBuilder();
  for (let n = 0; n < 5; n++) builder.add(rowOf(n * 10, n), utf8(numbered(n)), n);
  const bound = { okey: utf8("k"), tie: EMPTY_BYTES };
  const records = builder.finish(bound);
  expect(isWhole({ ...bound, records })).toBe(true);
  for (let bit = 0; bit < records.length * 8; bit++) {
    const flipped = records.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    expect(isWhole({ ...bound, records: flipped })).toBe(false);
  }
  for (let length = 0; length < records.length; length++) {
    expect(isWhole({ ...bound, records: records.slice(0, length) })).toBe(false);
  }
  expect(isWhole({ okey: utf8("l"), tie: EMPTY_BYTES, records })).toBe(false);
  expect(isWhole({ okey: EMPTY_BYTES, tie: EMPTY_BYTES, records })).toBe(false);
  expect(isWhole({ okey: utf8("k"), tie: utf8("t"), records })).toBe(false);
});

test("keys that come in order fill their blocks", () => {
  const blocks = new Blocks();
  for (let from = 0; from < 5000; from += 500) {
    blocks.merge(new Map(Array.from({ length: 500 }, (_, n) => [numbered(from + n), rowOf(100)])));
  }
  const views = blocks.check();
  const bytes = views.reduce((sum, { bytes: { length } }) => sum + length, 0);
  expect(bytes / views.length).toBeGreaterThan(KEY_VALUE_BLOCK_BYTES_MAX * 0.8);
});

test("a key put amid full blocks divides one by half", () => {
  const blocks = new Blocks();
  blocks.merge(new Map(Array.from({ length: 1000 }, (_, n) => [numbered(n * 10), rowOf(100)])));
  const before = blocks.check().length;
  blocks.merge(new Map([[numbered(5005), rowOf(100)]]));
  const after = blocks.check();
  expect(after.length).toBe(before + 1);
  const halves = after.filter(({ bytes }) => bytes.length < KEY_VALUE_BLOCK_BYTES_MAX * 0.6);
  expect(halves.length).toBeGreaterThanOrEqual(2);
});

test("deleting leaves no small blocks behind, and in the end none", () => {
  const blocks = new Blocks();
  blocks.merge(new Map(Array.from({ length: 2000 }, (_, n) => [numbered(n), rowOf(100)])));
  const before = blocks.check().length;
  blocks.merge(
    new Map(
      Array.from({ length: 2000 }, (_, n) => n)
        .filter((n) => n % 20 > 0)
        .map((n) => [numbered(n), undefined]),
    ),
  );
  const views = blocks.check();
  expect(views.length).toBeLessThan(before / 5);
  blocks.merge(new Map(Array.from({ length: 2000 }, (_, n) => [numbered(n), undefined])));
  expect(blocks.stored()).toEqual([]);
  blocks.merge(new Map([["again", rowOf(1)]]));
  blocks.check();
});

test("whatever is merged in whatever order, the blocks hold it and keep their invariant", () => {
  const key = fc.oneof(
    fc.nat(400).map(numbered),
    fc.nat(50).map((n) => `a/${n}`),
    fc.constantFrom("", "/", "__oxia/x", "é"),
  );
  const change = fc.tuple(
    key,
    fc.option(fc.tuple(fc.oneof(fc.nat(300), fc.constantFrom(3900, 5000)), fc.nat(20)), { nil: undefined, freq: 3 }),
  );
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 60 }), { maxLength: 12 }), (merges) => {
      const blocks = new Blocks();
      for (const changes of merges) {
        blocks.merge(new Map(changes.map(([text, row]) => [text, row && rowOf(row[0], row[1])])));
        blocks.check();
      }
    }),
    { numRuns: 150 },
  );
});
