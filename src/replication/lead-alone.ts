/**
 * A data server without a coordinator: it leads every shard of one namespace itself, with replication factor 1, through
 * the very calls that a coordinator makes. Each start is a new term (safety.md §1):
 *
 *     NewTerm(promise + 1, the id that lives here, or 0) → BecomeLeader(members: this server alone)
 *
 * A damaged shard refuses to serve and the others go on. The assignments name no leader: clients are told the name by
 * which they have called.
 */
import { NO_TERM, type ShardId } from "../model/ids.ts";
import { FEATURES, type ShardAssignment, type TermOptions } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { Followers } from "../ports.ts";
import type { HashRange } from "../protocol/assignment.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import type { DataServer } from "./data-server.ts";

export interface Alone {
  /** The cluster of one. */
  readonly instanceId: string;
  readonly namespace: string;
  readonly options: TermOptions;
  /** A shard each, numbered from 0. */
  readonly ranges: readonly HashRange[];
}

/** Resolves once every shard serves, or refuses because of damage. Rejects with any other fault. */
export async function leadAlone(server: DataServer, alone: Alone): Promise<void> {
  await server.handshake({ instanceId: alone.instanceId, stamp: undefined, confirmedStamp: undefined });
  await Promise.all(alone.ranges.map((_, shard) => lead(server, alone, shard)));
  const assignments = alone.ranges.map(({ minInclusive, maxInclusive }, shard): ShardAssignment => {
    return { shard, leader: "", minHashInclusive: minInclusive, maxHashInclusive: maxInclusive };
  });
  server.takeAssignments({ namespaces: new Map([[alone.namespace, assignments]]), allowedAuthorities: [] });
}

async function lead(server: DataServer, { namespace, options }: Alone, shard: ShardId): Promise<void> {
  const found = server.replicas.replica(shard);
  const term = (found?.state.promise ?? NO_TERM) + 1;
  const place = { namespace, shard, term };
  const never = { countedTerm: NO_TERM, confirmedStamp: undefined, adopt: false };
  try {
    const asked = found?.state.id ?? NO_REPLICA;
    const { head, replicaId, ended } = await server.newTerm({ ...place, options, replicaId: asked, ...never });
    if (replicaId === undefined || ended !== "") throw new Refusal("NODE_IS_NOT_MEMBER", ended ?? "");
    await server.becomeLeader({
      ...place,
      replicationFactor: 1,
      followers: [],
      features: FEATURES,
      replicaId,
      expectedHead: head,
      members: [{ server: server.self, replicaId }],
      formerMembers: [],
    });
  } catch (error) {
    if (server.replicas.replica(shard)?.damage === undefined) throw error;
  }
}

function none(): never {
  throw new Refusal("FAILED_PRECONDITION", "a server alone has no followers");
}

/** The other servers of a server alone. */
export const NO_FOLLOWERS: Followers = {
  truncate: none,
  replicate: none,
  sendSnapshot: none,
  newTerm: none,
  getStatus: none,
};
