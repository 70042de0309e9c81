import { expect, test } from "bun:test";
import { initialRanges, sameAssignments, shardAssignments } from "./assignment.ts";

test("two and three shards get the reference's ranges", () => {
  expect(initialRanges(2)).toEqual([
    { minInclusive: 0, maxInclusive: 2147483647 },
    { minInclusive: 2147483648, maxInclusive: 4294967295 },
  ]);
  expect(initialRanges(3).map((range) => range.maxInclusive)).toEqual([1431655765, 2863311531, 4294967295]);
});

test("any number of shards covers every hash once", () => {
  for (const count of [1, 2, 3, 4, 5, 7, 16, 100, 1000, 4096]) {
    const ranges = initialRanges(count);
    let next = 0;
    for (const range of ranges) {
      expect(range.minInclusive).toBe(next);
      expect(range.maxInclusive).toBeGreaterThanOrEqual(range.minInclusive);
      next = range.maxInclusive + 1;
    }
    expect(next).toBe(2 ** 32);
  }
});

const RANGE = { minInclusive: 0, maxInclusive: 9 };

test("what is being deleted or built is not told, and a namespace of which nothing is told is left out", () => {
  const shard = (id: number, hidden: boolean) => ({ shard: id, leader: id === 0 ? "h:1" : "", range: RANGE, hidden });
  const set = shardAssignments(
    [
      ["gone", [shard(3, true)]],
      ["default", [shard(0, false), shard(1, false), shard(2, true)]],
    ],
    ["b:1", "a:1", "b:1"],
  );
  expect([...set.namespaces]).toEqual([
    [
      "default",
      [
        { shard: 0, leader: "h:1", minHashInclusive: 0, maxHashInclusive: 9 },
        { shard: 1, leader: "", minHashInclusive: 0, maxHashInclusive: 9 },
      ],
    ],
  ]);
  expect(set.allowedAuthorities).toEqual(["a:1", "b:1"]);
});

test("two sets are the same when nothing in them differs", () => {
  const set = (leader: string, authorities = ["a:1"], namespace = "default", max = 9) =>
    shardAssignments(
      [[namespace, [{ shard: 0, leader, range: { ...RANGE, maxInclusive: max }, hidden: false }]]],
      authorities,
    );
  expect(sameAssignments(set("h:1"), set("h:1"))).toBe(true);
  for (const other of [
    set(""),
    set("h:1", []),
    set("h:1", ["b:1"]),
    set("h:1", ["a:1"], "n"),
    set("h:1", ["a:1"], "default", 8),
  ]) {
    expect(sameAssignments(set("h:1"), other)).toBe(false);
    expect(sameAssignments(other, set("h:1"))).toBe(false);
  }
});
