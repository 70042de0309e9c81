/**
 * One replica's life on this data server: created or found, fenced, leading or following, deleted, ended.
 *
 * The decisions are protocol/replica.ts; here stands what they ask for, in an order that a crash may cut anywhere:
 *
 *     NewTerm       stop what runs → (erase → mint | adopt) → text of the options → promise, behind the log's barrier
 *                   → answer the head that the writer read there (safety.md §4)
 *     DeleteShard   stop what runs → promise → end the id → erase → answer
 *
 * Whatever a decision changes is durable before the answer, also when the answer is a refusal that has ended the id.
 *
 * Source: semantics.md §8.1; safety.md §1, §3, §4.
 */
import { EMPTY_HEAD, type EntryId, type Head, NO_OFFSET, NO_TERM, type ShardId } from "../model/ids.ts";
import type {
  AddFollowerRequest,
  BecomeLeaderRequest,
  DeleteShardRequest,
  FreezeShardRequest,
  FreezeShardResponse,
  GetStatusResponse,
  NewTermRequest,
  NewTermResponse,
  RemoveObserverRequest,
  ShardTerm,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "../model/peer-messages.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { AppendReceiver, Damage, KeyValue, ReplicaLog, SnapshotReceiver } from "../ports.ts";
import { decide } from "../protocol/replica.ts";
import {
  type Accepted,
  afterStart,
  endReplica,
  NO_REPLICA,
  NOTHING,
  type Replica as State,
} from "../protocol/replica-state.ts";
import { replicate, sendSnapshot, truncate } from "./follow.ts";
import { addFollower, becomeLeader, freezeShard, removeObserver } from "./lead.ts";
import type { Leader } from "./leader.ts";
import { type ReplicaConfig, ReplicaCore, type ReplicaPorts } from "./replica-core.ts";
import type { Told } from "./told.ts";

export class Replica {
  readonly #core: ReplicaCore;

  /** A shard of which nothing is known here. */
  static unknown(ports: ReplicaPorts, config: ReplicaConfig): Replica {
    return new Replica(new ReplicaCore(ports, config, undefined));
  }

  /** A replica that was found in the log when the process started: it leads nothing and has verified nothing. */
  static async found(
    ports: ReplicaPorts,
    config: ReplicaConfig,
    { log, told }: { readonly log: ReplicaLog; readonly told: Told | undefined },
  ): Promise<Replica> {
    const core = new ReplicaCore(ports, config, told);
    const { replicaId: id, mintedTerm, promise, led, head } = log;
    const found = { ...NOTHING, id, mintedTerm, promise, led, head };
    core.become(log.ended === "" ? afterStart(found) : endReplica(found, log.ended));
    if (log.damage !== undefined) core.damaged(log.damage);
    else if (log.ended === "") {
      const damage = await core.data.open(head);
      if (damage !== undefined) core.damaged(damage);
    }
    // an id that ends because of damage has ended before anything is asked of it
    await core.exclusiveAnyway(async () => {});
    return new Replica(core);
  }

  private constructor(core: ReplicaCore) {
    this.#core = core;
  }

  get shard(): ShardId {
    return this.#core.shard;
  }

  /** What it was last told, if it was told anything. */
  get told(): Told | undefined {
    return this.#core.data.told;
  }

  get state(): State {
    return this.#core.state;
  }

  /** Its leadership, whether it serves yet or not. */
  get leader(): Leader | undefined {
    return this.#core.leader;
  }

  /** Its leadership, if it serves. */
  get serving(): Leader | undefined {
    return this.#core.serving;
  }

  get kv(): KeyValue | undefined {
    return this.#core.data.kv;
  }

  /** Why it refuses everything until the process starts again. */
  get stopped(): Refusal | undefined {
    return this.#core.stopped;
  }

  /** What is wrong with its files, as far as that has not ended its id. */
  get damage(): Damage | undefined {
    return this.#core.damage ?? this.kv?.damage;
  }

  // --- fencing --------------------------------------------------------------------------------------------------

  newTerm(request: NewTermRequest): Promise<NewTermResponse> {
    return this.#core.exclusive(() => newTerm(this.#core, request));
  }

  /** The stamp has been checked by a coordinator of ours. */
  introduce(): void {
    this.#core.become({ ...this.#core.state, introduced: true });
  }

  /**
   * The log has ended all ids that it had, for this reason; empty: none of this shard. A replica that was minted behind
   * that lives on.
   */
  async rolledBack(reason: string): Promise<void> {
    const core = this.#core;
    if (reason !== "") core.stopActivities(new Refusal("NODE_IS_NOT_MEMBER", reason));
    await core.exclusiveAnyway(() => core.noticeEnd());
  }

  async deleteShard({ term, replicaId }: DeleteShardRequest): Promise<void> {
    const core = this.#core;
    await core.exclusive(async () => {
      const outcome = decide(core.state, "DeleteShard", { term, replicaId });
      if (!outcome.accepted) return core.refuse(outcome);
      if (core.state.id !== NO_REPLICA) {
        core.stopActivities(new Refusal("RESOURCE_UNAVAILABLE", "the shard is deleted here"));
        core.rest();
        await core.ports.log.promise(core.shard, term);
        await core.settle();
        await core.endId(outcome.next.ended);
        core.become(outcome.next);
      }
      if (outcome.answer.erase) await core.data.erase();
    });
  }

  getStatus(): Promise<GetStatusResponse> {
    return this.#core.exclusive(() => statusOf(this.#core));
  }

  // --- leading --------------------------------------------------------------------------------------------------

  becomeLeader(request: BecomeLeaderRequest): Promise<void> {
    return becomeLeader(this.#core, request);
  }

  addFollower(request: AddFollowerRequest): Promise<void> {
    return addFollower(this.#core, request);
  }

  removeObserver(request: RemoveObserverRequest): Promise<void> {
    return removeObserver(this.#core, request);
  }

  freezeShard(request: FreezeShardRequest): Promise<FreezeShardResponse> {
    return freezeShard(this.#core, request);
  }

  // --- following ------------------------------------------------------------------------------------------------

  replicate(shard: ShardTerm, stream: AppendReceiver): Promise<void> {
    return replicate(this.#core, shard, stream);
  }

  truncate(request: TruncateRequest): Promise<TruncateResponse> {
    return truncate(this.#core, request);
  }

  sendSnapshot(shard: ShardTerm, chunks: SnapshotReceiver): Promise<SnapshotResponse> {
    return sendSnapshot(this.#core, shard, chunks);
  }

  /** The process ends: nothing runs any more, what was applied is flushed. */
  async stop(reason: Refusal): Promise<void> {
    const core = this.#core;
    core.stopped ??= reason;
    core.stopActivities(reason);
    await core.exclusiveAnyway(() => core.data.close());
  }
}

// --- NewTerm --------------------------------------------------------------------------------------------------

async function newTerm(core: ReplicaCore, request: NewTermRequest): Promise<NewTermResponse> {
  const { term, replicaId, countedTerm = NO_TERM, adopt = false, options } = request;
  const before = core.state;
  const freshId = core.ports.random.replicaId();
  const outcome = decide(before, "NewTerm", { term, replicaId, countedTerm, adopt, freshId });
  if (!outcome.accepted) return core.refuse(outcome);
  requireSameOrder(core, before, request);
  core.stopActivities(new Refusal("RESOURCE_UNAVAILABLE", `term ${term} has begun`));
  core.rest();
  // the same term again: what its leader has sent is not dropped by the barrier
  if (term === before.promise) await core.settle();
  const { next, answer } = outcome;
  if (next.id === NO_REPLICA) {
    if (before.id !== NO_REPLICA) await core.endId(answer.ended);
    core.become(next);
    return answered(core, request, answer.ended);
  }
  const told = { namespace: request.namespace, options };
  const damage = next.id === before.id ? await keep(core, told) : await begin(core, request, outcome);
  if (damage !== undefined) {
    if (core.config.onDamage === "keep") {
      core.damaged(damage);
      throw damageRefusal(core.shard, damage);
    }
    await core.endId(`${damage.file}: ${damage.where}: ${damage.what}`);
    return newTerm(core, request);
  }
  const head = await promised(core, term);
  if (head === undefined) return newTerm(core, request);
  await core.settle();
  core.become({ ...next, head, applied: core.kv.applied.offset });
  return answered(core, request, answer.ended);
}

/** The head behind the barrier; undefined when the log has ended the id meanwhile. */
async function promised(core: ReplicaCore, term: number): Promise<Head | undefined> {
  try {
    return await core.ports.log.promise(core.shard, term);
  } catch (error) {
    await core.noticeEnd();
    if (core.state.id !== NO_REPLICA || core.stopped !== undefined) throw error;
    return undefined;
  }
}

/** The key order decides where each record lies: it is never changed under a state. */
function requireSameOrder(core: ReplicaCore, { id }: State, { options, namespace }: NewTermRequest): void {
  const { told } = core.data;
  if (id === NO_REPLICA || told === undefined) return;
  if (told.options.keySorting !== options.keySorting || told.namespace !== namespace) {
    const has = `namespace ${told.namespace}, key sorting ${told.options.keySorting}`;
    throw new Refusal("INVALID_ARGUMENT", `shard ${core.shard} was created in ${has}`);
  }
}

/** The replica that lives here goes on. */
async function keep(core: ReplicaCore, told: Told): Promise<Damage | undefined> {
  await core.data.remember(told);
  return core.data.open(core.state.head);
}

/** Another replica begins here: from nothing, or with what stands here. */
async function begin(
  core: ReplicaCore,
  request: NewTermRequest,
  { next }: Accepted<"NewTerm">,
): Promise<Damage | undefined> {
  const { namespace, options, adopt } = request;
  const life = { replicaId: next.id, mintedTerm: next.mintedTerm };
  const told = { namespace, options };
  if (adopt !== true) {
    const minted = await core.data.mint(life, told);
    core.become({ ...core.state, id: next.id, mintedTerm: next.mintedTerm, promise: minted.promise, head: EMPTY_HEAD });
    core.rest();
    return undefined;
  }
  const { head, promise, led } = await core.ports.log.adopt(core.shard, life);
  core.become({ ...core.state, id: next.id, mintedTerm: next.mintedTerm, promise, led, head });
  core.rest();
  return keep(core, told);
}

function answered({ state }: ReplicaCore, { replicaId }: NewTermRequest, ended: string): NewTermResponse {
  const isOurs = replicaId !== undefined;
  const { head, id, mintedTerm } = state;
  return {
    head: isOurs ? head : { term: head.term, offset: head.offset, crc: undefined },
    replicaId: isOurs ? id : undefined,
    ended: isOurs ? ended : undefined,
    mintedTerm: isOurs ? mintedTerm : undefined,
  };
}

// --- GetStatus ------------------------------------------------------------------------------------------------

async function statusOf(core: ReplicaCore): Promise<GetStatusResponse> {
  const { state, leader } = core;
  const outcome = decide(state, "GetStatus", {});
  if (!outcome.accepted) throw new Refusal(outcome.reason, outcome.message);
  const { applied } = state;
  const head = await durableHead(core);
  if (core.state.id !== state.id) return statusOf(core);
  // One that has lost what it was told follows nobody before it is told again: a coordinator that finds it fenced in its
  // term would not send it the NewTerm that does.
  const status = core.data.told === undefined ? "NOT_MEMBER" : outcome.answer.status;
  return {
    term: state.promise,
    status,
    headOffset: head.offset,
    commitOffset: leader === undefined ? applied : Math.max(leader.committed, applied),
    replicaId: state.id,
    ended: state.ended,
    promise: state.promise,
    appliedOffset: applied,
    verifiedOffset: leader === undefined ? verifiedHere(state) : head.offset,
    headTerm: head.term,
    headCrc: head.crc,
    scanned: core.data.kv?.scanned ?? false,
    frozen: state.status === "frozen",
  };
}

/**
 * The head with its chain, which a leader with replication factor 1 does not compute. Without it where the entry itself is
 * damaged: that ends the id, or nothing when a checkpoint holds the entry.
 */
async function durableHead(core: ReplicaCore): Promise<EntryId & { readonly crc: number | undefined }> {
  const { state, leader, ports, shard } = core;
  try {
    if (leader !== undefined) return await leader.durableHead();
    if (state.led < state.promise || state.id === NO_REPLICA) return state.head;
    return (await ports.log.at(shard, state.head.offset)) ?? state.head;
  } catch (error) {
    if (!(error instanceof Refusal) || error.reason !== "DATA_LOSS") throw error;
    await core.noticeEnd();
    return { ...state.head, crc: undefined };
  }
}

/** What this term's leader has compared and the log has synced. */
function verifiedHere({ verified, head }: { readonly verified: number; readonly head: Head }): number {
  return Math.max(NO_OFFSET, Math.min(verified, head.offset));
}
