/**
 * What a coordinator asks of a replica that leads or shall lead: BecomeLeader, AddFollower, FreezeShard, RemoveObserver.
 * The rules are in protocol/leading.ts; the leadership itself is leader.ts.
 *
 * BecomeLeader waits for followers and for the own-term entry outside the replica's queue, so that NewTerm interrupts it.
 * Replication factor 1 needs nothing more to be confirmed: NewTerm stops the leadership before the log's writer is asked
 * to promise, so as long as this one has not been stopped no later term has been promised.
 */
import type { Offset } from "../model/ids.ts";
import type {
  AddFollowerRequest,
  BecomeLeaderRequest,
  FreezeShardRequest,
  FreezeShardResponse,
  PeerReplica,
  RemoveObserverRequest,
} from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import { FREEZE_LAPSE_MS } from "../protocol/ensemble-change.ts";
import { decide, nowServing } from "../protocol/replica.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import { Leader } from "./leader.ts";
import type { ReplicaCore } from "./replica-core.ts";

/** Resolves once the replica serves. Rejects when it may not lead, or is stopped before it serves. */
export async function becomeLeader(core: ReplicaCore, request: BecomeLeaderRequest): Promise<void> {
  const leader = await core.exclusive(() => beginLeading(core, request));
  const ids = new Map((request.members ?? []).map(({ server, replicaId }) => [server, replicaId]));
  const followers = request.followers.map(({ server, head }) => ({
    server,
    replicaId: ids.get(server),
    head: { ...head, crc: undefined },
  }));
  if (core.leader !== leader) throw new Refusal("RESOURCE_UNAVAILABLE", `term ${request.term} is over`);
  try {
    await leader.start(followers);
  } catch (error) {
    // no fault, of which it would have told: it came to nothing, and the next term begins anew
    if (core.leader === leader) {
      core.stopActivities(new Refusal("RESOURCE_UNAVAILABLE", `term ${request.term} is over`));
      core.rest();
    }
    throw error;
  }
  if (core.leader !== leader) throw new Refusal("RESOURCE_UNAVAILABLE", `term ${request.term} is over`);
  core.serving = leader;
  core.become(nowServing(core.state));
}

async function beginLeading(core: ReplicaCore, request: BecomeLeaderRequest): Promise<Leader> {
  const { term, replicaId, expectedHead, replicationFactor, members, followers } = request;
  const outcome = decide(core.state, "BecomeLeader", {
    term,
    replicaId,
    expectedHead,
    replicationFactor,
    members,
    followers,
  });
  if (!outcome.accepted) return core.refuse(outcome);
  const { kv, told, shard, config } = core;
  const { log, clock, random, logger, turns, budget, followers: peers } = core.ports;
  core.receiving?.stop(new Refusal("RESOURCE_CONFLICT", "this replica leads now"));
  await log.markLed(shard, term);
  core.become(outcome.next);
  const { id, head } = outcome.next;
  const { notificationsRetentionMs, sessionsMax } = config;
  const leader = new Leader(
    { log, kv, clock, random, logger, turns, budget, followers: peers },
    {
      namespace: told.namespace,
      shard,
      options: {
        ...told.options,
        ...(notificationsRetentionMs === undefined ? {} : { notificationsRetentionMs }),
        ...(sessionsMax === undefined ? {} : { sessionsMax }),
      },
      term,
      self: { server: config.self, replicaId: id },
      head,
      base: core.data.base,
      members: members ?? membersNamed(core, request),
      features: request.features,
    },
    {
      fault: (error) => {
        if (core.leader === leader) core.fault(error);
      },
      followerEnded: (server, ended) => {
        if (core.leader !== leader) return;
        const { state } = core;
        const cursors = state.cursors.filter((cursor) => cursor.server !== server || cursor.replicaId !== ended);
        core.become({ ...state, cursors });
      },
    },
  );
  core.leader = leader;
  return leader;
}

/** A reference coordinator names the followers that answered and their number: the rest are slots to be filled. */
function membersNamed(core: ReplicaCore, { followers, replicationFactor }: BecomeLeaderRequest): PeerReplica[] {
  const self = { server: core.config.self, replicaId: core.state.id };
  const named = followers.map(({ server }) => ({ server, replicaId: NO_REPLICA }));
  const others = Math.max(0, replicationFactor - 1 - named.length);
  return [self, ...named, ...Array.from({ length: others }, () => ({ server: "", replicaId: NO_REPLICA }))];
}

export function addFollower(core: ReplicaCore, request: AddFollowerRequest): Promise<void> {
  return core.exclusive(async () => {
    const { term, server, head, observer, replicaId } = request;
    const outcome = decide(core.state, "AddFollower", {
      term,
      server,
      replicaId: replicaId ?? NO_REPLICA,
      byId: replicaId !== undefined,
      head,
      observer,
      targetShard: core.shard,
    });
    if (!outcome.accepted) return core.refuse(outcome);
    core.become(outcome.next);
    core.leader!.addFollower({ server, replicaId, head, observer, targetShard: core.shard });
  });
}

export function removeObserver(core: ReplicaCore, request: RemoveObserverRequest): Promise<void> {
  return core.exclusive(async () => {
    const { term, server, targetShard } = request;
    const outcome = decide(core.state, "RemoveObserver", { term, server, targetShard });
    if (!outcome.accepted) return core.refuse(outcome);
    core.become(outcome.next);
    if (outcome.answer.removed) core.leader!.removeFollower(server, targetShard);
  });
}

/**
 * Freezes or thaws. The head that is answered is final: all that was taken is durable here. A freeze lapses by itself
 * unless it is asked for again in time, so that no dead coordinator leaves a shard without writes.
 */
export async function freezeShard(core: ReplicaCore, request: FreezeShardRequest): Promise<FreezeShardResponse> {
  const frozen = await core.exclusive(async () => {
    const { term, frozen } = request;
    const outcome = decide(core.state, "FreezeShard", { term, frozen });
    if (!outcome.accepted) return core.refuse(outcome);
    core.become(outcome.next);
    core.cancelFreeze();
    const leader = core.leader!;
    if (!frozen) {
      leader.thaw();
      return Promise.resolve(leader.head.offset);
    }
    core.cancelFreeze = core.ports.clock.after(FREEZE_LAPSE_MS, () => lapse(core, leader));
    return { head: leader.freeze() };
  });
  const headOffset: Offset = typeof frozen === "number" ? frozen : await frozen.head;
  return { headOffset };
}

function lapse(core: ReplicaCore, leader: Leader): void {
  if (core.leader !== leader) return;
  const { state } = core;
  const outcome = decide(state, "FreezeShard", { term: state.promise, frozen: false });
  core.become(outcome.next);
  leader.thaw();
}
