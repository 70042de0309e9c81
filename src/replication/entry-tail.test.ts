import { expect, test } from "bun:test";
import { EMPTY_HEAD, type LogEntry } from "../model/ids.ts";
import {
  CATCH_UP_READS_MAX,
  ENTRY_MEMORY_OVERHEAD_BYTES,
  TAIL_BYTES_PER_NODE_MAX,
  TAIL_BYTES_PER_SHARD_MAX,
} from "../model/limits.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import { EntryTail, ReplicationBudget } from "./entry-tail.ts";

const entry = (offset: number, bytes = 10): LogEntry => ({
  term: 1,
  offset,
  timestamp: 5,
  value: new Uint8Array(bytes).fill(offset),
});

test("a tail holds what was added, each with its chain, until it is forgotten", () => {
  const budget = new ReplicationBudget();
  const tail = new EntryTail(budget, { term: 1, offset: 6, crc: 99 });
  for (let offset = 7; offset < 5_000; offset++) tail.add(entry(offset));
  const first = entryCrc(99, entry(7));
  expect(tail.at(7)).toEqual({ entry: entry(7), crc: first });
  expect(tail.at(8)!.crc).toBe(entryCrc(first, entry(8)));
  expect([tail.at(6), tail.at(5_000)]).toEqual([undefined, undefined]);
  tail.forget(3_000);
  expect([tail.at(3_000), tail.at(3_001)!.entry.offset, tail.at(4_999)!.entry.offset]).toEqual([
    undefined,
    3_001,
    4_999,
  ]);
  expect(budget.tailBytes).toBe(1_999 * (10 + ENTRY_MEMORY_OVERHEAD_BYTES));
  tail.close();
  expect([tail.bytes, budget.tailBytes, tail.at(4_999)]).toEqual([0, 0, undefined]);
});

test("it tells the head that the own log holds, and refuses a gap", () => {
  const tail = new EntryTail(new ReplicationBudget(), EMPTY_HEAD);
  for (let offset = 0; offset < 3_000; offset++) tail.add(entry(offset));
  expect(tail.durable).toBe(EMPTY_HEAD);
  for (const offset of [0, 1, 1_500]) {
    tail.synced(offset);
    const { crc } = tail.at(offset)!;
    expect(tail.durable).toEqual({ term: 1, offset, crc });
  }
  expect(() => tail.synced(3_000)).toThrow("durable is what was added");
  expect(() => tail.add(entry(3_001))).toThrow("no gaps");
});

test("a shard's tail is bounded: the oldest entries go", () => {
  const tail = new EntryTail(new ReplicationBudget(), EMPTY_HEAD);
  const each = TAIL_BYTES_PER_SHARD_MAX / 8;
  for (let offset = 0; offset < 20; offset++) tail.add(entry(offset, each));
  expect(tail.bytes).toBeLessThanOrEqual(TAIL_BYTES_PER_SHARD_MAX);
  expect([tail.at(12), tail.at(13)!.entry.offset]).toEqual([undefined, 13]);
  tail.add(entry(20, 2 * TAIL_BYTES_PER_SHARD_MAX));
  expect([tail.bytes, tail.at(20)]).toEqual([0, undefined]);
});

test("all tails of a node are bounded together: who adds gives way", () => {
  const budget = new ReplicationBudget();
  const shards = Math.ceil(TAIL_BYTES_PER_NODE_MAX / TAIL_BYTES_PER_SHARD_MAX) + 4;
  const tails = Array.from({ length: shards }, () => new EntryTail(budget, EMPTY_HEAD));
  for (const tail of tails) for (let n = 0; n < 7; n++) tail.add(entry(n, TAIL_BYTES_PER_SHARD_MAX / 8));
  expect(budget.tailBytes).toBeLessThanOrEqual(TAIL_BYTES_PER_NODE_MAX);
  expect(tails.at(-1)!.at(6)).toBeUndefined();
  expect(tails[0]!.at(6)!.entry.offset).toBe(6);
});

test("reads for followers that are behind are bounded, and places go to who waits longest", async () => {
  const budget = new ReplicationBudget();
  for (let n = 0; n < CATCH_UP_READS_MAX; n++) expect(budget.takeRead()).toBeUndefined();
  const got: number[] = [];
  for (const n of [1, 2]) void budget.takeRead()!.then(() => got.push(n));
  budget.giveRead();
  await Promise.resolve();
  expect(got).toEqual([1]);
  for (let n = 0; n < CATCH_UP_READS_MAX + 1; n++) budget.giveRead();
  await Promise.resolve();
  expect([got, budget.reads]).toEqual([[1, 2], 0]);
  expect(() => budget.giveRead()).toThrow("twice");
});
