import { expect, test } from "bun:test";
import fc from "fast-check";
import { keyOrder, orderKeyOf, tieOf } from "../../model/keys.ts";
import { ChunkPool } from "./chunk-pool.ts";
import { sortKeys } from "./key-sort.ts";
import { hashKey, Table } from "./table.ts";

const order = keyOrder("hierarchical");

function tableOf(keys: readonly Uint8Array[]): Table {
  const table = new Table(new ChunkPool());
  for (const key of keys) {
    const orderKey = orderKeyOf(order, key);
    const tie = tieOf(order, key);
    const bytes = Uint8Array.of(...orderKey, ...tie);
    const hash = hashKey(bytes, bytes.length);
    table.findOrAdd({ bytes, orderKeyLength: orderKey.length, tieLength: tie.length, hash });
  }
  return table;
}

function expectSorted(table: Table): void {
  const keys = table.keys.slice(0, table.keyCount);
  const sorted = sortKeys(table, keys.slice());
  expect([...sorted]).toEqual([...keys].sort((a, b) => table.compareKeys(a, b)));
}

test("keys that share much, end early, hold zeros or need their tie are sorted as compared", () => {
  const piece = fc.constantFrom(
    "",
    "a",
    "b",
    "\0",
    "\0\0\0\0",
    "/",
    "\xff",
    "key-",
    "0000000000",
    "long common stretch",
  );
  const key = fc.array(piece, { maxLength: 6 }).map((pieces) => new Uint8Array(Buffer.from(pieces.join(""), "latin1")));
  fc.assert(
    fc.property(fc.array(key, { minLength: 1, maxLength: 200 }), (keys) => expectSorted(tableOf(keys))),
    { numRuns: 500 },
  );
});

test("many keys of several sequences, shuffled, come out in order", () => {
  const keys: Uint8Array[] = [];
  for (let n = 0; n < 20_000; n++) {
    const shuffled = (n * 7919) % 20_000;
    keys.push(new TextEncoder().encode(`key-${shuffled % 37}-${String(shuffled).padStart(20, "0")}`));
  }
  expectSorted(tableOf(keys));
});

test("keys that agree in more bytes than are looked at word by word are sorted too", () => {
  const common = "x".repeat(5000);
  const keys = Array.from({ length: 50 }, (_, n) => new TextEncoder().encode(`${common}${(n * 31) % 50}`));
  expectSorted(tableOf(keys));
});
