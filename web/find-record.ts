/**
 * The record that an address means. Its key leads to a shard unless it was written with a partition key, which servers
 * tell nobody: then each shard is asked, one after the other.
 */
import type { VariaClient } from "../src/client/client.ts";
import { wireKey } from "../src/client/keys.ts";
import { Comparison, type ComparisonName } from "../src/client/requests.ts";
import { nearest } from "../src/client/routing.ts";
import { eachShard } from "./key-tree.ts";
import { compareIds, type Located } from "./merged-scan.ts";
import { leadsTo, type ShardRoute } from "./shard-routes.ts";

export interface RecordRequest {
  readonly key: string;
  readonly comparison: ComparisonName;
  /** The one that it was written with; "": none, or it is not known. */
  readonly partitionKey: string;
  /** Where it was seen last; undefined: nowhere. */
  readonly shard: bigint | undefined;
  /** One of each shard. */
  readonly routes: readonly ShardRoute[];
}

/**
 * None, one, or all records that have the key, each of another shard. With a partition key its shard alone is asked; else
 * the shard that is named, or the key's own, and all of them where that has none. Of all shards' nearest ones there is one.
 */
export async function findRecords(client: VariaClient, request: RecordRequest): Promise<Located[]> {
  const { key, comparison, partitionKey, shard, routes } = request;
  const isExact = comparison === "equal";
  const search = async (its: readonly ShardRoute[]) => {
    const found: Located[] = [];
    await eachShard(its, async (route) => {
      const record = await client.get(key, { comparison, partitionKey: route.partitionKey });
      if (record !== undefined) found.push({ record, route });
    });
    return found.sort((a, b) => compareIds(a.route.shard, b.route.shard));
  };
  if (partitionKey !== "") return search(routes.filter((route) => leadsTo(route, partitionKey)));
  if (isExact) {
    const likely = routes.filter((route) => (shard === undefined ? leadsTo(route, key) : route.shard === shard));
    const found = await search(likely);
    return found.length > 0 ? found : search(routes.filter((route) => !likely.includes(route)));
  }
  const found = await search(routes);
  const asked = { key: wireKey(key), comparison: Comparison[comparison], byIndex: false };
  const best = nearest(
    found.map(({ record }) => record),
    asked,
  );
  return found.filter(({ record }) => record === best);
}
