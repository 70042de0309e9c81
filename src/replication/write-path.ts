/**
 * A leader's way of a write, station by station:
 *
 *     propose      gets offset, term and time; joins what the log commits next, and what followers are sent
 *     log          durable here, together with whatever else arrived from any shard
 *     commit       a majority has it (protocol/commit.ts); with replication factor 1 that is this replica
 *     apply        in offset order, without a pause within an entry
 *     respond      the waiting promise resolves
 *
 * The first entry is the leader's own-term entry; with it everything before is committed, and applied from the log.
 * Entries overlap: n + 1 is logged while n waits. Nothing goes back to an earlier station.
 *
 * When the log refuses an entry (disk full), it depends on who may hold it. Alone, nobody does: all that was proposed
 * from it on is refused, and the offsets are used again. With followers, some may hold it already, and another entry must
 * never stand at its place in this term: the very same entries are offered to the log until it has space, while nothing
 * new is taken.
 *
 * Invariant: applied <= committed <= durable <= sent = next offset - 1.
 */
import type { Applier } from "../database/apply.ts";
import { assert } from "../lib/assert.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { LogEntry, Offset, ShardId, Timestamp } from "../model/ids.ts";
import { LOG_FULL_RETRY_MS, SHARD_WRITES_QUEUED_MAX } from "../model/limits.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Clock, KeyValue, Log } from "../ports.ts";
import { commitToTell, entrySent, type Leadership, takeOwnDurable } from "../protocol/commit.ts";
import { encodeWriteEntry } from "../wire/log-entry.ts";
import type { Write } from "../wire/requests.ts";
import type { EntryTail } from "./entry-tail.ts";
import { readNeeded } from "./needed-entries.ts";
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
  /** Told when an entry was proposed: followers are to be sent it. */
  readonly onProposed: () => void;
  /** Told when the own log has become durable further, or what it refused was given up. */
  readonly onDurable: () => void;
  /** Told when entries were applied, once for those that came together. */
  readonly onApplied: () => void;
  /** Told once when applying an entry failed: the state is then unknown and the replica must stop. */
  readonly onFault: (error: unknown) => void;
  /** Told when the log takes no entries of this leadership any more. */
  readonly onFenced: (reason: Refusal) => void;
}

export interface WritePathOptions {
  readonly shard: ShardId;
  readonly leadership: Leadership;
  /** Undefined with replication factor 1. */
  readonly tail: EntryTail | undefined;
}

interface Proposal {
  readonly write: Write;
  readonly offset: Offset;
  readonly timestamp: Timestamp;
  /** Kept while followers may hold it and the own log does not. */
  entry: LogEntry | undefined;
  readonly resolve: (response: Bytes) => void;
  readonly reject: (error: unknown) => void;
}

export class WritePath {
  readonly #log: Log;
  readonly #kv: KeyValue;
  readonly #clock: Clock;
  readonly #turns: Turns;
  readonly #shard: ShardId;
  readonly #leadership: Leadership;
  readonly #tail: EntryTail | undefined;
  /** Proposals in offset order, from the first that is not applied; `#first` is its index. */
  #proposals: Proposal[] = [];
  #first = 0;
  #ownTermEntry: LogEntry | undefined;
  /** Appends that the log has not answered yet. */
  #appending = 0;
  /** The log refused an entry: nothing is proposed until it has taken all that it was offered, or they are given up. */
  #refusing: Refusal | undefined;
  /** The entry with which the log is asked whether it has space again. */
  #probe: Offset | undefined;
  #cancelRetry: () => void = () => {};
  /** The probe waits for its time. */
  #retryWaits = false;
  #applying = false;
  /** Why this leader takes no writes now: it does not serve yet, it is frozen, or it hears from no majority. */
  paused: Refusal | undefined;
  /** Why it takes none any more. */
  #stopped: Refusal | undefined;
  /** Nothing is applied or answered any more. */
  #over = false;
  #idle: (() => void)[] = [];
  readonly #applier: Applier;
  readonly #hooks: WritePathHooks;

  constructor(ports: WritePorts, options: WritePathOptions, applier: Applier, hooks: WritePathHooks) {
    this.#log = ports.log;
    this.#kv = ports.kv;
    this.#clock = ports.clock;
    this.#turns = ports.turns;
    this.#shard = options.shard;
    this.#leadership = options.leadership;
    this.#tail = options.tail;
    this.#applier = applier;
    this.#hooks = hooks;
  }

  /** Writes that are proposed and not answered. */
  get inFlight(): number {
    return this.#proposals.length - this.#first;
  }

  get committed(): Offset {
    return this.#leadership.quorum.committed;
  }

  /** Last offset durable here. */
  get durable(): Offset {
    return this.#leadership.quorum.durable;
  }

  /** Last offset proposed. */
  get sent(): Offset {
    return this.#leadership.quorum.sent;
  }

  /** Appends the entry with which this leadership begins. */
  proposeOwnTerm(value: Bytes): void {
    const { term, quorum } = this.#leadership;
    const entry = { term, offset: quorum.firstOwnOffset, timestamp: this.#clock.now(), value };
    this.#ownTermEntry = entry;
    this.#send(entry);
  }

  /**
   * Proposes the write that `make` gives for the offset that its entry gets. Resolves with the serialised WriteResponse
   * once it is committed and applied. Rejects INVALID_ARGUMENT for what only the state could tell; throws
   * RESOURCE_EXHAUSTED when too many wait or the disk is full, DATA_LOSS when the state is damaged, and why nothing is
   * taken when that is so.
   */
  propose(make: (offset: Offset) => Proposed): Promise<Bytes> {
    this.#requireRoom();
    const { term, quorum } = this.#leadership;
    const offset = quorum.sent + 1;
    const { write, request } = make(offset);
    const entry = { term, offset, timestamp: this.#clock.now(), value: encodeWriteEntry(request) };
    this.#send(entry);
    return new Promise((resolve, reject) => {
      const kept = this.#tail === undefined ? undefined : entry;
      this.#proposals.push({ write, offset, timestamp: entry.timestamp, entry: kept, resolve, reject });
    });
  }

  #requireRoom(): void {
    if (this.#stopped !== undefined) throw this.#stopped;
    if (this.#refusing !== undefined) throw this.#refusing;
    if (this.paused !== undefined) throw this.paused;
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
  drain(reason: Refusal): Promise<void> {
    this.#stopped ??= reason;
    if (this.#isIdle()) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Nothing more is appended, applied or answered: what waits is refused. */
  stop(reason: Refusal): void {
    this.#over = true;
    this.#stopped = reason;
    this.#cancelRetry();
    const waiting = this.#proposals.slice(this.#first);
    this.#proposals = [];
    this.#first = 0;
    for (const { reject } of waiting) reject(reason);
    for (const done of this.#idle.splice(0)) done();
  }

  // --- log --------------------------------------------------------------------------------------------------------

  #send(entry: LogEntry): void {
    entrySent(this.#leadership, entry.offset);
    this.#append(entry);
    if (this.#tail !== undefined) {
      this.#tail.add(entry);
      this.#hooks.onProposed();
    }
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
    if (this.#over) return;
    takeOwnDurable(this.#leadership, offset);
    if (this.#tail !== undefined) {
      this.#tail.synced(offset);
      const proposal = this.#proposalAt(offset);
      if (proposal !== undefined) proposal.entry = undefined;
    }
    this.#hooks.onDurable();
    this.applyCommitted();
    this.#settle();
  }

  /** The log did not take the entry, and takes none behind it. */
  #refused(offset: Offset, error: unknown): void {
    this.#appending--;
    if (this.#over) return;
    if (!(error instanceof Refusal)) {
      this.#hooks.onFault(error);
      return;
    }
    if (error.reason !== "RESOURCE_EXHAUSTED") {
      this.#hooks.onFenced(error);
      return;
    }
    const isOwnTerm = offset === this.#leadership.quorum.firstOwnOffset;
    if (isOwnTerm && this.#tail === undefined) {
      this.#hooks.onFenced(error);
      return;
    }
    this.#refusing ??= error;
    if (this.#tail === undefined) this.#proposalAt(offset)?.reject(error);
    this.#settle();
  }

  #proposalAt(offset: Offset): Proposal | undefined {
    const first = this.#proposals[this.#first];
    return first === undefined ? undefined : this.#proposals[this.#first + offset - first.offset];
  }

  #settle(): void {
    if (this.#appending > 0) return;
    if (this.#refusing !== undefined && !this.#retryWaits) this.#afterRefusal();
    if (this.#isIdle()) for (const done of this.#idle.splice(0)) done();
  }

  #isIdle(): boolean {
    return this.inFlight === 0 && this.#appending === 0;
  }

  /** Every append is back after a refusal. */
  #afterRefusal(): void {
    const { durable, sent } = this.#leadership.quorum;
    if (this.#tail === undefined) this.#giveUp();
    else if (durable < sent) {
      this.#offerAgain();
      return;
    }
    this.#refusing = undefined;
  }

  /** Followers may hold what the log has refused: the same entries are appended, in the same places. First one, then all. */
  #offerAgain(): void {
    const { durable, sent } = this.#leadership.quorum;
    if (durable === this.#probe) {
      this.#probe = undefined;
      for (let offset = durable + 1; offset <= sent; offset++) this.#append(this.#kept(offset));
      return;
    }
    const probe = durable + 1;
    this.#probe = probe;
    this.#retryWaits = true;
    this.#cancelRetry = this.#clock.after(LOG_FULL_RETRY_MS, () => {
      this.#retryWaits = false;
      this.#append(this.#kept(probe));
    });
  }

  #kept(offset: Offset): LogEntry {
    const isOwnTerm = offset === this.#leadership.quorum.firstOwnOffset;
    const entry = isOwnTerm ? this.#ownTermEntry : this.#proposalAt(offset)?.entry;
    assert(entry !== undefined, "an entry that was sent is kept until it is durable", offset);
    return entry;
  }

  /** Nobody else holds what the log has refused: goes on behind the last durable entry. */
  #giveUp(): void {
    const { quorum } = this.#leadership;
    while ((this.#proposals.at(-1)?.offset ?? quorum.durable) > quorum.durable) this.#proposals.pop();
    this.#first = Math.min(this.#first, this.#proposals.length);
    quorum.sent = quorum.durable;
    this.#hooks.onDurable();
  }

  // --- apply and respond --------------------------------------------------------------------------------------------

  /** Applies and answers, in offset order, all that is committed. */
  applyCommitted(): void {
    if (this.#applying || this.#over || commitToTell(this.#leadership) <= this.#kv.applied.offset) return;
    void this.#apply();
  }

  /** One run at a time. After each wait it looks whether this leadership still stands. */
  async #apply(): Promise<void> {
    this.#applying = true;
    try {
      if (this.#kv.applied.offset < this.#leadership.quorum.firstOwnOffset) await this.#catchUp();
      while (!this.#over) {
        const proposal = this.#proposals[this.#first];
        if (proposal === undefined || proposal.offset > commitToTell(this.#leadership)) break;
        const room = this.#kv.room();
        if (room !== undefined) await room;
        if (this.#over) break;
        if (this.#applier.readsInOrder(proposal.write)) await this.#kv.ordered();
        if (this.#over) break;
        const place = this.#turns.place();
        if (place !== undefined) {
          this.#hooks.onApplied();
          await place;
        }
        this.#applyProposal(proposal);
      }
    } catch (error) {
      if (!this.#over) this.#hooks.onFault(error);
    } finally {
      this.#applying = false;
    }
    if (this.#over) return;
    this.#hooks.onApplied();
    this.#compact();
    this.#settle();
  }

  #applyProposal(proposal: Proposal): void {
    const startedMs = this.#clock.monotonicMs();
    if (!this.#over) {
      const at = { term: this.#leadership.term, offset: proposal.offset, timestamp: proposal.timestamp };
      const response = this.#applier.applyWrite(proposal.write, at);
      this.#first++;
      if (response instanceof Refusal) proposal.reject(response);
      else proposal.resolve(response);
    }
    // also when nothing was done: whoever waits for a place behind this one gets it
    this.#turns.spent(this.#clock.monotonicMs() - startedMs);
  }

  /** Applies what the log holds of earlier terms, then the own-term entry, through which it is committed. */
  async #catchUp(): Promise<void> {
    const { firstOwnOffset } = this.#leadership.quorum;
    while (!this.#over && this.#kv.applied.offset < firstOwnOffset - 1) {
      const entries = await readNeeded(this.#log, this.#shard, this.#kv.applied.offset + 1);
      for (const entry of entries) if (entry.offset < firstOwnOffset) await this.#applyEntry(entry);
    }
    assert(this.#ownTermEntry !== undefined, "the own-term entry is committed");
    await this.#applyEntry(this.#ownTermEntry);
  }

  async #applyEntry(entry: LogEntry): Promise<void> {
    if (this.#over) return;
    const room = this.#kv.room();
    if (room !== undefined) await room;
    const place = this.#turns.place();
    if (place !== undefined) await place;
    const startedMs = this.#clock.monotonicMs();
    if (!this.#over) this.#applier.applyEntry(entry);
    this.#turns.spent(this.#clock.monotonicMs() - startedMs);
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
