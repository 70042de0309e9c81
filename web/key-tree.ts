/**
 * Keys as a tree: the records that stand directly at a place, and the places below it. A place is a text that ends with
 * `/`, or "".
 *
 * In the order `hierarchical` keys go by their number of slashes first, then by their bytes, of which a slash is the
 * highest (model/keys.ts): the keys of one place lie together, and those one slash deeper elsewhere, together too. In the
 * order `natural` bytes decide alone, and a place lies among the records beside it. Either way places are found by leaps,
 * from each to the first key behind it: a large one costs no more than a small one. Leaps are made in one shard after the
 * other, since what several shards answer is not merged in their own order.
 *
 * A record is wherever its partition key leads: each comes with the shard that holds it, and there may be several with one
 * key.
 *
 * Source: semantics.md §2.3.
 */
import type { VariaClient } from "../src/client/client.ts";
import { compareBytes, concatBytes, utf8 } from "../src/lib/bytes.ts";
import { compareIds, type Located, mergedScan } from "./merged-scan.ts";
import type { ShardRoute } from "./shard-routes.ts";

export const KEYS_PER_PAGE = 100;
/** A page ends earlier, behind its first record, once the values on it have so many bytes. */
export const VALUE_BYTES_PER_PAGE = 1024 * 1024;
/** Values that are asked for at a time where the first ones may fill the page. */
const VALUES_AT_ONCE = 8;
/** Leaps for one level, over all shards: what lies behind them is not shown, and the level says so. */
export const LEAPS_MAX = 2_000;
/** Shards that are asked at a time. */
const SHARDS_AT_ONCE = 16;
/** How much deeper than its own keys a place is searched for places. */
const DEPTHS_SEARCHED = 3;

/** No key of text has this byte: behind a text it is behind all keys that begin with the text. */
const HIGHEST = Uint8Array.of(0xff, 0xff, 0xff, 0xff);
const INTERNAL = "__oxia/";

export interface TreeLevel {
  /** Records whose keys have no slash behind the place. */
  readonly records: readonly Located[];
  /** Names of the places below, without their slash. */
  readonly places: readonly string[];
  /** There is more behind this one; undefined: that was all. */
  readonly after: Position | undefined;
  /** Not all places were found: there are too many. */
  readonly cut: boolean;
}

/** Records go by their keys, and those with one key by their shards. */
export interface Position {
  readonly key: string;
  readonly shard: bigint;
}

export interface TreeRequest {
  readonly place: string;
  /** Behind this one; undefined: from the first on. */
  readonly after: Position | undefined;
  readonly natural: boolean;
  /** One of each shard. */
  readonly routes: readonly ShardRoute[];
}

export async function readLevel(client: VariaClient, request: TreeRequest): Promise<TreeLevel> {
  const leaps = new Leaps();
  if (request.natural) return readNatural(client, request, leaps);
  const [page, places] = await Promise.all([
    readRecords(client, request),
    request.after === undefined ? findPlaces(client, request, leaps) : [],
  ]);
  return { ...page, places, cut: leaps.spent };
}

class Leaps {
  #left = LEAPS_MAX;

  get spent(): boolean {
    return this.#left <= 0;
  }

  /** Whether one more may be made. */
  take(): boolean {
    this.#left--;
    return this.#left > 0;
  }
}

export class RecordPage {
  readonly records: Located[] = [];
  #bytes = 0;

  get isFull(): boolean {
    return this.records.length >= KEYS_PER_PAGE || this.#bytes >= VALUE_BYTES_PER_PAGE;
  }

  /** Of the last record. */
  get end(): Position | undefined {
    const last = this.records.at(-1);
    return last === undefined ? undefined : { key: last.record.key, shard: last.route.shard };
  }

  add(located: Located): void {
    this.records.push(located);
    this.#bytes += located.record.value.length;
  }
}

function nameAt(place: string, key: string): string | undefined {
  const slash = key.indexOf("/", place.length);
  return slash < 0 ? undefined : key.slice(place.length, slash);
}

function behind(key: string): Uint8Array {
  return concatBytes(utf8(key), Uint8Array.of(0));
}

/** Where a shard is read from on: the shards whose ids are higher may have a record with the key itself. */
function startOf({ shard }: ShardRoute, after: Position): Uint8Array {
  return shard > after.shard ? utf8(after.key) : behind(after.key);
}

export async function eachShard(
  routes: readonly ShardRoute[],
  visit: (route: ShardRoute) => Promise<void>,
): Promise<void> {
  const left = [...routes];
  const work = async () => {
    for (let route = left.pop(); route !== undefined; route = left.pop()) await visit(route);
  };
  await Promise.all(Array.from({ length: Math.min(SHARDS_AT_ONCE, routes.length) }, work));
}

// --- hierarchical -----------------------------------------------------------------------------------------------------

/** Keys of one place differ in their last part alone: there the order of shards and that of merging agree. */
async function readRecords(client: VariaClient, { place, after, routes }: TreeRequest) {
  const own = utf8(place);
  const first = place.endsWith("//") ? behind(place) : own;
  const rangeOf = (route: ShardRoute) => {
    const startInclusive = after === undefined ? first : startOf(route, after);
    return { startInclusive, endExclusive: concatBytes(own, HIGHEST) };
  };
  const page = new RecordPage();
  for await (const located of mergedScan(client, routes, rangeOf, (a, b) => compareText(a.key, b.key))) {
    if (nameAt(place, located.record.key) !== undefined) continue;
    // who leaves the loop ends the scans: what they have not sent yet is not read
    if (page.isFull) return { records: page.records, after: page.end };
    page.add(located);
  }
  return { records: page.records, after: undefined };
}

async function findPlaces(client: VariaClient, { place, routes }: TreeRequest, leaps: Leaps): Promise<string[]> {
  const found = new Set<string>();
  await eachShard(routes, async ({ partitionKey }) => {
    for (let deeper = 1; deeper <= DEPTHS_SEARCHED; deeper++) {
      const slashes = utf8("/".repeat(deeper));
      let from = concatBytes(utf8(place), Uint8Array.of(0), slashes, Uint8Array.of(0));
      while (leaps.take()) {
        const next = await client.get(from, { comparison: "ceiling", includeValue: false, partitionKey });
        const name = next?.key.startsWith(place) === true ? nameAt(place, next.key) : undefined;
        if (name === undefined || depthOf(next!.key) !== depthOf(`${place}.`) + deeper) break;
        if (place + name !== INTERNAL.slice(0, -1)) found.add(name);
        from = concatBytes(utf8(place + name), slashes, HIGHEST);
      }
    }
  });
  return [...found].sort();
}

/** Slashes as the order counts them: one less where two of them end the key. */
function depthOf(key: string): number {
  return key.split("/").length - 1 - (key.endsWith("//") ? 1 : 0);
}

// --- natural ----------------------------------------------------------------------------------------------------------

/** A key, and the shard that holds a record with it. */
interface Found {
  readonly key: string;
  readonly route: ShardRoute;
}

async function readNatural(client: VariaClient, request: TreeRequest, leaps: Leaps): Promise<TreeLevel> {
  const found: Found[] = [];
  const places = new Set<string>();
  await eachShard(request.routes, (route) => scanNatural(client, request, { route, found, places, leaps }));
  found.sort((a, b) => compareText(a.key, b.key) || compareIds(a.route.shard, b.route.shard));
  const page = new RecordPage();
  let shown = 0;
  while (shown < found.length && !page.isFull) {
    const next = found.slice(shown, shown + Math.min(VALUES_AT_ONCE, KEYS_PER_PAGE - page.records.length));
    const records = await Promise.all(
      next.map(({ key, route }) => client.get(key, { partitionKey: route.partitionKey })),
    );
    for (const [nth, record] of records.entries()) {
      if (record !== undefined) page.add({ record, route: next[nth]!.route });
    }
    shown += next.length;
  }
  const last = shown < found.length ? found[shown - 1] : undefined;
  const after = last === undefined ? undefined : { key: last.key, shard: last.route.shard };
  const { records } = page;
  return {
    ...{ records, after, cut: leaps.spent },
    places: request.after === undefined ? [...places].sort(compareText) : [],
  };
}

interface NaturalScan {
  readonly route: ShardRoute;
  readonly found: Found[];
  readonly places: Set<string>;
  readonly leaps: Leaps;
}

/** The first keys of a place in one shard, one more than are shown, and the places between and behind them. */
async function scanNatural(
  client: VariaClient,
  { place, after }: TreeRequest,
  { route, found, places, leaps }: NaturalScan,
): Promise<void> {
  const endExclusive = concatBytes(utf8(place), HIGHEST);
  const { partitionKey } = route;
  let startInclusive: Uint8Array | undefined = after === undefined ? utf8(place) : startOf(route, after);
  for (let own = 0; startInclusive !== undefined && own <= KEYS_PER_PAGE && leaps.take(); ) {
    const scan: AsyncIterable<string> = client.list({ startInclusive, endExclusive, partitionKey });
    startInclusive = undefined;
    for await (const key of scan) {
      const name = nameAt(place, key);
      if (name !== undefined) {
        if (place + name !== INTERNAL.slice(0, -1)) places.add(name);
        startInclusive = concatBytes(utf8(`${place}${name}/`), HIGHEST);
        break;
      }
      found.push({ key, route });
      if (++own > KEYS_PER_PAGE) break;
    }
  }
}

/** As bytes compare: text compares by 16-bit units, which differs for characters past U+FFFF. */
function compareText(a: string, b: string): number {
  return compareBytes(utf8(a), utf8(b));
}
