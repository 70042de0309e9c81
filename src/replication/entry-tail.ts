/**
 * The entries that a leader has proposed and not yet sent to all of its followers, with the chain's value at each: in
 * memory, once, for all cursors of the shard. It holds the last ones without a gap, within its bounds; a cursor that is
 * further behind reads the log. So an entry goes to followers while the leader's own log still syncs it, and a slow
 * follower costs no more memory than a fast one.
 */
import { assert } from "../lib/assert.ts";
import type { Head, LogEntry, Offset } from "../model/ids.ts";
import {
  CATCH_UP_READS_MAX,
  ENTRY_MEMORY_OVERHEAD_BYTES,
  TAIL_BYTES_PER_NODE_MAX,
  TAIL_BYTES_PER_SHARD_MAX,
} from "../model/limits.ts";
import { entryCrc } from "../wire/entry-crc.ts";

/** What all leaders of a node together may hold for their followers. */
export class ReplicationBudget {
  /** Bytes in the tails. */
  tailBytes = 0;
  #reads = 0;
  #waiting: (() => void)[] = [];

  /** A place to read the log for a follower that is behind: undefined when there is one, else a promise of one. */
  takeRead(): Promise<void> | undefined {
    if (this.#reads < CATCH_UP_READS_MAX) {
      this.#reads++;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives the place to whoever waits longest. */
  giveRead(): void {
    const next = this.#waiting.shift();
    if (next !== undefined) next();
    else this.#reads--;
    assert(this.#reads >= 0, "a place was given back twice");
  }

  get reads(): number {
    return this.#reads;
  }
}

interface Held {
  readonly entry: LogEntry;
  readonly crc: number;
}

export class EntryTail {
  readonly #budget: ReplicationBudget;
  #held: (Held | undefined)[] = [];
  /** Index of the first that is still held. */
  #first = 0;
  /** The last entry that was added. */
  #last: Head;
  /** The last entry that the own log holds, and those behind it. */
  #durable: Head;
  #undurable: Head[] = [];
  #firstUndurable = 0;
  #bytes = 0;

  /** `head`: the entry before the first one that will be added. */
  constructor(budget: ReplicationBudget, head: Head) {
    this.#budget = budget;
    this.#last = head;
    this.#durable = head;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get durable(): Head {
    return this.#durable;
  }

  add(entry: LogEntry): void {
    const { term, offset } = entry;
    assert(offset === this.#last.offset + 1, "the tail has no gaps", offset, this.#last.offset);
    const crc = entryCrc(this.#last.crc, entry);
    this.#last = { term, offset, crc };
    this.#held.push({ entry, crc });
    this.#undurable.push(this.#last);
    this.#count(bytesOf(entry));
    while (this.#isFull()) this.#drop();
    this.#compact();
  }

  /** The own log holds what was added up to `offset`. */
  synced(offset: Offset): void {
    while (this.#durable.offset < offset) {
      const next = this.#undurable[this.#firstUndurable++];
      assert(next !== undefined, "durable is what was added", offset);
      this.#durable = next;
    }
    if (this.#firstUndurable === this.#undurable.length) this.#undurable = [];
    else if (this.#firstUndurable > 1024) this.#undurable = this.#undurable.slice(this.#firstUndurable);
    else return;
    this.#firstUndurable = 0;
  }

  /** The entry at `offset` with the chain's value there; undefined when it is not held. */
  at(offset: Offset): Held | undefined {
    return this.#held[this.#first + offset - this.#firstOffset()];
  }

  /** All cursors have sent what lies up to `upToInclusive`. */
  forget(upToInclusive: Offset): void {
    while (this.#first < this.#held.length && this.#held[this.#first]!.entry.offset <= upToInclusive) this.#drop();
    this.#compact();
  }

  /** Nothing is held any more. */
  close(): void {
    this.forget(this.#last.offset);
  }

  #firstOffset(): Offset {
    return this.#last.offset + 1 - (this.#held.length - this.#first);
  }

  #isFull(): boolean {
    if (this.#first === this.#held.length) return false;
    return this.#bytes > TAIL_BYTES_PER_SHARD_MAX || this.#budget.tailBytes > TAIL_BYTES_PER_NODE_MAX;
  }

  #drop(): void {
    this.#count(-bytesOf(this.#held[this.#first]!.entry));
    this.#held[this.#first++] = undefined;
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    this.#budget.tailBytes += bytes;
  }

  /** Lets go of what was dropped, rarely enough that it costs nothing per entry. */
  #compact(): void {
    if (this.#first === this.#held.length) this.#held = [];
    else if (this.#first > 1024) this.#held = this.#held.slice(this.#first);
    else return;
    this.#first = 0;
  }
}

function bytesOf(entry: LogEntry): number {
  return entry.value.length + ENTRY_MEMORY_OVERHEAD_BYTES;
}
