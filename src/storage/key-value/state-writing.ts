/**
 * Writes a state that another server sends into a file of its own, beside the one that stands, and proves on the way
 * that it is what the sender says: blocks and keys ascending, each block's and record's checksum, their number and hash.
 *
 * Items come in order, so that each page is written once: the file has no journal on disk. It is of no use until it is
 * complete, and then it is synced before it gets a name that a start looks at.
 */
import type { Database, Statement } from "bun:sqlite";
import { renameSync } from "node:fs";
import { dirname } from "node:path";
import type { Bytes } from "../../lib/bytes.ts";
import { NO_OFFSET } from "../../model/ids.ts";
import type { KeySorting } from "../../model/keys.ts";
import { FLUSH_SYNC_BYTES, KEY_VALUE_PAGE_BYTES } from "../../model/limits.ts";
import { makeDirectory, removeSqlite, syncDirectory, syncFile } from "../files.ts";
import { openSqlite } from "../sqlite.ts";
import { BLOCK_SCHEMA } from "./block-merge.ts";
import { insertNotification, NOTIFICATION_SCHEMA, writeTrimmed } from "./notification-store.ts";
import { StateCheck, type StateClaim } from "./state-check.ts";
import { incomingPath, receivedPath } from "./state-files.ts";
import { ItemReader, type StateItem } from "./state-items.ts";
import { PieceReader } from "./state-pieces.ts";
import { STATE_SCHEMA, writeState } from "./stored-state.ts";

/** Pages go out as they fill up, in order. */
const CACHE_KIB = 1024;

export class StateWriting {
  readonly #path: string;
  readonly #incoming: string;
  readonly #database: Database;
  readonly #insertBlock: Statement;
  readonly #pieces = new PieceReader();
  readonly #items = new ItemReader();
  readonly #check: StateCheck;
  #unsyncedBytes = 0;
  #isOpen = true;

  /** `path` is that of the state that stands, which is not touched. */
  constructor(path: string, sorting: KeySorting) {
    this.#path = path;
    this.#check = new StateCheck(sorting);
    this.#incoming = incomingPath(path);
    makeDirectory(dirname(path));
    removeSqlite(this.#incoming);
    removeSqlite(receivedPath(path));
    syncDirectory(dirname(path));
    this.#database = openSqlite(this.#incoming, {
      mode: "create",
      synchronous: "OFF",
      journal: "memory",
      pageBytes: KEY_VALUE_PAGE_BYTES,
      cacheKiB: CACHE_KIB,
    });
    try {
      for (const sql of [BLOCK_SCHEMA, STATE_SCHEMA, ...NOTIFICATION_SCHEMA]) this.#database.run(sql);
      this.#insertBlock = this.#database.prepare("INSERT INTO block VALUES(?1, ?2, ?3)");
      this.#database.run("BEGIN");
    } catch (error) {
      this.#database.close();
      removeSqlite(this.#incoming);
      throw error;
    }
  }

  /** Takes the next piece. Throws INVALID_ARGUMENT when it is none; after anything that it throws there is only `drop`. */
  add(piece: Bytes): void {
    for (const item of this.#items.add(this.#pieces.add(piece))) this.#take(item);
    this.#unsyncedBytes += piece.length;
    if (this.#unsyncedBytes >= FLUSH_SYNC_BYTES) this.#sync();
  }

  /** The file is whole, on the disk, and named so once it returns. Throws as `add` does. */
  complete(claim: StateClaim): void {
    const { state, trimmed } = this.#check.whole(claim);
    writeState(this.#database, state);
    if (trimmed !== NO_OFFSET) writeTrimmed(this.#database, trimmed);
    this.#database.run("COMMIT");
    this.#database.query("PRAGMA journal_mode = wal").values();
    this.#close();
    syncFile(this.#incoming);
    renameSync(this.#incoming, receivedPath(this.#path));
    syncDirectory(dirname(this.#path));
  }

  /** Removes what was written, also after `complete`. */
  drop(): void {
    this.#close();
    removeSqlite(this.#incoming);
    removeSqlite(receivedPath(this.#path));
    syncDirectory(dirname(this.#path));
  }

  #take(item: StateItem): void {
    const before = item.kind === "notification" ? this.#check.told : NO_OFFSET;
    this.#check.add(item);
    if (item.kind === "block") this.#insertBlock.run(item.block.okey, item.block.tie, item.block.records);
    if (item.kind === "notification") insertNotification(this.#database, before, item.told);
  }

  /** Has what came go to the disk a little at a time: the log's commits wait for the same disk. */
  #sync(): void {
    this.#database.run("COMMIT");
    syncFile(this.#incoming);
    this.#unsyncedBytes = 0;
    this.#database.run("BEGIN");
  }

  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#insertBlock.finalize();
    this.#database.close();
  }
}
