/**
 * Whether a shard's history is one that an atomic map of registers could have given: each operation at one moment
 * between its beginning and its end, those without an answer at any later moment, or never.
 *
 * The search is Wing and Gong's with Lowe's memo, key by key: what can be next is every operation that began before
 * the first end of one that is still to come; a set of operations done and the state they lead to is visited once, and
 * not again with more taken of what may never have happened.
 * Six things keep it nearly straight:
 *
 *     versions rise         so of the puts whose version is known, only that with the lowest one can be next
 *     what only looks       is taken as soon as it can be: it changes nothing, so later is never better
 *     reads name a put      so a record goes only after the last read that saw it
 *     equal effects         of deletes with one condition that can be next, the one that ends first is next
 *     unknown and unread    puts of which nobody saw the value stand for each other
 *     perhaps               what may never have happened is taken only where what follows would not fit without it
 *
 * Over all keys of the shard: versions are given out once, and a put that was sent after a version was told gets a
 * higher one.
 *
 * Source: Wing and Gong 1993; Lowe 2017, "Testing for linearizability"; Horn and Kroening 2015 (P-compositionality).
 */
import { describe, type HistoryEntry } from "./history.ts";
import { type KeyOperation, NotLinearizable, operationsByKey } from "./key-operations.ts";
import { KeySearch } from "./key-search.ts";

export { NotLinearizable } from "./key-operations.ts";
export { Undecided } from "./key-search.ts";

export interface CheckOptions {
  /** Operations on one key that are judged; more are an error. Default 20,000. */
  readonly keyOperationsMax?: number;
  /** States that are visited for one key until the search is given up; default 1,000,000. */
  readonly statesMax?: number;
  /** Of states with those that were visited before; default 30,000,000: some seconds. */
  readonly comparisonsMax?: number;
}

/** Throws NotLinearizable with the reason, or Undecided past a bound. */
export function checkLinearizable(entries: readonly HistoryEntry[], options: CheckOptions = {}): void {
  const operations = operationsByKey(entries, violation);
  checkVersions(entries, operations);
  for (const [key, ofKey] of operations) new KeySearch(key, ofKey, options).run();
}

/** The reason, with the operations that show it. */
export function violation(what: string, ...entries: readonly HistoryEntry[]): NotLinearizable {
  return new NotLinearizable([what, ...entries.map((entry) => `  ${describe(entry)}`)].join("\n"));
}

interface Told {
  readonly version: number;
  readonly at: number;
  readonly entry: HistoryEntry;
}

function checkVersions(
  entries: readonly HistoryEntry[],
  operations: ReadonlyMap<string, readonly KeyOperation[]>,
): void {
  const puts = [...operations.values()].flat().filter(({ kind, version }) => kind === "put" && version !== undefined);
  const given = new Map<number, KeyOperation>();
  for (const put of puts) {
    const other = given.get(put.version!);
    if (other !== undefined) throw violation(`version ${put.version} was given out twice`, other.entry, put.entry);
    given.set(put.version!, put);
  }
  const told = entries.flatMap(toldBy).sort((a, b) => a.at - b.at);
  puts.sort((a, b) => a.invoked - b.invoked);
  let highest: Told | undefined;
  let next = 0;
  for (const put of puts) {
    for (; next < told.length && told[next]!.at < put.invoked; next++) {
      if (highest === undefined || told[next]!.version > highest.version) highest = told[next];
    }
    if (highest !== undefined && put.version! <= highest.version) {
      throw violation("a version is not above one that was told before", highest.entry, put.entry);
    }
  }
}

/** The versions that a client heard of, and when. */
function toldBy(entry: HistoryEntry): Told[] {
  const { outcome, returned } = entry;
  if (outcome?.status !== "OK") return [];
  const versions = [outcome.version, outcome.record?.version, ...(outcome.records ?? []).map(({ version }) => version)];
  return versions.flatMap((version) => (version === undefined ? [] : [{ version, at: returned, entry }]));
}
