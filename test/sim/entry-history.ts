/**
 * The log of one shard as all its replicas have ever held it, for the checkers of a simulated cluster: each entry is one
 * object, known by offset, term and chain CRC, so that whether two logs agree up to somewhere is one comparison.
 *
 *     line    what a replica's log holds: entry n at place n, the first `durable` of them synced
 *
 * Source: TLA+ NoLogDivergence; Raft's log matching property.
 */
import { EMPTY_HEAD, type EntryId, type Head, type LogEntry, type Offset } from "../../src/model/ids.ts";
import { entryCrc } from "../../src/wire/entry-crc.ts";

export interface Made extends Head {
  /** Undefined for the first entry of a shard. */
  readonly before: Made | undefined;
  /** A log has refused it, and none has it: another one may take its place. */
  refused: boolean;
}

export class EntryHistory {
  readonly #byOffset: Made[][] = [];
  /** Two entries with one offset and term that differ: `NoLogDivergence` does not hold. */
  divergence: readonly [Made, Made] | undefined;

  /** The entry that follows `before`, the same object as last time. */
  made(before: Made | undefined, entry: LogEntry): Made {
    const crc = entryCrc(before?.crc ?? EMPTY_HEAD.crc, entry);
    const { offset, term } = entry;
    const others = this.#at(offset);
    let made = others.find((other) => other.term === term && other.crc === crc);
    if (made === undefined) {
      made = { term, offset, crc, before, refused: false };
      others.push(made);
    }
    this.stands(made);
    return made;
  }

  /** Somebody has it after all, or is about to. */
  stands(made: Made): void {
    made.refused = false;
    const other = this.#at(made.offset).find((one) => one.term === made.term && one !== made && !one.refused);
    if (other !== undefined) this.divergence ??= [other, made];
  }

  /** The entry that a head names; undefined when nobody has ever appended it. */
  find({ offset, term, crc }: Head): Made | undefined {
    return this.#at(offset).find((made) => made.term === term && made.crc === crc);
  }

  #at(offset: Offset): Made[] {
    let entries = this.#byOffset[offset];
    if (entries === undefined) {
      entries = [];
      this.#byOffset[offset] = entries;
    }
    return entries;
  }
}

/** One replica's log. */
export class Line {
  readonly #entries: Made[] = [];
  /** Appends that are under way, of each entry: one that was refused may have been asked for again behind it. */
  readonly #asked = new Map<Made, number>();
  /** Places below this one are durable. Invariant: durable <= length. */
  durable = 0;

  /** The log that ends with `head`; empty without one. All of it is durable. */
  static upTo(head: Made | undefined): Line {
    const line = new Line();
    for (let made = head; made !== undefined; made = made.before) line.#entries[made.offset] = made;
    line.durable = line.#entries.length;
    return line;
  }

  get length(): number {
    return this.#entries.length;
  }

  at(offset: Offset): Made | undefined {
    return this.#entries[offset];
  }

  get last(): Made | undefined {
    return this.#entries[this.#entries.length - 1];
  }

  get head(): Made | undefined {
    return this.#entries[this.durable - 1];
  }

  holds(made: Made): boolean {
    return made.offset < this.durable && this.#entries[made.offset] === made;
  }

  push(made: Made): void {
    this.#entries.push(made);
    this.#asked.set(made, (this.#asked.get(made) ?? 0) + 1);
  }

  /** An append of this entry was refused. True when no other one is under way. */
  refused(made: Made): boolean {
    const asked = (this.#asked.get(made) ?? 1) - 1;
    if (asked > 0) this.#asked.set(made, asked);
    else this.#asked.delete(made);
    return asked === 0;
  }

  /** An append of this entry is durable. */
  appended(made: Made): void {
    this.refused(made);
    this.durable = Math.max(this.durable, made.offset + 1);
  }

  /** Entries from here on are gone. */
  cut(length: number): void {
    if (length < this.#entries.length) this.#entries.length = length;
    if (length < this.durable) this.durable = length;
  }

  copy(): Line {
    const line = new Line();
    for (let offset = 0; offset < this.durable; offset++) line.#entries.push(this.#entries[offset]!);
    line.durable = this.durable;
    return line;
  }
}

export function describeEntry(made: EntryId | undefined): string {
  return made === undefined ? "nothing" : `${made.term}:${made.offset}`;
}
