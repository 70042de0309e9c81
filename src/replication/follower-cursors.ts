/**
 * The cursors of one leadership: one a server and shard there. They are looked at together, once in a turn of the event
 * loop in which there was something new, so that what came in one turn goes out together, with one read round.
 */
import { NO_OFFSET, type Offset, type ReplicaId, type ShardId, type Term } from "../model/ids.ts";
import type { PeerReplica, TermOptions } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, Followers, KeyValue, Log, Logger, Random } from "../ports.ts";
import { followerEnded, type Leadership } from "../protocol/commit.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import { hasId } from "./agree.ts";
import { Cursor, type CursorContext, type CursorState } from "./cursor.ts";
import type { EntryTail, ReplicationBudget } from "./entry-tail.ts";
import type { AddedFollower } from "./leader-config.ts";
import { ownLog } from "./own-log.ts";
import type { ReadRounds } from "./read-round.ts";

/** How far a follower or observer is. */
export interface FollowerProgress {
  readonly server: string;
  readonly replicaId: ReplicaId | undefined;
  readonly observer: boolean;
  readonly targetShard: ShardId;
  readonly state: CursorState;
  readonly acked: Offset;
  readonly sent: Offset;
}

export interface CursorPorts {
  readonly log: Log;
  readonly kv: KeyValue;
  readonly clock: Clock;
  readonly random: Random;
  readonly followers: Followers;
  readonly logger: Logger;
  readonly budget: ReplicationBudget;
}

export interface CursorConfig {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly term: Term;
  readonly options: TermOptions;
  readonly self: PeerReplica;
  readonly members: readonly PeerReplica[];
}

export interface CursorHooks {
  readonly leadership: Leadership;
  readonly tail: EntryTail | undefined;
  readonly rounds: ReadRounds;
  readonly onProgress: () => void;
  readonly onEnded: (server: string, replicaId: ReplicaId) => void;
  readonly onFault: (error: unknown) => void;
}

/** A member beside the leader: what its acks count by. */
export interface FollowerSlot {
  /** Empty: a reference coordinator has not named it yet. */
  server: string;
  readonly id: ReplicaId;
}

export class FollowerCursors {
  readonly #config: CursorConfig;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #slots: readonly FollowerSlot[];
  readonly #hooks: CursorHooks;
  readonly #context: CursorContext;
  readonly #cursors = new Map<string, Cursor>();
  #waking = false;
  #stopped = false;

  constructor(ports: CursorPorts, config: CursorConfig, slots: readonly FollowerSlot[], hooks: CursorHooks) {
    const { kv, clock, random, followers, logger, budget } = ports;
    const { leadership, tail, rounds, onProgress, onFault } = hooks;
    this.#config = config;
    this.#clock = clock;
    this.#random = random;
    this.#slots = slots;
    this.#hooks = hooks;
    this.#context = {
      log: ownLog(ports.log, onFault),
      kv,
      clock,
      random,
      followers,
      logger,
      budget,
      shard: config.shard,
      options: config.options,
      leadership,
      tail,
      beginRound: () => rounds.begin(),
      onProgress,
      onEnded: (cursor) => this.#ended(cursor),
      onFault,
    };
  }

  /** One for each member beside the leader. A server without an id gets a stand-in, so that its acks count (safety.md §11). */
  static slots({ self, members }: Pick<CursorConfig, "self" | "members">, random: Random): FollowerSlot[] {
    return members
      .filter(({ replicaId }) => replicaId !== self.replicaId)
      .map(({ server, replicaId }) => ({ server, id: replicaId === NO_REPLICA ? random.replicaId() : replicaId }));
  }

  /** A cursor of the same server is replaced if it was for another id. */
  add({ server, replicaId, head, observer, targetShard }: AddedFollower): void {
    const key = keyOf(server, targetShard);
    const before = this.#cursors.get(key);
    if (before !== undefined) {
      if (before.target.address.replicaId === replicaId && before.target.observer === observer) {
        before.headTold(head);
        return;
      }
      this.#drop(before);
    }
    const { namespace, term } = this.#config;
    const address = { namespace, shard: targetShard, term, server, replicaId };
    const id = hasId(address) ? address.replicaId! : this.#standIn(server, observer);
    const cursor = new Cursor(this.#context, { address, id, observer }, head);
    this.#cursors.set(key, cursor);
    cursor.start();
  }

  remove(server: string, targetShard: ShardId): void {
    const cursor = this.#cursors.get(keyOf(server, targetShard));
    if (cursor !== undefined) this.#drop(cursor);
  }

  /** There is something new: entries, a commit offset, a round, room. */
  wake(): void {
    if (this.#waking || this.#stopped || this.#cursors.size === 0) return;
    this.#waking = true;
    this.#clock.soon(() => {
      this.#waking = false;
      if (!this.#stopped) this.#pump();
    });
  }

  progress(): FollowerProgress[] {
    return [...this.#cursors.values()].map(({ target, state, acked, sent }) => {
      const { server, replicaId, shard } = target.address;
      return { server, replicaId, observer: target.observer, targetShard: shard, state, acked, sent };
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const cursor of this.#cursors.values()) cursor.cancel();
  }

  #pump(): void {
    const { rounds, tail } = this.#hooks;
    const cursors = [...this.#cursors.values()];
    const rides = cursors.some(({ hasEntryToSend }) => hasEntryToSend);
    if (rounds.wanted && (rides || !rounds.underWay)) rounds.begin();
    for (const cursor of cursors) cursor.pump();
    tail?.forget(this.#sentByAll());
  }

  /** What no open stream needs from memory. */
  #sentByAll(): Offset {
    let sent = this.#hooks.leadership.quorum.sent;
    for (const cursor of this.#cursors.values()) if (cursor.state === "streaming") sent = Math.min(sent, cursor.sent);
    return Math.max(sent, NO_OFFSET);
  }

  #standIn(server: string, observer: boolean): ReplicaId {
    if (observer) return this.#random.replicaId();
    const slot = this.#slots.find((each) => each.server === server) ?? this.#slots.find((each) => each.server === "");
    if (slot === undefined) throw new Refusal("UNKNOWN", "all followers are already attached");
    slot.server = server;
    return slot.id;
  }

  #ended(cursor: Cursor): void {
    const { server, replicaId } = cursor.target.address;
    this.#drop(cursor);
    if (replicaId !== undefined) this.#hooks.onEnded(server, replicaId);
  }

  /** What it acked counts no more. */
  #drop(cursor: Cursor): void {
    const { server, shard } = cursor.target.address;
    cursor.cancel();
    this.#cursors.delete(keyOf(server, shard));
    followerEnded(this.#hooks.leadership, cursor.target.id);
  }
}

function keyOf(server: string, targetShard: ShardId): string {
  return `${server}/${targetShard}`;
}
