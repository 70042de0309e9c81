/**
 * A shard's history, taken apart into one of each key. What touches several keys becomes an operation on each: a range
 * delete erases every key of its range, a scan or a comparison reads the keys that it found and finds the others
 * absent. That is weaker than the whole (those operations need not be at one moment over all keys), so it accepts all
 * that is right; what it gains is that each key is judged alone.
 *
 * A put whose outcome is unknown but whose value was read did happen, before that read ended, and got the version that
 * the read showed: from there on it is as good as answered.
 */
import type { FoundRecord, HistoryEntry } from "./history.ts";

/** One operation on one key. */
export interface KeyOperation {
  readonly entry: HistoryEntry;
  readonly invoked: number;
  /** It has happened before this; Infinity: perhaps never. */
  returned: number;
  /**
   * - `put`, `delete`, `erase` change the key; their outcome is OK, or unknown. `expire` deletes the record that has
   *   `value`, and no other.
   * - `read` saw the record that `writer` put; `absent` saw none, `present` saw that there was one. `unindexed` saw no
   *   record whose key in the index lies in `range`.
   * - `mismatch` found another version than `expected`, or no record.
   */
  readonly kind: "put" | "delete" | "erase" | "expire" | "read" | "absent" | "present" | "unindexed" | "mismatch";
  readonly expected: number | undefined;
  /** Of a put: undefined while nobody knows. */
  version: number | undefined;
  /** Of a read. */
  readonly writer: KeyOperation | undefined;
  /** Of an expire, and of a put whose record may expire. */
  readonly value: string | undefined;
  /** Of a put: the record's key in the index. */
  readonly index: string | undefined;
  /** Of an unindexed. */
  readonly range: { readonly fromInclusive: string; readonly toExclusive: string } | undefined;
}

/** The server broke a promise. */
export class NotLinearizable extends Error {
  override readonly name = "NotLinearizable";
}

export type Fail = (what: string, ...entries: readonly HistoryEntry[]) => NotLinearizable;

/** The operations of each key, in the order in which they were sent. Throws for reads of what nobody has written. */
export function operationsByKey(entries: readonly HistoryEntry[], fail: Fail): Map<string, KeyOperation[]> {
  return new Projection(entries, fail).run();
}

class Projection {
  readonly #entries: readonly HistoryEntry[];
  readonly #fail: Fail;
  readonly #keys = new Map<string, KeyOperation[]>();
  /** Values of records that may expire, which puts of other ones cannot stand for. */
  readonly #expiring = new Set<string>();
  /** Puts by key and value: the operations that may have been carried out, the one that was answered first. */
  readonly #puts = new Map<
    string,
    Map<string, { readonly entry: HistoryEntry; readonly operations: readonly KeyOperation[] }>
  >();

  constructor(entries: readonly HistoryEntry[], fail: Fail) {
    this.#entries = entries;
    this.#fail = fail;
  }

  run(): Map<string, KeyOperation[]> {
    for (const { operation } of this.#entries)
      if (operation.kind === "session-end") this.#expiring.add(operation.value);
    for (const entry of this.#entries) this.#addPut(entry);
    for (const entry of this.#entries) this.#addOther(entry);
    for (const entry of this.#entries) this.#addRepeats(entry);
    for (const operations of this.#keys.values()) operations.sort((a, b) => a.invoked - b.invoked);
    return this.#keys;
  }

  #addPut(entry: HistoryEntry): void {
    const { operation, outcome } = entry;
    this.#noteKeys(entry);
    if (operation.kind !== "put") return;
    const { key, value, expected, index } = operation;
    const operations: KeyOperation[] = [];
    const put = { kind: "put", expected, value: this.#expiring.has(value) ? value : undefined, index } as const;
    if (outcome === undefined || outcome.status === "OK") {
      const version = outcome?.status === "OK" ? outcome.version : undefined;
      if (outcome !== undefined && version === undefined)
        throw this.#fail("a put was answered without a version", entry);
      operations.push(this.#add(key, entry, { ...put, version }));
    } else {
      this.#add(key, entry, { kind: "mismatch", expected });
    }
    for (let nth = 0; nth < entry.repeats; nth++) operations.push(this.#add(key, perhaps(entry), put));
    this.#puts.get(key)!.set(value, { entry, operations });
  }

  /** What was sent again may have been carried out again: those of puts are added with them. */
  #addRepeats(entry: HistoryEntry): void {
    const { operation } = entry;
    for (let nth = 0; nth < entry.repeats; nth++) {
      if (operation.kind === "delete") this.#addDelete(perhaps(entry), operation.key, operation.expected);
      if (operation.kind === "delete-range") this.#addErases(perhaps(entry), operation);
    }
  }

  /** Every key that anything names is a key to look at. */
  #noteKeys({ operation, outcome }: HistoryEntry): void {
    const note = (key: string) => {
      if (this.#keys.has(key)) return;
      this.#keys.set(key, []);
      this.#puts.set(key, new Map());
    };
    if ("key" in operation) note(operation.key);
    if (outcome?.status !== "OK") return;
    if (outcome.record !== undefined) note(outcome.record.key);
    for (const { key } of outcome.records ?? []) note(key);
    for (const key of outcome.keys ?? []) note(key);
  }

  #addOther(entry: HistoryEntry): void {
    const { operation, outcome } = entry;
    switch (operation.kind) {
      case "put":
        return;
      case "delete":
        this.#addDelete(entry, operation.key, operation.expected);
        return;
      case "delete-range":
        this.#addErases(entry, operation);
        return;
      case "session-end":
        this.#add(operation.key, entry, { kind: "expire", value: operation.value });
        return;
      case "list":
        if (outcome !== undefined) this.#addList(entry);
        return;
      case "get":
      case "compare":
      case "scan":
      case "index-scan":
        if (outcome === undefined) return; // it tells nothing
        this.#addRead(entry);
    }
  }

  #addErases(entry: HistoryEntry, { fromInclusive, toExclusive }: Range): void {
    for (const key of this.#keys.keys()) {
      if (key >= fromInclusive && key < toExclusive) this.#add(key, entry, { kind: "erase" });
    }
  }

  #addList(entry: HistoryEntry): void {
    const { operation, outcome } = entry;
    const found = new Set(outcome?.status === "OK" ? outcome.keys : []);
    const covers = coverage(operation, undefined);
    for (const key of found) if (!covers(key)) throw this.#fail(`${key} was not asked for`, entry);
    for (const key of this.#keys.keys()) {
      if (covers(key)) this.#add(key, entry, { kind: found.has(key) ? "present" : "absent" });
    }
  }

  #addDelete(entry: HistoryEntry, key: string, expected: number | undefined): void {
    switch (entry.outcome?.status) {
      case undefined:
      case "OK":
        this.#add(key, entry, { kind: "delete", expected });
        return;
      case "KEY_NOT_FOUND":
        this.#add(key, entry, { kind: "absent" });
        return;
      case "UNEXPECTED_VERSION_ID":
        this.#add(key, entry, { kind: "mismatch", expected });
    }
  }

  #addRead(entry: HistoryEntry): void {
    const { operation, outcome } = entry;
    const found: readonly FoundRecord[] =
      outcome?.status !== "OK" ? [] : (outcome.records ?? (outcome.record === undefined ? [] : [outcome.record]));
    const covers = coverage(operation, found[0]?.key);
    for (const { key } of found) {
      if (!covers(key)) throw this.#fail(`${key} was not asked for`, entry);
    }
    const byKey = new Map(found.map((record) => [record.key, record]));
    const range = operation.kind === "index-scan" ? operation : undefined;
    for (const key of this.#keys.keys()) {
      if (!covers(key)) continue;
      const record = byKey.get(key);
      if (record === undefined) this.#add(key, entry, { kind: range === undefined ? "absent" : "unindexed", range });
      else this.#addSeen(key, entry, record, range);
    }
  }

  #addSeen(key: string, entry: HistoryEntry, record: FoundRecord, range: Range | undefined): void {
    const writer = this.#writer(entry, record);
    if (range !== undefined && !isIndexed(writer, range)) {
      throw this.#fail(`${key}=${record.value} is found where the index does not have it`, entry, writer.entry);
    }
    this.#add(key, entry, { kind: "read", writer });
  }

  /** The put that a read saw. It has happened, with the version that was seen, before the read ended. */
  #writer(entry: HistoryEntry, { key, value, version }: FoundRecord): KeyOperation {
    const put = this.#puts.get(key)!.get(value);
    if (put === undefined) throw this.#fail(`nobody has put ${key}=${value}`, entry);
    if (put.operations.length === 0) throw this.#fail("a put that was answered as failed is read", put.entry, entry);
    if (put.entry.invoked > entry.returned) throw this.#fail("a put is read before it was sent", entry, put.entry);
    // those whose version nobody knows yet stand for each other
    const operation =
      put.operations.find((one) => one.version === version) ?? put.operations.find((one) => one.version === undefined);
    if (operation === undefined) throw this.#fail("a put is read with another version", put.entry, entry);
    operation.version = version;
    operation.returned = Math.min(operation.returned, entry.returned);
    return operation;
  }

  #add(
    key: string,
    entry: HistoryEntry,
    what: Pick<KeyOperation, "kind"> & Partial<Omit<KeyOperation, "entry" | "invoked" | "returned" | "kind">>,
  ): KeyOperation {
    const { invoked, returned } = entry;
    const operation: KeyOperation = {
      entry,
      invoked,
      returned,
      kind: what.kind,
      expected: what.expected,
      version: what.version,
      writer: what.writer,
      value: what.value,
      index: what.index,
      range: what.range,
    };
    this.#keys.get(key)!.push(operation);
    return operation;
  }
}

interface Range {
  readonly fromInclusive: string;
  readonly toExclusive: string;
}

/** Whether the record of a put lies in a range of the index. */
export function isIndexed({ index }: KeyOperation, { fromInclusive, toExclusive }: Range): boolean {
  return index !== undefined && index >= fromInclusive && index < toExclusive;
}

/** The same operation, carried out at any time from its beginning on, or never. */
function perhaps(entry: HistoryEntry): HistoryEntry {
  return { ...entry, returned: Number.POSITIVE_INFINITY, outcome: undefined };
}

/** Of which keys a read tells whether they are there. `found`: the key that a comparison answered. */
function coverage(operation: HistoryEntry["operation"], found: string | undefined): (key: string) => boolean {
  switch (operation.kind) {
    case "get":
      return (key) => key === operation.key;
    case "compare": {
      const asked = operation.key;
      const { comparison } = operation;
      const isInclusive = comparison === "floor" || comparison === "ceiling";
      const isUp = comparison === "ceiling" || comparison === "higher";
      return (key) => {
        if (key === asked) return isInclusive;
        if (isUp) return key > asked && (found === undefined || key <= found);
        return key < asked && (found === undefined || key >= found);
      };
    }
    case "scan":
    case "list":
      return (key) => key >= operation.fromInclusive && key < operation.toExclusive;
    case "index-scan":
      return () => true;
    default:
      return () => false;
  }
}
