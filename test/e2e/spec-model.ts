/**
 * What one shard of the server must answer, written down a second time and as plainly as possible: a map of records, a
 * map of sessions, and everything else (order, indexes, sequences) worked out from these by sorting and filtering at
 * each question. Slow, and meant to be compared with the specification by reading.
 *
 * Byte strings (keys, values, names) are latin1 strings, one character a byte. Numbers on the wire are bigints.
 * Timestamps are the server's to choose: a version says in which entries its record was created and last modified,
 * and an entry learns its time from the first answer that tells it.
 *
 * Source: semantics.md §1 to §5, with what it recommends where the reference is in error. Two choices of our own: keys
 * under `__oxia/` are not for clients to write, and what is wrong with a request whatever the state is refused before
 * it becomes an entry (architecture.md, "Safer").
 */

export type Bytes = string;
export type Sorting = "hierarchical" | "natural";
export type Status = "OK" | "KEY_NOT_FOUND" | "UNEXPECTED_VERSION_ID" | "SESSION_DOES_NOT_EXIST";
export type Comparison = "EQUAL" | "FLOOR" | "CEILING" | "LOWER" | "HIGHER";

export interface Index {
  readonly name: Bytes;
  readonly key: Bytes;
}

export interface Put {
  readonly key: Bytes;
  readonly value: Bytes;
  readonly expected?: bigint | undefined;
  readonly session?: bigint | undefined;
  readonly identity?: string | undefined;
  readonly partitionKey?: Bytes | undefined;
  /** Empty: no sequence. */
  readonly deltas: readonly bigint[];
  readonly indexes: readonly Index[];
  readonly overrideVersion?: bigint | undefined;
  readonly overrideCount?: bigint | undefined;
}

export interface Delete {
  readonly key: Bytes;
  readonly expected?: bigint | undefined;
}

export interface DeleteRange {
  readonly start: Bytes;
  readonly end: Bytes;
}

export interface Write {
  readonly puts: readonly Put[];
  readonly deletes: readonly Delete[];
  readonly deleteRanges: readonly DeleteRange[];
}

export interface Get {
  readonly key: Bytes;
  readonly comparison: Comparison;
  readonly withValue: boolean;
  readonly index?: Bytes | undefined;
}

export interface Range {
  readonly start: Bytes;
  readonly end: Bytes;
  readonly index?: Bytes | undefined;
  readonly internal: boolean;
}

/** A write in the log. */
export interface Entry {
  readonly offset: number;
  timestamp: bigint | undefined;
}

export interface Version {
  readonly id: bigint;
  readonly count: bigint;
  readonly created: Entry;
  readonly modified: Entry;
  readonly session: bigint | undefined;
  readonly identity: string | undefined;
}

export interface PutAnswer {
  readonly status: Status;
  readonly version: Version | undefined;
  readonly key: Bytes | undefined;
}

/** A request that is turned down as a whole, and the words that say why. */
export interface Refused {
  readonly refused: string;
}

export interface WriteAnswer {
  readonly puts: readonly PutAnswer[];
  readonly deletes: readonly Status[];
  readonly deleteRanges: readonly Status[];
}

export interface Found {
  readonly status: Status;
  readonly version: Version | undefined;
  readonly value: Bytes | undefined;
  readonly key: Bytes | undefined;
  readonly secondary: Bytes | undefined;
}

export interface Notification {
  readonly key: Bytes;
  readonly type: "CREATED" | "MODIFIED" | "DELETED" | "RANGE_DELETED";
  readonly version?: bigint;
  readonly end?: Bytes;
}

export interface Batch {
  readonly entry: Entry;
  readonly notifications: readonly Notification[];
}

export interface Record {
  readonly value: Bytes;
  readonly version: Version;
  readonly indexes: readonly Index[];
}

const NOT_FOUND: Found = {
  status: "KEY_NOT_FOUND",
  version: undefined,
  value: undefined,
  key: undefined,
  secondary: undefined,
};

class CannotBeApplied extends Error {}

export class SpecModel {
  readonly sorting: Sorting;
  records = new Map<Bytes, Record>();
  readonly sessions = new Map<bigint, Version>();
  readonly batches: Batch[] = [];
  /** Offset of the last entry. */
  offset = -1;
  #nextVersion = 0n;

  constructor(sorting: Sorting) {
    this.sorting = sorting;
  }

  /** A leader has taken over: it may have written entries that tell nobody anything. */
  led(offset: number): void {
    this.offset = offset;
  }

  // --- writes ---------------------------------------------------------------------------------------------------

  write(write: Write): WriteAnswer | Refused {
    const refused = refusalOf(write);
    if (refused !== undefined) return { refused };
    const before = new Map(this.records);
    const versionBefore = this.#nextVersion;
    const entry = this.#newEntry();
    const changes = new Map<Bytes, Notification>();
    try {
      const puts = write.puts.map((put) => this.#put(put, entry, changes));
      const deletes = write.deletes.map((remove) => this.#delete(remove, changes));
      const deleteRanges = write.deleteRanges.map((range) => this.#deleteRange(range, changes));
      this.#tell(entry, changes);
      return { puts, deletes, deleteRanges };
    } catch (error) {
      if (!(error instanceof CannotBeApplied)) throw error;
      this.records = before;
      this.#nextVersion = versionBefore;
      this.#tell(entry, new Map());
      return { refused: error.message };
    }
  }

  #newEntry(): Entry {
    return { offset: ++this.offset, timestamp: undefined };
  }

  #tell(entry: Entry, changes: ReadonlyMap<Bytes, Notification>): void {
    this.batches.push({ entry, notifications: [...changes.values()].sort((a, b) => compareBytes(a.key, b.key)) });
  }

  #put(put: Put, entry: Entry, changes: Map<Bytes, Notification>): PutAnswer {
    const isSequence = put.deltas.length > 0;
    if (isSequence && put.expected !== undefined) return failed("UNEXPECTED_VERSION_ID");
    const key = isSequence ? this.#nextSequenceKey(put.key, put.deltas) : put.key;
    const old = this.records.get(key);
    if (put.expected !== undefined) {
      const matches = put.expected === -1n ? old === undefined : old?.version.id === put.expected;
      if (!matches) return failed("UNEXPECTED_VERSION_ID");
    }
    if (put.session !== undefined && !this.sessions.has(put.session)) return failed("SESSION_DOES_NOT_EXIST");
    const version: Version = {
      id: put.overrideVersion ?? this.#nextVersion++,
      count: put.overrideCount ?? (old === undefined ? 0n : old.version.count + 1n),
      created: old?.version.created ?? entry,
      modified: entry,
      session: put.session,
      identity: put.identity,
    };
    this.records.set(key, { value: put.value, version, indexes: put.indexes });
    changes.set(key, { key, type: version.count === 0n ? "CREATED" : "MODIFIED", version: version.id });
    return { status: "OK", version, key: isSequence ? key : undefined };
  }

  #delete(remove: Delete, changes: Map<Bytes, Notification>): Status {
    const old = this.records.get(remove.key);
    const { expected } = remove;
    if (old === undefined)
      return expected === undefined || expected === -1n ? "KEY_NOT_FOUND" : "UNEXPECTED_VERSION_ID";
    if (expected !== undefined && (expected === -1n || expected !== old.version.id)) return "UNEXPECTED_VERSION_ID";
    this.records.delete(remove.key);
    changes.set(remove.key, { key: remove.key, type: "DELETED" });
    return "OK";
  }

  #deleteRange({ start, end }: DeleteRange, changes: Map<Bytes, Notification>): Status {
    for (const key of this.keys()) if (this.#isWithin(key, start, end)) this.records.delete(key);
    changes.set(start, { key: start, type: "RANGE_DELETED", end });
    return "OK";
  }

  // --- sequences ------------------------------------------------------------------------------------------------

  #nextSequenceKey(prefix: Bytes, deltas: readonly bigint[]): Bytes {
    const highest = this.highestSequenceKey(prefix);
    const parts =
      highest === undefined
        ? []
        : highest
            .slice(prefix.length + 1)
            .split("-")
            .map(BigInt);
    if (deltas.length < parts.length) throw new CannotBeApplied("missing some sequence deltas");
    const next = deltas.map((delta, at) => BigInt.asUintN(64, (parts[at] ?? 0n) + delta));
    return prefix + next.map((part) => `-${String(part).padStart(20, "0")}`).join("");
  }

  highestSequenceKey(prefix: Bytes): Bytes | undefined {
    const below = `${prefix}-18446744073709551615`;
    return this.keys().findLast(
      (key) =>
        key.startsWith(prefix) && /^(-[0-9]{20})+$/.test(key.slice(prefix.length)) && this.compare(key, below) < 0,
    );
  }

  // --- sessions -------------------------------------------------------------------------------------------------

  createSession(): bigint {
    const entry = this.#newEntry();
    const id = BigInt(entry.offset);
    this.sessions.set(id, {
      id: this.#nextVersion++,
      count: 0n,
      created: entry,
      modified: entry,
      session: undefined,
      identity: undefined,
    });
    this.#tell(entry, new Map());
    return id;
  }

  /** False when there is no such session. */
  closeSession(id: bigint): boolean {
    if (!this.sessions.delete(id)) return false;
    const changes = new Map<Bytes, Notification>();
    for (const [key, { version }] of this.records) {
      if (version.session !== id) continue;
      this.records.delete(key);
      changes.set(key, { key, type: "DELETED" });
    }
    this.#tell(this.#newEntry(), changes);
    return true;
  }

  // --- reads ----------------------------------------------------------------------------------------------------

  get(get: Get): Found {
    if (get.index !== undefined) return this.#indexGet(get, get.index);
    const { key, comparison, withValue } = get;
    if (comparison === "EQUAL" || comparison === "FLOOR") {
      const session = this.#sessionOfKey(key);
      const named = comparison === "EQUAL" ? undefined : key;
      if (session !== undefined) {
        return { status: "OK", version: session, value: undefined, key: named, secondary: undefined };
      }
    }
    if (comparison === "EQUAL") return this.records.has(key) ? this.#found(key, withValue, false) : NOT_FOUND;
    const found = choose(this.keys(), comparison, (other) => this.compare(other, key));
    return found === undefined ? NOT_FOUND : this.#found(found, withValue, true);
  }

  #found(key: Bytes, withValue: boolean, withKey: boolean, secondary?: Bytes): Found {
    const { value, version } = this.records.get(key)!;
    return {
      status: "OK",
      version,
      value: withValue && value !== "" ? value : undefined,
      key: withKey ? key : undefined,
      secondary,
    };
  }

  /** Equals give their first record, whatever is below gives its last one, whatever is above its first. */
  #indexGet({ key, comparison, withValue }: Get, name: Bytes): Found {
    const entries = this.indexEntries(name);
    const equal = entries.find(({ secondary }) => secondary === key);
    const found =
      equal !== undefined && comparison !== "LOWER" && comparison !== "HIGHER"
        ? equal
        : choose(entries, comparison, ({ secondary }) => this.compare(secondary, key));
    return found === undefined ? NOT_FOUND : this.#found(found.primary, withValue, true, found.secondary);
  }

  /** Keys of the records in the range; over an index, once for each entry. */
  list(range: Range): Bytes[] {
    return this.scan(range).map(({ key }) => key!);
  }

  /** Internal keys come with a status and nothing else. */
  scan({ start, end, index, internal }: Range): Found[] {
    if (index !== undefined) {
      const entries = this.indexEntries(index).filter(({ secondary }) => this.#isWithin(secondary, start, end));
      return entries.map(({ primary, secondary }) => this.#found(primary, true, true, secondary));
    }
    const keys = [...this.keys(), ...(internal ? this.#internalKeys() : [])];
    return keys
      .filter((key) => this.#isWithin(key, start, end))
      .map((key) => (isInternal(key) ? { ...NOT_FOUND, status: "OK" as const, key } : this.#found(key, true, true)));
  }

  /** All keys of records, in order. */
  keys(): Bytes[] {
    return [...this.records.keys()].sort((a, b) => this.compare(a, b));
  }

  /** Ordered by secondary key, then by escaped primary key. */
  indexEntries(name: Bytes): { readonly secondary: Bytes; readonly primary: Bytes }[] {
    const entries = [...this.records].flatMap(([primary, { indexes }]) => {
      const secondaries = new Set(indexes.filter((index) => index.name === name).map(({ key }) => key));
      return [...secondaries].map((secondary) => ({ secondary, primary }));
    });
    return entries.sort(
      (a, b) => this.compare(a.secondary, b.secondary) || compareBytes(escaped(a.primary), escaped(b.primary)),
    );
  }

  /** Entries of all indexes together. */
  get indexEntryCount(): number {
    const names = new Set([...this.records.values()].flatMap(({ indexes }) => indexes.map(({ name }) => name)));
    return [...names].reduce((sum, name) => sum + this.indexEntries(name).length, 0);
  }

  /** Of sessions and of the records that die with them. */
  #internalKeys(): Bytes[] {
    const keys = [...this.sessions.keys()].map(sessionKey);
    for (const [key, { version }] of this.records) {
      if (version.session !== undefined) keys.push(`${sessionKey(version.session)}/${escaped(key)}`);
    }
    return keys.sort((a, b) => this.compare(a, b));
  }

  #sessionOfKey(key: Bytes): Version | undefined {
    return [...this.sessions].find(([id]) => sessionKey(id) === key)?.[1];
  }

  // --- order ----------------------------------------------------------------------------------------------------

  /** Empty bounds are open. */
  #isWithin(key: Bytes, start: Bytes, end: Bytes): boolean {
    return this.compare(key, start) >= 0 && (end === "" || this.compare(key, end) < 0);
  }

  compare(a: Bytes, b: Bytes): number {
    return compareBytes(this.#sortKey(a), this.#sortKey(b)) || compareBytes(a, b);
  }

  #sortKey(key: Bytes): string {
    if (this.sorting === "natural") return (isInternal(key) ? "\x01" : "\0") + key;
    const slashes = key.split("/").length - 1 - (key.length >= 2 && key.endsWith("//") ? 1 : 0);
    return (isInternal(key) ? "\x80" : "\0") + String.fromCharCode(slashes) + key.replaceAll("/", "\xff");
  }
}

/** Of items in order, the one that the comparison picks; `against` compares an item with what is looked for. */
function choose<T>(items: readonly T[], comparison: Comparison, against: (item: T) => number): T | undefined {
  switch (comparison) {
    case "EQUAL":
      return items.find((item) => against(item) === 0);
    case "FLOOR":
      return items.findLast((item) => against(item) <= 0);
    case "CEILING":
      return items.find((item) => against(item) >= 0);
    case "LOWER":
      return items.findLast((item) => against(item) < 0);
    case "HIGHER":
      return items.find((item) => against(item) > 0);
  }
}

/** What is wrong with a request whatever the state. */
function refusalOf({ puts, deletes, deleteRanges }: Write): string | undefined {
  for (const { key, deltas, partitionKey } of puts) {
    if (isInternal(key)) return "internal";
    if (deltas.length > 0 && partitionKey === undefined) return "requires partition key";
    if (deltas[0] === 0n) return "requires first delta do be > 0";
  }
  const deleted = [...deletes.map(({ key }) => key), ...deleteRanges.map(({ start }) => start)];
  return deleted.some(isInternal) ? "internal" : undefined;
}

function failed(status: Status): PutAnswer {
  return { status, version: undefined, key: undefined };
}

/** Characters up to \xff compare as bytes do. */
function compareBytes(a: Bytes, b: Bytes): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function isInternal(key: Bytes): boolean {
  return key.startsWith("__oxia/");
}

export function sessionKey(id: bigint): Bytes {
  return `__oxia/session/${BigInt.asUintN(64, id).toString(16).padStart(16, "0")}`;
}

/** As Go's url.PathEscape writes it. */
function escaped(key: Bytes): Bytes {
  return key.replace(
    /[^A-Za-z0-9\-_.~$&+=:@]/gs,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}
