import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { utf8 } from "../../lib/bytes.ts";
import { keyOrder, orderKeyOf, tieOf } from "../../model/keys.ts";
import { KEY_VALUE_PAGE_BYTES } from "../../model/limits.ts";
import { Writer } from "../../wire/writer.ts";
import { openSqlite } from "../sqlite.ts";
import { recordCrc } from "./block.ts";
import { BLOCK_SCHEMA, BlockMerger } from "./block-merge.ts";
import { ChunkPool } from "./chunk-pool.ts";
import { NOTIFICATION_SCHEMA } from "./notification-store.ts";
import { KeyValueReader, StoredCursor } from "./reader.ts";
import { orderRange } from "./snapshot.ts";
import { STATE_SCHEMA } from "./stored-state.ts";
import { probeOf, Table } from "./table.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-reader-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const order = keyOrder("hierarchical");
let nth = 0;

const stable = (n: number) => `key-${String(n).padStart(5, "0")}`;
const passing = (n: number) => `${stable(n)}-passing`;

function rowOf(bytes: number): Uint8Array {
  const row = new Writer();
  row.field(0x12, utf8("v"));
  row.field(0x1a, new Uint8Array(bytes));
  return row.finish().slice();
}

/** A file that a flush writes to while it is read. */
class File {
  readonly path = join(folder, `${nth++}.sqlite`);
  readonly #database = openSqlite(this.path, { mode: "create", synchronous: "OFF", pageBytes: KEY_VALUE_PAGE_BYTES });
  readonly #merger: BlockMerger;

  constructor() {
    for (const sql of [BLOCK_SCHEMA, STATE_SCHEMA, ...NOTIFICATION_SCHEMA]) this.#database.run(sql);
    this.#merger = new BlockMerger(this.#database, this.path, order);
  }

  flush(changes: Iterable<readonly [string, number | undefined]>): void {
    const table = new Table(new ChunkPool());
    for (const [text, bytes] of changes) {
      const key = utf8(text);
      const row = bytes === undefined ? undefined : rowOf(bytes);
      const at = table.findOrAdd(probeOf(orderKeyOf(order, key), tieOf(order, key)));
      table.append(at, row, row === undefined ? 0 : recordCrc(order, key, row));
    }
    this.#database.run("BEGIN");
    this.#merger.merge(table);
    this.#database.run("COMMIT");
  }

  close(): void {
    this.#merger.finalize();
    this.#database.close();
  }
}

/** Keys of a range, with `meanwhile` run before each n-th step. */
function keysRead(file: File, reverse: boolean, every: number, meanwhile: (step: number) => void): string[] {
  const reader = new KeyValueReader(file.path, { cacheBytes: 1 });
  const cursor = new StoredCursor(reader, order, orderRange(order, { from: utf8("key-"), to: utf8("key-9"), reverse }));
  const keys: string[] = [];
  for (let step = 0; cursor.next(); step++) {
    keys.push(Buffer.from(cursor.key).toString());
    if (step % every === 0) meanwhile(step);
  }
  reader.close();
  return keys;
}

test("a cursor over a file that is flushed to meanwhile gives each record that stays, once and in order", () => {
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.integer({ min: 1, max: 200 }),
      fc.array(fc.tuple(fc.nat(999), fc.integer({ min: 1, max: 300 }), fc.boolean(), fc.constantFrom(10, 300, 9000)), {
        minLength: 1,
        maxLength: 8,
      }),
      (reverse, every, flushes) => {
        const file = new File();
        file.flush(Array.from({ length: 1000 }, (_, n) => [stable(n), 100]));
        file.flush(Array.from({ length: 500 }, (_, n) => [passing(2 * n), 200]));
        let next = 0;
        const keys = keysRead(file, reverse, every, () => {
          const [from, count, adds, bytes] = flushes[next++ % flushes.length]!;
          file.flush(Array.from({ length: count }, (_, n) => [passing((from + n) % 1000), adds ? bytes : undefined]));
        });
        const stayed = keys.filter((key) => !key.endsWith("-passing"));
        const expected = Array.from({ length: 1000 }, (_, n) => stable(n));
        expect(stayed).toEqual(reverse ? expected.reverse() : expected);
        expect(new Set(keys).size).toBe(keys.length);
        file.close();
      },
    ),
    { numRuns: 12 },
  );
}, 60_000);

test("records larger than a page of blocks are no end of the range", () => {
  for (const reverse of [false, true]) {
    const file = new File();
    file.flush(Array.from({ length: 12 }, (_, n) => [stable(n), 200_000]));
    expect(keysRead(file, reverse, 1, () => {})).toHaveLength(12);
    file.close();
  }
});
