/** What the coordinator knows of the cluster at one moment, as plain data: for the admin calls, the dashboard, tests. */
import type { ReplicaId, ShardId, Term } from "../model/ids.ts";
import type { HashRange } from "../protocol/assignment.ts";
import type { NotAdopted } from "./adopt-status.ts";
import type { ServerStatus } from "./servers.ts";
import {
  type DataServerIdentity,
  EMPTY_SLOT,
  type Member,
  type ShardMetadata,
  type ShardStatus,
} from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";

export interface CoordinatorStatus {
  readonly instanceId: string;
  readonly servers: readonly ServerStatus[];
  readonly shards: readonly ShardReport[];
  /** What of the configuration cannot be done. */
  readonly problems: readonly string[];
  /** Shards of an Oxia status document that are left alone. */
  readonly notAdopted: readonly NotAdopted[];
}

export interface ShardReport {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly status: ShardStatus;
  readonly term: Term;
  /** Internal address; undefined: none is stored. */
  readonly leader: string | undefined;
  readonly range: HashRange;
  /** Names and addresses of all servers that hold a copy, as they are stored. */
  readonly identities: readonly DataServerIdentity[];
  /** Of its namespace, as it was made: a shard that was recovered may have fewer replicas. */
  readonly replicationFactor: number;
  readonly ensemble: readonly ReplicaReport[];
  /** Not empty while a change of the ensemble is in doubt. */
  readonly formerEnsemble: readonly ReplicaReport[];
  readonly observers: readonly ReplicaReport[];
  readonly pendingDeletes: readonly ReplicaReport[];
  /** Why it has no leader, then what is wrong with its replicas. Empty: it is well. */
  readonly problems: readonly string[];
  readonly ended: readonly EndedReplica[];
  readonly swap: SwapReport | undefined;
  readonly frozen: FreezeReport | undefined;
}

export interface ReplicaReport {
  readonly server: string;
  /** EMPTY_SLOT: none yet. */
  readonly replicaId: ReplicaId;
}

/** A member whose listed replica does not live any more. */
export interface EndedReplica {
  readonly server: string;
  readonly replicaId: ReplicaId;
  readonly why: string;
}

export interface SwapReport {
  readonly removed: string;
  readonly added: string;
  /** What it waits for. */
  readonly why: string;
}

/** Writes are held back by request. */
export interface FreezeReport {
  readonly leftMs: number;
  /** Why its leader could not be told; empty: it was. */
  readonly why: string;
}

/** What is known of a shard beside what is stored of it. */
export interface ShardKnowledge {
  readonly ref: ShardRef;
  /** Why it has no leader; empty: it has one. */
  readonly problem: string;
  readonly tending: {
    /** What is wrong with its replicas. */
    readonly troubles: readonly string[];
    readonly ended: readonly EndedReplica[];
    readonly swap: SwapReport | undefined;
    readonly frozen: FreezeReport | undefined;
  };
}

export function shardReport(
  { ref, problem, tending }: ShardKnowledge,
  shard: ShardMetadata,
  replicationFactor: number,
): ShardReport {
  const replicas = (members: readonly Member[]) =>
    members.map(({ internal, replicaId }) => ({ server: internal, replicaId: replicaId ?? EMPTY_SLOT }));
  return {
    namespace: ref.namespace,
    shard: ref.shard,
    status: shard.status,
    term: shard.term,
    leader: shard.leader?.internal,
    range: shard.int32HashRange,
    identities: [
      ...shard.ensemble,
      ...(shard.formerEnsemble ?? []),
      ...shard.observers,
      ...shard.pendingDeleteShardNodes,
    ],
    replicationFactor,
    ensemble: replicas(shard.ensemble),
    formerEnsemble: replicas(shard.formerEnsemble ?? []),
    observers: replicas(shard.observers),
    pendingDeletes: replicas(shard.pendingDeleteShardNodes),
    problems: [...(problem === "" ? [] : [problem]), ...tending.troubles],
    ended: tending.ended,
    swap: tending.swap,
    frozen: tending.frozen,
  };
}
