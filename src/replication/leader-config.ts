/** What a leadership is made of and told: see leader.ts. */
import type { Head, ReplicaId, ShardId, Term } from "../model/ids.ts";
import type { Feature, PeerHead, PeerReplica, TermOptions } from "../model/peer-messages.ts";
import type { Followers, Logger, Random } from "../ports.ts";
import type { ReplicationBudget } from "./entry-tail.ts";
import type { SessionCounters } from "./session-calls.ts";
import type { WritePorts } from "./write-path.ts";

export interface LeaderPorts extends WritePorts {
  readonly logger: Logger;
  readonly followers: Followers;
  readonly random: Random;
  /** Shared by all leaders of the node. */
  readonly budget: ReplicationBudget;
}

export interface LeaderConfig {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly options: ShardOptions;
  readonly term: Term;
  readonly self: PeerReplica;
  /** The durable head, as elected on. */
  readonly head: Head;
  /** Where the log begins. */
  readonly base: Head;
  /** The stored ensemble, empty slots included: acks count over these. A server without a name is one to be named yet. */
  readonly members: readonly PeerReplica[];
  /** What all of the ensemble have. */
  readonly features: readonly Feature[];
}

export interface ShardOptions extends TermOptions {
  /** Age past which what entries told subscribers is removed; default NOTIFICATION_RETENTION_MS_DEFAULT. */
  readonly notificationsRetentionMs?: number;
  /** Default SESSIONS_PER_SHARD_MAX. */
  readonly sessionsMax?: number;
}

export interface LeaderHooks {
  /** The log or the state has failed: this leadership has stopped itself. */
  readonly fault: (error: unknown) => void;
  /** A follower's id has ended: its cursor is gone. */
  readonly followerEnded: (server: string, replicaId: ReplicaId) => void;
}

/** A follower as it is named to a leader. */
export interface NamedFollower {
  readonly server: string;
  /** NO_REPLICA: a reference server; undefined: the coordinator is one. */
  readonly replicaId: ReplicaId | undefined;
  readonly head: PeerHead;
}

export interface AddedFollower extends NamedFollower {
  readonly observer: boolean;
  readonly targetShard: ShardId;
}

/** Operations since the start of this leadership. */
export interface ShardCounters extends SessionCounters {
  puts: number;
  deletes: number;
  deleteRanges: number;
  gets: number;
  lists: number;
  rangeScans: number;
  writeBytes: number;
}

export function noneCounted(): ShardCounters {
  return {
    puts: 0,
    deletes: 0,
    deleteRanges: 0,
    gets: 0,
    lists: 0,
    rangeScans: 0,
    writeBytes: 0,
    sessionsCreated: 0,
    sessionsClosed: 0,
    sessionsExpired: 0,
  };
}
