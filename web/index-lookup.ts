/**
 * Records by the keys of a secondary index, page by page, over all shards.
 *
 * The client API names a range of an index by its keys alone: a page that begins among records with one such key reads
 * those before it again, and gives up behind SKIPPED_MAX of them.
 */
import type { VariaClient } from "../src/client/client.ts";
import type { GetResult } from "../src/client/records.ts";
import { escapeKey } from "../src/database/session-key.ts";
import { compareBytes, utf8 } from "../src/lib/bytes.ts";
import { type KeySorting, keyOrder, orderKeyOf } from "../src/model/keys.ts";
import { type Position, RecordPage } from "./key-tree.ts";
import { compareIds, type Located, mergedScan } from "./merged-scan.ts";
import type { ShardRoute } from "./shard-routes.ts";

/** Records, and bytes of their values, that are read to get to the first of a page. */
export const SKIPPED_MAX = 10_000;
export const SKIPPED_BYTES_MAX = 64 * 1024 * 1024;

/** Entries go by their index keys, those with one such key by the keys of their records, and then by their shards. */
export interface IndexPosition extends Position {
  readonly indexKey: string;
}

export interface IndexRequest {
  readonly index: string;
  /** Those with this very index key; or from this one on, to before another: "" is open. */
  readonly range: { readonly exactly: string } | { readonly from: string; readonly before: string };
  /** Behind this one; undefined: from the first on. */
  readonly after: IndexPosition | undefined;
  readonly sorting: KeySorting;
  readonly routes: readonly ShardRoute[];
}

export interface IndexPage {
  readonly records: readonly Located[];
  /** There is more behind this one; undefined: that was all. */
  readonly after: IndexPosition | undefined;
  /** The page was not reached: too many records before it have the index key that it begins with. */
  readonly cut: boolean;
}

export async function readIndex(client: VariaClient, request: IndexRequest): Promise<IndexPage> {
  const { index, range, after, sorting, routes } = request;
  const compare = entryOrder(sorting);
  const exactly = "exactly" in range ? range.exactly : undefined;
  const startInclusive = after?.indexKey ?? ("exactly" in range ? range.exactly : range.from);
  const endExclusive = "exactly" in range ? "" : range.before;
  const page = new RecordPage();
  let [skipped, skippedBytes] = [0, 0];
  const rangeOf = () => ({ startInclusive, endExclusive, useIndex: index });
  const compareRecords = (a: GetResult, b: GetResult) => compare(entryOf(a), entryOf(b));
  for await (const located of mergedScan(client, routes, rangeOf, compareRecords)) {
    const { record, route } = located;
    if (exactly !== undefined && entryOf(record).indexKey !== exactly) break;
    if (after !== undefined && (compare(entryOf(record), after) || compareIds(route.shard, after.shard)) <= 0) {
      skipped += 1;
      skippedBytes += record.value.length;
      if (skipped > SKIPPED_MAX || skippedBytes > SKIPPED_BYTES_MAX)
        return { records: [], after: undefined, cut: true };
      continue;
    }
    if (page.isFull) return { records: page.records, after: endOf(page), cut: false };
    page.add(located);
  }
  return { records: page.records, after: undefined, cut: false };
}

function endOf({ records }: RecordPage): IndexPosition | undefined {
  const last = records.at(-1);
  return last === undefined ? undefined : { ...entryOf(last.record), shard: last.route.shard };
}

function entryOf({ key, secondaryIndexKey = key }: GetResult): Pick<IndexPosition, "indexKey" | "key"> {
  return { indexKey: secondaryIndexKey, key };
}

/** As a shard's entries lie (database/secondary-index.ts). */
function entryOrder(sorting: KeySorting) {
  const order = keyOrder(sorting);
  type Entry = Pick<IndexPosition, "indexKey" | "key">;
  return (a: Entry, b: Entry): number => {
    if (a.indexKey !== b.indexKey) {
      const [left, right] = [orderKeyOf(order, utf8(a.indexKey)), orderKeyOf(order, utf8(b.indexKey))];
      return compareBytes(left, right);
    }
    return a.key === b.key ? 0 : compareBytes(escapeKey(utf8(a.key)), escapeKey(utf8(b.key)));
  };
}
