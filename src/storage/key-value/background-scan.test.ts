import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utf8 } from "../../lib/bytes.ts";
import { keyOrder } from "../../model/keys.ts";
import { systemClock } from "../../ops/clock.ts";
import { KeyValueNode } from "./node.ts";
import type { SqliteKeyValue } from "./shard-state.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-scan-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const silent = { debug() {}, info() {}, warn() {}, error() {} };

function nodeWith(scanBeforeServingBytesMax: number): KeyValueNode {
  return new KeyValueNode({
    tableBytesMax: 8 * 1024 * 1024,
    cacheBytesMax: 1024 * 1024,
    sqliteCacheBytesMax: 1024 * 1024,
    scanBeforeServingBytesMax,
    clock: systemClock,
    logger: silent,
    onFault: (error) => {
      throw error;
    },
  });
}

async function open(node: KeyValueNode, path: string) {
  return node.open({ path, order: keyOrder("hierarchical"), verify: true, onDamage: "refuse" });
}

/** A file with 5,000 records, closed in order. */
async function makeFile(name: string): Promise<string> {
  const path = join(folder, name);
  const node = nodeWith(2 ** 30);
  const { keyValue } = (await open(node, path)) as { keyValue: SqliteKeyValue };
  for (let n = 0; n < 5000; n++) keyValue.put(utf8(`key-${n}`), new Uint8Array(100).fill(n));
  keyValue.commit({ offset: 0, term: 1, versionId: 1 });
  await node.close();
  return path;
}

/** Flips a bit amid the records. */
function flip(path: string): void {
  const bytes = readFileSync(path);
  const at = bytes.indexOf("key-2500") + 12;
  bytes[at]! ^= 4;
  writeFileSync(path, bytes);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test("a file within the bound is scanned before it serves", async () => {
  const path = await makeFile("small.sqlite");
  flip(path);
  const node = nodeWith(2 ** 30);
  expect(await open(node, path)).toMatchObject({ damage: { file: path } });
  await node.close();
});

test("a larger one serves at once, and is told damaged once that is found", async () => {
  const path = await makeFile("large.sqlite");
  flip(path);
  const node = nodeWith(10_000);
  const opened = await open(node, path);
  const { keyValue } = opened as { keyValue: SqliteKeyValue };
  expect(node.unverifiedBytes).toBeGreaterThan(100_000);
  expect(keyValue.scanned).toBe(false);
  expect(keyValue.get(utf8("key-1"))?.[0]).toBe(1);
  await until(() => keyValue.damage !== undefined);
  expect(keyValue.damage).toMatchObject({ file: path, what: expect.stringContaining("checksum") });
  expect(node.unverifiedBytes).toBe(0);
  await node.close();
});

test("the bound is the node's: files count until it is reached, whole ones are proved so", async () => {
  const paths = [await makeFile("a.sqlite"), await makeFile("b.sqlite"), await makeFile("c.sqlite")];
  const node = nodeWith(readFileSync(paths[0]!).length + 1);
  const shards: SqliteKeyValue[] = [];
  for (const path of paths) shards.push(((await open(node, path)) as { keyValue: SqliteKeyValue }).keyValue);
  await until(() => node.unverifiedBytes === 0);
  expect(shards.map(({ damage, scanned }) => [damage, scanned])).toEqual(shards.map(() => [undefined, true]));
  await node.close();
});

test("a node closes in the midst of a scan", async () => {
  const path = await makeFile("closing.sqlite");
  const node = nodeWith(0);
  await open(node, path);
  await node.close();
  expect(node.unverifiedBytes).toBe(0);
});
