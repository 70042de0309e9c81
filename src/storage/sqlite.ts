/**
 * Opens SQLite files as this project needs them: every setting that a promise hangs on is set *and read back*
 * (`synchronous` belongs to the connection, defaults differ between builds), and errors are sorted by what must follow.
 *
 *     full       SQLITE_FULL: nothing was written, the same connection goes on when space is back
 *     io         SQLITE_IOERR*: a failed commit has an unknown outcome; the process ends and recovers from the files
 *     corrupt    the file is not what was written: damage, told to the operator
 *     busy       somebody else holds the file
 *     other      a bug of ours, or of the environment (permissions, too many open files)
 *
 * A file has one writing connection, and is never shared with another SQLite library. Versions 3.7.0 to 3.51.2 may
 * lose a commit when two connections reset the -wal: refused.
 */
import { Database, SQLiteError } from "bun:sqlite";
import { closeSync, existsSync, openSync, readSync, realpathSync } from "node:fs";
import { basename } from "node:path";
import { assert } from "../lib/assert.ts";
import { syncFile } from "./files.ts";
import { inTurn } from "./open-lock.ts";

export const SQLITE_VERSION_MIN = "3.51.3";

/** The path of a database that is in memory and nowhere else. */
export const MEMORY = ":memory:";

export interface SqliteOptions {
  /** `read`: the file must exist. `create`: it is made when missing. `write`: must exist, may be changed. */
  readonly mode: "read" | "write" | "create";
  /** FULL: a commit is on the disk when it returns. NORMAL: the file stays whole, the last commits may go with the power. */
  readonly synchronous: "FULL" | "NORMAL" | "OFF";
  /**
   * Holds the file for this connection alone until it is closed, or the process ends: no -shm file and no locking at
   * each commit. Another process, and another connection of this one, gets `busy`.
   */
  readonly exclusive?: boolean;
  /** `memory`: a process that ends within a transaction leaves the file useless. For files that are of no use before they are finished. Default `wal`. */
  readonly journal?: "wal" | "memory";
  /** Bytes of one page; counts only when the file is created. Default 4096. */
  readonly pageBytes?: number;
  /** KiB of the connection's page cache. Default 2000, SQLite's own. */
  readonly cacheKiB?: number;
  /** Pages in the -wal after which a commit checkpoints; 0 = only when told. Default 1000, SQLite's own. */
  readonly autocheckpointPages?: number;
  /** Bytes that the -wal is cut to after a checkpoint; -1 = left as it is. Default -1. */
  readonly walBytesKept?: number;
}

/** Opens a file with the options given. Throws SQLiteError (see `sqliteErrorKind`), or an AssertionError when a setting did not take. */
export function openSqlite(path: string, options: SqliteOptions): Database {
  assertSqliteVersion();
  if (options.mode !== "read") requireWritable(path);
  let database: Database | undefined;
  try {
    const flags = {
      readonly: options.mode === "read",
      readwrite: options.mode !== "read",
      create: options.mode === "create",
    };
    const opened = inTurn(() => new Database(path, flags));
    // not to be closed if it is not ours
    requireFile(opened, path);
    database = opened;
    configure(database, options);
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof SQLiteError) error.message = `${path}: ${error.message}`;
    throw error;
  }
}

/** A file that is not what was written, although SQLite has another word for it. */
class NoDatabase extends Error {
  override readonly name = "NoDatabase";
}

/** A file that says of itself that a later SQLite alone may write it would be opened all the same, for reading. */
function requireWritable(path: string): void {
  if (!existsSync(path)) return;
  const header = new Uint8Array(WRITE_VERSION_AT + 1);
  const file = openSync(path, "r");
  let bytes: number;
  try {
    bytes = readSync(file, header, 0, header.length, 0);
  } finally {
    closeSync(file);
  }
  const version = header[WRITE_VERSION_AT]!;
  if (bytes === header.length && version !== 1 && version !== 2) {
    throw new NoDatabase(`${path}: its header is not what was written`);
  }
}

const WRITE_VERSION_AT = 18;

/** A handle that is another file's would lose the data of both (open-lock.ts): the process must not go on with it. */
function requireFile(database: Database, path: string): void {
  const file = String(database.query("PRAGMA database_list").values()[0]?.[2] ?? "");
  const expected = path === MEMORY ? "" : basename(realPath(path));
  assert(basename(file) === expected, "an opened database is the file's", path, file);
}

/** SQLite follows symbolic links. */
function realPath(path: string): string {
  return existsSync(path) ? realpathSync(path) : path;
}

/** An error's message with what SQLite's own leaves out, for people. */
export function explainError(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof SQLiteError ? error.errno & 0xff : 0;
  // SQLite opens a file for reading alone when it cannot open it for writing
  return code === CANTOPEN || code === READONLY
    ? `${message}: an I/O error, missing rights, or too many open files`
    : message;
}

function configure(database: Database, options: SqliteOptions): void {
  // Before anything touches the file: with a lock held from the first access on, the -wal index stays in memory.
  if (options.exclusive) setPragma(database, "locking_mode", "exclusive");
  if (options.mode !== "read") {
    if (options.pageBytes !== undefined) database.run(`PRAGMA page_size = ${options.pageBytes}`);
    setPragma(database, "journal_mode", options.journal ?? "wal");
    setPragma(database, "wal_autocheckpoint", options.autocheckpointPages ?? 1000);
    setPragma(database, "journal_size_limit", options.walBytesKept ?? -1);
  }
  setPragma(database, "synchronous", { FULL: 2, NORMAL: 1, OFF: 0 }[options.synchronous]);
  setPragma(database, "cell_size_check", 1);
  setPragma(database, "cache_size", -(options.cacheKiB ?? 2000));
  setPragma(database, "mmap_size", 0);
}

/** Sets a pragma and reads it back: a name or value that this build does not take must not pass in silence. */
function setPragma(database: Database, name: string, value: string | number): void {
  database.query(`PRAGMA ${name} = ${value}`).values();
  const found = database.query(`PRAGMA ${name}`).values()[0]?.[0];
  // mmap_size is capped by the build, and is absent where it is not supported: only ever a matter of speed.
  assert(found === value || name === "mmap_size", "an SQLite setting did not take", name, value, found);
}

let versionChecked = false;

/** Refuses a library that may lose commits. */
export function assertSqliteVersion(): void {
  if (versionChecked) return;
  const memory = inTurn(() => new Database(MEMORY));
  const version = String(memory.query("SELECT sqlite_version()").values()[0]![0]);
  memory.close();
  assert(isVersionAtLeast(version, SQLITE_VERSION_MIN), "SQLite is too old", version, SQLITE_VERSION_MIN);
  versionChecked = true;
}

/** Compares dotted versions by their numbers; a missing part counts as 0. */
export function isVersionAtLeast(version: string, minimum: string): boolean {
  const have = version.split(".").map(Number);
  const need = minimum.split(".").map(Number);
  for (let i = 0; i < Math.max(have.length, need.length); i++) {
    const difference = (have[i] ?? 0) - (need[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/**
 * Moves all that the -wal holds into the database, synced, and empties it, which is synced too. After a sync that failed,
 * the page cache vouches for transactions that the -wal on the disk does not hold: they are in the database then, and a
 * -wal that a power cut brings back without them would take their pages back to what they were before. Answers whether
 * all was moved: a reader of an older state keeps some of it where it is.
 */
export function emptyWal(database: Database, path: string): boolean {
  const [row] = database.query("PRAGMA wal_checkpoint(TRUNCATE)").values() as [number, number, number][];
  if (row?.[0] !== 0) return false;
  if (path !== MEMORY) syncFile(`${path}-wal`);
  return true;
}

export type SqliteErrorKind = "full" | "io" | "corrupt" | "busy" | "other";

const ERROR = 1;
/** What our own statements, which are always the same, cause only where a file has other tables than were made in it. */
const OTHER_SCHEMA = /no such (table|column)|has no column|has \d+ columns? but|unsupported file format/;
const BUSY = 5;
const LOCKED = 6;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANTOPEN = 14;
const READONLY = 8;
const NOTADB = 26;
/** The -wal index could not grow: on a full disk that is how SQLite says it. */
const IOERR_SHMSIZE = IOERR | (19 << 8);

/** What must follow from an error that came out of SQLite, or from the file system beside it; `other` for everything else. */
export function sqliteErrorKind(error: unknown): SqliteErrorKind {
  if (error instanceof NoDatabase) return "corrupt";
  if (!(error instanceof SQLiteError)) return systemErrorKind(error);
  if (error.errno === IOERR_SHMSIZE) return "full";
  if (error.errno === ERROR && OTHER_SCHEMA.test(error.message)) return "corrupt";
  switch (error.errno & 0xff) {
    case FULL:
      return "full";
    case IOERR:
    case CANTOPEN:
      return "io";
    case CORRUPT:
    case NOTADB:
      return "corrupt";
    case BUSY:
    case LOCKED:
      return "busy";
    default:
      return "other";
  }
}

function systemErrorKind(error: unknown): SqliteErrorKind {
  const { code, syscall } = (error ?? {}) as { readonly code?: unknown; readonly syscall?: unknown };
  if (code === "ENOSPC" || code === "EDQUOT") return "full";
  return typeof code === "string" && typeof syscall === "string" ? "io" : "other";
}

/** Whether an error says that there is no space (or no quota) left. */
export function isDiskFull(error: unknown): boolean {
  return sqliteErrorKind(error) === "full";
}
