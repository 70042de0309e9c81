/**
 * A range read of one shard that is not cut shows it at one moment: all that was written up to some entry, and nothing behind it. Keys
 * are judged one by one elsewhere; here, together. Versions rise with the entries of a shard, so a scan that shows
 * version v shows a state in which every put with a version up to v has happened:
 *
 *     another key's put with a version up to v    is what the scan shows of that key, unless it was deleted since
 */
import { describe, type HistoryEntry } from "../history.ts";
import { BrokenPromise } from "./broken-promise.ts";

interface KnownPut {
  readonly key: string;
  readonly version: number;
  readonly invoked: number;
}

export function checkScans(entries: readonly HistoryEntry[]): void {
  const puts = knownPuts(entries);
  const deleters = entries.filter(mayDelete);
  for (const entry of entries) {
    if (entry.operation.kind !== "scan" || entry.outcome?.status !== "OK" || entry.outcome.inParts === true) continue;
    const { fromInclusive, toExclusive } = entry.operation;
    const shown = new Map((entry.outcome.records ?? []).map(({ key, version }) => [key, version]));
    const upTo = Math.max(-1, ...shown.values());
    for (const put of puts) {
      if (put.version > upTo || put.key < fromInclusive || put.key >= toExclusive) continue;
      const version = shown.get(put.key);
      if (version !== undefined && version >= put.version) continue;
      if (version === undefined && deleters.some((one) => isBetween(one, put, entry))) continue;
      throw new BrokenPromise(
        `a scan shows version ${upTo}, and ${put.key} not as of version ${put.version}: ${describe(entry)}`,
      );
    }
  }
}

function isBetween(deleter: HistoryEntry, put: KnownPut, scan: HistoryEntry): boolean {
  const { operation, invoked, returned, repeats } = deleter;
  if (invoked > scan.returned || (returned < put.invoked && repeats === 0)) return false;
  if (operation.kind === "delete-range") return put.key >= operation.fromInclusive && put.key < operation.toExclusive;
  return "key" in operation && operation.key === put.key;
}

function mayDelete({ operation, outcome, repeats }: HistoryEntry): boolean {
  const isDelete = operation.kind === "delete" || operation.kind === "delete-range" || operation.kind === "session-end";
  return isDelete && (outcome === undefined || outcome.status === "OK" || repeats > 0);
}

/** The puts that have happened for certain, as told by their answers and by what was read. */
function knownPuts(entries: readonly HistoryEntry[]): KnownPut[] {
  const invokedBy = new Map<string, number>();
  for (const { operation, invoked } of entries) {
    if (operation.kind === "put") invokedBy.set(`${operation.key}=${operation.value}`, invoked);
  }
  const puts = new Map<number, KnownPut>();
  for (const { operation, outcome, invoked } of entries) {
    if (outcome?.status !== "OK") continue;
    if (operation.kind === "put" && outcome.version !== undefined) {
      puts.set(outcome.version, { key: operation.key, version: outcome.version, invoked });
    }
    const read = outcome.records ?? (outcome.record === undefined ? [] : [outcome.record]);
    for (const { key, value, version } of read) {
      puts.set(version, { key, version, invoked: invokedBy.get(`${key}=${value}`) ?? 0 });
    }
  }
  return [...puts.values()];
}
