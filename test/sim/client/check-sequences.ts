/**
 * The keys that a shard made of sequence puts: every one is of a put that was sent, the steps between them are the
 * deltas of those puts, without gap or overlap, and what clients were told is what is there. Sequence records are never
 * deleted in these runs.
 */
import { BrokenPromise } from "./broken-promise.ts";
import type { FollowedSequence } from "./feeds.ts";
import type { SentPut } from "./record.ts";

export interface StoredSequence {
  readonly prefix: string;
  /** In the order of the keys. */
  readonly records: readonly { readonly key: string; readonly value: string; readonly version: number }[];
}

export function checkSequence({ prefix, records }: StoredSequence, puts: ReadonlyMap<string, SentPut>): void {
  const times = new Map<string, number>();
  let before: readonly number[] = [];
  let version = -1;
  for (const record of records) {
    const put = puts.get(record.value);
    if (put?.deltas === undefined || put.key !== prefix || put.refused) {
      throw new BrokenPromise(`${record.key}=${record.value} is of no sequence put that may have happened`);
    }
    const counters = countersOf(prefix, record.key);
    const expected = put.deltas.map((delta, at) => (before[at] ?? 0) + delta);
    if (counters.join() !== expected.join()) {
      throw new BrokenPromise(`${record.key}=${record.value}: ${before.join()} and ${put.deltas.join()} were added`);
    }
    if (record.version <= version) throw new BrokenPromise(`${record.key} has a version below that of the key before`);
    before = counters;
    version = record.version;
    times.set(record.value, (times.get(record.value) ?? 0) + 1);
  }
  for (const put of puts.values()) {
    if (put.deltas !== undefined && put.key === prefix) checkTold(put, records, times.get(put.value) ?? 0);
  }
}

function checkTold({ value, stored, repeats }: SentPut, records: StoredSequence["records"], times: number): void {
  if (times > repeats + 1)
    throw new BrokenPromise(`${value} was sent ${repeats + 1} times and is there ${times} times`);
  if (stored === undefined) return;
  const isThere = records.some(
    (one) => one.key === stored.key && one.value === value && one.version === stored.version,
  );
  if (!isThere) throw new BrokenPromise(`${stored.key}=${value} was acknowledged and is not there`);
}

/** What one reader was given: keys that are there, each above the one before. */
export function checkFollowed({ client, prefix, items, ended }: FollowedSequence, { records }: StoredSequence): void {
  const known = new Set(records.map(({ key }) => key));
  for (const [at, key] of items.entries()) {
    if (!known.has(key)) throw new BrokenPromise(`${client} was told of ${key}, which is not there`);
    if (at > 0 && key <= items[at - 1]!) throw new BrokenPromise(`${client} was told of ${key} after ${items[at - 1]}`);
  }
  const last = records.at(-1)?.key;
  if (!ended && items.at(-1) !== last) {
    throw new BrokenPromise(`${client} follows ${prefix} and was last told of ${items.at(-1)}, not of ${last}`);
  }
}

function countersOf(prefix: string, key: string): number[] {
  if (!key.startsWith(`${prefix}-`)) throw new BrokenPromise(`${key} is no key of the sequence ${prefix}`);
  const parts = key.slice(prefix.length + 1).split("-");
  if (parts.some((part) => !/^\d{20}$/.test(part))) throw new BrokenPromise(`${key} is no key of a sequence`);
  return parts.map(Number);
}
