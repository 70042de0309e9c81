/**
 * Takes over a status document that Oxia has written: its shards have no replica ids. A shard in SteadyState without a
 * split gets empty slots, filled by the ids that its servers answer, as far as they were minted by the adopted term.
 * Any other is left alone: in Election the reference may have led with an ensemble that it never stored, and a split
 * stands on both its sides. Let Oxia's coordinator bring it to rest first.
 *
 * Source: safety.md §1, "Adopting".
 */
import type { ShardId } from "../model/ids.ts";
import { type ClusterStatus, EMPTY_SLOT, type Member, type ShardMetadata } from "./status-document.ts";

export interface NotAdopted {
  readonly namespace: string;
  readonly shard: ShardId;
  /** In words for the operator. */
  readonly why: string;
}

/** The status with every shard adopted that can be, the same object when there is none, and those that cannot. */
export function adoptStatus(status: ClusterStatus): { status: ClusterStatus; notAdopted: readonly NotAdopted[] } {
  const notAdopted: NotAdopted[] = [];
  let adopted = 0;
  const namespaces = [...status.namespaces].map(([namespace, entry]) => {
    const shards = [...entry.shards].map(([shard, metadata]): [ShardId, ShardMetadata] => {
      if (!isForeign(metadata)) return [shard, metadata];
      const why = whyNotAdoptable(metadata);
      if (why !== undefined) {
        notAdopted.push({ namespace, shard, why });
        return [shard, metadata];
      }
      adopted++;
      return [shard, adoptShard(metadata)];
    });
    return [namespace, { ...entry, shards: new Map(shards) }] as const;
  });
  return { status: adopted === 0 ? status : { ...status, namespaces: new Map(namespaces) }, notAdopted };
}

/** Whether Oxia wrote this shard last: it must not be acted on before it is adopted. */
export function isForeign({ ensemble }: ShardMetadata): boolean {
  return ensemble.some(({ replicaId }) => replicaId === undefined);
}

function whyNotAdoptable({ status, split, removedNodes }: ShardMetadata): string | undefined {
  if (status !== "SteadyState") return `its status is ${status}, not SteadyState`;
  if (split !== undefined) return "it takes part in a split";
  if (removedNodes.length > 0) return "its ensemble is being changed";
  return undefined;
}

function adoptShard(shard: ShardMetadata): ShardMetadata {
  const slot = (member: Member): Member => ({ ...member, replicaId: EMPTY_SLOT });
  return {
    ...shard,
    ensemble: shard.ensemble.map(slot),
    pendingDeleteShardNodes: shard.pendingDeleteShardNodes.map(slot),
    adoptedTerm: shard.term,
  };
}
