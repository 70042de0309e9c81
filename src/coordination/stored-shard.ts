/**
 * A shard's document as the decisions of protocol/ see it, and back: they know slots (server, replica id, counted term),
 * the document also names, public addresses and Oxia's fields.
 */
import { NO_TERM, type ReplicaId, type Term } from "../model/ids.ts";
import type { GetStatusResponse } from "../model/peer-messages.ts";
import type { Slot } from "../protocol/election.ts";
import type { ObservedReplica, StoredShard } from "../protocol/ensemble-change.ts";
import { type Member as Copy, NO_REPLICA, type ReplicaStatus } from "../protocol/replica-state.ts";
import type { ServerConfig } from "./cluster-config.ts";
import { type DataServerIdentity, EMPTY_SLOT, type Member, type ShardMetadata } from "./status-document.ts";

export function storedShard(shard: ShardMetadata): StoredShard {
  const { term, leader, adoptedTerm } = shard;
  const members = shard.ensemble.map(slotOf);
  const formerMembers = (shard.formerEnsemble ?? []).map(slotOf);
  const leading = members.find(({ server }) => server === leader?.internal);
  // Counted ids are stored before anybody leads with them.
  const everLed = [...members, ...formerMembers].some(({ countedTerm }) => countedTerm > NO_TERM);
  return {
    term,
    members,
    formerMembers,
    everLed: everLed || leader !== undefined || adoptedTerm !== undefined,
    adoptedTerm,
    leader: leading && { server: leading.server, replicaId: leading.replicaId },
    pendingDeletes: shard.pendingDeleteShardNodes.map(copyOf),
  };
}

/** Where a document's servers and terms come from that decisions do not know. */
export interface Known {
  readonly servers: readonly ServerConfig[];
  /** Terms in which ids were minted, as they were answered. */
  readonly minted?: ReadonlyMap<ReplicaId, Term>;
}

/** The document for what was decided on `before`: addresses are the configured ones, unknown fields stay where they were. */
export function shardDocument(before: ShardMetadata, stored: StoredShard, known: Known): ShardMetadata {
  const place = placing(before, known);
  const ensemble = stored.members.map(place);
  const former = stored.formerMembers.map(place);
  const entering = new Set(ensemble.map(({ internal, replicaId }) => `${internal} ${replicaId}`));
  const stays = ({ internal, replicaId }: Member) => !entering.has(`${internal} ${replicaId}`);
  const leader = ensemble.find(({ internal }) => internal === stored.leader?.server);
  return {
    ...before,
    status: leader === undefined ? "Election" : "SteadyState",
    term: stored.term,
    leader: leader && identityOf(leader),
    ensemble,
    formerEnsemble: former.length > 0 ? former : undefined,
    observers: before.observers.filter(stays),
    removedNodes: former
      .filter(({ internal }) => !ensemble.some((member) => member.internal === internal))
      .map(identityOf),
    pendingDeleteShardNodes: stored.pendingDeletes
      .map((copy) => place({ ...copy, countedTerm: NO_TERM }))
      .filter(stays),
  };
}

/** A place in an ensemble for a server that has not answered an id yet. */
export function emptySlot(server: ServerConfig): Member {
  return { ...identity(server), replicaId: EMPTY_SLOT, mintedTerm: NO_TERM, countedTerm: NO_TERM };
}

/** A copy at a server, with the names that the configuration or the document has for it. */
export function memberOf(shard: ShardMetadata, copy: Copy, known: Known): Member {
  return placing(shard, known)({ ...copy, countedTerm: NO_TERM });
}

/** What GetStatus answered, in the words of the decisions. A reference server tells its term and its head, and no more. */
export function observedReplica(answer: GetStatusResponse): ObservedReplica {
  const { term, headOffset, commitOffset } = answer;
  const status: Record<GetStatusResponse["status"], ReplicaStatus> = {
    NOT_MEMBER: "not-member",
    FENCED: "fenced",
    FOLLOWER: "following",
    LEADER: answer.frozen === true ? "frozen" : "leader",
  };
  return {
    replicaId: answer.replicaId ?? NO_REPLICA,
    status: status[answer.status],
    promise: answer.promise ?? term,
    head: { term: answer.headTerm ?? term, offset: headOffset, crc: answer.headCrc ?? 0 },
    commitOffset,
    verifiedOffset: answer.verifiedOffset ?? headOffset,
  };
}

/** All servers that the document names as holders of a copy, each once. */
export function serversOf({ ensemble, formerEnsemble, observers, pendingDeleteShardNodes }: ShardMetadata): string[] {
  const all = [...ensemble, ...(formerEnsemble ?? []), ...observers, ...pendingDeleteShardNodes];
  return [...new Set(all.map(({ internal }) => internal))];
}

export function identityOf({ name, public: address, internal, unknown }: DataServerIdentity): DataServerIdentity {
  return { name, public: address, internal, unknown };
}

function identity({ name, public: address, internal }: ServerConfig): DataServerIdentity {
  return { name, public: address, internal, unknown: {} };
}

function slotOf({ internal, replicaId, countedTerm }: Member): Slot {
  return { server: internal, replicaId: replicaId ?? NO_REPLICA, countedTerm };
}

function copyOf({ internal, replicaId }: Member): Copy {
  return { server: internal, replicaId: replicaId ?? NO_REPLICA };
}

function placing(before: ShardMetadata, { servers, minted }: Known): (slot: Slot) => Member {
  const listed = [
    ...before.ensemble,
    ...(before.formerEnsemble ?? []),
    ...before.observers,
    ...before.pendingDeleteShardNodes,
  ];
  return ({ server, replicaId, countedTerm }) => {
    const same = listed.find((member) => member.internal === server && member.replicaId === replicaId);
    const there = same ?? listed.find((member) => member.internal === server);
    const configured = servers.find(({ internal }) => internal === server);
    const { unknown = {}, ...names } = there ?? { name: undefined, public: "", internal: server };
    const mintedTerm = minted?.get(replicaId) ?? same?.mintedTerm ?? NO_TERM;
    const { name, public: address } = configured ?? names;
    return { name, public: address, internal: server, unknown, replicaId, mintedTerm, countedTerm };
  };
}
