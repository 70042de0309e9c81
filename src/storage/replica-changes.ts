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
import { Refusal } from "../model/refusal.ts";
import type { Damage, ReplicaLife, StampRequest, Truncation } from "../ports.ts";
import { isEndedByWord, type LogReplica, refusalOf } from "./log-replica.ts";
import { newRecord, type ReplicaRecord, withCut } from "./replica-record.ts";

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

/** The first reason stays. */
export function ended({ record, head }: LogReplica, why: Damage): ReplicaRecord {
  return { ...record, head, ended: record.ended ?? why };
}

/** Why a stamp ends ids. */
export function goneBack(held: number, { confirmedStamp }: StampRequest): string {
  return `the disk holds stamp ${held} and has held ${confirmedStamp}: it is an older copy`;
}

// --- into the next one ------------------------------------------------------------------------------------------

/** A replica from nothing, or in the place of one that was removed: its promise goes on, its entries are dead. */
export function created(shard: ShardId, life: ReplicaLife, former: ReplicaRecord | undefined): ReplicaRecord {
  const fresh = newRecord(shard, life, 1);
  if (former === undefined) return fresh;
  if (!isRemoved(former)) throw new Refusal("RESOURCE_CONFLICT", `a replica of shard ${shard} lives here`);
  return nextGeneration({ ...fresh, promise: former.promise, generation: former.generation }, NO_OFFSET);
}

/**
 * A new id for the entries that stand: one generation takes the place of the other, so that no crash leaves the old id
 * where the new one was answered.
 */
export function adopted({ record, head, damage }: LogReplica, life: ReplicaLife): ReplicaRecord {
  const { shard } = record;
  if (damage !== undefined && !isEndedByWord(damage)) throw refusalOf(shard, damage);
  return nextGeneration({ ...record, ...life, head, ended: undefined }, head.offset);
}

/** What remains of a replica: no id, but the generation and the promise. */
export function removed({ record, damage }: LogReplica): ReplicaRecord {
  if (damage === undefined) throw new Refusal("RESOURCE_CONFLICT", `the replica of shard ${record.shard} lives`);
  const nothing = { base: EMPTY_HEAD, head: EMPTY_HEAD, released: NO_OFFSET, replicaId: NO_REPLICA };
  return nextGeneration({ ...record, ...nothing, ended: record.ended ?? damage }, NO_OFFSET);
}

/** Whether a record is what remains of a removed replica. */
export function isRemoved({ replicaId }: ReplicaRecord): boolean {
  return replicaId === NO_REPLICA;
}

/** Refuses a truncation that may not be. */
export function checkTruncation({ record, head }: LogReplica, { acceptedUnder, expectedHead, to }: Truncation): void {
  mustBePromised(record, acceptedUnder);
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
export function truncated({ record }: LogReplica, kept: Head): ReplicaRecord {
  return nextGeneration({ ...record, head: kept }, kept.offset);
}

export function installed({ record }: LogReplica, acceptedUnder: Term, base: Head): ReplicaRecord {
  mustBePromised(record, acceptedUnder);
  if (base.term > acceptedUnder) {
    throw new Refusal("INVALID_TERM", `the snapshot ends with term ${base.term}, above the promised ${acceptedUnder}`);
  }
  if (base.offset < record.released) {
    throw new Refusal("FAILED_PRECONDITION", `entries up to ${record.released} are in the state already`);
  }
  return nextGeneration({ ...record, base, head: base, released: base.offset }, NO_OFFSET);
}

function nextGeneration(record: ReplicaRecord, cutTo: Offset): ReplicaRecord {
  const generation = record.generation + 1;
  return { ...record, generation, cuts: withCut(record.cuts, generation, cutTo) };
}

function mustBePromised({ shard, promise }: ReplicaRecord, term: Term): void {
  if (term !== promise) throw new Refusal("INVALID_TERM", `shard ${shard} has promised term ${promise}, not ${term}`);
}

/** Whether the watermark is ahead of the promises by a generation that was begun, and by nothing else: opening finishes it. */
export function isBegun(stored: ReplicaRecord | undefined, watermark: ReplicaRecord): boolean {
  return stored?.generation === watermark.generation - 1 && stored.promise === watermark.promise;
}
