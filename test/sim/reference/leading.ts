/**
 * A reference server's leadership of one term (semantics.md §8.2, §8.3), with what it does otherwise than ours:
 *
 *     fsync, then replicate: cursors read only what is durable here
 *     a follower counts from the head that the coordinator told, or that Truncate answered; neither is compared again
 *     earlier terms commit by counting: no entry of its own term comes first
 *     one truncation that fails ends the whole call
 *     clients' reads are answered by what it believes
 *     NODE_IS_NOT_MEMBER sets a cursor back to the log's start
 */
import type { Bytes } from "../../../src/lib/bytes.ts";
import { type EntryId, NO_OFFSET, type Offset } from "../../../src/model/ids.ts";
import type { Append, ShardTerm } from "../../../src/model/peer-messages.ts";
import { Refusal, Unreachable } from "../../../src/model/refusal.ts";
import type { AppendStream, Clock, Followers } from "../../../src/ports.ts";
import { encodeWriteEntry } from "../../../src/wire/log-entry.ts";
import type { ReferenceLog } from "./log.ts";
import { FEATURE_ENABLE, type ReferenceState } from "./state.ts";

export interface ReferencePorts {
  readonly clock: Clock;
  readonly followers: Followers;
}

const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 60_000;
const RETRY_FACTOR = 1.5;
const CALL_TIMEOUT_MS = 5_000;
/** BecomeLeader is given up after this long: its caller has gone. */
const BECOME_LEADER_MS_MAX = 10_000;

interface ReferenceCursor {
  readonly server: string;
  readonly observer: boolean;
  acked: Offset;
  stream: AppendStream | undefined;
  ended: boolean;
}

interface Proposal {
  resolve(response: Bytes): void;
  reject(error: unknown): void;
}

export interface NamedHead {
  readonly server: string;
  readonly head: EntryId;
}

export class ReferenceLeading {
  readonly #ports: ReferencePorts;
  readonly #shard: ShardTerm;
  readonly #log: ReferenceLog;
  readonly #state: ReferenceState;
  readonly #replicationFactor: number;
  readonly #cursors = new Map<string, ReferenceCursor>();
  readonly #proposals = new Map<Offset, Proposal>();
  #waiting: (() => void)[] = [];
  #closed: Refusal | undefined;
  committed: Offset;
  serving = false;
  frozen = false;

  constructor(
    ports: ReferencePorts,
    options: {
      shard: ShardTerm;
      log: ReferenceLog;
      state: ReferenceState;
      committed: Offset;
      replicationFactor: number;
    },
  ) {
    this.#ports = ports;
    this.#shard = options.shard;
    this.#log = options.log;
    this.#state = options.state;
    this.#replicationFactor = options.replicationFactor;
    this.committed = options.committed;
  }

  /** BecomeLeader's steps 2 to 6. */
  async start(followers: readonly NamedHead[], features: readonly string[]): Promise<void> {
    const { head } = this.#log;
    await this.#log.flushed();
    const late = this.#ports.clock.after(BECOME_LEADER_MS_MAX, () => {
      this.close(new Refusal("UNKNOWN", "context deadline exceeded"));
    });
    try {
      for (const { server, head: theirs } of followers) await this.#attach({ server, head: theirs, observer: false });
      this.#advance();
      while (this.committed < head.offset && this.#closed === undefined) await this.#changed();
      this.#throwIfClosed();
      this.#apply(head.offset);
    } finally {
      late();
    }
    this.serving = true;
    if (features.includes("DB_CHECKSUM") && head.offset === NO_OFFSET) this.#append(FEATURE_ENABLE);
  }

  /** AddFollower. */
  async add(follower: NamedHead & { readonly observer: boolean }): Promise<void> {
    if (this.#cursors.has(follower.server)) return;
    const members = [...this.#cursors.values()].filter(({ observer }) => !observer);
    if (!follower.observer && members.length >= this.#replicationFactor - 1) {
      throw new Refusal("UNKNOWN", "all followers are already attached");
    }
    await this.#attach(follower);
  }

  removeObserver(server: string): void {
    const cursor = this.#cursors.get(server);
    if (cursor?.observer !== true) return;
    cursor.ended = true;
    cursor.stream?.cancel();
    this.#cursors.delete(server);
  }

  /** A client's write: resolves with its response once it is applied. */
  write(request: Bytes): Promise<Bytes> {
    this.#throwIfClosed();
    if (!this.serving || this.frozen) throw new Refusal("NODE_IS_NOT_LEADER", "this server does not lead the shard");
    return new Promise((resolve, reject) => {
      const offset = this.#append(encodeWriteEntry(request));
      this.#proposals.set(offset, { resolve, reject });
    });
  }

  read(key: Bytes): Bytes | undefined {
    this.#throwIfClosed();
    if (!this.serving) throw new Refusal("NODE_IS_NOT_LEADER", "this server does not lead the shard");
    return this.#state.get(key);
  }

  close(reason: Refusal): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.serving = false;
    for (const cursor of this.#cursors.values()) cursor.stream?.cancel();
    for (const proposal of this.#proposals.values()) proposal.reject(reason);
    this.#proposals.clear();
    this.#wake();
  }

  #append(value: Bytes): Offset {
    const { term } = this.#shard;
    const offset = this.#log.head.offset + 1;
    this.#log.append({ term, offset, timestamp: this.#ports.clock.now(), value });
    void this.#log.flushed().then(() => this.#advance());
    return offset;
  }

  // --- followers ----------------------------------------------------------------------------------------------------

  async #attach({ server, head, observer }: NamedHead & { readonly observer: boolean }): Promise<void> {
    const agreed = await this.#agreedOffset(server, head);
    this.#throwIfClosed();
    const cursor: ReferenceCursor = { server, observer, acked: agreed, stream: undefined, ended: false };
    this.#cursors.set(server, cursor);
    void this.#replicate(cursor);
    this.#advance();
  }

  /** Where the follower's log is taken to agree with this one: step 2, which trusts what Truncate answers. */
  async #agreedOffset(server: string, head: EntryId): Promise<Offset> {
    const own = this.#log.head;
    const highest = this.#log.highestOfTerm(head.term);
    if (head.offset === NO_OFFSET) return NO_OFFSET;
    if (head.term === own.term && head.offset <= own.offset) return head.offset;
    if (head.term === highest.term && head.offset <= highest.offset) return head.offset;
    const { term, offset } = highest;
    const request = { ...this.#shard, keep: { term, offset }, expectedHead: undefined, replicaId: undefined };
    const answer = await this.#ports.followers.truncate(server, request, { timeoutMs: CALL_TIMEOUT_MS });
    return answer.head.offset;
  }

  async #replicate(cursor: ReferenceCursor): Promise<void> {
    let retryMs = RETRY_MS_MIN;
    while (!this.#isOver(cursor)) {
      const before = cursor.acked;
      const stream = this.#ports.followers.replicate(cursor.server, this.#shard);
      cursor.stream = stream;
      const failure = await Promise.race([this.#send(cursor, stream), this.#receive(cursor, stream)]);
      cursor.stream = undefined;
      stream.cancel();
      if (this.#isOver(cursor)) return;
      if (cursor.acked > before) retryMs = RETRY_MS_MIN;
      if (failure instanceof Refusal && failure.reason === "NODE_IS_NOT_MEMBER") cursor.acked = NO_OFFSET;
      await this.#sleep(retryMs);
      retryMs = Math.min(retryMs * RETRY_FACTOR, RETRY_MS_MAX);
    }
  }

  /** Sends what is durable, entry by entry, until the stream or the leadership has ended. */
  async #send(cursor: ReferenceCursor, stream: AppendStream): Promise<unknown> {
    let next = cursor.acked + 1;
    let told = NO_OFFSET;
    while (!this.#isOver(cursor) && cursor.stream === stream) {
      const entry = next <= this.#log.durableOffset ? this.#log.entry(next) : undefined;
      if (entry === undefined && (!cursor.observer || told === this.committed)) {
        await this.#changed();
        continue;
      }
      told = this.committed;
      if (!stream.send(this.#appendOf(entry))) await stream.drained();
      if (entry !== undefined) next++;
    }
    return undefined;
  }

  #appendOf(entry: Append["entry"]): Append {
    return {
      term: this.#shard.term,
      entry,
      commitOffset: this.committed,
      previousEntryCrc: entry === undefined ? undefined : this.#log.crcBefore(entry.offset),
      cumulativeAcksSupported: true,
      previousTerm: undefined,
      previousCrc: undefined,
      readRound: undefined,
      ackedOffset: undefined,
      replicaId: undefined,
    };
  }

  /** Takes acks; answers why the stream ended. */
  async #receive(cursor: ReferenceCursor, stream: AppendStream): Promise<unknown> {
    try {
      for (;;) {
        const ack = await stream.next();
        if (ack === undefined || this.#isOver(cursor)) return undefined;
        cursor.acked = Math.max(cursor.acked, ack.offset);
        this.#advance();
      }
    } catch (error) {
      if (error instanceof Refusal || error instanceof Unreachable) return error;
      throw error;
    }
  }

  // --- commit -------------------------------------------------------------------------------------------------------

  /** Whatever its term, what floor(RF/2) followers have and is durable here is committed. */
  #advance(): void {
    if (this.#closed !== undefined) return;
    const acked = [...this.#cursors.values()].filter(({ observer }) => !observer).map((cursor) => cursor.acked);
    const needed = Math.floor(this.#replicationFactor / 2);
    const counted = needed === 0 ? this.#log.durableOffset : (acked.sort((a, b) => b - a)[needed - 1] ?? NO_OFFSET);
    this.committed = Math.max(this.committed, Math.min(counted, this.#log.durableOffset));
    if (this.serving) this.#apply(this.committed);
    this.#wake();
  }

  #apply(upTo: Offset): void {
    for (let offset = this.#state.applied + 1; offset <= upTo && !this.#state.stopped; offset++) {
      const response = this.#state.apply(this.#log.entry(offset)!);
      const proposal = this.#proposals.get(offset);
      this.#proposals.delete(offset);
      if (proposal === undefined || response === undefined) continue;
      if (response instanceof Refusal) proposal.reject(response);
      else proposal.resolve(response);
    }
  }

  // --- waiting ------------------------------------------------------------------------------------------------------

  /** Resolves when something may have moved, or the leadership is over. */
  #changed(): Promise<void> {
    if (this.#closed !== undefined) return Promise.resolve();
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#ports.clock.after(ms, resolve));
  }

  #isOver(cursor: ReferenceCursor): boolean {
    return this.#closed !== undefined || cursor.ended;
  }

  #throwIfClosed(): void {
    if (this.#closed !== undefined) throw this.#closed;
  }
}
