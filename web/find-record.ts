/**
 * A record, wherever it lies. Its key alone leads to one shard; a partition key may have put it into any other, and no
 * server tells which one that was: then every shard is asked. What is known of it is a partition key that leads to its
 * shard, which will do to read and to delete it; to write it takes its own, or it would be another one's after a split.
 *
 * Source: semantics.md §1 (partition key).
 */
import type { VariaClient } from "../src/client/client.ts";
import type { GetResult } from "../src/client/records.ts";
import { eachShard } from "./shard-routes.ts";

export interface FoundRecord {
  readonly record: GetResult;
  /** A partition key that leads to its shard; undefined: its own key does. */
  readonly route: string | undefined;
}

type Comparison = "equal" | "floor" | "ceiling" | "lower" | "higher";

/** `routes`: a partition key of each shard. Undefined: there is no such record. */
export async function findRecord(
  client: Pick<VariaClient, "get">,
  {
    key,
    comparison,
    routes,
  }: { readonly key: string; readonly comparison: Comparison; readonly routes: readonly string[] },
): Promise<FoundRecord | undefined> {
  const best = comparison === "equal" ? undefined : await client.get(key, { comparison });
  if (comparison !== "equal" && best === undefined) return undefined;
  const wanted = best?.key ?? key;
  const own = await client.get(wanted);
  if (own !== undefined) return { record: own, route: undefined };
  let found: FoundRecord | undefined;
  await eachShard(routes, async (route) => {
    if (found !== undefined) return;
    const record = await client.get(wanted, { partitionKey: route });
    if (record !== undefined) found = { record, route };
  });
  return found;
}
