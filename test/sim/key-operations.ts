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
   * - `put`, `delete`, `erase` change the key; their outcome is OK, or unknown.
   * - `read` saw the record that `writer` put; `absent` saw none.
   * - `mismatch` found another version than `expected`, or no record.
   */
  readonly kind: "put" | "delete" | "erase" | "read" | "absent" | "mismatch";
  readonly expected: number | undefined;
  /** Of a put: undefined while nobody knows. */
  version: number | undefined;
  /** Of a read. */
  readonly writer: KeyOperation | undefined;
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
  /** Puts by key and value. */
  readonly #puts = new Map<
    string,
    Map<string, { readonly entry: HistoryEntry; readonly operation: KeyOperation | undefined }>
  >();

  constructor(entries: readonly HistoryEntry[], fail: Fail) {
    this.#entries = entries;
    this.#fail = fail;
  }

  run(): Map<string, KeyOperation[]> {
    for (const entry of this.#entries) this.#addPut(entry);
    for (const entry of this.#entries) this.#addOther(entry);
    for (const operations of this.#keys.values()) operations.sort((a, b) => a.invoked - b.invoked);
    return this.#keys;
  }

  #addPut(entry: HistoryEntry): void {
    const { operation, outcome } = entry;
    this.#noteKeys(entry);
    if (operation.kind !== "put") return;
    const { key, value, expected } = operation;
    let put: KeyOperation | undefined;
    if (outcome === undefined || outcome.status === "OK") {
      const version = outcome?.status === "OK" ? outcome.version : undefined;
      if (outcome !== undefined && version === undefined)
        throw this.#fail("a put was answered without a version", entry);
      put = this.#add(key, entry, { kind: "put", expected, version });
    } else {
      this.#add(key, entry, { kind: "mismatch", expected });
    }
    this.#puts.get(key)!.set(value, { entry, operation: put });
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
        for (const key of this.#keys.keys()) {
          if (key >= operation.fromInclusive && key < operation.toExclusive) this.#add(key, entry, { kind: "erase" });
        }
        return;
      case "get":
      case "compare":
      case "scan":
        if (outcome === undefined) return; // it tells nothing
        this.#addRead(entry);
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
    for (const key of this.#keys.keys()) {
      if (!covers(key)) continue;
      const record = byKey.get(key);
      if (record === undefined) this.#add(key, entry, { kind: "absent" });
      else this.#add(key, entry, { kind: "read", writer: this.#writer(entry, record) });
    }
  }

  /** The put that a read saw. It has happened, with the version that was seen, before the read ended. */
  #writer(entry: HistoryEntry, { key, value, version }: FoundRecord): KeyOperation {
    const put = this.#puts.get(key)!.get(value);
    if (put === undefined) throw this.#fail(`nobody has put ${key}=${value}`, entry);
    if (put.operation === undefined) throw this.#fail("a put that was answered as failed is read", put.entry, entry);
    if (put.entry.invoked > entry.returned) throw this.#fail("a put is read before it was sent", entry, put.entry);
    put.operation.version ??= version;
    if (put.operation.version !== version) throw this.#fail("a put is read with another version", put.entry, entry);
    put.operation.returned = Math.min(put.operation.returned, entry.returned);
    return put.operation;
  }

  #add(
    key: string,
    entry: HistoryEntry,
    what: Pick<KeyOperation, "kind"> & Partial<Pick<KeyOperation, "expected" | "version" | "writer">>,
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
    };
    this.#keys.get(key)!.push(operation);
    return operation;
  }
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
      return (key) => key >= operation.fromInclusive && key < operation.toExclusive;
    default:
      return () => false;
  }
}
