/**
 * What the entries since the last flush told subscribers, in memory: it goes into the file with the records that the
 * same entries changed, in one transaction. Reads that begin here need no file.
 *
 *     before ← entry ← entry … (frozen, being flushed) ← entry ← entry … (active)
 *
 * Each entry names the one before it, so that a hole in the file is seen (notification-store.ts).
 */
import { NO_OFFSET, type Offset, type Timestamp } from "../../model/ids.ts";
import { NOTIFICATION_BATCHES_PER_READ_MAX, NOTIFICATION_BYTES_PER_READ_MAX } from "../../model/limits.ts";
import type { NotificationEntries } from "../../ports.ts";

/** Memory of one entry beside its bytes, about. */
const OVERHEAD_BYTES = 120;

/** What a file holds that is not there. */
export const NONE_STORED: { readonly found: readonly NotificationEntries[]; readonly trimmed: Offset } = {
  found: [],
  trimmed: NO_OFFSET,
};

/** Entries as they cross to the flush Worker: their bytes one after the other. */
export interface NotificationRun {
  /** The entry before the first one. */
  readonly before: Offset;
  readonly offsets: Float64Array;
  readonly timestamps: Float64Array;
  readonly lengths: Uint32Array;
  readonly bytes: Uint8Array;
}

export class NotificationTail {
  #entries: NotificationEntries[] = [];
  /** Of `#entries`, those that are being flushed. */
  #frozen = 0;
  /** The last entry that is in the file. */
  #before: Offset;
  #last: Offset;
  /** Memory of those that are not being flushed. */
  bytes = 0;

  /** `last` is the last entry in the file; NO_OFFSET when there is none. */
  constructor(last: Offset) {
    this.#before = last;
    this.#last = last;
  }

  add(entries: NotificationEntries): void {
    this.#entries.push(entries);
    this.#last = entries.offset;
    this.bytes += entries.entries.length + OVERHEAD_BYTES;
  }

  /** The last entry that is in the file: what lies behind it is here. */
  get before(): Offset {
    return this.#before;
  }

  /** The last entry that told anything. */
  get last(): Offset {
    return this.#last;
  }

  /** Entries behind `after`, within the bounds of one read; for after >= before. */
  read(after: Offset): NotificationEntries[] {
    const found: NotificationEntries[] = [];
    let bytes = 0;
    for (let at = this.#firstBehind(after); at < this.#entries.length; at++) {
      const entry = this.#entries[at]!;
      bytes += entry.entries.length;
      if (
        found.length > 0 &&
        (found.length >= NOTIFICATION_BATCHES_PER_READ_MAX || bytes > NOTIFICATION_BYTES_PER_READ_MAX)
      )
        break;
      found.push(entry);
    }
    return found;
  }

  #firstBehind(after: Offset): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#entries[middle]!.offset <= after) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Whether any is older than `before`. */
  hasOlder(before: Timestamp): boolean {
    return (this.#entries[0]?.timestamp ?? before) < before;
  }

  /** What goes into the file with the table that is frozen now. */
  freeze(): NotificationRun {
    const entries = this.#entries;
    this.#frozen = entries.length;
    this.bytes = 0;
    const bytes = new Uint8Array(entries.reduce((sum, each) => sum + each.entries.length, 0));
    let at = 0;
    for (const each of entries) {
      bytes.set(each.entries, at);
      at += each.entries.length;
    }
    return {
      before: this.#before,
      offsets: Float64Array.from(entries, ({ offset }) => offset),
      timestamps: Float64Array.from(entries, ({ timestamp }) => timestamp),
      lengths: Uint32Array.from(entries, ({ entries: { length } }) => length),
      bytes,
    };
  }

  /** What was frozen is in the file. */
  flushed(): void {
    this.#before = this.#entries[this.#frozen - 1]?.offset ?? this.#before;
    this.#entries = this.#entries.slice(this.#frozen);
    this.#frozen = 0;
  }
}
