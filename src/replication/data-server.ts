/**
 * A data server: the replicas that live here, found or made for each request, and what concerns all of them.
 *
 *     handshake     which cluster it belongs to, once for ever; the stamp by which an older copy of the disk is told
 *     NewTerm       the stamp first, then the replica
 *     all others    refused NOT_INITIALIZED before a cluster is known; then the replica, or what is said where none is
 *
 * The stamp is taken before anything else of a request is done: in the same step in which the log finds that it has gone
 * back in time all ids on this server end, and every replica follows before anything is answered (safety.md §1, check c).
 * A foreign cluster's stamp is not taken at all.
 *
 * Source: protocol.md §5.4; semantics.md §8.1.
 */
import { Serial } from "../lib/serial.ts";
import type { ShardId } from "../model/ids.ts";
import {
  type AddFollowerRequest,
  type BecomeLeaderRequest,
  type DeleteShardRequest,
  FEATURES,
  type FreezeShardRequest,
  type FreezeShardResponse,
  type GetStatusRequest,
  type GetStatusResponse,
  type HandshakeRequest,
  type HandshakeResponse,
  type NewTermRequest,
  type NewTermResponse,
  type RemoveObserverRequest,
  type ShardAssignments,
  type ShardTerm,
  type SnapshotResponse,
  type TruncateRequest,
  type TruncateResponse,
} from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type {
  AppendReceiver,
  Clock,
  Documents,
  Followers,
  KeyValues,
  Log,
  Logger,
  Random,
  SnapshotReceiver,
} from "../ports.ts";
import { ReplicationBudget } from "./entry-tail.ts";
import { FollowerMemory } from "./follower-memory.ts";
import { Replica } from "./replica.ts";
import type { ReplicaConfig, ReplicaPorts } from "./replica-core.ts";
import { toldName } from "./replica-data.ts";
import { Shards } from "./shards.ts";
import { decodeTold } from "./told.ts";
import { Turns } from "./turns.ts";

export interface DataServerPorts {
  readonly log: Log;
  readonly keyValues: KeyValues;
  readonly followers: Followers;
  readonly documents: Documents;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** What is the same for all replicas of a server. */
export type DataServerOptions = Omit<ReplicaConfig, "shard" | "onDamage"> & Partial<Pick<ReplicaConfig, "onDamage">>;

/** Name of the text that says which cluster this server belongs to. */
const INSTANCE = "instance";

export class DataServer {
  /** The replicas and assignments as clients see them. */
  readonly replicas = new Shards();
  readonly #ports: ReplicaPorts;
  readonly #options: DataServerOptions;
  readonly #handshakes = new Serial();
  #instance: string | undefined;

  /** Opens all replicas that are found in the log, damaged and ended ones too. */
  static async open(ports: DataServerPorts, options: DataServerOptions): Promise<DataServer> {
    const texts = await ports.documents.all();
    const server = new DataServer(ports, options, texts.get(INSTANCE));
    const opening = ports.log.replicas().map((log) => {
      const text = texts.get(toldName(log.shard));
      const told = text === undefined ? undefined : decodeTold(text);
      return Replica.found(server.#ports, server.#configOf(log.shard), { log, told });
    });
    for (const replica of await Promise.all(opening)) server.replicas.add(replica);
    return server;
  }

  private constructor(ports: DataServerPorts, options: DataServerOptions, instance: string | undefined) {
    this.#ports = {
      ...ports,
      turns: new Turns(ports.clock),
      memory: new FollowerMemory(),
      budget: new ReplicationBudget(),
    };
    this.#options = options;
    this.#instance = instance;
  }

  /** Its internal address. */
  get self(): string {
    return this.#options.self;
  }

  /** The cluster that it belongs to; undefined before the first handshake. */
  get instance(): string | undefined {
    return this.#instance;
  }

  get assignments(): ShardAssignments | undefined {
    return this.replicas.assignments;
  }

  // --- from the coordinator -------------------------------------------------------------------------------------

  handshake(request: HandshakeRequest): Promise<HandshakeResponse> {
    return this.#handshakes.run(() => this.#handshake(request));
  }

  async #handshake({ instanceId, stamp, confirmedStamp }: HandshakeRequest): Promise<HandshakeResponse> {
    if (instanceId === "") throw new Refusal("INVALID_ARGUMENT", "instance id must not be empty");
    const bound = this.#instance;
    if (bound !== undefined && bound !== instanceId) {
      return { status: "MISMATCH", features: FEATURES, stamp: undefined };
    }
    let before: number | undefined;
    if (stamp !== undefined) {
      before = await this.#takeStamp(stamp, confirmedStamp ?? 0);
      for (const replica of this.replicas.all()) replica.introduce();
    }
    if (bound === undefined) {
      await this.#ports.documents.put(INSTANCE, instanceId);
      this.#instance = instanceId;
    }
    return { status: bound === undefined ? "BOUND" : "ALREADY_BOUND", features: FEATURES, stamp: before };
  }

  async newTerm(request: NewTermRequest): Promise<NewTermResponse> {
    this.#check(request);
    const { confirmedStamp } = request;
    // what is confirmed is held from then on: ids minted behind this check must not be ended by the next one
    if (confirmedStamp !== undefined) await this.#takeStamp(confirmedStamp, confirmedStamp);
    return this.#replicaFor(request.shard).newTerm(request);
  }

  async becomeLeader(request: BecomeLeaderRequest): Promise<void> {
    return this.#checked(request).becomeLeader(request);
  }

  async addFollower(request: AddFollowerRequest): Promise<void> {
    return this.#checked(request).addFollower(request);
  }

  async getStatus({ shard }: GetStatusRequest): Promise<GetStatusResponse> {
    this.#requireBound();
    return this.#find(shard).getStatus();
  }

  async freezeShard(request: FreezeShardRequest): Promise<FreezeShardResponse> {
    return this.#checked(request).freezeShard(request);
  }

  async removeObserver(request: RemoveObserverRequest): Promise<void> {
    return this.#checked(request).removeObserver(request);
  }

  async deleteShard(request: DeleteShardRequest): Promise<void> {
    return this.#checked(request).deleteShard(request);
  }

  /** The whole set, in the place of the one before. */
  takeAssignments(assignments: ShardAssignments): void {
    this.replicas.takeAssignments(assignments);
  }

  // --- from leaders ---------------------------------------------------------------------------------------------

  async truncate(request: TruncateRequest): Promise<TruncateResponse> {
    return this.#checked(request).truncate(request);
  }

  /** Serves a Replicate stream to its end. Rejects with why it was refused or ended from here. */
  async replicate(shard: ShardTerm, stream: AppendReceiver): Promise<void> {
    return this.#checked(shard).replicate(shard, stream);
  }

  async sendSnapshot(shard: ShardTerm, chunks: SnapshotReceiver): Promise<SnapshotResponse> {
    return this.#checked(shard).sendSnapshot(shard, chunks);
  }

  /** Stops every replica and flushes its state. The ports stay open: they are whose who made them. */
  async close(): Promise<void> {
    const reason = new Refusal("RESOURCE_UNAVAILABLE", "the server is shutting down");
    await Promise.all(this.replicas.all().map((replica) => replica.stop(reason)));
  }

  // --- which replica --------------------------------------------------------------------------------------------

  #checked(request: { readonly namespace: string; readonly shard: ShardId }): Replica {
    this.#check(request);
    return this.#find(request.shard);
  }

  #check({ namespace }: { readonly namespace: string }): void {
    this.#requireBound();
    if (namespace === "") throw new Refusal("INVALID_ARGUMENT", "the namespace must not be empty");
  }

  #requireBound(): void {
    if (this.#instance === undefined) throw new Refusal("NOT_INITIALIZED", "oxia: server not initialized yet");
  }

  /** What is here of a shard; a replica of nothing where nothing is, which is not kept. */
  #find(shard: ShardId): Replica {
    return this.replicas.replica(shard) ?? Replica.unknown(this.#ports, this.#configOf(shard));
  }

  #replicaFor(shard: ShardId): Replica {
    const replica = this.#find(shard);
    this.replicas.add(replica);
    return replica;
  }

  #configOf(shard: ShardId): ReplicaConfig {
    return { onDamage: "end", ...this.#options, shard };
  }

  /** Answers the stamp held before. Once it resolves all replicas know whether their ids have ended. */
  async #takeStamp(stamp: number, confirmedStamp: number): Promise<number> {
    const { log } = this.#ports;
    const { before, rolledBack } = await log.takeStamp({ stamp, confirmedStamp });
    if (!rolledBack) return before;
    const reasons = new Map(log.replicas().map(({ shard, ended }) => [shard, ended]));
    const ending = this.replicas.all().map((replica) => replica.rolledBack(reasons.get(replica.shard) ?? ""));
    await Promise.all(ending);
    return before;
  }
}
