/**
 * One replica's life on this data server. Standalone shards lead from the start with replication factor 1: the very
 * write path that a cluster's leader has.
 *
 * Taking the lead, in this order (safety.md §1, §3, §5):
 *
 *     promise promise + 1 → mark the term as led → append an own-term entry → once it is committed, apply all
 *     entries up to it → give every session its full timeout → serve
 */
import { Applier } from "../database/apply.ts";
import { type BookkeepingRecord, bookkeepingRecords } from "../database/bookkeeping.ts";
import { rowValue } from "../database/record.ts";
import { sessionIdOf, sessionsRange } from "../database/session-key.ts";
import { encodeSessionEnds, encodeSessionStart, sessionTimeoutMs } from "../database/session-record.ts";
import type { Bytes } from "../lib/bytes.ts";
import { Histogram } from "../lib/histogram.ts";
import {
  type Head,
  NO_TERM,
  type Offset,
  type ReplicaId,
  type SessionId,
  type ShardId,
  type Term,
} from "../model/ids.ts";
import { type KeyOrder, keyOrder } from "../model/keys.ts";
import {
  LATENCY_BUCKETS_MS,
  NOTIFICATION_RETENTION_MS_DEFAULT,
  NOTIFICATION_TRIM_MS_MAX,
  NOTIFICATION_TRIM_MS_MIN,
  SESSIONS_PER_SHARD_MAX,
} from "../model/limits.ts";
import type { TermOptions } from "../model/peer-messages.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Clock, Damage, KeyValue, Log, Logger, Random } from "../ports.ts";
import { newQuorum, ownDurable, type Quorum } from "../protocol/quorum.ts";
import { encodeOwnTermEntry } from "../wire/log-entry.ts";
import { decodeWrite, type Write } from "../wire/requests.ts";
import { NotificationFeed, SequenceFeed } from "./feeds.ts";
import { Sessions } from "./sessions.ts";
import { type Proposed, WritePath, type WritePorts } from "./write-path.ts";

export interface ShardPorts extends WritePorts {
  readonly random: Random;
  readonly logger: Logger;
}

export interface ShardConfig {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly options: ShardOptions;
}

export interface ShardOptions extends TermOptions {
  /** Age past which what entries told subscribers is removed; default NOTIFICATION_RETENTION_MS_DEFAULT. */
  readonly notificationsRetentionMs?: number;
  /** Default SESSIONS_PER_SHARD_MAX. */
  readonly sessionsMax?: number;
}

/** Keys looked at for sessions before the event loop has its turn. */
const KEYS_PER_TURN = 1024;

/** Operations since the start of this leadership. */
export interface ShardCounters {
  puts: number;
  deletes: number;
  deleteRanges: number;
  gets: number;
  lists: number;
  rangeScans: number;
  writeBytes: number;
  sessionsCreated: number;
  /** At their client's word. */
  sessionsClosed: number;
  sessionsExpired: number;
}

/** A replica whose stored data cannot be trusted: it serves nothing and says why. */
export class DamagedReplica extends Error {
  override readonly name = "DamagedReplica";
  readonly damage: Damage;

  constructor(damage: Damage) {
    super(`${damage.file}: ${damage.where}: ${damage.what}`);
    this.damage = damage;
  }
}

export class Shard {
  readonly namespace: string;
  readonly id: ShardId;
  readonly term: Term;
  readonly replicaId: ReplicaId;
  readonly kv: KeyValue;
  readonly order: KeyOrder;
  readonly counters: ShardCounters = {
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
  /** From proposal to response, milliseconds. */
  readonly writeLatency = new Histogram(LATENCY_BUCKETS_MS);
  readonly #clock: Clock;
  readonly #options: Required<ShardOptions>;
  #cancelTrim: () => void = () => {};
  readonly #writePath: WritePath;
  readonly #applier: Applier;
  readonly #sessions: Sessions;
  /** Sessions on their way into the state. */
  #sessionsProposed = 0;
  readonly notifications: NotificationFeed;
  readonly sequences = new SequenceFeed();
  #feedsEnded: Refusal | undefined;
  /** Why this replica has stopped serving. */
  #fault: Refusal | undefined;

  /** Leads the shard with replication factor 1. Rejects with DamagedReplica when log and state do not fit together. */
  static async lead(ports: ShardPorts, config: ShardConfig): Promise<Shard> {
    const { log, kv, clock, random } = ports;
    const life = { replicaId: random.replicaId(), mintedTerm: NO_TERM };
    const found = log.replicas().find(({ shard }) => shard === config.shard);
    const replica = found ?? (await log.create(config.shard, life));
    if (replica.damage !== undefined) throw new DamagedReplica(replica.damage);
    const term = replica.promise + 1;
    const head = await log.promise(config.shard, term);
    assertFits(kv, head, replica.base, config);
    await log.markLed(config.shard, term);

    const own = { term, offset: head.offset + 1, timestamp: clock.now(), value: encodeOwnTermEntry() };
    const quorum = newQuorum(1, own.offset);
    quorum.sent = own.offset;
    await log.append(config.shard, own);
    ownDurable(quorum, own.offset);
    const { notificationsEnabled, keySorting } = config.options;
    const applier = new Applier(kv, { order: keyOrder(keySorting), notificationsEnabled });
    await replay({ log, kv, applier }, config.shard, head.offset);
    applier.applyControl(own);
    const shard = new Shard(ports, config, { replicaId: replica.replicaId, term, quorum, applier });
    await shard.#takeOverSessions();
    shard.#scheduleTrim();
    return shard;
  }

  private constructor(
    ports: ShardPorts,
    config: ShardConfig,
    leadership: { replicaId: ReplicaId; term: Term; quorum: Quorum; applier: Applier },
  ) {
    this.namespace = config.namespace;
    this.id = config.shard;
    this.term = leadership.term;
    this.replicaId = leadership.replicaId;
    this.kv = ports.kv;
    this.order = keyOrder(config.options.keySorting);
    this.#clock = ports.clock;
    this.#options = {
      sessionsMax: SESSIONS_PER_SHARD_MAX,
      notificationsRetentionMs: NOTIFICATION_RETENTION_MS_DEFAULT,
      ...config.options,
    };
    this.#applier = leadership.applier;
    this.notifications = new NotificationFeed(ports.kv, config.shard);
    this.#sessions = new Sessions(ports.clock, (ids) => this.#endSessions(ids));
    this.#applier.listener = {
      sessionStarted: (id, timeoutMs) => this.#sessions.add(id, timeoutMs),
      sessionEnded: (id) => this.#sessions.remove(id),
      sequenceAdvanced: (prefix) => this.sequences.advanced(prefix),
    };
    this.#writePath = new WritePath(ports, { shard: config.shard, ...leadership }, leadership.applier, {
      onApplied: () => this.notifications.applied(),
      onFault: (error) => {
        this.#fault =
          error instanceof Refusal
            ? error
            : new Refusal("RESOURCE_UNAVAILABLE", "this replica has stopped after a fault", { cause: error });
        this.endFeeds(this.#fault);
        ports.logger.error(
          { component: "shard", namespace: this.namespace, shard: this.id, err: error },
          "replica stopped",
        );
      },
    });
  }

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

  // --- sessions -------------------------------------------------------------------------------------------------

  /** Makes a session; its id is the offset of the entry that makes it. Throws RESOURCE_EXHAUSTED past SESSIONS_PER_SHARD_MAX. */
  async createSession(timeoutMs: number, identity: Bytes): Promise<SessionId> {
    this.readable();
    if (this.#sessions.size + this.#sessionsProposed >= this.#options.sessionsMax) {
      throw new Refusal("RESOURCE_EXHAUSTED", `the shard has ${this.#options.sessionsMax} sessions`);
    }
    let id = -1;
    this.#sessionsProposed++;
    try {
      await this.#propose((offset) => {
        id = offset;
        return encodeSessionStart(this.id, id, timeoutMs, identity);
      });
    } finally {
      this.#sessionsProposed--;
    }
    this.counters.sessionsCreated++;
    return id;
  }

  /** Gives a session its full timeout again. Throws SESSION_NOT_FOUND when it does not live. */
  keepAlive(id: SessionId): void {
    this.readable();
    if (!this.#sessions.keepAlive(id)) throw new Refusal("SESSION_NOT_FOUND", "");
  }

  /** Ends a session with all its records. Rejects SESSION_NOT_FOUND when it does not live. */
  async closeSession(id: SessionId): Promise<void> {
    this.readable();
    if (!(await this.#sessions.close(id))) throw new Refusal("SESSION_NOT_FOUND", "");
    this.counters.sessionsClosed++;
    this.counters.sessionsExpired--;
  }

  async #endSessions(ids: readonly SessionId[]): Promise<void> {
    await this.#propose(() => encodeSessionEnds(this.id, ids));
    this.counters.sessionsExpired += ids.length;
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Sessions are in the state; their time begins anew with each leader. */
  async #takeOverSessions(): Promise<void> {
    const snapshot = await this.kv.snapshot();
    try {
      const cursor = snapshot.cursor(sessionsRange(this.order.sorting));
      for (let steps = 1; cursor.next(); steps++) {
        const id = sessionIdOf(cursor.key);
        if (id !== undefined) this.#sessions.add(id, sessionTimeoutMs(rowValue(cursor.row)));
        if (steps % KEYS_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      snapshot.release();
    }
  }

  // --- reading --------------------------------------------------------------------------------------------------

  /** The state to read from. Throws when this replica has stopped. */
  readable(): KeyValue {
    if (this.#fault !== undefined) throw this.#fault;
    if (this.kv.damage !== undefined) throw damageRefusal(this.id, this.kv.damage);
    return this.kv;
  }

  /** The highest key of a sequence, if it has one. */
  async highestSequenceKey(prefix: Bytes): Promise<Bytes | undefined> {
    await this.readable().ordered();
    return this.#applier.highestSequenceKey(prefix);
  }

  get notificationsEnabled(): boolean {
    return this.#options.notificationsEnabled;
  }

  /** The internal records that are made when read, as of now. */
  bookkeeping(): BookkeepingRecord[] {
    return bookkeepingRecords(this.kv.applied, this.term, this.#options);
  }

  get committed(): number {
    return this.#writePath.committed;
  }

  get head(): number {
    return this.#writePath.head;
  }

  get inFlight(): number {
    return this.#writePath.inFlight;
  }

  /** Takes no more writes and resolves when all that were taken are answered. */
  stop(reason: Refusal): Promise<void> {
    this.#cancelTrim();
    this.#sessions.stop();
    this.endFeeds(reason);
    return this.#writePath.stop(reason);
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

  /** Ends the streams that follow this shard: notifications with `reason`, sequence updates without an error. */
  endFeeds(reason: Refusal): void {
    this.#feedsEnded = reason;
    this.notifications.end(reason);
    this.sequences.end();
  }
}

/** The state must lie within the log: neither ahead of its head nor behind its first entry (safety.md §7). */
function assertFits(kv: KeyValue, head: Head, base: Head, config: ShardConfig): void {
  const { applied } = kv;
  const file = `${config.namespace}/shard-${config.shard}`;
  if (applied.offset > head.offset) {
    throw new DamagedReplica({
      file,
      where: `offset ${applied.offset}`,
      what: `the key-value state is ahead of the log, whose head is ${head.offset}`,
    });
  }
  if (applied.offset < base.offset) {
    throw new DamagedReplica({
      file,
      where: `offset ${applied.offset + 1}`,
      what: `the key-value state needs entries that the log no longer has: it begins at ${base.offset + 1}`,
    });
  }
}

/** Applies everything after the applied offset up to `toInclusive`. */
async function replay(
  { log, kv, applier }: { readonly log: Log; readonly kv: KeyValue; readonly applier: Applier },
  shard: ShardId,
  toInclusive: number,
): Promise<void> {
  while (kv.applied.offset < toInclusive) {
    const from = kv.applied.offset + 1;
    const entries = await log.read(shard, from).catch((error: unknown) => {
      if (!(error instanceof Refusal) || error.reason !== "DATA_LOSS") throw error;
      throw new DamagedReplica({ file: "the log", where: `offset ${from}`, what: error.message });
    });
    for (const entry of entries) {
      if (entry.offset > toInclusive) return;
      const room = kv.room();
      if (room !== undefined) await room;
      applier.applyEntry(entry);
    }
  }
}
