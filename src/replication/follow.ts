/**
 * What a leader asks of a follower: a stream of entries, a truncation, a snapshot in place of entries that the leader has
 * no more. The rules are in protocol/following.ts.
 *
 * A snapshot comes in beside the state that stands, for as long as it takes, and may be interrupted at any piece by
 * NewTerm, by another snapshot, by the end of the process: then nothing has changed. It is installed in one go:
 *
 *     all pieces durable, compared ─> decided again → the log begins behind it → the states are switched
 *              beside all else         alone
 *
 * A crash between the last two is finished when the state is opened: the log says where it begins.
 */
import { assert } from "../lib/assert.ts";
import { type Head, NO_OFFSET } from "../model/ids.ts";
import type {
  Append,
  ShardTerm,
  SnapshotChunk,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { AppendReceiver, SnapshotReceiver, StateReceiver } from "../ports.ts";
import { decide } from "../protocol/replica.ts";
import { AppendPath, type Follower } from "./append-path.ts";
import type { Receiving, ReplicaCore } from "./replica-core.ts";
import { placeOf } from "./replica-data.ts";

// --- entries --------------------------------------------------------------------------------------------------

/** Takes a leader's entries until the stream ends. Rejects with why it was refused, or ended from here. */
export async function replicate(core: ReplicaCore, { term }: ShardTerm, stream: AppendReceiver): Promise<void> {
  const first = await stream.next();
  if (first === undefined) return;
  const path = await core.exclusive(() => openStream(core, { term, first, stream }));
  try {
    await path.serve(first);
  } catch (error) {
    // what the log refuses so it may have ended by itself
    if (error instanceof Refusal && error.reason === "NODE_IS_NOT_MEMBER") {
      void core.exclusiveAnyway(() => core.noticeEnd());
    }
    throw error;
  } finally {
    path.stop(new Refusal("RESOURCE_UNAVAILABLE", "the stream has ended"));
    void core.settle();
  }
}

async function openStream(
  core: ReplicaCore,
  { term, first, stream }: { readonly term: number; readonly first: Append; readonly stream: AppendReceiver },
): Promise<AppendPath> {
  const { replicaId, ackedOffset = NO_OFFSET, readRound } = first;
  const outcome = decide(core.state, "OpenReplicate", { term, replicaId, ackedOffset });
  if (!outcome.accepted) return core.refuse(outcome);
  const { kv } = core;
  const { log, clock, turns, memory } = core.ports;
  assert(core.path === undefined && core.leader === undefined, "nothing else runs on the replica");
  core.receiving?.stop(new Refusal("RESOURCE_CONFLICT", "the leader sends entries instead"));
  core.become(outcome.next);
  const path = new AppendPath({ log, kv, clock, turns, memory }, followerOf(core), stream, readRound !== undefined);
  core.path = path;
  return path;
}

function followerOf(core: ReplicaCore): Follower {
  return {
    shard: core.shard,
    options: core.told.options,
    state: () => core.state,
    become: (next) => core.become(next),
    alarm: (message) => core.alarm(message),
    fault: (error) => core.fault(error),
  };
}

// --- truncation -----------------------------------------------------------------------------------------------

export function truncate(core: ReplicaCore, request: TruncateRequest): Promise<TruncateResponse> {
  return core.exclusive(async () => {
    const { term, replicaId, keep, expectedHead } = request;
    const { head } = core.state;
    const held = keep.offset <= head.offset ? await readHead(core, keep.offset) : undefined;
    const outcome = decide(core.state, "Truncate", { term, replicaId, keep, expectedHead, held });
    if (!outcome.accepted) return core.refuse(outcome);
    core.receiving?.stop(new Refusal("RESOURCE_CONFLICT", "the leader truncates instead"));
    const { log } = core.ports;
    const kept = await log.truncate(core.shard, {
      acceptedUnder: term,
      expectedHead: head,
      to: outcome.answer.keep,
    });
    core.become({ ...outcome.next, head: kept });
    const isOurs = replicaId !== undefined || expectedHead !== undefined;
    return {
      head: { term, offset: kept.offset },
      entryTerm: isOurs ? kept.term : undefined,
      headCrc: isOurs ? kept.crc : undefined,
    };
  });
}

async function readHead(core: ReplicaCore, offset: number): Promise<Head | undefined> {
  try {
    return await core.ports.log.at(core.shard, offset);
  } catch (error) {
    if (!(error instanceof Refusal) || error.reason !== "DATA_LOSS") throw error;
    core.fault(error);
    throw core.stopped ?? error;
  }
}

// --- snapshots ------------------------------------------------------------------------------------------------

/** Takes a snapshot whole. Rejects with why it was refused or interrupted: what stood then stands. */
export async function sendSnapshot(
  core: ReplicaCore,
  { term }: ShardTerm,
  chunks: SnapshotReceiver,
): Promise<SnapshotResponse> {
  const first = await chunks.next();
  if (first === undefined) throw new Refusal("INVALID_ARGUMENT", "a snapshot without a chunk");
  const offered = { term, replicaId: first.replicaId, last: first.last };
  const incoming = await core.exclusive(() => beginReceiving(core, offered));
  try {
    await incoming.receive(first, chunks);
    return await core.exclusive(() => install(core, incoming));
  } finally {
    if (core.receiving === incoming) core.receiving = undefined;
    if (!incoming.installed) await incoming.drop();
  }
}

interface Offered {
  readonly term: number;
  readonly replicaId: bigint | undefined;
  readonly last: Head | undefined;
}

async function beginReceiving(core: ReplicaCore, offered: Offered): Promise<IncomingSnapshot> {
  const outcome = decide(core.state, "SendSnapshot", offered);
  if (!outcome.accepted) return core.refuse(outcome);
  core.receiving?.stop(new Refusal("RESOURCE_CONFLICT", "another snapshot has begun"));
  const receiver = await core.ports.keyValues.receive(placeOf(core.told, core.shard));
  const incoming = new IncomingSnapshot(offered, receiver);
  core.receiving = incoming;
  return incoming;
}

/** In the place of log and state. What was applied or acked meanwhile refuses it, as at its first chunk. */
async function install(core: ReplicaCore, incoming: IncomingSnapshot): Promise<SnapshotResponse> {
  incoming.requireRunning();
  const outcome = decide(core.state, "SendSnapshot", incoming.offered);
  if (!outcome.accepted) return core.refuse(outcome);
  const { last } = outcome.answer;
  await core.ports.log.install(core.shard, incoming.offered.term, last);
  incoming.installed = true;
  try {
    core.data.switched(await incoming.receiver.switchTo());
  } catch (error) {
    core.fault(error);
    throw core.stopped ?? error;
  }
  core.become(outcome.next);
  return { ackOffset: last.offset };
}

class IncomingSnapshot implements Receiving {
  readonly offered: Offered;
  readonly receiver: StateReceiver;
  /** The log begins behind it: it is the state of this replica from now on, or when the process starts again. */
  installed = false;
  #stopped: Refusal | undefined;
  #fail: (reason: Refusal) => void = () => {};
  /** What the receiver is doing. */
  #step: Promise<void> = Promise.resolve();

  constructor(offered: Offered, receiver: StateReceiver) {
    this.offered = offered;
    this.receiver = receiver;
  }

  stop(reason: Refusal): void {
    this.#stopped ??= reason;
    this.#fail(reason);
  }

  requireRunning(): void {
    if (this.#stopped !== undefined) throw this.#stopped;
  }

  /** Takes pieces up to the end mark: what they come to is durable, beside what stands, once it resolves. */
  receive(first: SnapshotChunk, chunks: SnapshotReceiver): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#read(first, chunks).then(resolve, reject);
    });
  }

  /** Gives up, once the receiver is done with what it was given. */
  async drop(): Promise<void> {
    await this.#step.catch(() => {});
    await this.receiver.drop();
  }

  async #read(first: SnapshotChunk, chunks: SnapshotReceiver): Promise<void> {
    for (let chunk: SnapshotChunk | undefined = first; chunk !== undefined; chunk = await chunks.next()) {
      this.requireRunning();
      const { term, content, rowCount, stateHash } = chunk;
      if (term !== this.offered.term) throw new Refusal("INVALID_TERM", `a chunk of term ${term}`);
      if (content.length > 0) await this.#do(() => this.receiver.add(content));
      if (rowCount === undefined || stateHash === undefined) continue;
      return this.#do(() => this.receiver.complete(this.offered.last!, rowCount, stateHash));
    }
    throw new Refusal("INVALID_ARGUMENT", "the snapshot has no end");
  }

  async #do(step: () => Promise<void>): Promise<void> {
    this.requireRunning();
    this.#step = step();
    await this.#step;
    this.requireRunning();
  }
}
