/**
 * How a replica's record may change: each function answers the next record, or refuses. Storing it is the log's matter
 * (log-replicas.ts): a record of the same generation goes to the promises first, one of the next to the watermark.
 *
 * Source: safety.md §1 (ids end and are minted), §3 (led once), §4 (terms), §6 and §7 (truncating, installing).
 */
import {
  EMPTY_HEAD,
  type Head,
  NO_OFFSET,
  type Offset,
  type ReplicaId,
  type ShardId,
  type Term,
} from "../model/ids.ts";
import type { StampRequest, Truncation } from "../model/log-calls.ts";
import { Refusal } from "../model/refusal.ts";
import type { Damage, ReplicaLife } from "../ports.ts";
import { endedByWord, isFileDamage, type LogReplica, refusalOf } from "./log-replica.ts";
import { type Cut, newRecord, type ReplicaRecord, withCut } from "./replica-record.ts";

const NO_REPLICA: ReplicaId = 0n;

// --- within a generation ----------------------------------------------------------------------------------------

export function promised({ record, head }: LogReplica, term: Term): ReplicaRecord {
  const { shard, promise } = record;
  if (term < promise) throw new Refusal("INVALID_TERM", `shard ${shard} has promised term ${promise}, not ${term}`);
  return { ...record, head, promise: term };
}

export function led({ record, head }: LogReplica, term: Term): ReplicaRecord {
  mustBePromised(record, term);
  if (record.led >= term) {
    throw new Refusal("INVALID_STATUS", `shard ${record.shard} was led in term ${record.led} already`);
  }
  return { ...record, head, led: term };
}

/** The first reason stays, but for damage in the place of a word: nobody may adopt those entries. */
export function ended({ record, head }: LogReplica, why: Damage): ReplicaRecord {
  const isFirst = record.ended === undefined || (isFileDamage(why) && !isFileDamage(record.ended));
  return { ...record, head, ended: isFirst ? why : record.ended };
}

/** Up to `upTo` the state is in a checkpoint. What the log does not hold is the word of an earlier life: undefined. */
export function released({ record, head }: LogReplica, upTo: Offset): ReplicaRecord | undefined {
  if (isRemoved(record) || upTo <= record.released || upTo > head.offset) return undefined;
  return { ...record, released: upTo };
}

/** Why a stamp ends ids. */
export function goneBack(held: number, { confirmedStamp }: StampRequest): string {
  return `the disk holds stamp ${held} and has held ${confirmedStamp}: it is an older copy`;
}

// --- into the next one ------------------------------------------------------------------------------------------
// `segment`: a number above those of all segments that are there, see Cut.

/** A replica from nothing, or in the place of one that was removed: its promise goes on, its entries are dead. */
export function created(
  shard: ShardId,
  life: ReplicaLife,
  { former, segment }: { readonly former: ReplicaRecord | undefined; readonly segment: number },
): ReplicaRecord {
  const fresh = newRecord(shard, life, 1);
  if (former === undefined) return fresh;
  if (!isRemoved(former)) throw new Refusal("RESOURCE_CONFLICT", `a replica of shard ${shard} lives here`);
  const { promise, generation } = former;
  return nextGeneration({ ...fresh, promise, generation }, { offset: NO_OFFSET, segment });
}

/**
 * A new id for the entries that stand: one generation takes the place of the other, so that no crash leaves the old id
 * where the new one was answered.
 */
export function adopted({ record, head, damage }: LogReplica, life: ReplicaLife, segment: number): ReplicaRecord {
  const { shard } = record;
  if (damage !== undefined && isFileDamage(damage)) throw refusalOf(shard, damage);
  return nextGeneration({ ...record, ...life, head, ended: undefined }, { offset: head.offset, segment });
}

/**
 * What remains of a replica: no id, but the generation and the promise. It stays for good, since a promise goes on
 * whenever the shard is created again: some hundred bytes for each shard that was ever here, here and in the watermark.
 */
export function removed({ record, damage }: LogReplica, segment: number): ReplicaRecord {
  if (damage === undefined) throw new Refusal("RESOURCE_CONFLICT", `the replica of shard ${record.shard} lives`);
  const nothing = { base: EMPTY_HEAD, head: EMPTY_HEAD, released: NO_OFFSET, replicaId: NO_REPLICA };
  return nextGeneration({ ...record, ...nothing, ended: endedByWord("removed") }, { offset: NO_OFFSET, segment });
}

/** Whether a record is what remains of a removed replica. */
export function isRemoved({ replicaId }: ReplicaRecord): boolean {
  return replicaId === NO_REPLICA;
}

/** Refuses a truncation that may not be. */
export function checkTruncation({ record, head }: LogReplica, { acceptedUnder, expectedHead, to }: Truncation): void {
  mustFollow(record, acceptedUnder);
  if (head.term !== expectedHead.term || head.offset !== expectedHead.offset) {
    const expected = `${expectedHead.term}/${expectedHead.offset}`;
    throw new Refusal("RESOURCE_CONFLICT", `the head is ${head.term}/${head.offset}, not the expected ${expected}`);
  }
  if (to > head.offset) throw new Refusal("INVALID_ARGUMENT", `there is no entry at offset ${to} to keep`);
  if (to < record.base.offset || to < record.released) {
    throw new Refusal("FAILED_PRECONDITION", `entries behind offset ${to} are trimmed, or in the state already`);
  }
}

/** Cut off behind `kept`, an entry of the log or its base. */
export function truncated({ record }: LogReplica, kept: Head, segment: number): ReplicaRecord {
  return nextGeneration({ ...record, head: kept }, { offset: kept.offset, segment });
}

export function installed(
  { record }: LogReplica,
  { acceptedUnder, base, segment }: { readonly acceptedUnder: Term; readonly base: Head; readonly segment: number },
): ReplicaRecord {
  mustFollow(record, acceptedUnder);
  if (base.term > acceptedUnder) {
    throw new Refusal("INVALID_TERM", `the snapshot ends with term ${base.term}, above the promised ${acceptedUnder}`);
  }
  if (base.offset < record.released) {
    throw new Refusal("FAILED_PRECONDITION", `entries up to ${record.released} are in the state already`);
  }
  return nextGeneration({ ...record, base, head: base, released: base.offset }, { offset: NO_OFFSET, segment });
}

function nextGeneration(record: ReplicaRecord, cut: Omit<Cut, "generation">): ReplicaRecord {
  const generation = record.generation + 1;
  return { ...record, generation, cuts: withCut(record.cuts, { generation, ...cut }) };
}

function mustBePromised({ shard, promise }: ReplicaRecord, term: Term): void {
  if (term !== promise) throw new Refusal("INVALID_TERM", `shard ${shard} has promised term ${promise}, not ${term}`);
}

/** A leader's log is its own in the term that it leads: nobody cuts it (safety.md §3). */
function mustFollow(record: ReplicaRecord, term: Term): void {
  mustBePromised(record, term);
  if (record.led === term) {
    throw new Refusal("INVALID_STATUS", `this replica of shard ${record.shard} has led term ${term} itself`);
  }
}

/** Whether the watermark is ahead of the promises by a generation that was begun, and by nothing else: opening finishes it. */
export function isBegun(stored: ReplicaRecord | undefined, watermark: ReplicaRecord): boolean {
  return stored?.generation === watermark.generation - 1 && stored.promise === watermark.promise;
}
