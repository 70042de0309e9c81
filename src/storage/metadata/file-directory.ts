/**
 * The coordinator's metadata in Oxia's status file, so that either coordinator can take over where the other stopped.
 * A change writes the whole document: this is the format to change over with, SQLite the one to stay with.
 *
 *     cluster-status.json              what stands (status-file.ts)
 *     cluster-status.json.new          the next one is written here, and the one before last is left here
 *     cluster-status.json.old          exists between two steps of an exchange alone
 *     cluster-status.json.versions     versions below this number are used up
 *
 * Oxia's lock is an flock on the status file itself, that is, on the file and not on its name: with a fresh file for
 * each change, a coordinator that waits would get the lock of one that was replaced. So two files take turns, and both
 * are locked from `open` to `close`:
 *
 *     write and sync `.new` · link the file as `.old` · rename `.new` over the file · rename `.old` to `.new` · sync the directory
 *
 * After a crash between any two of these steps the file's name stands for the old document or the new one, whole.
 * The version stands in the file; Oxia drops it when it takes over, so that versions come from blocks that are
 * reserved in `.versions` first.
 *
 * All of it is synchronous: the file is small, and the coordinator has nothing to do without it. A file system
 * without flock is refused, one without hard links at the first change. Stop one coordinator before the other is started: one that waits for the
 * lock has read the status before it waited, whichever it is of Oxia's.
 *
 * Source: safety.md §3; Oxia's file provider.
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { utf8 } from "../../lib/bytes.ts";
import { METADATA_LOCK_TRIES_MAX, METADATA_VERSIONS_RESERVED } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type { MetadataChanges, MetadataState, MetadataStore, MetadataVersion, SwapAnswer } from "../../ports.ts";
import { NO_METADATA_VERSION } from "../../ports.ts";
import { DirectoryInUse, DirectoryRefused } from "../directory-refused.ts";
import { removeFile, replaceFile, syncDirectory, writeAll } from "../files.ts";
import { isDiskFull } from "../sqlite.ts";
import { Entries, Liveness, metadataDamage } from "./entries.ts";
import { tryLockFile } from "./file-lock.ts";
import { decodeStatusFile, encodeStatusFile } from "./status-file.ts";

/**
 * Opens the status file `name`, created empty when missing, with its directory. Throws DirectoryInUse when a
 * coordinator, ours or Oxia's, holds it, DirectoryRefused where files cannot be locked, and a DATA_LOSS refusal when it is damaged.
 */
export function openFileMetadata(name: string): MetadataStore {
  mkdirSync(dirname(name), { recursive: true, mode: 0o755 });
  const path = existsSync(name) ? realpathSync(name) : name; // a rename would replace a symbolic link
  const files: number[] = [];
  try {
    const current = lockFile(path, files);
    finishExchange(path, current);
    const next = lockFile(`${path}.new`, files);
    return new FileMetadataStore(path, { current, next });
  } catch (error) {
    for (const file of files) closeSync(file);
    throw error;
  }
}

interface Files {
  /** Open and locked: the file that has the name. */
  readonly current: number;
  /** Open and locked: the one that is `.new`. */
  readonly next: number;
}

class FileMetadataStore implements MetadataStore {
  readonly #path: string;
  readonly #versions: Versions;
  readonly #liveness = new Liveness();
  #files: Files;
  #entries: Entries;
  #version: MetadataVersion;
  /** Of the current file, as this process left it. */
  #stamp: string;
  #closed = false;

  constructor(path: string, files: Files) {
    this.#path = path;
    this.#files = files;
    const { version, entries } = decodeStatusFile(path, readFileSync(files.current));
    this.#versions = new Versions(`${path}.versions`, version);
    const untouched = entries.size === 0 && this.#versions.unused;
    this.#version = version ?? (untouched ? NO_METADATA_VERSION : this.#versions.take());
    this.#entries = new Entries(entries);
    this.#stamp = stampOf(files.current);
    syncDirectory(dirname(path));
  }

  async get(): Promise<MetadataState> {
    this.#liveness.check();
    return { version: this.#version, entries: this.#entries.copy() };
  }

  async compareAndSwap(expected: MetadataVersion, changes: MetadataChanges): Promise<SwapAnswer> {
    this.#liveness.check();
    if (expected !== this.#version) return { outcome: "conflict", version: this.#version };
    this.#entries.check(changes);
    const entries = this.#entries.copy();
    const next = new Entries(entries);
    next.apply(changes);
    const version = this.#writeNext(next);
    try {
      exchange(this.#path);
    } catch (cause) {
      this.#liveness.end("the metadata store failed", cause);
      return { outcome: "unknown", cause };
    }
    this.#files = { current: this.#files.next, next: this.#files.current };
    this.#stamp = stampOf(this.#files.current);
    this.#entries = next;
    this.#version = version;
    return { outcome: "stored", version };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#liveness.end("the metadata store is closed");
    closeSync(this.#files.current);
    closeSync(this.#files.next);
  }

  /** All that comes before the name changes hands: what fails here has changed nothing. After a failed sync the next one might lie: it ends the store. */
  #writeNext(entries: Entries): MetadataVersion {
    try {
      this.#checkUntouched();
      const version = this.#versions.take();
      const { next } = this.#files;
      ftruncateSync(next, 0);
      writeAll(next, encodeStatusFile(version, entries.copy()), 0);
      fsyncSync(next);
      linkSync(this.#path, `${this.#path}.old`);
      return version;
    } catch (error) {
      if (isDiskFull(error)) {
        throw new Refusal("RESOURCE_EXHAUSTED", "the disk of the metadata store is full", { cause: error });
      }
      this.#liveness.end("the metadata store failed", error);
      throw error;
    }
  }

  /** The lock is advisory: an editor, or a coordinator with the lock of a file that is no more, may write all the same. */
  #checkUntouched(): void {
    const same = isAt(this.#path, this.#files.current) && stampOf(this.#files.current) === this.#stamp;
    if (!same) throw new DirectoryRefused(`${this.#path} was changed by another program while it was in use`);
  }
}

/** Numbers for versions, never one twice: taken from blocks that are reserved in a file of their own. */
class Versions {
  readonly #path: string;
  #next: number;
  #reservedEnd: number;

  /** `stored` is the version that the status file holds. */
  constructor(path: string, stored: MetadataVersion | undefined) {
    this.#path = path;
    this.#next = Math.max(readVersions(path), (stored ?? NO_METADATA_VERSION) + 1);
    this.#reservedEnd = this.#next;
  }

  /** Whether none was ever given out. */
  get unused(): boolean {
    return this.#next === 0;
  }

  take(): MetadataVersion {
    if (this.#next === this.#reservedEnd) {
      const end = this.#next + METADATA_VERSIONS_RESERVED;
      replaceFile(this.#path, utf8(`{"usedBelow":"${end}"}\n`));
      this.#reservedEnd = end;
    }
    return this.#next++;
  }
}

/** 0 when the file is missing. */
function readVersions(path: string): number {
  if (!existsSync(path)) return 0;
  const match = /^\{"usedBelow":"(\d{1,16})"\}\n$/.exec(readFileSync(path, "utf8"));
  if (match === null) throw metadataDamage(path, "line 1", "is not what Varia writes");
  return Number(match[1]);
}

/** The files change names, durably once it returns; `.old` is a link to the current one. */
function exchange(path: string): void {
  renameSync(`${path}.new`, path);
  renameSync(`${path}.old`, `${path}.new`);
  syncDirectory(dirname(path));
}

/** Goes on where a crash has stopped an exchange: `.old` is the file itself, still, or the one that was replaced. */
function finishExchange(path: string, current: number): void {
  const old = `${path}.old`;
  if (!existsSync(old)) return;
  if (isAt(old, current)) removeFile(old);
  else renameSync(old, `${path}.new`);
}

/** Opens the file that has the name, created when missing, and locks it; added to `files` for who must close it. */
function lockFile(path: string, files: number[]): number {
  for (let tries = 0; tries < METADATA_LOCK_TRIES_MAX; tries++) {
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    if (!tryLockFile(file)) {
      closeSync(file);
      if (!knowsLocks(dirname(path))) throw new DirectoryRefused(`the file system of ${path} knows no locks`);
      throw new DirectoryInUse(`${path} is in use by another coordinator`);
    }
    if (isAt(path, file)) {
      files.push(file);
      return file;
    }
    // it was replaced between the two: its holder is at work, or has just gone
    closeSync(file);
  }
  throw new DirectoryRefused(`${path} is replaced all the time by another program`);
}

/** A file that nobody else opens can be locked, unless none can. */
function knowsLocks(directory: string): boolean {
  const path = join(directory, `.lock-${process.pid}-${Date.now()}`);
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    return tryLockFile(file);
  } finally {
    closeSync(file);
    rmSync(path, { force: true });
  }
}

function isAt(path: string, file: number): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  const open = fstatSync(file);
  return found !== undefined && found.ino === open.ino && found.dev === open.dev;
}

function stampOf(file: number): string {
  const { size, mtimeNs } = fstatSync(file, { bigint: true });
  return `${size} ${mtimeNs}`;
}
