/**
 * A reference server's log of one shard on a simulated disk: entries are there once they are appended, durable once a
 * sync has followed, and commits of several share one. Never trimmed: where a snapshot were needed reference and Varia
 * servers do not go together.
 *
 * Its chain CRC is the reference's, with two faults (semantics.md §8.6): a truncation does not set it back, and the
 * value of an entry in a segment that is full is told as 0.
 */
import { EMPTY_HEAD, type Head, type LogEntry, NO_OFFSET, type Offset, type Term } from "../../../src/model/ids.ts";
import type { TermOptions } from "../../../src/model/peer-messages.ts";
import { entryCrc } from "../../../src/wire/entry-crc.ts";
import type { MountedDisk } from "../disk.ts";

const SEGMENT_ENTRIES = 16;
const ENTRY_OVERHEAD_BYTES = 48;
const TERM_BYTES = 40;

interface Row {
  readonly entry: LogEntry;
  readonly crc: number;
}

/** What NewTerm makes durable. */
export interface StoredTerm {
  readonly term: Term;
  readonly options: TermOptions;
}

export class ReferenceLog {
  readonly #disk: MountedDisk;
  readonly #name: string;
  #rows: Row[] = [];
  /** Rows that are durable. */
  #durable = 0;
  /** Rows that have been handed to the disk. */
  #written = 0;
  #chain = 0;
  #flushing: Promise<void> | undefined;

  constructor(disk: MountedDisk, folder: string) {
    this.#disk = disk;
    this.#name = `${folder}/log`;
  }

  static async open(disk: MountedDisk, folder: string): Promise<ReferenceLog> {
    const log = new ReferenceLog(disk, folder);
    const records = (await disk.read<Row>(log.#name)) ?? [];
    const torn = records.findIndex(({ bad }) => bad);
    log.#rows = (torn < 0 ? records : records.slice(0, torn)).map(({ record }) => record);
    if (torn >= 0) await disk.truncate(log.#name, torn);
    log.#durable = log.#rows.length;
    log.#written = log.#rows.length;
    log.#chain = log.#rows.at(-1)?.crc ?? 0;
    return log;
  }

  /** The last entry that was appended, durable or not. */
  get head(): Head {
    const last = this.#rows.at(-1);
    return last === undefined ? EMPTY_HEAD : { term: last.entry.term, offset: last.entry.offset, crc: last.crc };
  }

  get durableOffset(): Offset {
    return this.#durable - 1;
  }

  entry(offset: Offset): LogEntry | undefined {
    return this.#rows[offset]?.entry;
  }

  /** What a leader tells of the chain before `offset`. */
  crcBefore(offset: Offset): number {
    const isOld = Math.floor((offset - 1) / SEGMENT_ENTRIES) < Math.floor(this.head.offset / SEGMENT_ENTRIES);
    return offset === 0 || isOld ? 0 : this.#rows[offset - 1]!.crc;
  }

  /** The last entry of a term that is no later. */
  highestOfTerm(term: Term): Head {
    const row = this.#rows.findLast(({ entry }) => entry.term <= term);
    return row === undefined ? EMPTY_HEAD : { term: row.entry.term, offset: row.entry.offset, crc: row.crc };
  }

  /** Appends the entry behind the head. Durable once `flushed` resolves. */
  append(entry: LogEntry): void {
    this.#chain = entryCrc(this.#chain, entry);
    this.#rows.push({ entry, crc: this.#chain });
  }

  /** Resolves once all that was appended before is durable. */
  async flushed(): Promise<void> {
    const target = this.#rows.length;
    while (this.#durable < Math.min(target, this.#rows.length)) {
      this.#flushing ??= this.#flush().finally(() => {
        this.#flushing = undefined;
      });
      await this.#flushing;
    }
  }

  /** Keeps the entries up to `keep`. */
  async truncate(keep: Offset): Promise<void> {
    await this.flushed();
    this.#rows.length = keep + 1;
    this.#durable = keep + 1;
    this.#written = keep + 1;
    if (keep === NO_OFFSET) this.#chain = 0;
    await this.#disk.truncate(this.#name, keep + 1);
  }

  async #flush(): Promise<void> {
    const upTo = this.#rows.length;
    const rows = this.#rows.slice(this.#written, upTo);
    this.#written = upTo;
    await this.#disk.write(
      this.#name,
      rows.map((record) => ({ record, bytes: ENTRY_OVERHEAD_BYTES + record.entry.value.length })),
    );
    if (this.#durable === 0) await this.#disk.syncNames();
    await this.#disk.sync(this.#name);
    this.#durable = upTo;
  }
}

export async function readTerm(disk: MountedDisk, folder: string): Promise<StoredTerm | undefined> {
  return (await disk.read<StoredTerm>(termFile(folder)))?.[0]?.record;
}

export function writeTerm(disk: MountedDisk, folder: string, stored: StoredTerm): Promise<void> {
  return disk.replace(termFile(folder), [{ record: stored, bytes: TERM_BYTES }]);
}

/** Removes all that is stored of a shard. */
export async function removeShard(disk: MountedDisk, folder: string): Promise<void> {
  await disk.remove(`${folder}/log`);
  await disk.remove(termFile(folder));
  await disk.syncNames();
}

function termFile(folder: string): string {
  return `${folder}/term`;
}
