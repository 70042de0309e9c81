/**
 * What all requests to one replica share: its decision state, its data, and what runs on them, a leadership or a
 * stream that comes in.
 *
 * Requests that change the state run one at a time, and what they change is durable before they are answered. What
 * runs beside them (a leadership, a stream) is stopped synchronously by whatever takes the state from it, and touches the
 * state no more from then on.
 *
 * A fault stops the replica: it refuses everything until the process is started again. Damage ends its id first, so
 * that the coordinator has it filled anew under another one; a standalone server, which has no other copy, keeps the id
 * and refuses (`onDamage`).
 */
import { Serial } from "../lib/serial.ts";
import { NO_TERM, type ShardId } from "../model/ids.ts";
import { REPLICA_CALLS_WAITING_MAX } from "../model/limits.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Clock, Damage, Followers, KeyValue, Log, Logger, Random } from "../ports.ts";
import { endReplica, NO_REPLICA, NOTHING, type Refused, type Replica as State } from "../protocol/replica-state.ts";
import type { AppendPath } from "./append-path.ts";
import type { ReplicationBudget } from "./entry-tail.ts";
import type { FollowerMemory } from "./follower-memory.ts";
import type { Leader } from "./leader.ts";
import { type DataPorts, ReplicaData } from "./replica-data.ts";
import type { Told } from "./told.ts";
import type { Turns } from "./turns.ts";

export interface ReplicaPorts extends DataPorts {
  readonly log: Log;
  readonly followers: Followers;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly turns: Turns;
  readonly memory: FollowerMemory;
  readonly budget: ReplicationBudget;
}

export interface ReplicaConfig {
  readonly shard: ShardId;
  /** This server's internal address. */
  readonly self: string;
  /** "keep": damage found later does not end the id; the replica refuses until it is repaired (standalone). */
  readonly onDamage: "end" | "keep";
  readonly notificationsRetentionMs?: number;
  readonly sessionsMax?: number;
}

/** A snapshot on its way in. */
export interface Receiving {
  stop(reason: Refusal): void;
}

export class ReplicaCore {
  readonly ports: ReplicaPorts;
  readonly config: ReplicaConfig;
  readonly data: ReplicaData;
  readonly #serial = new Serial();
  #state: State = NOTHING;
  leader: Leader | undefined;
  /** The leadership, from when it serves. */
  serving: Leader | undefined;
  /** The stream that is open, or one that has ended whose entries are not all answered by the log. */
  path: AppendPath | undefined;
  receiving: Receiving | undefined;
  /** Cancels the timer that thaws. */
  cancelFreeze: () => void = () => {};
  /** Why it refuses everything: a fault, an alarm, kept damage, or the end of the process. */
  stopped: Refusal | undefined;
  /** Damage that has not ended the id. */
  damage: Damage | undefined;

  constructor(ports: ReplicaPorts, config: ReplicaConfig, told: Told | undefined) {
    this.ports = ports;
    this.config = config;
    this.data = new ReplicaData(ports, config.shard, told);
  }

  get shard(): ShardId {
    return this.config.shard;
  }

  /** The decision state, with head and applied as they stand. */
  get state(): State {
    const head = this.leader?.head ?? this.#state.head;
    const applied = this.data.kv?.applied.offset ?? this.#state.applied;
    if (head !== this.#state.head || applied !== this.#state.applied) this.#state = { ...this.#state, head, applied };
    return this.#state;
  }

  /** A coordinator that was heard while `next` was on its way to the disk stays heard. */
  become(next: State): void {
    this.#state = next.introduced || !this.#state.introduced ? next : { ...next, introduced: true };
  }

  /** The state to serve from. */
  get kv(): KeyValue {
    const { kv } = this.data;
    if (kv !== undefined) return kv;
    throw new Refusal("NOT_INITIALIZED", "no NewTerm has said yet what this replica belongs to");
  }

  get told(): Told {
    const { told } = this.data;
    if (told !== undefined) return told;
    throw new Refusal("NOT_INITIALIZED", "no NewTerm has said yet what this replica belongs to");
  }

  /** Runs `task` alone, behind the entries of a stream that has ended. */
  exclusive<T>(task: () => Promise<T>): Promise<T> {
    if (this.#serial.size >= REPLICA_CALLS_WAITING_MAX) {
      const message = `${REPLICA_CALLS_WAITING_MAX} calls on shard ${this.shard} wait for one another`;
      return Promise.reject(new Refusal("RESOURCE_EXHAUSTED", message));
    }
    return this.#serial.run(async () => {
      if (this.stopped !== undefined) throw this.stopped;
      await this.settle();
      this.#requireWhole();
      await this.#noticeStop();
      try {
        return await task();
      } catch (error) {
        if (mayTellOfEnd(error)) await this.noticeEnd();
        throw error;
      }
    });
  }

  /** Runs `task` alone, also on a replica that has stopped. */
  exclusiveAnyway<T>(task: () => Promise<T>): Promise<T> {
    return this.#serial.run(async () => {
      await this.settle();
      return task();
    });
  }

  /** Waits until the log has answered all entries of a stream that has ended: the head is then what it stays. */
  async settle(): Promise<void> {
    const { path } = this;
    if (path === undefined || !path.hasEnded) return;
    const head = await path.settled();
    if (this.path !== path) return;
    this.path = undefined;
    if (this.#state.id === NO_REPLICA) return;
    const verified = Math.min(this.#state.verified, head.offset);
    this.#state = { ...this.#state, head, verified, streaming: false };
  }

  /** Ends, at once, whatever runs on this replica. */
  stopActivities(reason: Refusal): void {
    this.cancelFreeze();
    this.leader?.stop(reason);
    this.leader = undefined;
    this.serving = undefined;
    this.path?.stop(reason);
    this.receiving?.stop(reason);
    this.receiving = undefined;
  }

  /** What the state is when nothing runs on it any more. */
  rest(): void {
    const { id, promise } = this.#state;
    const status = id === NO_REPLICA || promise === NO_TERM ? "not-member" : "fenced";
    this.#state = { ...this.#state, status, streaming: false, members: [], cursors: [] };
  }

  /** Ends the id, durably: the first reason is the one that stays. What it leaves behind is erased when the next one is minted. */
  async endId(why: string): Promise<void> {
    const { ended } = await this.ports.log.end(this.shard, why);
    this.become(endReplica(this.#state, ended));
    this.#log("error", { ended }, "this replica's id has ended: it does not count any more");
    await this.data.close();
  }

  /** Damage that a scan behind the opening has found ends the id like any other. */
  #requireWhole(): void {
    const damage = this.data.kv?.damage;
    if (damage === undefined || this.config.onDamage === "keep") return;
    this.damaged(damage);
    throw damageRefusal(this.shard, damage);
  }

  /** A leadership that has stopped by itself, at the log's word: it is over, and the next term begins anew. */
  async #noticeStop(): Promise<void> {
    if (this.serving === undefined || this.serving.serving) return;
    this.stopActivities(new Refusal("RESOURCE_UNAVAILABLE", "this leadership is over"));
    this.rest();
    await this.noticeEnd();
  }

  /** The log may have ended the id by itself, because of damage that a read of any shard has found. */
  async noticeEnd(): Promise<void> {
    const found = this.ports.log.replica(this.shard);
    if (this.#state.id === NO_REPLICA || found === undefined || found.ended === "") return;
    if (found.damage !== undefined && this.config.onDamage === "keep") {
      this.damaged(found.damage);
      return;
    }
    this.stopActivities(new Refusal("NODE_IS_NOT_MEMBER", found.ended));
    await this.endId(found.ended);
  }

  /** Takes a refusal's word for the state, durable before it is answered. */
  async refuse(refused: Refused): Promise<never> {
    const endsNow = this.#state.id !== NO_REPLICA && refused.next.id === NO_REPLICA;
    if (endsNow) {
      this.stopActivities(new Refusal("NODE_IS_NOT_MEMBER", refused.message));
      await this.endId(refused.next.ended);
    } else this.become(refused.next);
    if (refused.alarm) this.alarm(refused.message);
    throw new Refusal(refused.reason, refused.message);
  }

  // --- failures -------------------------------------------------------------------------------------------------

  /** The log or the state has failed, in a request or beside it. */
  fault(error: unknown): void {
    if (this.stopped !== undefined) return;
    const kvDamage = this.data.kv?.damage;
    const isDamage = kvDamage !== undefined || (error instanceof Refusal && error.reason === "DATA_LOSS");
    if (!isDamage) {
      const message = "this replica has stopped after a fault";
      this.#stop(error instanceof Refusal ? error : new Refusal("RESOURCE_UNAVAILABLE", message, { cause: error }));
      this.#log("error", { err: error }, "replica stopped");
      return;
    }
    if (kvDamage !== undefined) this.damaged(kvDamage);
    else this.damaged({ file: "the log", where: "on reading", what: (error as Error).message }, error as Refusal);
  }

  /** Its files cannot be trusted: they are not served, and the id ends or is kept. */
  damaged(damage: Damage, refusal = damageRefusal(this.shard, damage)): void {
    this.damage = damage;
    this.#stop(refusal);
    const message = `shard is damaged and refuses to serve: ${damage.what}`;
    this.#log("error", { file: damage.file, where: damage.where }, message);
    if (this.config.onDamage === "keep") return;
    const ending = this.exclusiveAnyway(async () => {
      if (this.#state.id !== NO_REPLICA) await this.endId(refusal.message);
      this.damage = undefined;
      this.stopped = undefined;
    });
    ending.catch((error) => this.#log("error", { err: error }, "the id of a damaged replica could not be ended"));
  }

  /** Applied entries are not the leader's: never cut, so nothing can go on here (safety.md §6). */
  alarm(message: string): void {
    this.#stop(new Refusal("RESOURCE_UNAVAILABLE", `this replica has stopped: ${message}`));
    this.#log("error", {}, `ALARM: applied entries are not those of the leader: ${message}`);
  }

  #stop(reason: Refusal): void {
    this.stopped = reason;
    this.stopActivities(reason);
    this.rest();
  }

  #log(level: "error" | "info", fields: Readonly<Record<string, unknown>>, message: string): void {
    const { promise, id } = this.#state;
    const { told } = this.data;
    const place = { component: "replica", namespace: told?.namespace, shard: this.shard, term: promise };
    this.ports.logger[level]({ ...place, replicaId: String(id), ...fields }, message);
  }
}

/** Whether the log's answer may be that of one that has ended the id. */
function mayTellOfEnd(error: unknown): boolean {
  return error instanceof Refusal && (error.reason === "DATA_LOSS" || error.reason === "NODE_IS_NOT_MEMBER");
}
