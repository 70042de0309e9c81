/**
 * One leadership: a replica that leads a shard in one term, from the durable mark that it does until a later term or a
 * fault ends it. Standalone shards have one too, with replication factor 1.
 *
 *     cursors to the followers named → own-term entry once floor(RF/2) of them are attached → once it is committed, apply
 *     all entries up to it → give every session its full timeout → serve
 *
 * `stop` is synchronous and final: nothing is acked, applied, answered or sent by this leadership afterwards, and the
 * state is not touched any more. It may be handed to whoever comes next at once.
 *
 * Source: safety.md §3, §5, §8; semantics.md §8.2.
 */
import { Applier } from "../database/apply.ts";
import { type BookkeepingRecord, bookkeepingRecords } from "../database/bookkeeping.ts";
import { assert } from "../lib/assert.ts";
import type { Bytes } from "../lib/bytes.ts";
import { Histogram } from "../lib/histogram.ts";
import type { Head, Offset, ReplicaId, SessionId, ShardId, Term } from "../model/ids.ts";
import { type KeyOrder, keyOrder } from "../model/keys.ts";
import {
  LATENCY_BUCKETS_MS,
  NOTIFICATION_RETENTION_MS_DEFAULT,
  NOTIFICATION_TRIM_MS_MAX,
  NOTIFICATION_TRIM_MS_MIN,
  SESSIONS_PER_SHARD_MAX,
} from "../model/limits.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Clock, KeyValue } from "../ports.ts";
import { type Leadership, mayServe, newLeadership, ownTermEntryDue } from "../protocol/commit.ts";
import { encodeOwnTermEntry } from "../wire/log-entry.ts";
import { decodeWrite, type Write } from "../wire/requests.ts";
import { EntryTail } from "./entry-tail.ts";
import { NotificationFeed, SequenceFeed } from "./feeds.ts";
import { FollowerCursors, type FollowerProgress } from "./follower-cursors.ts";
import {
  type AddedFollower,
  type LeaderConfig,
  type LeaderHooks,
  type LeaderPorts,
  type NamedFollower,
  noneCounted,
  type ShardCounters,
  type ShardOptions,
} from "./leader-config.ts";
import { ReadRounds } from "./read-round.ts";
import { SessionCalls } from "./session-calls.ts";
import { type Proposed, WritePath } from "./write-path.ts";

export class Leader {
  readonly namespace: string;
  readonly id: ShardId;
  readonly term: Term;
  readonly replicaId: ReplicaId;
  readonly kv: KeyValue;
  readonly order: KeyOrder;
  readonly counters: ShardCounters = noneCounted();
  /** From proposal to response, milliseconds. */
  readonly writeLatency = new Histogram(LATENCY_BUCKETS_MS);
  readonly notifications: NotificationFeed;
  readonly sequences = new SequenceFeed();
  readonly #ports: LeaderPorts;
  readonly #clock: Clock;
  readonly #config: LeaderConfig;
  readonly #options: Required<ShardOptions>;
  readonly #hooks: LeaderHooks;
  readonly #leadership: Leadership;
  readonly #tail: EntryTail | undefined;
  readonly #cursors: FollowerCursors;
  readonly #applier: Applier;
  readonly #writePath: WritePath;
  readonly #rounds: ReadRounds;
  readonly #sessions: SessionCalls;
  readonly #started = Promise.withResolvers<void>();
  /** Why clients are not served: it does not serve yet, or has stopped. */
  #unavailable: Refusal | undefined = notServing();
  #frozen: Refusal | undefined;
  #stopped = false;
  #takingOver = false;
  /** The durable head with replication factor 1. */
  #head: Head;
  #freezing: { resolve(head: Offset): void; reject(reason: Refusal): void }[] = [];
  /** What clients hold open: told when all of it ends. */
  readonly #interrupts = new Set<(reason: Refusal) => void>();
  #feedsEnded: Refusal | undefined;
  #cancelTrim: () => void = () => {};

  constructor(ports: LeaderPorts, config: LeaderConfig, hooks: LeaderHooks) {
    const { kv, clock } = ports;
    const { shard, term, head, base, self, options } = config;
    const { offset } = kv.applied;
    assert(base.offset <= offset && offset <= head.offset, "the state lies within the log", base.offset, offset);
    this.namespace = config.namespace;
    this.id = shard;
    this.term = term;
    this.replicaId = self.replicaId;
    this.kv = kv;
    this.order = keyOrder(options.keySorting);
    this.#ports = ports;
    this.#clock = clock;
    this.#config = config;
    this.#head = head;
    this.#hooks = hooks;
    this.#options = {
      sessionsMax: SESSIONS_PER_SHARD_MAX,
      notificationsRetentionMs: NOTIFICATION_RETENTION_MS_DEFAULT,
      ...options,
    };
    const slots = FollowerCursors.slots(config, ports.random);
    const members = [self.replicaId, ...slots.map(({ id }) => id)];
    this.#leadership = newLeadership({ term, self: self.replicaId, members, headOffset: head.offset });
    this.#tail = this.#leadership.acksNeeded > 0 ? new EntryTail(ports.budget, head) : undefined;
    this.notifications = new NotificationFeed(kv, shard, clock);
    this.#rounds = new ReadRounds(clock, this.#leadership, {
      applied: () => kv.applied.offset,
      wake: () => this.#cursors.wake(),
      onSilent: (reason) => this.#interrupt(reason),
      onHeard: () => this.#pauseWrites(),
    });
    this.#cursors = new FollowerCursors(ports, config, slots, {
      leadership: this.#leadership,
      tail: this.#tail,
      rounds: this.#rounds,
      onProgress: () => this.#progress(),
      onEnded: (server, replicaId) => hooks.followerEnded(server, replicaId),
      onFault: (error) => this.#fault(error),
    });
    const { notificationsEnabled } = options;
    this.#applier = new Applier(kv, { order: this.order, notificationsEnabled });
    this.#writePath = this.#newWritePath();
    this.#sessions = this.#newSessions();
    this.#pauseWrites();
  }

  #newWritePath(): WritePath {
    const options = { shard: this.id, leadership: this.#leadership, tail: this.#tail };
    return new WritePath(this.#ports, options, this.#applier, {
      onProposed: () => this.#cursors.wake(),
      onDurable: () => this.#logged(),
      onApplied: () => this.#applied(),
      onFault: (error) => this.#fault(error),
      onFenced: (reason) => this.stop(reason),
    });
  }

  #newSessions(): SessionCalls {
    const host = {
      shard: this.id,
      sessionsMax: this.#options.sessionsMax,
      requireServing: () => void this.readable(),
      propose: (make: (offset: Offset) => Bytes) => this.#propose(make),
      confirm: () => this.#confirm(),
      onInterrupt: (callback: (reason: Refusal) => void) => this.onInterrupt(callback),
    };
    return new SessionCalls(this.#clock, host, this.counters);
  }

  // --- from first to last -----------------------------------------------------------------------------------------

  /** Resolves when it serves. Rejects when it is stopped or fails before: it has stopped then. */
  start(followers: readonly NamedFollower[]): Promise<void> {
    this.#started.promise.catch(() => {});
    if (this.#tail !== undefined) this.#rounds.start();
    for (const follower of followers) this.#cursors.add({ ...follower, observer: false, targetShard: this.id });
    this.#progress();
    return this.#started.promise;
  }

  /** One of the same server and id goes on as it is. */
  addFollower(follower: AddedFollower): void {
    if (!this.#stopped) this.#cursors.add(follower);
  }

  removeFollower(server: string, targetShard: ShardId): void {
    this.#cursors.remove(server, targetShard);
  }

  /** Takes no proposals until `thaw`. Resolves with the head, which is final till then, once all that was taken is durable here. */
  freeze(): Promise<Offset> {
    if (this.#stopped) return Promise.reject(this.#unavailable);
    this.#frozen = new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader: the shard is frozen");
    this.#pauseWrites();
    return new Promise((resolve, reject) => {
      this.#freezing.push({ resolve, reject });
      this.#answerFreezes();
    });
  }

  thaw(): void {
    this.#frozen = undefined;
    this.#pauseWrites();
  }

  /** Takes no more writes and resolves when all that were taken are answered. */
  drain(reason: Refusal): Promise<void> {
    this.#cancelTrim();
    this.#sessions.stop();
    this.endFeeds(reason);
    return this.#writePath.drain(reason);
  }

  /** See above: at once, and for ever. The first reason counts. */
  stop(reason: Refusal): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#unavailable = reason;
    this.#applier.listener = undefined;
    this.#cancelTrim();
    this.#sessions.stop();
    this.#cursors.stop();
    this.#tail?.close();
    this.#writePath.stop(reason);
    this.#rounds.stop(reason);
    for (const { reject } of this.#freezing.splice(0)) reject(reason);
    this.endFeeds(reason);
    this.#interrupt(reason);
    this.#started.reject(reason);
  }

  #fault(error: unknown): void {
    if (this.#stopped) return;
    const message = "this replica has stopped after a fault";
    this.#started.reject(error);
    this.stop(error instanceof Refusal ? error : new Refusal("RESOURCE_UNAVAILABLE", message, { cause: error }));
    this.#hooks.fault(error);
  }

  /** A follower has answered, or something has become possible. */
  #progress(): void {
    if (this.#stopped) return;
    if (ownTermEntryDue(this.#leadership)) {
      this.#writePath.proposeOwnTerm(encodeOwnTermEntry(this.#config.features));
    }
    this.#writePath.applyCommitted();
    this.#rounds.advanced();
    this.#cursors.wake();
  }

  /** The own log has moved on. */
  #logged(): void {
    this.#cursors.wake();
    this.#answerFreezes();
  }

  #applied(): void {
    this.notifications.applied();
    if (this.#tail !== undefined) this.#rounds.advanced();
    this.#cursors.wake();
    if (this.#takingOver || !mayServe(this.#leadership, this.kv.applied.offset)) return;
    this.#takingOver = true;
    void this.#serve();
  }

  async #serve(): Promise<void> {
    // what earlier leaders' entries have left behind is found in the state: only this one's are told
    this.#applier.listener = {
      sessionStarted: (id, timeoutMs) => this.#sessions.started(id, timeoutMs),
      sessionEnded: (id) => this.#sessions.ended(id),
      sequenceAdvanced: (prefix) => this.sequences.advanced(prefix),
    };
    try {
      await this.#sessions.takeOver(this.kv, this.order.sorting, () => !this.#stopped);
    } catch (error) {
      this.#fault(error);
    }
    if (this.#stopped) return;
    this.#unavailable = undefined;
    this.#rounds.serve();
    this.#pauseWrites();
    this.#scheduleTrim();
    this.#started.resolve();
  }

  #pauseWrites(): void {
    this.#writePath.paused = this.#unavailable ?? this.#frozen ?? this.#rounds.silence;
  }

  #answerFreezes(): void {
    const { durable, sent } = this.#writePath;
    if (this.#freezing.length === 0 || durable < sent) return;
    for (const { resolve } of this.#freezing.splice(0)) resolve(durable);
  }

  /** Removes what is older than the retention, a tenth of it apart. */
  #scheduleTrim(): void {
    const { notificationsRetentionMs } = this.#options;
    const apart = Math.min(NOTIFICATION_TRIM_MS_MAX, Math.max(NOTIFICATION_TRIM_MS_MIN, notificationsRetentionMs / 10));
    this.#cancelTrim = this.#clock.after(apart, async () => {
      await this.kv.trimNotifications(this.#clock.now() - notificationsRetentionMs);
      if (this.#feedsEnded === undefined) this.#scheduleTrim();
    });
  }

  // --- writing ----------------------------------------------------------------------------------------------------

  /** See WritePath.propose. */
  async write(write: Write, request: Bytes): Promise<Bytes> {
    const started = this.#clock.monotonicMs();
    const response = await this.#writePath.propose(() => ({ write, request }));
    this.writeLatency.record(this.#clock.monotonicMs() - started);
    this.counters.puts += write.puts.length;
    this.counters.deletes += write.deletes.length;
    this.counters.deleteRanges += write.deleteRanges.length;
    this.counters.writeBytes += request.length;
    return response;
  }

  /** Proposes a write of this leader's own, made for the offset that it gets. */
  #propose(make: (offset: Offset) => Bytes): Promise<Bytes> {
    return this.#writePath.propose((offset): Proposed => {
      const request = make(offset);
      return { write: decodeWrite(request), request };
    });
  }

  /** See SessionCalls. */
  createSession(timeoutMs: number, identity: Bytes): Promise<SessionId> {
    return this.#sessions.create(timeoutMs, identity);
  }

  keepAlive(id: SessionId): Promise<void> | undefined {
    return this.#sessions.keepAlive(id);
  }

  closeSession(id: SessionId): Promise<void> {
    return this.#sessions.close(id);
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  // --- reading ----------------------------------------------------------------------------------------------------

  /** Whether clients are served here. */
  get serving(): boolean {
    return this.#unavailable === undefined;
  }

  /** The state to read from. Throws when this leader does not serve. */
  readable(): KeyValue {
    if (this.#unavailable !== undefined) throw this.#unavailable;
    if (this.kv.damage !== undefined) throw damageRefusal(this.id, this.kv.damage);
    return this.kv;
  }

  /**
   * Undefined when a read that arrives now may be answered at once; else it resolves when it may: a round that was sent
   * after this call is confirmed, and what was committed at this call is applied. Throws or rejects RESOURCE_UNAVAILABLE
   * when no majority answers.
   */
  confirmRead(): Promise<void> | undefined {
    return this.#options.readConsistency === "leader" ? undefined : this.#confirm();
  }

  #confirm(): Promise<void> | undefined {
    if (this.#unavailable !== undefined) throw this.#unavailable;
    return this.#tail === undefined ? undefined : this.#rounds.confirm();
  }

  /** The highest key of a sequence, if it has one. */
  async highestSequenceKey(prefix: Bytes): Promise<Bytes | undefined> {
    await this.readable().ordered();
    this.readable();
    return this.#applier.highestSequenceKey(prefix);
  }

  get notificationsEnabled(): boolean {
    return this.#options.notificationsEnabled;
  }

  /** The internal records that are made when read, as of now. */
  bookkeeping(): BookkeepingRecord[] {
    return bookkeepingRecords(this.kv.applied, this.term, this.#options);
  }

  get committed(): Offset {
    return this.#writePath.committed;
  }

  /** The last entry durable here: the same object until it moves. With replication factor 1 the chain is not computed: its `crc` is 0. */
  get head(): Head {
    if (this.#tail !== undefined) return this.#tail.durable;
    const offset = this.#writePath.durable;
    if (offset !== this.#head.offset) this.#head = { term: this.term, offset, crc: 0 };
    return this.#head;
  }

  /** The last entry durable here, with the chain's value. */
  async durableHead(): Promise<Head> {
    const { head } = this;
    return (await this.#ports.log.at(this.id, head.offset)) ?? head;
  }

  get applied(): Offset {
    return this.kv.applied.offset;
  }

  get inFlight(): number {
    return this.#writePath.inFlight;
  }

  /** How far followers and observers are. */
  followers(): FollowerProgress[] {
    return this.#cursors.progress();
  }

  // --- what clients hold open -------------------------------------------------------------------------------------

  /** Calls back when this leader ends all client streams: it has stopped, or hears from no majority. The returned function takes it back. */
  onInterrupt(callback: (reason: Refusal) => void): () => void {
    this.#interrupts.add(callback);
    return () => this.#interrupts.delete(callback);
  }

  #interrupt(reason: Refusal): void {
    this.#pauseWrites();
    for (const callback of [...this.#interrupts]) callback(reason);
  }

  /** Ends the streams that follow this shard: notifications with `reason`, sequence updates without an error. */
  endFeeds(reason: Refusal): void {
    this.#feedsEnded ??= reason;
    this.notifications.end(reason);
    this.sequences.end();
  }

  /** A place in a later turn of the event loop. */
  nextTurn(): Promise<void> {
    return new Promise((resolve) => this.#clock.soon(resolve));
  }
}

function notServing(): Refusal {
  return new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader");
}
