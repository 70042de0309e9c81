import { expect, test } from "bun:test";
import { CoordinatorWorld } from "../../test/harness/coordinator-world.ts";

test("a new cluster: shards are placed, each server is greeted, leaders are elected, and told to all", () => {
  const world = new CoordinatorWorld({ shards: 6 });
  world.start();
  world.until("all well", () => world.isWell(), 3_000);
  const { shards } = world.coordinator.status();
  expect(shards.map(({ shard }) => shard)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(shards.every(({ term }) => term === 0)).toBe(true);
  const leaders = Map.groupBy(shards, ({ leader }) => leader);
  expect([...leaders.values()].map(({ length }) => length)).toEqual([2, 2, 2]);
  world.run(100);
  for (const server of ["a:1", "b:1", "c:1"]) {
    const told = world.dataServers.server(server).assignments.at(-1)!;
    expect(told.namespaces.get("default")!.every(({ leader }) => leader !== "")).toBe(true);
    expect(told.allowedAuthorities).toEqual(["a:1", "a:100", "b:1", "b:100", "c:1", "c:100"]);
  }
});
