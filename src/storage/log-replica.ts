/**
 * What the log's writer knows of one replica while it runs: its record as last stored, and the head as it stands now.
 *
 * Invariant: record.head.offset <= head.offset; head.term <= record.promise.
 */
import type { Head, Offset, ShardId } from "../model/ids.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Damage, ReplicaLog } from "../ports.ts";
import type { ReplicaRecord } from "./replica-record.ts";

export interface LogReplica {
  record: ReplicaRecord;
  head: Head;
  damage: Damage | undefined;
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
  const { shard, replicaId, mintedTerm, promise, led, base, ended } = record;
  const why =
    ended === undefined ? "" : isEndedByWord(ended) ? ended.what : `${ended.file}: ${ended.where}: ${ended.what}`;
  const isDamaged = damage !== undefined && !isEndedByWord(damage);
  return { shard, replicaId, mintedTerm, promise, led, base, head, damage: isDamaged ? damage : undefined, ended: why };
}

/** The end of an id that no damage was the reason for. */
export function endedByWord(reason: string): Damage {
  return { file: "", where: "", what: reason };
}

export function isEndedByWord({ file }: Damage): boolean {
  return file === "";
}

/** Why nothing may be done with a replica whose files are damaged, or whose id has ended. */
export function refusalOf(shard: ShardId, damage: Damage): Refusal {
  if (!isEndedByWord(damage)) return damageRefusal(shard, damage);
  return new Refusal("NODE_IS_NOT_MEMBER", `the replica of shard ${shard} has ended: ${damage.what}`);
}
