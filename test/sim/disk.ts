/**
 * A machine's disk: files that grow by whole records, and what a crash leaves of them.
 *
 *     write        in the page cache at once; the process sees it, the disk may not
 *     sync         what was written to this file before is durable once it resolves
 *     a file made, replaced or removed: durable once the directory is synced
 *
 *     process killed     nothing is lost: the page cache outlives it
 *     power lost         of each file, what was synced stays; of the rest a prefix, its last record perhaps torn.
 *                        Names that were not synced are as before, or as after
 *     EIO at the n-th operation     ends the process before anything more happens. After a sync that failed, the page
 *                        cache vouches for records that the disk does not hold: syncing again does not help, only
 *                        writing them again
 *
 * A record that is torn or has a flipped bit comes back marked as `bad`: readers have checksums, and must not look at
 * what it holds. Operations of a process that has ended never finish.
 */
import { assert } from "../../src/lib/assert.ts";
import { type DiskFile, emptyFile, losePower, type Stored } from "./disk-file.ts";
import type { Life, SimNode } from "./node.ts";
import type { Durations, SimRandom } from "./random.ts";

/** There is no space for what was to be written: nothing of it was. */
export class DiskFull extends Error {
  override readonly name = "DiskFull";
}

export interface DiskRates {
  readonly sync: Durations;
  /** How often the power takes what was not synced from a name made or removed in a directory. */
  readonly nameLostChance: number;
  /** How often the record behind the last one that survives the power is there in part. */
  readonly tornChance: number;
}

export const CALM_DISK: DiskRates = {
  sync: { minMs: 0.5, typicalMs: 2, maxMs: 2, tailChance: 0 },
  nameLostChance: 0.5,
  tornChance: 0.5,
};

export function drawDiskRates(random: SimRandom): DiskRates {
  const typicalMs = random.pick([0.5, 2, 10, 100]);
  return {
    sync: { minMs: 0.1, typicalMs, maxMs: random.pick([typicalMs, 200, 5_000]), tailChance: random.rate(0.05) },
    nameLostChance: random.pick([0, 0.5, 1]),
    tornChance: random.pick([0, 0.5, 1]),
  };
}

/** A file as one process reads it. */
export interface ReadRecord<T> {
  readonly record: T;
  /** Its checksum is wrong. */
  readonly bad: boolean;
}

/** The whole content of a disk at one time. */
export interface DiskCopy {
  readonly files: ReadonlyMap<string, DiskFile>;
}

export type DiskOperation = "write" | "sync" | "read";

export class SimDisk {
  readonly node: SimNode;
  rates: DiskRates;
  readonly #random: SimRandom;
  /** As the process sees it. */
  #files = new Map<string, DiskFile>();
  /** As the directory was last synced. */
  #synced = new Map<string, DiskFile>();
  #capacityBytes = Number.POSITIVE_INFINITY;
  #failIn = Number.POSITIVE_INFINITY;
  #operations = 0;

  constructor(node: SimNode, random: SimRandom, rates: DiskRates = CALM_DISK) {
    this.node = node;
    this.rates = rates;
    this.#random = random;
    node.watchers.push({
      ended: (_, how) => {
        if (how === "power") this.#losePower();
      },
    });
  }

  /** The disk as one process uses it. */
  mount(life: Life): MountedDisk {
    return new MountedDisk(this, life);
  }

  /** Operations of processes so far: what `failAfter` counts on. */
  get operations(): number {
    return this.#operations;
  }

  get usedBytes(): number {
    let sum = 0;
    for (const file of this.#files.values()) for (const { bytes } of file.records) sum += bytes;
    return sum;
  }

  // --- faults: between lives, or while a process runs --------------------------------------------------------------

  /** A new disk, empty. The process must have ended. */
  wipe(): void {
    this.restore({ files: new Map() });
  }

  /** What a backup taken now would hold: only what is durable. */
  copy(): DiskCopy {
    return { files: copied(this.#synced, (file) => losePower(file, () => ({ kept: 0, torn: false }))) };
  }

  /** Sets the disk back to a copy. The process must have ended. */
  restore({ files }: DiskCopy): void {
    assert(this.node.life === undefined, "a disk changed under a running process");
    this.#files = copied(files, (file) => ({ ...file, records: file.records.map((stored) => ({ ...stored })) }));
    this.#synced = new Map(this.#files);
  }

  /** No more than this fits from now on, whatever there is already; without an argument there is space again. */
  limit(capacityBytes = Number.POSITIVE_INFINITY): void {
    this.#capacityBytes = capacityBytes;
  }

  /** The n-th operation from now fails, from 1 on, and ends the process. Once; without an argument, none does. */
  failAfter(operations = Number.POSITIVE_INFINITY): void {
    this.#failIn = operations;
  }

  /** Flips one bit at rest in a file that `within` accepts: the larger a record, the likelier. Answers where, or undefined when there is nothing. */
  flipBit(within: (file: string) => boolean = () => true): { file: string; nth: number; record: unknown } | undefined {
    const files = [...this.#files].filter(([name]) => within(name));
    const bytes = files.reduce((sum, [, { records }]) => sum + records.reduce((all, one) => all + one.bytes, 0), 0);
    if (bytes === 0) return undefined;
    let at = this.#random.int(0, bytes);
    for (const [file, { records }] of files) {
      for (const [nth, stored] of records.entries()) {
        at -= stored.bytes;
        if (at >= 0) continue;
        this.flipBitAt(file, nth);
        return { file, nth, record: stored.record };
      }
    }
    return undefined;
  }

  /** Flips a bit of this record, from 0 on. */
  flipBitAt(file: string, nth: number): void {
    const stored = this.#files.get(file)?.records[nth];
    assert(stored !== undefined, "a record to flip a bit of", file, nth);
    stored.bad = true;
    this.#trace("bit flipped", file, nth);
  }

  /** Takes a file away. */
  lose(name: string): void {
    this.#files.delete(name);
    this.#synced.delete(name);
  }

  names(): readonly string[] {
    return [...this.#files.keys()];
  }

  // --- for MountedDisk -----------------------------------------------------------------------------------------------

  /** Counts one operation. True when it fails: the process has ended then. */
  fails(life: Life, operation: DiskOperation): boolean {
    if (!life.alive) return true;
    this.#operations++;
    if (--this.#failIn !== 0) return false;
    this.#failIn = Number.POSITIVE_INFINITY;
    this.#trace("EIO", operation, this.#operations);
    this.node.end("killed");
    return true;
  }

  /** Throws DiskFull when there is no space for this. */
  claim(bytes: number): void {
    if (bytes > 0 && this.#capacityBytes !== Number.POSITIVE_INFINITY && this.usedBytes + bytes > this.#capacityBytes) {
      throw new DiskFull("no space left on device");
    }
  }

  file(name: string): DiskFile | undefined {
    return this.#files.get(name);
  }

  put(name: string, file: DiskFile): void {
    this.#files.set(name, file);
  }

  remove(name: string): void {
    this.#files.delete(name);
  }

  namesSynced(): void {
    this.#synced = new Map(this.#files);
  }

  syncMs(): number {
    return this.#random.duration(this.rates.sync);
  }

  // --- inside -------------------------------------------------------------------------------------------------------

  #losePower(): void {
    const names = new Set([...this.#synced.keys(), ...this.#files.keys()]);
    const left = new Map<string, DiskFile>();
    for (const name of names) {
      const now = this.#files.get(name);
      const then = this.#synced.get(name);
      const file = now === then || !this.#random.chance(this.rates.nameLostChance) ? now : then;
      if (file !== undefined)
        left.set(
          name,
          losePower(file, (unsynced) => this.#survives(unsynced)),
        );
    }
    this.#files = left;
    this.#synced = new Map(left);
  }

  #survives(unsynced: number): { kept: number; torn: boolean } {
    if (unsynced === 0) return { kept: 0, torn: false };
    // all, none, or anything in between
    const kept = this.#random.pick([0, unsynced, this.#random.int(0, unsynced + 1)]);
    return { kept, torn: kept < unsynced && this.#random.chance(this.rates.tornChance) };
  }

  #trace(what: string, ...details: (string | number)[]): void {
    const { scheduler, name } = this.node;
    scheduler.trace.event(scheduler.nowMs, name, what, ...details);
  }
}

/** The disk as one process uses it. Promises of a process that has ended never settle. */
export class MountedDisk {
  readonly #disk: SimDisk;
  readonly #life: Life;

  constructor(disk: SimDisk, life: Life) {
    this.#disk = disk;
    this.#life = life;
  }

  names(): readonly string[] {
    return this.#disk.names();
  }

  /** All records of a file, in order; undefined when there is none. Read again what has to be current. */
  async read<T>(name: string): Promise<readonly ReadRecord<T>[] | undefined> {
    if (this.#disk.fails(this.#life, "read")) return never();
    return this.#disk.file(name)?.records.map(({ record, bad }) => ({ record: record as T, bad }));
  }

  /** Some records of a file, by their places; those that are not there are left out. */
  async readSome<T>(name: string, nths: readonly number[]): Promise<readonly ReadRecord<T>[]> {
    if (this.#disk.fails(this.#life, "read")) return never();
    const records = this.#disk.file(name)?.records ?? [];
    return nths.flatMap((nth) => {
      const found = records[nth];
      return found === undefined ? [] : [{ record: found.record as T, bad: found.bad }];
    });
  }

  /** Adds records to a file, which is made when there is none. Rejects with DiskFull, having written nothing. */
  async write(name: string, records: readonly { readonly record: unknown; readonly bytes: number }[]): Promise<void> {
    if (this.#disk.fails(this.#life, "write")) return never();
    let bytes = 0;
    for (const one of records) bytes += one.bytes;
    this.#disk.claim(bytes);
    let file = this.#disk.file(name);
    if (file === undefined) {
      file = emptyFile();
      this.#disk.put(name, file);
    }
    for (const one of records) file.records.push(stored(one));
  }

  /** Makes durable what the file holds now, if its name is. */
  async sync(name: string): Promise<void> {
    const file = this.#disk.file(name);
    assert(file !== undefined, "a file to sync", name);
    const { length } = file.records;
    if (this.#disk.fails(this.#life, "sync")) {
      // the kernel has given these pages up, and calls them clean
      for (let nth = file.synced; nth < length; nth++) file.records[nth]!.cacheOnly = true;
      return never();
    }
    await this.#after(this.#disk.syncMs(), "sync");
    file.synced = Math.max(file.synced, Math.min(length, file.records.length));
  }

  async syncNames(): Promise<void> {
    if (this.#disk.fails(this.#life, "sync")) return never();
    await this.#after(this.#disk.syncMs(), "sync");
    this.#disk.namesSynced();
  }

  /** Replaces a file as a whole: written beside it, synced, renamed, the directory synced. A crash leaves one or the other. */
  async replace(name: string, records: readonly { readonly record: unknown; readonly bytes: number }[]): Promise<void> {
    const beside = `${name}.new`;
    this.#disk.remove(beside);
    await this.write(beside, records);
    await this.sync(beside);
    this.#disk.put(name, this.#disk.file(beside)!);
    this.#disk.remove(beside);
    await this.syncNames();
  }

  /** Renames a file over another, durably. A crash leaves the old file or the new one there, and in between the new one under both names. */
  async rename(from: string, to: string): Promise<void> {
    if (this.#disk.fails(this.#life, "write")) return never();
    const file = this.#disk.file(from);
    assert(file !== undefined, "a file to rename", from);
    this.#disk.put(to, file);
    await this.syncNames();
    this.#disk.remove(from);
    await this.syncNames();
  }

  /** Writes a file's records once more, as reading and rewriting them would: what only the page cache holds is to be synced again. */
  async rewrite(name: string): Promise<void> {
    if (this.#disk.fails(this.#life, "write")) return never();
    const file = this.#disk.file(name);
    if (file === undefined) return;
    const first = file.records.findIndex(({ cacheOnly }) => cacheOnly);
    if (first < 0) return;
    file.synced = Math.min(file.synced, first);
    for (const one of file.records) one.cacheOnly = false;
  }

  /** Cuts a file back to its first records. Durable at once, to keep things simple. */
  async truncate(name: string, records: number): Promise<void> {
    if (this.#disk.fails(this.#life, "write")) return never();
    const file = this.#disk.file(name);
    if (file === undefined) return;
    file.records.length = Math.min(file.records.length, records);
    file.synced = Math.min(file.synced, records);
  }

  /** Removes a file, durably once the names are synced. */
  async remove(name: string): Promise<void> {
    if (this.#disk.fails(this.#life, "write")) return never();
    this.#disk.remove(name);
  }

  #after(delayMs: number, label: string): Promise<void> {
    return new Promise((resolve) => this.#life.after(delayMs, label, resolve));
  }
}

function stored({ record, bytes }: { readonly record: unknown; readonly bytes: number }): Stored {
  return { record, bytes, bad: false, cacheOnly: false };
}

function never(): Promise<never> {
  return new Promise(() => {});
}

function copied(files: ReadonlyMap<string, DiskFile>, copy: (file: DiskFile) => DiskFile): Map<string, DiskFile> {
  return new Map([...files].map(([name, file]) => [name, copy(file)]));
}
