/**
 * Reads a shard's state from its KV file to be sent: one moment of it, pinned by a connection of its own. Blocks go out
 * as they lie there, so that sending is little more than a copy.
 */
import type { Database } from "bun:sqlite";
import type { Bytes } from "../../lib/bytes.ts";
import type { KeySorting } from "../../model/keys.ts";
import { SNAPSHOT_CHUNK_BYTES_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import { openSqlite, sqliteErrorKind } from "../sqlite.ts";
import { BlockView, isWhole, type StoredBlock } from "./block.ts";
import { placeOf } from "./block-merge.ts";
import { checkedRows, type NotificationRow, readTrimmed } from "./notification-store.ts";
import { addToHash, sameHash } from "./record-hash.ts";
import { itemParts, type StateHead } from "./state-items.ts";
import { PieceWriter } from "./state-pieces.ts";
import { EMPTY_STATE, readState, type StoredState } from "./stored-state.ts";

/** Page cache of the connection: it wants each page once. */
const CACHE_KIB = 256;

export class StateReading {
  readonly head: StateHead;
  readonly #path: string;
  readonly #database: Database;
  readonly #parts: Generator<Bytes>;
  readonly #pieces: PieceWriter;

  /** Pins the file as it is now. Throws DATA_LOSS when it is damaged. */
  constructor(path: string, sorting: KeySorting) {
    this.#path = path;
    this.#database = openSqlite(path, { mode: "read", synchronous: "NORMAL", cacheKiB: CACHE_KIB });
    try {
      this.head = this.#reading(() => {
        this.#database.run("BEGIN");
        return { sorting, state: this.#readState(), trimmed: readTrimmed(this.#database) };
      });
    } catch (error) {
      this.#database.close();
      throw error;
    }
    this.#parts = this.#allParts();
    this.#pieces = new PieceWriter(this.#parts, SNAPSHOT_CHUNK_BYTES_MAX);
  }

  /** The next piece, in bytes of its own; undefined at the end. Throws DATA_LOSS on damage. */
  next(): Bytes | undefined {
    return this.#reading(() => this.#pieces.next());
  }

  close(): void {
    this.#parts.return(undefined);
    this.#database.close();
  }

  *#allParts(): Generator<Bytes> {
    yield* itemParts({ kind: "head", head: this.head });
    yield* this.#blockParts();
    const { state, trimmed } = this.head;
    const rows = this.#database
      .query("SELECT offset, before, timestamp, crc, entries FROM notification ORDER BY offset")
      .iterate() as Iterable<NotificationRow>;
    for (const told of checkedRows(this.#path, rows, { trimmed, last: state.told })) {
      yield* itemParts({ kind: "notification", told });
    }
    yield* itemParts({ kind: "end" });
  }

  /** All blocks. Records that are hidden show in their number and hash. */
  *#blockParts(): Generator<Bytes> {
    const blocks = this.#database
      .query("SELECT okey, tie, records FROM block ORDER BY okey, tie")
      .iterate() as Iterable<StoredBlock>;
    const hash = { low: 0, high: 0 };
    let count = 0;
    for (const block of blocks) {
      if (!isWhole(block)) throw this.#damage(placeOf(block), "a block has another checksum than it was written with");
      const view = new BlockView(block.records);
      for (let index = 0; index < view.count; index++) addToHash(hash, view.crc(index), 1);
      count += view.count;
      yield* itemParts({ kind: "block", block });
    }
    const { state } = this.head;
    if (count !== state.rowCount || !sameHash(hash, state.hash)) {
      throw this.#damage(`row ${count}`, "the records are others than were written");
    }
  }

  #readState(): StoredState {
    try {
      return readState(this.#database) ?? EMPTY_STATE;
    } catch (error) {
      if (sqliteErrorKind(error) !== "other") throw error;
      throw this.#damage("byte 0", (error as Error).message);
    }
  }

  #reading<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (sqliteErrorKind(error) !== "corrupt") throw error;
      throw this.#damage("byte 0", (error as Error).message);
    }
  }

  #damage(where: string, what: string): Refusal {
    return new Refusal("DATA_LOSS", `${this.#path}: ${where}: ${what}`);
  }
}
