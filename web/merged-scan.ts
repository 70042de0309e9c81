/**
 * A scan of several shards that says of each record which shard holds it: that of the client says the record alone, and a
 * record with a partition key is in another shard than its key leads to.
 */
import type { VariaClient } from "../src/client/client.ts";
import type { RangeReadOptions } from "../src/client/options.ts";
import type { GetResult } from "../src/client/records.ts";
import type { ShardRoute } from "./shard-routes.ts";

/** A record, and the shard that holds it. */
export interface Located {
  readonly record: GetResult;
  readonly route: ShardRoute;
}

interface Source extends Located {
  readonly rest: AsyncIterator<GetResult>;
}

/**
 * The records of all shards in the order of `compare`, which is the one within each shard; equals in the order of shards'
 * ids. `rangeOf`: what is read of a shard. Leaving the loop ends the scans.
 */
export async function* mergedScan(
  client: VariaClient,
  routes: readonly ShardRoute[],
  rangeOf: (route: ShardRoute) => RangeReadOptions,
  compare: (a: GetResult, b: GetResult) => number,
): AsyncGenerator<Located, void, undefined> {
  const scans = routes.map((route) => {
    const scan: AsyncIterable<GetResult> = client.rangeScan({ ...rangeOf(route), partitionKey: route.partitionKey });
    return { route, rest: scan[Symbol.asyncIterator]() };
  });
  const order = (a: Source, b: Source) => compare(a.record, b.record) || compareIds(a.route.shard, b.route.shard);
  try {
    const first = await Promise.all(scans.map(nextOf));
    const sources = first.filter((source) => source !== undefined).sort(order);
    while (sources.length > 0) {
      const least = sources.shift()!;
      yield least;
      const next = await nextOf(least);
      if (next !== undefined) sources.splice(placeOf(sources, next, order), 0, next);
    }
  } finally {
    for (const { rest } of scans) void rest.return?.()?.catch(() => {}); // one that failed has said so already
  }
}

export function compareIds(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

async function nextOf({ route, rest }: Pick<Source, "route" | "rest">): Promise<Source | undefined> {
  const { done, value } = await rest.next();
  return done === true ? undefined : { record: value, route, rest };
}

/** Where it goes in a sorted list: before the first that is behind it. */
function placeOf(sources: readonly Source[], source: Source, order: (a: Source, b: Source) => number): number {
  let [low, high] = [0, sources.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (order(sources[middle]!, source) > 0) high = middle;
    else low = middle + 1;
  }
  return low;
}
