/** Reading connections on one KV file: point look-ups, and pages of a range. Every row's CRC is checked. */
import type { Database, Statement } from "bun:sqlite";
import { EMPTY_BYTES } from "../../lib/bytes.ts";
import { Refusal } from "../../model/refusal.ts";
import { openSqlite } from "../sqlite.ts";
import { hasItsCrc } from "./flush.ts";
import type { OrderRange } from "./table-order.ts";

/** Bytes of a file that readers map: a mapped page costs no copy, but counts as resident until the kernel takes it back. */
const MMAP_BYTES = 64 * 1024 * 1024;
/** Least page cache of one connection. */
const CACHE_KIB_MIN = 64;
/** Rows of a range's first page; each further one is twice as large. */
const PAGE_ROWS_FIRST = 16;
const PAGE_ROWS_MAX = 1024;
/** A page ends with the row that reaches this. */
const PAGE_BYTES_MAX = 256 * 1024;

/** As the columns are named; `row` is CRC and row. */
export interface StoredRow {
  readonly okey: Uint8Array;
  readonly tie: Uint8Array;
  readonly row: Uint8Array;
}

export class KeyValueReader {
  readonly path: string;
  readonly #database: Database;
  readonly #get: Statement;
  /** Statements by range shape. */
  readonly #pages = new Map<string, Statement>();

  /** `mapped`: for point reads. A scan gains little from a map, and every connection's own map counts as resident memory. */
  constructor(path: string, { cacheBytes, mapped }: { readonly cacheBytes: number; readonly mapped: boolean }) {
    this.path = path;
    this.#database = openSqlite(path, {
      mode: "read",
      synchronous: "NORMAL",
      cacheKiB: Math.max(CACHE_KIB_MIN, Math.floor(cacheBytes / 1024)),
      mmapBytes: mapped ? MMAP_BYTES : 0,
    });
    this.#get = this.#database.prepare("SELECT row FROM kv WHERE okey = ?1 AND tie = ?2");
  }

  /** What is stored: CRC and row, or undefined. */
  get(orderKey: Uint8Array, tie: Uint8Array): Uint8Array | undefined {
    const found = this.#get.get(orderKey, tie) as { row: Uint8Array } | null;
    if (found === null) return undefined;
    this.check(orderKey, tie, found.row);
    return found.row;
  }

  /** Pins the state as it is now until `unpin`. */
  pin(): void {
    this.#database.run("BEGIN");
    this.#database.query("SELECT count(*) FROM meta").values();
  }

  unpin(): void {
    this.#database.run("COMMIT");
  }

  cursor(range: OrderRange): StoredCursor {
    return new StoredCursor(this, range);
  }

  /** Up to `limit` rows of a range, in its order, and up to PAGE_BYTES_MAX of them; `last` when the range ends there. */
  page(range: OrderRange, limit: number): { readonly rows: StoredRow[]; readonly last: boolean } {
    const { from, to, reverse } = range;
    const shape = `${from === undefined ? "" : from.inclusive ? ">=" : ">"}|${to === undefined ? "" : to.inclusive ? "<=" : "<"}|${reverse}`;
    let statement = this.#pages.get(shape);
    if (statement === undefined) {
      statement = this.#database.prepare(pageSql(range));
      this.#pages.set(shape, statement);
    }
    const rows: StoredRow[] = [];
    let bytes = 0;
    const found = statement.iterate(
      limit,
      from?.orderKey ?? EMPTY_BYTES,
      from?.tie ?? EMPTY_BYTES,
      to?.orderKey ?? EMPTY_BYTES,
      to?.tie ?? EMPTY_BYTES,
    ) as Iterable<StoredRow>;
    for (const stored of found) {
      rows.push(stored);
      bytes += stored.row.length;
      if (bytes >= PAGE_BYTES_MAX) return { rows, last: false };
    }
    return { rows, last: rows.length < limit };
  }

  check(orderKey: Uint8Array, tie: Uint8Array, stored: Uint8Array): void {
    if (hasItsCrc(orderKey, tie, stored)) return;
    const place = Buffer.from(orderKey.subarray(0, 64)).toString("hex");
    throw new Refusal(
      "DATA_LOSS",
      `${this.path}: order key ${place}: a row has another checksum than it was written with`,
    );
  }

  close(): void {
    for (const statement of this.#pages.values()) statement.finalize();
    this.#get.finalize();
    this.#database.close();
  }
}

function pageSql({ from, to, reverse }: OrderRange): string {
  const conditions = ["?1 = ?1"];
  conditions.push(from === undefined ? "?2 = ?2 AND ?3 = ?3" : `(okey, tie) ${from.inclusive ? ">=" : ">"} (?2, ?3)`);
  conditions.push(to === undefined ? "?4 = ?4 AND ?5 = ?5" : `(okey, tie) ${to.inclusive ? "<=" : "<"} (?4, ?5)`);
  const direction = reverse ? "DESC" : "ASC";
  return `SELECT okey, tie, row FROM kv WHERE ${conditions.slice(1).join(" AND ")} ORDER BY okey ${direction}, tie ${direction} LIMIT ?1`;
}

/** A place in the stored rows of a range, read page by page. */
export class StoredCursor {
  readonly #reader: KeyValueReader;
  #range: OrderRange;
  #page: StoredRow[] = [];
  #at = 0;
  #limit = PAGE_ROWS_FIRST;
  #last = false;
  orderKey: Uint8Array = EMPTY_BYTES;
  tie: Uint8Array = EMPTY_BYTES;
  /** CRC and row. */
  stored: Uint8Array = EMPTY_BYTES;

  constructor(reader: KeyValueReader, range: OrderRange) {
    this.#reader = reader;
    this.#range = range;
  }

  next(): boolean {
    if (this.#at === this.#page.length && !this.#turn()) return false;
    const { okey, tie, row } = this.#page[this.#at++]!;
    this.#reader.check(okey, tie, row);
    this.orderKey = okey;
    this.tie = tie;
    this.stored = row;
    return true;
  }

  #turn(): boolean {
    if (this.#last) return false;
    const end = this.#page.at(-1);
    if (end !== undefined) {
      const bound = { orderKey: end.okey, tie: end.tie, inclusive: false };
      this.#range = this.#range.reverse ? { ...this.#range, to: bound } : { ...this.#range, from: bound };
    }
    const { rows, last } = this.#reader.page(this.#range, this.#limit);
    this.#page = rows;
    this.#last = last;
    this.#at = 0;
    this.#limit = Math.min(this.#limit * 2, PAGE_ROWS_MAX);
    return this.#page.length > 0;
  }
}
