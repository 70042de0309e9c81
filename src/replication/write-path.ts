/**
 * A leader's way of a write, station by station:
 *
 *     propose      gets offset, term and time; joins what the log commits next
 *     log          durable here, together with whatever else arrived from any shard
 *     commit       a majority has it (protocol/quorum.ts); with replication factor 1 that is this replica
 *     apply        in offset order, without a pause within an entry
 *     respond      the waiting promise resolves
 *
 * Entries overlap: n + 1 is logged while n waits. Nothing goes back to an earlier station. When the log refuses an
 * entry (disk full), everything proposed after it is refused too, since offsets are dense; proposals are taken again
 * once all of those are back.
 *
 * Invariant: applied <= committed <= durable <= sent = next offset - 1.
 */
import type { Applier } from "../database/apply.ts";
import { assert } from "../lib/assert.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { LogEntry, Offset, ShardId, Term, Timestamp } from "../model/ids.ts";
import { SHARD_WRITES_QUEUED_MAX } from "../model/limits.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Clock, KeyValue, Log } from "../ports.ts";
import { ownDurable, type Quorum } from "../protocol/quorum.ts";
import { encodeWriteEntry } from "../wire/log-entry.ts";
import type { Write } from "../wire/requests.ts";
import type { Turns } from "./turns.ts";

export interface WritePorts {
  readonly log: Log;
  readonly kv: KeyValue;
  readonly clock: Clock;
  /** Shared by all shards of the node. */
  readonly turns: Turns;
}

/** A validated write and the message that it was decoded from, which is logged as it is. */
export interface Proposed {
  readonly write: Write;
  readonly request: Bytes;
}

export interface WritePathHooks {
  /** Told once when applying an entry failed: the state is then unknown and the replica must stop. */
  readonly onFault: (error: unknown) => void;
  /** Told when entries were applied, once for those that came together. */
  readonly onApplied: () => void;
}

interface Proposal {
  readonly write: Write;
  readonly offset: Offset;
  readonly timestamp: Timestamp;
  readonly resolve: (response: Bytes) => void;
  readonly reject: (error: unknown) => void;
}

export class WritePath {
  readonly #log: Log;
  readonly #kv: KeyValue;
  readonly #clock: Clock;
  readonly #turns: Turns;
  readonly #shard: ShardId;
  readonly #term: Term;
  readonly #quorum: Quorum;
  /** Proposals in offset order, from the first that is not applied; `#first` is its index. */
  #proposals: Proposal[] = [];
  #first = 0;
  #nextOffset: Offset;
  /** Appends that the log has not answered yet. */
  #appending = 0;
  /** The log refused an entry: nothing is proposed until every append is back. */
  #refusing: unknown;
  #applying = false;
  /** Why this leader takes no more writes. */
  #stopped: Refusal | undefined;
  #idle: (() => void)[] = [];
  readonly #applier: Applier;
  readonly #hooks: WritePathHooks;

  /** Starts behind the leader's own-term entry, which is committed and applied. */
  constructor(
    ports: WritePorts,
    at: { shard: ShardId; term: Term; quorum: Quorum },
    applier: Applier,
    hooks: WritePathHooks,
  ) {
    this.#log = ports.log;
    this.#kv = ports.kv;
    this.#clock = ports.clock;
    this.#turns = ports.turns;
    this.#shard = at.shard;
    this.#term = at.term;
    this.#quorum = at.quorum;
    this.#nextOffset = at.quorum.sent + 1;
    this.#applier = applier;
    this.#hooks = hooks;
    assert(ports.kv.applied.offset === at.quorum.committed, "a leader starts with all that is committed applied");
  }

  /** Writes that are proposed and not answered. */
  get inFlight(): number {
    return this.#proposals.length - this.#first;
  }

  get committed(): Offset {
    return this.#quorum.committed;
  }

  get head(): Offset {
    return this.#quorum.durable;
  }

  /**
   * Proposes the write that `make` gives for the offset that its entry gets. Resolves with the serialised WriteResponse
   * once it is committed and applied. Rejects INVALID_ARGUMENT for what only the state could tell; throws
   * RESOURCE_EXHAUSTED when too many wait or the disk is full, DATA_LOSS when the state is damaged, and what `stop` was
   * given.
   */
  propose(make: (offset: Offset) => Proposed): Promise<Bytes> {
    this.#requireRoom();
    const offset = this.#nextOffset++;
    const { write, request } = make(offset);
    const timestamp = this.#clock.now();
    this.#quorum.sent = offset;
    this.#append({ term: this.#term, offset, timestamp, value: encodeWriteEntry(request) });
    return new Promise((resolve, reject) => {
      this.#proposals.push({ write, offset, timestamp, resolve, reject });
    });
  }

  #requireRoom(): void {
    if (this.#stopped !== undefined) throw this.#stopped;
    if (this.#refusing !== undefined) throw this.#refusing;
    if (this.#kv.damage !== undefined) throw damageRefusal(this.#shard, this.#kv.damage);
    if (this.#kv.full)
      throw new Refusal(
        "RESOURCE_EXHAUSTED",
        "no space left for the shard's state: writes are taken again when there is",
      );
    if (this.inFlight >= SHARD_WRITES_QUEUED_MAX) {
      throw new Refusal("RESOURCE_EXHAUSTED", `${SHARD_WRITES_QUEUED_MAX} writes of this shard are in flight`);
    }
  }

  /** Takes no more writes: `propose` throws `reason` from now on. Resolves when all that was proposed is answered. */
  stop(reason: Refusal): Promise<void> {
    this.#stopped ??= reason;
    return this.drained();
  }

  /** Resolves when no write is in flight. */
  drained(): Promise<void> {
    if (this.inFlight === 0 && this.#appending === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #append(entry: LogEntry): void {
    this.#appending++;
    this.#log.append(this.#shard, entry).then(
      () => this.#durable(entry.offset),
      (error) => this.#refused(entry.offset, error),
    );
  }

  #durable(offset: Offset): void {
    this.#appending--;
    ownDurable(this.#quorum, offset);
    if (!this.#applying) void this.#applyCommitted();
    this.#settle();
  }

  /** The log did not take the entry: whoever proposed it is told, and everything behind it follows. */
  #refused(offset: Offset, error: unknown): void {
    this.#appending--;
    this.#refusing ??= error;
    const index = this.#first + (offset - (this.#proposals[this.#first]?.offset ?? offset));
    this.#proposals[index]?.reject(error);
    this.#settle();
  }

  /** When every append is back after a refusal, goes on behind the last durable entry. */
  #settle(): void {
    if (this.#appending > 0) return;
    if (this.#refusing !== undefined) {
      this.#refusing = undefined;
      const { durable } = this.#quorum;
      while ((this.#proposals.at(-1)?.offset ?? durable) > durable) this.#proposals.pop();
      this.#first = Math.min(this.#first, this.#proposals.length);
      this.#nextOffset = durable + 1;
      this.#quorum.sent = durable;
    }
    if (this.inFlight === 0) for (const done of this.#idle.splice(0)) done();
  }

  /** Applies and answers, in offset order, all that is committed. One run at a time. */
  async #applyCommitted(): Promise<void> {
    this.#applying = true;
    try {
      for (;;) {
        const proposal = this.#proposals[this.#first];
        if (proposal === undefined || proposal.offset > this.#quorum.committed) break;
        const room = this.#kv.room();
        if (room !== undefined) await room;
        if (this.#applier.readsInOrder(proposal.write)) await this.#kv.ordered();
        const place = this.#turns.place();
        if (place !== undefined) {
          this.#hooks.onApplied();
          await place;
        }
        const startedMs = this.#clock.monotonicMs();
        const at = { term: this.#term, offset: proposal.offset, timestamp: proposal.timestamp };
        const response = this.#applier.applyWrite(proposal.write, at);
        this.#first++;
        if (response instanceof Refusal) proposal.reject(response);
        else proposal.resolve(response);
        this.#turns.spent(this.#clock.monotonicMs() - startedMs);
      }
    } catch (error) {
      this.#fault(error);
    } finally {
      this.#applying = false;
    }
    this.#hooks.onApplied();
    this.#compact();
    this.#settle();
  }

  /** An entry could not be applied: what waits has an unknown outcome, and this replica serves no more. */
  #fault(error: unknown): void {
    const refusal =
      error instanceof Refusal
        ? error
        : new Refusal("RESOURCE_UNAVAILABLE", "this replica has stopped", { cause: error });
    this.#stopped = refusal;
    for (const { reject } of this.#proposals.slice(this.#first)) reject(refusal);
    this.#first = this.#proposals.length;
    this.#hooks.onFault(error);
  }

  /** Drops answered proposals, rarely enough that it costs nothing per write. */
  #compact(): void {
    if (this.#first === this.#proposals.length) {
      this.#proposals = [];
      this.#first = 0;
    } else if (this.#first > 1024) {
      this.#proposals = this.#proposals.slice(this.#first);
      this.#first = 0;
    }
  }
}
