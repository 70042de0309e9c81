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
 * Source: semantics.md §2.3.
 */
import type { VariaClient } from "../src/client/client.ts";
import type { GetResult } from "../src/client/records.ts";
import { compareBytes, concatBytes, utf8 } from "../src/lib/bytes.ts";
import { eachShard } from "./shard-routes.ts";

export const KEYS_PER_PAGE = 100;
/** A page ends earlier, behind its first record, once the values on it have so many bytes. */
export const VALUE_BYTES_PER_PAGE = 1024 * 1024;
/** Values that are asked for at a time where the first ones may fill the page. */
const VALUES_AT_ONCE = 8;
/** Leaps for one level, over all shards: what lies behind them is not shown, and the level says so. */
export const LEAPS_MAX = 2_000;
/** How much deeper than its own keys a place is searched for places. */
const DEPTHS_SEARCHED = 3;

/** No key of text has this byte: behind a text it is behind all keys that begin with the text. */
const HIGHEST = Uint8Array.of(0xff, 0xff, 0xff, 0xff);
const INTERNAL = "__oxia/";

export interface TreeLevel {
  /** Records whose keys have no slash behind the place. */
  readonly records: readonly GetResult[];
  /** Names of the places below, without their slash. */
  readonly places: readonly string[];
  /** There is more behind this key; undefined: that was all. */
  readonly after: string | undefined;
  /** Not all places were found: there are too many. */
  readonly cut: boolean;
}

export interface TreeRequest {
  readonly place: string;
  /** Behind this key; "": from the first on. */
  readonly after: string;
  readonly natural: boolean;
  /** A partition key of each shard. */
  readonly routes: readonly string[];
}

export async function readLevel(client: VariaClient, request: TreeRequest): Promise<TreeLevel> {
  const leaps = new Leaps();
  if (request.natural) return readNatural(client, request, leaps);
  const [page, places] = await Promise.all([
    readRecords(client, request),
    request.after === "" ? findPlaces(client, request, leaps) : [],
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

class RecordPage {
  readonly records: GetResult[] = [];
  #bytes = 0;

  get isFull(): boolean {
    return this.records.length >= KEYS_PER_PAGE || this.#bytes >= VALUE_BYTES_PER_PAGE;
  }

  add(record: GetResult): void {
    this.records.push(record);
    this.#bytes += record.value.length;
  }
}

function nameAt(place: string, key: string): string | undefined {
  const slash = key.indexOf("/", place.length);
  return slash < 0 ? undefined : key.slice(place.length, slash);
}

function behind(key: string): Uint8Array {
  return concatBytes(utf8(key), Uint8Array.of(0));
}

// --- hierarchical -----------------------------------------------------------------------------------------------------

/** Keys of one place differ in their last part alone: there the order of shards and that of merging agree. */
async function readRecords(client: VariaClient, { place, after }: TreeRequest) {
  const own = utf8(place);
  const startInclusive = after !== "" ? behind(after) : place.endsWith("//") ? behind(place) : own;
  const page = new RecordPage();
  for await (const record of client.rangeScan({ startInclusive, endExclusive: concatBytes(own, HIGHEST) })) {
    if (nameAt(place, record.key) !== undefined) continue;
    // who leaves the loop ends the scan: what it has not sent yet is not read
    if (page.isFull) return { records: page.records, after: page.records.at(-1)!.key };
    page.add(record);
  }
  return { records: page.records, after: undefined };
}

async function findPlaces(client: VariaClient, { place, routes }: TreeRequest, leaps: Leaps): Promise<string[]> {
  const found = new Set<string>();
  await eachShard(routes, async (partitionKey) => {
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

interface KeyOfShard {
  readonly key: string;
  /** Leads to the shard that holds it. */
  readonly partitionKey: string;
}

async function readNatural(client: VariaClient, request: TreeRequest, leaps: Leaps): Promise<TreeLevel> {
  const keys: KeyOfShard[] = [];
  const places = new Set<string>();
  await eachShard(request.routes, (partitionKey) =>
    scanNatural(client, { ...request, partitionKey }, { keys, places, leaps }),
  );
  keys.sort((a, b) => compareText(a.key, b.key));
  const page = new RecordPage();
  let shown = 0;
  while (shown < keys.length && !page.isFull) {
    const next = keys.slice(shown, shown + Math.min(VALUES_AT_ONCE, KEYS_PER_PAGE - page.records.length));
    const found = await Promise.all(next.map(({ key, partitionKey }) => client.get(key, { partitionKey })));
    for (const record of found) if (record !== undefined) page.add(record);
    shown += next.length;
  }
  const after = shown < keys.length ? keys[shown - 1]!.key : undefined;
  const { records } = page;
  return { records, places: request.after === "" ? [...places].sort(compareText) : [], after, cut: leaps.spent };
}

/** The first keys of a place in one shard, one more than are shown, and the places between and behind them. */
async function scanNatural(
  client: VariaClient,
  { place, after, partitionKey }: TreeRequest & { readonly partitionKey: string },
  { keys, places, leaps }: { readonly keys: KeyOfShard[]; readonly places: Set<string>; readonly leaps: Leaps },
): Promise<void> {
  const endExclusive = concatBytes(utf8(place), HIGHEST);
  let startInclusive: Uint8Array | undefined = after === "" ? utf8(place) : behind(after);
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
      keys.push({ key, partitionKey });
      if (++own > KEYS_PER_PAGE) break;
    }
  }
}

/** As bytes compare: text compares by 16-bit units, which differs for characters past U+FFFF. */
function compareText(a: string, b: string): number {
  return compareBytes(utf8(a), utf8(b));
}
