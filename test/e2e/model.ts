/**
 * What a shard ought to hold: the operations of a request, and a slow, obvious model of their effect. The model knows
 * only what a client can know. A record that was written by a request without an answer has a version that nobody told
 * us yet: it is `Unknown` and is matched, once, against what a restarted server shows.
 *
 * Keys are latin1 strings, one character a byte, so that any bytes can be a key.
 *
 * Source: semantics.md §1 (order of operations in a request, version and count rules), §2.3 (key order).
 */

export type Key = string;

export interface Put {
  readonly kind: "put";
  readonly key: Key;
  readonly value: Uint8Array;
  /** -1: only where there is no record. Absent: always. */
  readonly expected: number | undefined;
}

export interface Delete {
  readonly kind: "delete";
  readonly key: Key;
  readonly expected: number | undefined;
}

export interface DeleteRange {
  readonly kind: "delete-range";
  readonly startInclusive: Key;
  readonly endExclusive: Key;
}

export type Operation = Put | Delete | DeleteRange;

/** One WriteRequest: carried out as a whole or not at all; puts first, then deletes, then range deletes. */
export interface Batch {
  readonly puts: readonly Put[];
  readonly deletes: readonly Delete[];
  readonly deleteRanges: readonly DeleteRange[];
}

export const put = (key: Key, value: Uint8Array | string, expected?: number): Put => ({
  kind: "put",
  key,
  value: typeof value === "string" ? Buffer.from(value) : value,
  expected,
});
export const remove = (key: Key, expected?: number): Delete => ({ kind: "delete", key, expected });
export const removeRange = (startInclusive: Key, endExclusive: Key): DeleteRange => ({
  kind: "delete-range",
  startInclusive,
  endExclusive,
});

export function batch(...operations: Operation[]): Batch {
  return {
    puts: operations.filter((operation) => operation.kind === "put"),
    deletes: operations.filter((operation) => operation.kind === "delete"),
    deleteRanges: operations.filter((operation) => operation.kind === "delete-range"),
  };
}

export type Status = "OK" | "KEY_NOT_FOUND" | "UNEXPECTED_VERSION_ID" | "SESSION_DOES_NOT_EXIST";

export interface Version {
  readonly versionId: number;
  readonly modifications: number;
  readonly createdMs: number;
  readonly modifiedMs: number;
}

/** What a server answered to a Batch: each list is as long as the request's. */
export interface Answer {
  readonly puts: readonly { readonly status: Status; readonly version: Version | undefined }[];
  readonly deletes: readonly Status[];
  readonly deleteRanges: readonly Status[];
}

/** A record as a server shows it. */
export interface Found {
  readonly value: Uint8Array;
  readonly version: Version;
}

/**
 * Stands for the version of a put whose answer never came: the `index`-th successful put of request number `request`.
 * Versions of one request are consecutive, those of later requests are higher.
 */
export interface Unknown {
  readonly request: number;
  readonly index: number;
}

/** A record as the model expects it. */
export interface Expected {
  readonly value: Uint8Array;
  readonly modifications: number;
  readonly version: Version | Unknown;
}

export type State = Map<Key, Expected>;

export function isUnknown(version: Version | Unknown): version is Unknown {
  return "request" in version;
}

/** What a batch ought to be answered, apart from version ids and timestamps. */
export interface Predicted {
  readonly puts: readonly { readonly status: Status; readonly modifications: number }[];
  readonly deletes: readonly Status[];
  readonly deleteRanges: readonly Status[];
}

/**
 * Carries out `batch` on `state`, in place, and says what the answer ought to be. `versionOf` gives the version of the
 * n-th put of the request (counted over all), which is the `index`-th successful one.
 */
export function carryOut(
  state: State,
  batch: Batch,
  versionOf: (nth: number, index: number) => Version | Unknown,
): Predicted {
  let successful = 0;
  const puts = batch.puts.map((operation, nth) => {
    const old = state.get(operation.key);
    if (operation.expected !== undefined && !matches(old, operation.expected)) {
      return { status: "UNEXPECTED_VERSION_ID" as const, modifications: 0 };
    }
    const modifications = old === undefined ? 0 : old.modifications + 1;
    state.set(operation.key, { value: operation.value, modifications, version: versionOf(nth, successful++) });
    return { status: "OK" as const, modifications };
  });
  const deletes = batch.deletes.map((operation): Status => {
    const old = state.get(operation.key);
    if (operation.expected !== undefined && !matches(old, operation.expected)) return "UNEXPECTED_VERSION_ID";
    return state.delete(operation.key) ? "OK" : "KEY_NOT_FOUND";
  });
  const deleteRanges = batch.deleteRanges.map((range): Status => {
    for (const key of [...state.keys()]) {
      if (compareKeys(key, range.startInclusive) >= 0 && compareKeys(key, range.endExclusive) < 0) state.delete(key);
    }
    return "OK";
  });
  return { puts, deletes, deleteRanges };
}

/**
 * An expected version always names one that was told before the request was sent. A version that is still unknown was
 * given out later, so it never matches.
 */
function matches(old: Expected | undefined, expected: number): boolean {
  if (expected === -1) return old === undefined;
  return old !== undefined && !isUnknown(old.version) && old.version.versionId === expected;
}

/** The hierarchical order of keys, as the specification words it. */
export function compareKeys(a: Key, b: Key): number {
  const left = orderKey(a);
  const right = orderKey(b);
  if (left !== right) return left < right ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

function orderKey(key: Key): string {
  const slashes = key.split("/").length - 1 - (key.length >= 2 && key.endsWith("//") ? 1 : 0);
  const capped = Math.min(slashes, 0x7fff);
  const prefix = String.fromCharCode((capped >> 8) | (key.startsWith("__oxia/") ? 0x80 : 0), capped & 0xff);
  return prefix + key.replaceAll("/", "\xff");
}

/** For messages: the key with what is not printable escaped. */
export function show(key: Key): string {
  return JSON.stringify(key.length > 60 ? `${key.slice(0, 60)}…(${key.length})` : key);
}
