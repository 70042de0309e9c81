/**
 * One replica's life on this data server. Standalone shards lead from the start with replication factor 1: the very
 * write path that a cluster's leader has.
 *
 * Taking the lead, in this order (safety.md §1, §3, §5):
 *
 *     promise promise + 1 → mark the term as led → append an own-term entry → once it is committed, apply all
 *     entries up to it → serve
 */
import { applyControl, applyEntry } from "../database/apply.ts";
import { type BookkeepingRecord, bookkeepingRecords, type TermOptions } from "../database/bookkeeping.ts";
import type { Bytes } from "../lib/bytes.ts";
import { Histogram } from "../lib/histogram.ts";
import type { Head, ReplicaId, ShardId, Term } from "../model/ids.ts";
import { type KeyOrder, keyOrder } from "../model/keys.ts";
import { LATENCY_BUCKETS_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, Damage, KeyValue, Log, Logger } from "../ports.ts";
import { newQuorum, ownDurable } from "../protocol/quorum.ts";
import { encodeOwnTermEntry } from "../wire/log-entry.ts";
import type { Write } from "../wire/requests.ts";
import { WritePath } from "./write-path.ts";

export interface ShardPorts {
  readonly log: Log;
  readonly kv: KeyValue;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface ShardConfig {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly options: TermOptions;
}

/** Operations since the start of this leadership. */
export interface ShardCounters {
  puts: number;
  deletes: number;
  deleteRanges: number;
  gets: number;
  lists: number;
  rangeScans: number;
  writeBytes: number;
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
  };
  /** From proposal to response, milliseconds. */
  readonly writeLatency = new Histogram(LATENCY_BUCKETS_MS);
  readonly #clock: Clock;
  readonly #options: TermOptions;
  readonly #writePath: WritePath;
  /** Why this replica has stopped serving. */
  #fault: Refusal | undefined;

  /** Leads the shard with replication factor 1. Rejects with DamagedReplica when log and state do not fit together. */
  static async lead(ports: ShardPorts, config: ShardConfig): Promise<Shard> {
    const { log, kv, clock } = ports;
    const replica = log.replicas().find(({ shard }) => shard === config.shard) ?? (await log.create(config.shard));
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
    await replay(log, kv, config.shard, head.offset);
    applyControl(kv, own);
    return new Shard(ports, config, { replicaId: replica.replicaId, term, quorum });
  }

  private constructor(
    ports: ShardPorts,
    config: ShardConfig,
    leadership: { replicaId: ReplicaId; term: Term; quorum: ReturnType<typeof newQuorum> },
  ) {
    this.namespace = config.namespace;
    this.id = config.shard;
    this.term = leadership.term;
    this.replicaId = leadership.replicaId;
    this.kv = ports.kv;
    this.order = keyOrder(config.options.keySorting);
    this.#clock = ports.clock;
    this.#options = config.options;
    this.#writePath = new WritePath(ports, { shard: config.shard, ...leadership }, (error) => {
      this.#fault =
        error instanceof Refusal
          ? error
          : new Refusal("RESOURCE_UNAVAILABLE", "this replica has stopped after a fault", { cause: error });
      ports.logger.error(
        { component: "shard", namespace: this.namespace, shard: this.id, err: error },
        "replica stopped",
      );
    });
  }

  /** See WritePath.propose. */
  async write(write: Write, request: Bytes): Promise<Bytes> {
    const started = this.#clock.monotonicMs();
    const response = await this.#writePath.propose(write, request);
    this.writeLatency.record(this.#clock.monotonicMs() - started);
    this.counters.puts += write.puts.length;
    this.counters.deletes += write.deletes.length;
    this.counters.deleteRanges += write.deleteRanges.length;
    this.counters.writeBytes += request.length;
    return response;
  }

  /** The state to read from. Throws when this replica has stopped. */
  readable(): KeyValue {
    if (this.#fault !== undefined) throw this.#fault;
    return this.kv;
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
    return this.#writePath.stop(reason);
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
async function replay(log: Log, kv: KeyValue, shard: ShardId, toInclusive: number): Promise<void> {
  while (kv.applied.offset < toInclusive) {
    for (const entry of await log.read(shard, kv.applied.offset + 1)) {
      if (entry.offset > toInclusive) return;
      const room = kv.room();
      if (room !== undefined) await room;
      applyEntry(kv, entry);
    }
  }
}
