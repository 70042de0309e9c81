/**
 * A follower's way of its leader's entries, for as long as one Replicate stream lasts:
 *
 *     check      the entry before is the same here and there, by term and chain CRC (protocol/following.ts)
 *     log        handed over without waiting, under the term of the stream
 *     ack        once durable, cumulative: min(durable, verified), the highest read round seen, the durable promise
 *     apply      what is committed, verified and durable (apply-path.ts)
 *
 * Heads of entries that are not durable yet are kept here; older ones come from the log. The stream is not read while
 * too much is on its way to the log, or waits to be applied: so memory is bounded, and the leader is held back.
 *
 * Invariant: durable.offset <= last.offset; unsynced holds the heads between them, the last one included.
 * Source: safety.md §4, §6; semantics.md §8.3.
 */
import { assert } from "../lib/assert.ts";
import { EMPTY_HEAD, type Head, type LogEntry, NO_OFFSET, type Offset, type ShardId, type Term } from "../model/ids.ts";
import { FOLLOWER_APPENDING_BYTES_MAX, FOLLOWER_APPENDING_ENTRIES_MAX } from "../model/limits.ts";
import type { Append, TermOptions } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { AppendReceiver } from "../ports.ts";
import { decide } from "../protocol/replica.ts";
import type { Replica } from "../protocol/replica-state.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import { ApplyPath, type ApplyPorts, bytesOf } from "./apply-path.ts";

/** What the path needs of the replica that it belongs to. None of it is called once the path has stopped. */
export interface Follower {
  readonly shard: ShardId;
  readonly options: TermOptions;
  /** The decision state, with head and applied as they stand. */
  state(): Replica;
  become(next: Replica): void;
  /** Applied entries are not those of the leader: the replica must stop and the operator be called. */
  alarm(message: string): void;
  /** The log or the state has failed. */
  fault(error: unknown): void;
}

export class AppendPath {
  readonly #ports: ApplyPorts;
  readonly #follower: Follower;
  readonly #stream: AppendReceiver;
  /** Whether the leader sends our fields. */
  readonly #ours: boolean;
  readonly #term: Term;
  readonly #apply: ApplyPath;
  /** The last entry of the log that is durable; the last one handed to it; the heads in between. */
  #durable: Head;
  #last: Head;
  #unsynced: Head[] = [];
  #appending = 0;
  #appendingBytes = 0;
  /** Up to where the leader lets entries be applied. */
  #applyUpTo: Offset = NO_OFFSET;
  #roundSeen: number | undefined;
  #cumulative = true;
  /** For a leader that wants an ack for each entry: the last one that it got. */
  #lastAcked: Offset | undefined;
  /** The chain over what a reference leader has sent, from its entry 0 on. */
  #leaderChain: Head | undefined;
  #ackDue = false;
  #stopped: Refusal | undefined;
  #fail: (reason: Refusal) => void = () => {};
  #waiting: (() => void)[] = [];

  /** For a stream that protocol/following.ts has let open. `state.head` is durable, and nothing else is on its way to the log. */
  constructor(ports: ApplyPorts, follower: Follower, stream: AppendReceiver, ours: boolean) {
    this.#ports = ports;
    this.#follower = follower;
    this.#stream = stream;
    this.#ours = ours;
    const { head, promise } = follower.state();
    this.#term = promise;
    this.#durable = head;
    this.#last = head;
    this.#apply = new ApplyPath(ports, follower.shard, follower.options, {
      fault: (error) => follower.fault(error),
      idle: () => this.#wake(),
    });
  }

  /** Takes messages until the leader sends no more. Rejects with what `stop` was given, or with why the stream ended. */
  serve(first: Append): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#read(first).then(resolve, reject);
    });
  }

  /** Ends the stream at once: nothing is acked or applied behind it, and the replica hears no more of it. */
  stop(reason: Refusal): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = reason;
    this.#apply.stop();
    this.#fail(reason);
    this.#wake();
  }

  get hasEnded(): boolean {
    return this.#stopped !== undefined;
  }

  /** Resolves with the durable head once nothing is on its way to the log any more. */
  async settled(): Promise<Head> {
    while (this.#appending > 0) await this.#change();
    return this.#durable;
  }

  async #read(first: Append): Promise<void> {
    for (let message: Append | undefined = first; message !== undefined; message = await this.#stream.next()) {
      if (this.#stopped !== undefined) return;
      await this.#take(message);
      while (this.#full && this.#stopped === undefined) await this.#change();
    }
  }

  get #full(): boolean {
    const tooMany =
      this.#appending >= FOLLOWER_APPENDING_ENTRIES_MAX || this.#appendingBytes >= FOLLOWER_APPENDING_BYTES_MAX;
    return tooMany || (this.#appending > 0 && this.#ports.memory.appendingFull) || this.#apply.full;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    if (this.#waiting.length > 0) for (const resolve of this.#waiting.splice(0)) resolve();
  }

  // --- checking -------------------------------------------------------------------------------------------------

  async #take(message: Append): Promise<void> {
    const { entry } = message;
    let heldBefore: Head | undefined;
    let held: Head | undefined;
    if (entry?.offset === this.#last.offset + 1) heldBefore = this.#last;
    else if (entry !== undefined) {
      heldBefore = await this.#headAt(entry.offset - 1);
      held = await this.#headAt(entry.offset);
      if (this.#stopped !== undefined) return;
    }
    const head = entry && headOf(entry, heldBefore);
    const follower = this.#follower;
    const outcome = decide(follower.state(), "Append", {
      term: message.term,
      entry: this.#isTrimmed(entry, heldBefore) ? undefined : head,
      previous: previousOf(message),
      previousEntryCrc: this.#provenBefore(message),
      commitOffset: message.commitOffset,
      heldBefore,
      held,
    });
    if (!outcome.accepted) {
      follower.become(outcome.next);
      if (outcome.alarm) follower.alarm(outcome.message);
      throw new Refusal(outcome.reason, outcome.message);
    }
    const { write, cut, applyUpTo } = outcome.answer;
    if (cut) await this.#cut(heldBefore!);
    if (this.#stopped !== undefined) return;
    follower.become(outcome.next);
    this.#took(message);
    this.#applyUpTo = Math.max(this.#applyUpTo, applyUpTo);
    if (write) this.#write(entry!, head!);
    else this.#ackSoon();
    this.#advance();
  }

  #took({ entry, readRound, cumulativeAcksSupported }: Append): void {
    this.#cumulative = cumulativeAcksSupported;
    if (entry !== undefined) this.#lastAcked ??= entry.offset - 1;
    if (readRound !== undefined) this.#roundSeen = Math.max(this.#roundSeen ?? 0, readRound);
  }

  /** A reference leader that sends its log from 0 on: what lies below the first entry that is still held is passed over. */
  #isTrimmed(entry: LogEntry | undefined, heldBefore: Head | undefined): boolean {
    return !this.#ours && entry !== undefined && heldBefore === undefined && entry.offset <= this.#durable.offset;
  }

  /**
   * What proves that a reference leader has the entry before as this log has it: the chain over all that it has sent on
   * this stream, if it began at 0, else its own word, which may be wrong.
   */
  #provenBefore({ entry, previousEntryCrc }: Append): number | undefined {
    if (this.#ours || entry === undefined) return previousEntryCrc;
    const before = entry.offset === 0 ? EMPTY_HEAD : this.#leaderChain;
    this.#leaderChain = before === undefined ? undefined : headOf(entry, before);
    return before?.crc ?? previousEntryCrc;
  }

  /** What contradicts a reference leader is cut off, before anything of its term is held here. */
  async #cut(kept: Head): Promise<void> {
    const { shard } = this.#follower;
    this.#appending++;
    try {
      const { offset: to } = kept;
      await this.#ports.log.truncate(shard, { acceptedUnder: this.#term, expectedHead: this.#durable, to });
      this.#durable = kept;
      this.#last = kept;
      this.#apply.cut(to);
    } finally {
      this.#appending--;
      this.#wake();
    }
  }

  /** The entry at an offset as this log has it, synced or not. */
  async #headAt(offset: Offset): Promise<Head | undefined> {
    if (offset > this.#durable.offset) return this.#unsynced[offset - this.#durable.offset - 1];
    if (offset === this.#durable.offset) return this.#durable;
    try {
      return await this.#ports.log.at(this.#follower.shard, offset);
    } catch (error) {
      if (this.#stopped === undefined) this.#follower.fault(error);
      throw error;
    }
  }

  // --- the log --------------------------------------------------------------------------------------------------

  #write(entry: LogEntry, head: Head): void {
    const bytes = bytesOf(entry);
    this.#last = head;
    this.#unsynced.push(head);
    this.#appending++;
    this.#appendingBytes += bytes;
    this.#ports.memory.appending += bytes;
    this.#apply.keep(entry);
    this.#ports.log.append(this.#follower.shard, entry, this.#term).then(
      () => this.#synced(head, bytes),
      (error) => this.#refused(error, bytes),
    );
  }

  #synced(head: Head, bytes: number): void {
    this.#answered(bytes);
    assert(this.#unsynced[0] === head, "the log answers in order", head.offset);
    this.#unsynced.shift();
    this.#durable = head;
    if (this.#stopped === undefined) {
      this.#follower.become({ ...this.#follower.state(), head });
      this.#ackSoon();
      this.#advance();
    }
    this.#wake();
  }

  /** The log did not take the entry, nor any behind it: the leader sends them again on another stream. */
  #refused(error: unknown, bytes: number): void {
    this.#answered(bytes);
    this.#unsynced = [];
    this.#last = this.#durable;
    if (this.#stopped === undefined) {
      if (error instanceof Refusal && error.reason !== "DATA_LOSS") this.stop(error);
      else this.#follower.fault(error);
    }
    this.#wake();
  }

  #answered(bytes: number): void {
    this.#appending--;
    this.#appendingBytes -= bytes;
    this.#ports.memory.appending -= bytes;
  }

  #advance(): void {
    this.#apply.advance(Math.min(this.#applyUpTo, this.#durable.offset));
  }

  // --- acks -----------------------------------------------------------------------------------------------------

  /** One ack for all that the log answers in one go. */
  #ackSoon(): void {
    if (this.#ackDue) return;
    this.#ackDue = true;
    void Promise.resolve().then(() => {
      this.#ackDue = false;
      if (this.#stopped === undefined) this.#ack();
    });
  }

  #ack(): void {
    const { verified, promise } = this.#follower.state();
    const offset = Math.min(this.#durable.offset, verified);
    if (this.#ours) this.#stream.send({ offset, readRound: this.#roundSeen, promise });
    else if (offset > NO_OFFSET) {
      const from = this.#cumulative ? offset : Math.min((this.#lastAcked ?? offset) + 1, offset);
      for (let at = from; at <= offset; at++) {
        this.#stream.send({ offset: at, readRound: undefined, promise: undefined });
      }
    }
    this.#lastAcked = offset;
  }
}

/** What the chain comes to with `entry`, if the entry before is `before`. */
function headOf(entry: LogEntry, before: Head | undefined): Head {
  return { term: entry.term, offset: entry.offset, crc: entryCrc(before?.crc ?? 0, entry) };
}

function previousOf({ entry, previousTerm, previousCrc }: Append): Head | undefined {
  if (entry === undefined || previousTerm === undefined || previousCrc === undefined) return undefined;
  return { term: previousTerm, offset: entry.offset - 1, crc: previousCrc };
}
