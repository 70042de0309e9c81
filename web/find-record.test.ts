/** Records wherever a partition key has put them. */
import { expect, test } from "bun:test";
import type { VariaClient } from "../src/client/client.ts";
import { findRecord } from "./find-record.ts";

/** Shards by the partition key that leads to each; a key alone leads to the first one. */
function clientOf(shards: Readonly<Record<string, readonly string[]>>) {
  const asked: string[] = [];
  const get = async (key: string, { partitionKey, comparison }: Parameters<VariaClient["get"]>[1] = {}) => {
    asked.push(partitionKey === undefined ? (comparison ?? "own") : String(partitionKey));
    const all = Object.values(shards).flat().sort();
    if (comparison === "ceiling") return answer(all.find((one) => one >= key));
    const own = shards[partitionKey === undefined ? "p0" : String(partitionKey)] ?? [];
    return answer(own.find((one) => one === key));
  };
  const answer = (key: string | undefined) => (key === undefined ? undefined : { key, value: new Uint8Array() });
  return { client: { get: get as never }, asked };
}

const ROUTES = Array.from({ length: 40 }, (_, nth) => `p${nth}`);

test("by its key alone where that leads to it, else in each shard until it is found", async () => {
  const { client, asked } = clientOf({ p0: ["a"], p7: ["b"] });
  expect(await findRecord(client, { key: "a", comparison: "equal", routes: ROUTES })).toMatchObject({
    route: undefined,
  });
  expect(asked).toEqual(["own"]);
  const found = await findRecord(client, { key: "b", comparison: "equal", routes: ROUTES });
  expect(found).toMatchObject({ record: { key: "b" }, route: "p7" });
  expect(asked.length).toBeLessThan(ROUTES.length + 3);
  expect(await findRecord(client, { key: "c", comparison: "equal", routes: ROUTES })).toBeUndefined();
});

test("what is found by comparison is looked for likewise", async () => {
  const { client } = clientOf({ p0: ["a"], p7: ["b"] });
  expect(await findRecord(client, { key: "aa", comparison: "ceiling", routes: ROUTES })).toMatchObject({ route: "p7" });
  expect(await findRecord(client, { key: "x", comparison: "ceiling", routes: ROUTES })).toBeUndefined();
});
