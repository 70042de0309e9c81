/**
 * What subscribers were told of a shard, against the whole of it:
 *
 *     the whole    offsets and versions rise, each change fits the records as the changes before left them, the records
 *                  that it leads to are those that are there, and all that clients were told is in it
 *     a stream     the part of it behind the offset that it asked for, without gap, repetition or change of order,
 *                  whoever led meanwhile
 */
import { BrokenPromise } from "./broken-promise.ts";
import { describeChange, type FollowedChanges, type ToldBatch, type ToldChange, type ToldStream } from "./feeds.ts";
import type { SentPut, ToldDelete } from "./record.ts";

/** One shard at the end: all that it has told, from its first write on, and the versions of all its records by key. */
export interface ToldShard {
  readonly shard: number;
  readonly batches: readonly ToldBatch[];
  /** What came up to this offset is gone; -1: nothing is. */
  readonly trimmed: number;
  readonly records: ReadonlyMap<string, number>;
}

export interface Wrote {
  readonly puts: Iterable<SentPut>;
  readonly deletes: Iterable<ToldDelete>;
}

export function checkWhole(told: ToldShard, wrote: Wrote): void {
  checkRising(told.batches);
  if (told.trimmed >= 0) return;
  const live = replay(told.batches);
  for (const key of new Set([...live.keys(), ...told.records.keys()])) {
    if (live.get(key) === told.records.get(key)) continue;
    throw new BrokenPromise(
      `notifications of shard ${told.shard} lead to version ${live.get(key)} of ${key}, where ${told.records.get(key)} is`,
    );
  }
  checkComplete(told, wrote);
}

function checkRising(batches: readonly ToldBatch[]): void {
  let offset = -1;
  let version = -1;
  for (const batch of batches) {
    if (batch.offset <= offset) throw new BrokenPromise(`a batch at ${batch.offset} comes after one at ${offset}`);
    offset = batch.offset;
    const versions = batch.changes.flatMap(({ versionId }) => versionId ?? []);
    for (const one of versions) {
      if (one <= version) throw new BrokenPromise(`version ${one} at ${offset} is told after version ${version}`);
    }
    if (new Set(versions).size < versions.length) throw new BrokenPromise(`a version is told twice at ${offset}`);
    version = Math.max(version, ...versions);
  }
}

/** The versions of the records that the changes lead to. */
function replay(batches: readonly ToldBatch[]): Map<string, number> {
  const live = new Map<string, number>();
  for (const { offset, changes } of batches) {
    for (const change of changes) {
      const { type, key, versionId, toExclusive } = change;
      const isThere = live.has(key);
      if ((type === "created" && isThere) || ((type === "modified" || type === "deleted") && !isThere)) {
        throw new BrokenPromise(`${describeChange(change)} at ${offset}, where the key ${isThere ? "was" : "was not"}`);
      }
      if (type === "deleted") live.delete(key);
      else if (type === "rangeDeleted") {
        for (const other of [...live.keys()]) if (other >= key && other < toExclusive!) live.delete(other);
      } else live.set(key, versionId!);
    }
  }
  return live;
}

function checkComplete({ shard, batches }: ToldShard, { puts, deletes }: Wrote): void {
  const byVersion = new Map<number, string>();
  const deleted = new Map<string, number>();
  for (const { type, key, versionId } of batches.flatMap(({ changes }) => changes)) {
    if (versionId !== undefined) byVersion.set(versionId, key);
    if (type === "deleted") deleted.set(key, (deleted.get(key) ?? 0) + 1);
  }
  for (const put of puts) {
    if (put.shard !== shard || put.stored === undefined) continue;
    const { key, version } = put.stored;
    if (byVersion.get(version) !== key)
      throw new BrokenPromise(`the put of ${key} with version ${version} was not told`);
  }
  for (const one of deletes) {
    if (one.shard !== shard) continue;
    const left = (deleted.get(one.key) ?? 0) - 1;
    if (left < 0) throw new BrokenPromise(`${one.key} was deleted more often than was told`);
    deleted.set(one.key, left);
  }
}

/** One stream against the whole of its shard. */
export function checkStream(stream: ToldStream, { batches: whole, shard, trimmed }: ToldShard): void {
  const { after, firstOffset } = stream;
  const told = after === undefined ? stream.batches.slice(1) : stream.batches;
  const from = after ?? stream.batches[0]?.offset;
  if (from === undefined || told.length === 0) return;
  const behind = Math.max(from, (firstOffset ?? 0) - 1, trimmed);
  const expected = whole.filter(({ offset }) => offset > behind);
  const known = told.filter(({ offset }) => offset > behind);
  for (const [at, batch] of known.entries()) {
    const other = expected[at];
    if (other !== undefined ? textOf(batch) === textOf(other) : isLater(batch, whole)) continue;
    throw new BrokenPromise(
      `a stream of shard ${shard} behind ${from} has ${textOf(batch)} where ${other === undefined ? "nothing" : textOf(other)} was told`,
    );
  }
}

/** Whether it may have come about after the whole was read: by then sessions end, and their records with them, and nobody else writes. */
function isLater({ offset, changes }: ToldBatch, whole: readonly ToldBatch[]): boolean {
  return offset > (whole.at(-1)?.offset ?? -1) && changes.every(({ type }) => type === "deleted");
}

/** A stream that is still open has told all there is, of that which it was to tell. */
export function checkOpenStream(
  { client, shard, after, batches }: ToldStream,
  { batches: whole }: Pick<ToldShard, "batches">,
): void {
  const told = batches.at(-1)?.offset ?? after;
  const last = whole.at(-1)?.offset ?? -1;
  if (told === undefined || told >= last) return;
  throw new BrokenPromise(`${client} was told of shard ${shard} up to ${told}, and not up to ${last}`);
}

/**
 * A stream that was opened after the whole had been read, and told since. Some of the whole may be gone by then, and some
 * has come: `later`, which is what was left once it had told, was there all the time, as far as it is in the whole.
 */
export function checkResumed(stream: ToldStream, whole: ToldShard, later: Pick<ToldShard, "batches">): void {
  checkStream(stream, whole);
  const last = whole.batches.at(-1)?.offset ?? -1;
  checkOpenStream(stream, { batches: later.batches.filter(({ offset }) => offset <= last) });
}

/**
 * What a reader of all shards was given: of each shard of which nothing is gone, a part without a gap, up to the end if
 * it still reads. Deletions of ranges do not say which shard they are of.
 */
export function checkReader(
  { client, items, ended }: FollowedChanges,
  shards: readonly ToldShard[],
  shardOf: (key: string) => number,
): void {
  if (items.some(({ type }) => type === "missed")) return;
  const changes = items.flatMap((item) => (item.type === "missed" || item.type === "rangeDeleted" ? [] : [item]));
  for (const { shard, batches, trimmed } of shards) {
    if (trimmed >= 0) continue;
    const given = changes
      .filter(({ key }) => shardOf(key) === shard)
      .map(({ type, key, versionId }) => `${type} ${key} ${versionId}`);
    const whole = batches
      .flatMap((batch) => batch.changes)
      .filter(({ type }) => type !== "rangeDeleted")
      .map(({ type, key, versionId }: ToldChange) => `${type} ${key} ${versionId}`);
    const starts = ended ? whole.keys() : [whole.length - given.length];
    const isPart =
      given.length === 0 || [...starts].some((start) => given.every((one, at) => one === whole[start + at]));
    if (!isPart) throw new BrokenPromise(`${client} was given ${given.join(", ")} of ${whole.join(", ")}`);
  }
}

function textOf({ offset, changes }: ToldBatch): string {
  return `${offset}: ${changes.map(describeChange).join(", ")}`;
}
