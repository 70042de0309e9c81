/** Reading connections of a node: one a file for point reads, and one for each snapshot that is out. */
import { KEY_VALUE_FILES_OPEN_MAX, SNAPSHOT_IDLE_MS_MAX, SNAPSHOT_READERS_MAX } from "../../model/limits.ts";
import type { Clock } from "../../ports.ts";
import { KeyValueReader } from "./reader.ts";
import type { SqliteSnapshot } from "./snapshot.ts";

/** Page cache of a connection that scans: it wants each block once, and the inner pages on the way there again and again. */
const SNAPSHOT_CACHE_BYTES = 256 * 1024;
/** Snapshot connections kept open for the next snapshot. */
const IDLE_READERS_MAX = 8;

export class Readers {
  readonly #clock: Clock;
  readonly #cacheBytes: () => number;
  readonly #snapshots: () => readonly SqliteSnapshot[];
  /** Point readers, the least recently used first. */
  readonly #point = new Map<string, KeyValueReader>();
  #out = 0;
  #idle: KeyValueReader[] = [];
  readonly #waiters: (() => void)[] = [];

  /** `cacheBytes` is the page cache of a point reader that is opened now, `snapshots` are all that are out. */
  constructor(clock: Clock, cacheBytes: () => number, snapshots: () => readonly SqliteSnapshot[]) {
    this.#clock = clock;
    this.#cacheBytes = cacheBytes;
    this.#snapshots = snapshots;
  }

  /** The connection for point reads and for cursors over the current state. */
  of(path: string): KeyValueReader {
    let reader = this.#point.get(path);
    if (reader === undefined) {
      if (this.#point.size >= KEY_VALUE_FILES_OPEN_MAX) {
        const [oldest, connection] = this.#point.entries().next().value!;
        this.#point.delete(oldest);
        connection.close();
      }
      reader = new KeyValueReader(path, { cacheBytes: this.#cacheBytes() });
    } else {
      this.#point.delete(path);
    }
    this.#point.set(path, reader);
    return reader;
  }

  /**
   * A connection that one snapshot has to itself. While too many are out, it waits for the next that comes back; the
   * one whose reader has stalled for longest, past SNAPSHOT_IDLE_MS_MAX, is cut.
   */
  async take(path: string): Promise<KeyValueReader> {
    while (this.#out >= SNAPSHOT_READERS_MAX) {
      const back = new Promise<void>((resolve) => this.#waiters.push(resolve));
      const cancel = this.#clock.after(this.#cutStalled() ? 0 : SNAPSHOT_IDLE_MS_MAX, () => this.#cutStalled());
      await back;
      cancel();
    }
    const at = this.#idle.findIndex((reader) => reader.path === path);
    const reader =
      at < 0 ? new KeyValueReader(path, { cacheBytes: SNAPSHOT_CACHE_BYTES }) : this.#idle.splice(at, 1)[0]!;
    this.#out++;
    return reader;
  }

  /** A reader that could not be pinned: it is closed, and its place is free. */
  discard(reader: KeyValueReader): void {
    this.#out--;
    reader.close();
    this.#waiters.shift()?.();
  }

  giveBack(reader: KeyValueReader): void {
    reader.unpin();
    this.#out--;
    this.#idle.push(reader);
    if (this.#idle.length > IDLE_READERS_MAX) this.#idle.shift()!.close();
    this.#waiters.shift()?.();
  }

  /** Closes what is open on a file. No snapshot of it is out. */
  close(path: string): void {
    this.#point.get(path)?.close();
    this.#point.delete(path);
    for (const reader of this.#idle.filter((idle) => idle.path === path)) reader.close();
    this.#idle = this.#idle.filter((idle) => idle.path !== path);
  }

  /** Cuts the snapshot that was read from least recently, if that is long ago. */
  #cutStalled(): boolean {
    const stalest = this.#snapshots().toSorted((a, b) => a.usedAt - b.usedAt)[0];
    if (stalest === undefined || this.#clock.monotonicMs() - stalest.usedAt < SNAPSHOT_IDLE_MS_MAX) return false;
    stalest.cut();
    return true;
  }
}
