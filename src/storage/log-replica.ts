/**
 * What the log's writer knows of one replica while it runs: its record as last stored, and the head as it stands now.
 *
 * Invariants: record.head.offset <= head.offset; head.term <= record.promise; termEnds ascend between base and head.
 */
import type { EntryId, Head, Offset, ShardId } from "../model/ids.ts";
import type { LogShape } from "../model/log-calls.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Damage, ReplicaLog } from "../ports.ts";
import type { ReplicaRecord } from "./replica-record.ts";

export interface LogReplica {
  record: ReplicaRecord;
  head: Head;
  damage: Damage | undefined;
  /** Behind the base, the last entry of each term before the head's. */
  termEnds: EntryId[];
}

export function newLogReplica(record: ReplicaRecord, damage?: Damage): LogReplica {
  return { record, head: record.base, damage, termEnds: [] };
}

/** The head moves on: to the next entry, or over entries of its own term. */
export function moveHead(replica: LogReplica, head: Head): void {
  const { term, offset } = replica.head;
  if (term !== head.term && offset > replica.record.base.offset) replica.termEnds.push({ term, offset });
  replica.head = head;
}

/** The log has become another: a record and its head. */
export function changeTo(replica: LogReplica, record: ReplicaRecord): void {
  const { base, head } = record;
  replica.record = record;
  replica.head = head;
  replica.termEnds = replica.termEnds.filter(({ offset }) => offset > base.offset && offset < head.offset);
}

/** See Log.shape. */
export function shapeOf({ record: { base }, head, termEnds }: LogReplica): LogShape {
  const { term, offset } = head;
  return { base, termEnds: offset > base.offset ? [...termEnds, { term, offset }] : [] };
}

/** Up to which offset rows of a generation are entries of the log as it stands: the first cut behind it ends them. */
function liveThrough(generation: number, { cuts }: ReplicaRecord): Offset {
  return cuts.find((cut) => cut.generation > generation)?.offset ?? Number.POSITIVE_INFINITY;
}

/** Whether a row of this shard is an entry of the log as it stands. */
export function isLive(row: { readonly generation: number; readonly offset: number }, record: ReplicaRecord): boolean {
  return row.generation <= record.generation && row.offset <= liveThrough(row.generation, record);
}

/** The last offset of a segment's share that still is an entry of the log: below its first one when none is. */
export function liveLast(
  share: { readonly generation: number; readonly last: { readonly offset: Offset } },
  record: ReplicaRecord,
): Offset {
  return Math.min(share.last.offset, liveThrough(share.generation, record));
}

/** As callers of the port see it. */
export function replicaLog({ record, head, damage }: LogReplica): ReplicaLog {
  const { shard, replicaId, mintedTerm, promise, led, base, released, ended } = record;
  const why =
    ended === undefined ? "" : isEndedByWord(ended) ? ended.what : `${ended.file}: ${ended.where}: ${ended.what}`;
  const isDamaged = isFileDamage(damage);
  const told = isDamaged ? damage : undefined;
  return { shard, replicaId, mintedTerm, promise, led, base, released, head, damage: told, ended: why };
}

/** The end of an id that no damage was the reason for. */
export function endedByWord(reason: string): Damage {
  return { file: "", where: "", what: reason };
}

function isEndedByWord({ file }: Damage): boolean {
  return file === "";
}

/** Whether files are damaged: an end by word has none. */
export function isFileDamage(damage: Damage | undefined): boolean {
  return damage !== undefined && !isEndedByWord(damage);
}

/** Why nothing may be done with a replica whose files are damaged, or whose id has ended. */
export function refusalOf(shard: ShardId, damage: Damage): Refusal {
  if (!isEndedByWord(damage)) return damageRefusal(shard, damage);
  return new Refusal("NODE_IS_NOT_MEMBER", `the replica of shard ${shard} has ended: ${damage.what}`);
}
