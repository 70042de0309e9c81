/**
 * What clients asked of one shard and what they were told, in the order in which it happened. An operation whose
 * answer never came may have happened at any time after it was sent, or never. Judged by linearizability.ts.
 *
 * Values are unique among the puts of a key, so that a read says which put it saw.
 */
import { assert } from "../../src/lib/assert.ts";

export type Comparison = "floor" | "lower" | "ceiling" | "higher";

export type Operation =
  /** `expected`: the version that the record must have; -1: there must be none. */
  | {
      readonly kind: "put";
      readonly key: string;
      readonly value: string;
      readonly expected?: number;
      /** The key that the record gets in the index that `index-scan` reads; without one it is not in there. */
      readonly index?: string;
    }
  | { readonly kind: "get"; readonly key: string }
  | { readonly kind: "delete"; readonly key: string; readonly expected?: number }
  | { readonly kind: "delete-range"; readonly fromInclusive: string; readonly toExclusive: string }
  /** A get of the nearest record on one side of `key`; floor and ceiling take `key` itself too. */
  | { readonly kind: "compare"; readonly key: string; readonly comparison: Comparison }
  /** All records of a range. */
  | { readonly kind: "scan"; readonly fromInclusive: string; readonly toExclusive: string }
  /** All keys of a range. */
  | { readonly kind: "list"; readonly fromInclusive: string; readonly toExclusive: string }
  /** All records that the index has in a range of its keys. */
  | { readonly kind: "index-scan"; readonly fromInclusive: string; readonly toExclusive: string }
  /** The end of the session that has put the record with this value: deletes that record, if it still stands. */
  | { readonly kind: "session-end"; readonly key: string; readonly value: string };

export interface FoundRecord {
  readonly key: string;
  readonly value: string;
  readonly version: number;
}

/** What a client was told. */
export type Outcome =
  /**
   * `version` of a put; `record` of a get or compare; `records` of a scan; `keys` of a list. `inParts`: a scan was cut and
   * went on elsewhere, so it shows each key at a moment of its own.
   */
  | {
      readonly status: "OK";
      readonly version?: number;
      readonly record?: FoundRecord;
      readonly records?: readonly FoundRecord[];
      readonly keys?: readonly string[];
      readonly inParts?: boolean;
    }
  | { readonly status: "KEY_NOT_FOUND" }
  | { readonly status: "UNEXPECTED_VERSION_ID" };

/** One operation. `invoked` and `returned` are places in the order of all beginnings and ends. */
export interface HistoryEntry {
  readonly client: string;
  readonly operation: Operation;
  readonly invoked: number;
  /** Infinity while the outcome is unknown. */
  readonly returned: number;
  /** Undefined: unknown. */
  readonly outcome: Outcome | undefined;
  /** It was sent so many times more, and each of them may have happened too, at any time after `invoked`. */
  readonly repeats: number;
}

/** An operation under way. Call one of those that end it, once. `repeats`: how often it was sent, but for the first time. */
export interface PendingOperation {
  /** It was sent again. */
  repeated(): void;
  returned(outcome: Outcome, repeats?: number): void;
  /** The answer did not come, or does not say whether it happened. It needs not be told: it is so until `returned`. */
  unknown(repeats?: number): void;
  /** Turned down with the promise that nothing of it happened: it leaves no trace. */
  refused(): void;
}

/** The history of one shard. */
export class History {
  readonly #entries: (HistoryEntry | undefined)[] = [];
  readonly #values = new Set<string>();
  #order = 0;

  /** To be called before the request leaves. */
  invoke(client: string, operation: Operation): PendingOperation {
    if (operation.kind === "put") {
      const value = JSON.stringify([operation.key, operation.value]);
      assert(!this.#values.has(value), "two puts of one key have the same value", operation.key, operation.value);
      this.#values.add(value);
    }
    const at = this.#entries.length;
    const begun: HistoryEntry = {
      client,
      operation,
      invoked: this.#order++,
      returned: Number.POSITIVE_INFINITY,
      outcome: undefined,
      repeats: 0,
    };
    this.#entries.push(begun);
    let isPending = true;
    let sentAgain = 0;
    const end = (entry: HistoryEntry | undefined) => {
      assert(isPending, "an operation that ends twice", client);
      isPending = false;
      this.#entries[at] = entry;
    };
    return {
      repeated: () => {
        assert(isPending, "an operation that is repeated after its end", client);
        this.#entries[at] = { ...begun, repeats: ++sentAgain };
      },
      returned: (outcome, repeats = sentAgain) => end({ ...begun, outcome, repeats, returned: this.#order++ }),
      unknown: (repeats = sentAgain) => end({ ...begun, repeats }),
      refused: () => end(undefined),
    };
  }

  /** All operations in the order in which they were sent, without those that were refused. */
  entries(): readonly HistoryEntry[] {
    return this.#entries.filter((entry) => entry !== undefined);
  }
}

/** For messages: `c1 [3, 7] put a=x expecting 5: OK, version 6`. */
export function describe({ client, operation, invoked, returned, outcome, repeats }: HistoryEntry): string {
  const span = `[${invoked}, ${returned === Number.POSITIVE_INFINITY ? "?" : returned}]`;
  const told = outcome === undefined ? "unknown" : describeOutcome(outcome);
  const sent = repeats === 0 ? "" : `, sent ${repeats + 1} times`;
  return `${client} ${span} ${describeOperation(operation)}: ${told}${sent}`;
}

function describeOperation(operation: Operation): string {
  const expecting =
    "expected" in operation && operation.expected !== undefined ? ` expecting ${operation.expected}` : "";
  switch (operation.kind) {
    case "put":
    case "session-end":
      return `${operation.kind} ${operation.key}=${operation.value}${expecting}`;
    case "get":
    case "delete":
      return `${operation.kind} ${operation.key}${expecting}`;
    case "compare":
      return `${operation.comparison} of ${operation.key}`;
    case "delete-range":
    case "scan":
    case "list":
    case "index-scan":
      return `${operation.kind} ${operation.fromInclusive} … ${operation.toExclusive}`;
  }
}

function describeOutcome(outcome: Outcome): string {
  if (outcome.status !== "OK") return outcome.status;
  const found = outcome.record === undefined ? (outcome.records ?? []) : [outcome.record];
  const version = outcome.version === undefined ? "" : `, version ${outcome.version}`;
  const keys = outcome.keys === undefined ? "" : `, ${outcome.keys.join(" ")}`;
  return `OK${version}${found.map((one) => `, ${one.key}=${one.value} version ${one.version}`).join("")}${keys}`;
}
