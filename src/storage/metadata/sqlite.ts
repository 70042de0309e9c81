/**
 * The coordinator's metadata in one SQLite file, held by one process: a change writes the entries that it names and
 * the row of the whole, in one transaction that is on the disk when it is answered.
 *
 *     entry (key, text, crc)                    crc: CRC-32C over key, NUL, text
 *     whole (id = 1, format, version, count, sum, crc)
 *                                               count and sum of the entries' CRCs, so that a row that is lost, kept
 *                                               or taken from another time shows; crc over the row's other columns
 *
 * Both tables and the row come into being in one transaction: a file without tables is new, one that lacks the row or
 * an entry is damaged. The -wal is scanned before SQLite drops what stands behind a flipped bit of it. Everything is
 * read and checked when the store is opened, and answered from memory afterwards.
 *
 * It is synchronous beneath: some 0.2 ms a change on the coordinator's thread, as long as the disk keeps up.
 *
 * Source: safety.md §3, §7, §9.
 */
import type { Database, Statement } from "bun:sqlite";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { utf8 } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import { Refusal } from "../../model/refusal.ts";
import type { MetadataChanges, MetadataState, MetadataStore, MetadataVersion, SwapAnswer } from "../../ports.ts";
import { NO_METADATA_VERSION } from "../../ports.ts";
import { DirectoryInUse, DirectoryRefused } from "../directory-refused.ts";
import { syncDirectory } from "../files.ts";
import { isDiskFull, openSqlite, sqliteErrorKind } from "../sqlite.ts";
import { scanWal } from "../wal-scan.ts";
import { Entries, Liveness, metadataDamage } from "./entries.ts";

/** The format that this build writes; it reads no newer one. */
const FORMAT = 1;

/** The row of the whole. */
interface Whole {
  readonly version: MetadataVersion;
  readonly count: number;
  readonly sum: number;
}

const NOTHING: Whole = { version: NO_METADATA_VERSION, count: 0, sum: 0 };

/**
 * Opens the file, created when missing, with its directory. Throws DirectoryInUse when another process holds it, DirectoryRefused when a
 * newer Varia wrote it, and a DATA_LOSS refusal when it is damaged.
 */
export function openSqliteMetadata(path: string): MetadataStore {
  mkdirSync(dirname(path), { recursive: true });
  const { damagedAt } = scanWal(`${path}-wal`);
  if (damagedAt !== undefined) throw metadataDamage(`${path}-wal`, `byte ${damagedAt}`, "a frame's checksum differs");
  let database: Database | undefined;
  try {
    database = openSqlite(path, { mode: "create", synchronous: "FULL", exclusive: true });
    const { whole, entries } = readAll(path, database);
    database.query("PRAGMA wal_checkpoint(TRUNCATE)").values();
    syncDirectory(dirname(path));
    return new SqliteMetadataStore(database, whole, entries);
  } catch (error) {
    database?.close();
    switch (sqliteErrorKind(error)) {
      case "busy":
        throw new DirectoryInUse(`${path} is in use by another process`, { cause: error });
      case "corrupt":
        throw metadataDamage(path, "the file", (error as Error).message, error);
      default:
        throw error;
    }
  }
}

class SqliteMetadataStore implements MetadataStore {
  readonly #database: Database;
  readonly #statements: Record<"begin" | "commit" | "put" | "drop" | "whole", Statement>;
  readonly #entries: Entries;
  readonly #liveness = new Liveness();
  #whole: Whole;
  #closed = false;

  constructor(database: Database, whole: Whole, entries: ReadonlyMap<string, string>) {
    this.#database = database;
    this.#whole = whole;
    this.#entries = new Entries(entries);
    this.#statements = {
      begin: database.prepare("BEGIN IMMEDIATE"),
      commit: database.prepare("COMMIT"),
      put: database.prepare("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)"),
      drop: database.prepare("DELETE FROM entry WHERE key = ?"),
      whole: database.prepare("INSERT OR REPLACE INTO whole VALUES (1, ?, ?, ?, ?, ?)"),
    };
  }

  async get(): Promise<MetadataState> {
    this.#liveness.check();
    return { version: this.#whole.version, entries: this.#entries.copy() };
  }

  async compareAndSwap(expected: MetadataVersion, changes: MetadataChanges): Promise<SwapAnswer> {
    this.#liveness.check();
    const { version } = this.#whole;
    if (expected !== version) return { outcome: "conflict", version };
    this.#entries.check(changes);
    const whole = this.#wholeAfter(changes);
    let committing = false;
    try {
      this.#statements.begin.run();
      this.#write(changes, whole);
      committing = true;
      this.#statements.commit.run();
    } catch (error) {
      return this.#failed(error, committing);
    }
    this.#whole = whole;
    this.#entries.apply(changes);
    return { outcome: "stored", version: whole.version };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#liveness.end("the metadata store is closed");
    for (const statement of Object.values(this.#statements)) statement.finalize();
    this.#database.close();
  }

  #write(changes: MetadataChanges, { version, count, sum }: Whole): void {
    for (const [key, text] of changes) {
      if (text === undefined) this.#statements.drop.run(key);
      else this.#statements.put.run(key, text, entryCrc(key, text));
    }
    this.#statements.whole.run(FORMAT, version, count, sum, wholeCrc(FORMAT, version, count, sum));
  }

  #wholeAfter(changes: MetadataChanges): Whole {
    let { count, sum } = this.#whole;
    for (const [key, text] of changes) {
      const before = this.#entries.get(key);
      if (before !== undefined) {
        count--;
        sum -= entryCrc(key, before);
      }
      if (text !== undefined) {
        count++;
        sum += entryCrc(key, text);
      }
    }
    return { version: this.#whole.version + 1, count, sum };
  }

  /** A full disk has changed nothing; a commit that failed otherwise may be in the file or not. */
  #failed(error: unknown, committing: boolean): SwapAnswer {
    const full = isDiskFull(error);
    try {
      if (this.#database.inTransaction) this.#database.run("ROLLBACK");
    } catch (cause) {
      this.#liveness.end("the metadata store failed", cause);
    }
    if (full && !this.#liveness.ended) {
      throw new Refusal("RESOURCE_EXHAUSTED", "the disk of the metadata store is full", { cause: error });
    }
    this.#liveness.end("the metadata store failed", error);
    if (committing) return { outcome: "unknown", cause: error };
    throw error;
  }
}

function readAll(path: string, database: Database): { whole: Whole; entries: Map<string, string> } {
  const tables = database.query("SELECT name FROM sqlite_schema WHERE type = 'table'").values();
  if (tables.length === 0) {
    create(database);
    return { whole: NOTHING, entries: new Map() };
  }
  const whole = readWhole(path, database);
  const entries = new Map<string, string>();
  let sum = 0;
  for (const [key, text, crc] of database.query("SELECT key, text, crc FROM entry").values()) {
    const sound = typeof key === "string" && typeof text === "string" && entryCrc(key, text) === crc;
    if (!sound) throw metadataDamage(path, `entry ${String(key)}`, "its CRC differs");
    entries.set(key, text);
    sum += crc as number;
  }
  if (entries.size !== whole.count || sum !== whole.sum) {
    throw metadataDamage(path, "the entries", `${entries.size} are not the ${whole.count} that were written`);
  }
  return { whole, entries };
}

function readWhole(path: string, database: Database): Whole {
  const rows = database.query("SELECT id, format, version, count, sum, crc FROM whole").values() as number[][];
  const [id, format, version, count, sum, crc] = rows[0] ?? [];
  if (rows.length !== 1 || id !== 1) throw metadataDamage(path, "the row of the whole", `there are ${rows.length}`);
  if (crc !== wholeCrc(format, version, count, sum)) {
    throw metadataDamage(path, "the row of the whole", "its CRC differs");
  }
  if (format! > FORMAT) throw new DirectoryRefused(`${path} has format ${format}: use the newer Varia that wrote it`);
  return { version: version!, count: count!, sum: sum! };
}

function create(database: Database): void {
  database.transaction(() => {
    database.run("CREATE TABLE entry (key TEXT PRIMARY KEY, text TEXT, crc INTEGER) WITHOUT ROWID");
    database.run(
      "CREATE TABLE whole (id INTEGER PRIMARY KEY, format INTEGER, version INTEGER, count INTEGER, sum INTEGER, crc INTEGER)",
    );
    const { version, count, sum } = NOTHING;
    const crc = wholeCrc(FORMAT, version, count, sum);
    database.run("INSERT INTO whole VALUES (1, ?, ?, ?, ?, ?)", [FORMAT, version, count, sum, crc]);
  })();
}

function entryCrc(key: string, text: string): number {
  return crc32c(utf8(`${key}\0${text}`));
}

function wholeCrc(...columns: unknown[]): number {
  return crc32c(utf8(columns.join(" ")));
}
