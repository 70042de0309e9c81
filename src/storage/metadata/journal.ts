/**
 * Rooms of texts in one SQLite file beside the metadata store, held by the process that holds that one.
 *
 *     row (room, id, text, crc)                 crc: CRC-32C over room, id, text
 *
 * A file of its own, because it has promises of its own: a change is in the file when it is answered, and on the disk a
 * little later (`synchronous = NORMAL`) unless it is to be there at once; a row that is damaged is left out, and a file that cannot be read is put aside
 * for a new one. Neither may keep a coordinator from its work.
 */
import type { Database } from "bun:sqlite";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { utf8 } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import type { JournalChanges, JournalRoom, JournalRow } from "../../model/journal.ts";
import { DirectoryInUse } from "../directory-refused.ts";
import { openSqlite, sqliteErrorKind } from "../sqlite.ts";

/** SQLite itself has found the file damaged. */
class Unreadable extends Error {
  override readonly name = "Unreadable";
}

export class JournalFile {
  readonly #database: Database;
  readonly path: string;
  /** What was found damaged, in words; undefined: nothing. */
  readonly damage: string | undefined;

  private constructor(path: string, database: Database, damage: string | undefined) {
    this.path = path;
    this.#database = database;
    this.damage = damage;
  }

  /** Opens the file, created when missing, with its directory. Throws DirectoryInUse when another process holds it. */
  static open(path: string): JournalFile {
    mkdirSync(dirname(path), { recursive: true });
    try {
      return JournalFile.#open(path);
    } catch (error) {
      const kind = sqliteErrorKind(error);
      if (kind === "busy") throw new DirectoryInUse(`${path} is in use by another process`, { cause: error });
      if (kind !== "corrupt" && !(error instanceof Unreadable)) throw error;
      const aside = `${path}.damaged`;
      for (const suffix of ["-wal", "-shm"]) rmSync(`${path}${suffix}`, { force: true });
      if (existsSync(path)) renameSync(path, aside);
      const { message } = error as Error;
      return JournalFile.#open(path, `${path} could not be read (${message}) and was put aside as ${aside}`);
    }
  }

  static #open(path: string, damage?: string): JournalFile {
    const database = openSqlite(path, { mode: "create", synchronous: "NORMAL", exclusive: true });
    try {
      database.run(
        "CREATE TABLE IF NOT EXISTS row (room TEXT, id INTEGER, text TEXT, crc INTEGER, PRIMARY KEY (room, id)) WITHOUT ROWID",
      );
      const [check] = database.query("PRAGMA quick_check(1)").values() as [string][];
      if (check?.[0] !== "ok") throw new Unreadable(String(check?.[0]));
      const rows = database.query("SELECT room, id, text, crc FROM row").values() as [string, number, string, number][];
      const lost = rows.filter(([room, id, text, crc]) => rowCrc(room, id, text) !== crc);
      for (const [room, id] of lost) database.run("DELETE FROM row WHERE room = ? AND id = ?", [room, id]);
      const missing = lost.length === 0 ? undefined : `${path}: ${lost.length} rows were damaged, and are gone`;
      return new JournalFile(path, database, damage ?? missing);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  room(name: string): JournalRoom {
    const database = this.#database;
    const put = database.query("INSERT OR REPLACE INTO row VALUES (?, ?, ?, ?)");
    const drop = database.query("DELETE FROM row WHERE room = ? AND id = ?");
    return {
      read: () => database.query("SELECT id, text FROM row WHERE room = ? ORDER BY id").all(name) as JournalRow[],
      write: (changes: JournalChanges) => {
        database.transaction(() => {
          for (const { id, text } of changes.put) put.run(name, id, text, rowCrc(name, id, text));
          for (const id of changes.drop) drop.run(name, id);
        })();
        // a checkpoint syncs what it rests on first
        if (changes.durable === true) database.query("PRAGMA wal_checkpoint(PASSIVE)").values();
      },
    };
  }

  close(): void {
    this.#database.close();
  }
}

function rowCrc(room: string, id: number, text: string): number {
  return crc32c(utf8(`${room}\0${id}\0${text}`));
}
