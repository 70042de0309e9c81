/**
 * Histories that are right by construction: clients that really run their operations, at one moment each, against one
 * map, with random delays before and after, and answers that get lost. The checker must accept all of them.
 */
import { type FoundRecord, History, type Operation, type Outcome } from "./history.ts";
import type { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

export interface WorkloadOptions {
  readonly clients: number;
  readonly operationsPerClient: number;
  readonly keys: number;
  /** How often an answer does not come; the operation has then happened, happens later, or never does. */
  readonly unknownChance: number;
  /** How often an operation is sent again, and carried out a second time or not. */
  readonly repeatChance?: number;
  /** How often the record of a put ends with a session, some time or never. */
  readonly expireChance?: number;
  /** How often a put has a key in the index; without, nobody reads by it. */
  readonly indexChance?: number;
}

interface Stored {
  readonly value: string;
  readonly version: number;
  readonly index: string | undefined;
}

/** Runs a workload and answers its history. */
export function atomicHistory(random: SimRandom, options: WorkloadOptions): History {
  const scheduler = new Scheduler({ trace: new Trace({ seed: 0 }) });
  const history = new History();
  const register = new AtomicMap();
  const keys = Array.from({ length: options.keys }, (_, nth) => `k${nth}`);
  let values = 0;
  for (let client = 0; client < options.clients; client++) {
    scheduler.spawn(`client ${client}`, async () => {
      const seen = new Map<string, number>();
      for (let n = 0; n < options.operationsPerClient; n++) {
        await scheduler.sleep(random.between(0, 10));
        const operation = drawOperation(random, { keys, seen, indexChance: options.indexChance }, () => `v${values++}`);
        const pending = history.invoke(`c${client}`, operation);
        const fate = random.chance(options.unknownChance)
          ? random.pick(["never", "late", "done", "refused"])
          : "answered";
        await scheduler.sleep(random.between(0, 10));
        if (fate === "late") scheduler.after(random.between(0, 50), "late", () => register.run(operation));
        const outcome = fate === "answered" || fate === "done" ? register.run(operation) : undefined;
        await scheduler.sleep(random.between(0, 10));
        const again = fate !== "refused" && random.chance(options.repeatChance ?? 0);
        if (again && random.chance(0.7)) {
          scheduler.after(random.between(0, 50), "again", () => register.run(operation));
        }
        if (fate === "refused") pending.refused();
        else if (fate !== "answered" || outcome === undefined) pending.unknown(again ? 1 : 0);
        else {
          pending.returned(outcome, again ? 1 : 0);
          remember(seen, operation, outcome);
        }
        if (operation.kind === "put" && random.chance(options.expireChance ?? 0)) {
          const end = { kind: "session-end", key: operation.key, value: operation.value } as const;
          history.invoke(`session of c${client}`, end).unknown();
          if (random.chance(0.7)) scheduler.after(random.between(0, 50), "expired", () => register.run(end));
        }
      }
    });
  }
  scheduler.finish();
  return history;
}

function remember(seen: Map<string, number>, operation: Operation, outcome: Outcome): void {
  if (outcome.status !== "OK") return;
  if (operation.kind === "put") seen.set(operation.key, outcome.version!);
  for (const one of outcome.records ?? []) seen.set(one.key, one.version);
  if (outcome.record !== undefined) seen.set(outcome.record.key, outcome.record.version);
}

interface Draws {
  readonly keys: readonly string[];
  readonly seen: ReadonlyMap<string, number>;
  readonly indexChance?: number | undefined;
}

function drawOperation(random: SimRandom, { keys, seen, indexChance = 0 }: Draws, newValue: () => string): Operation {
  const key = random.pick(keys);
  const [from, to] = [random.pick(keys), random.pick(keys)].sort() as [string, string];
  const range = { fromInclusive: from, toExclusive: to };
  const expected = random.chance(0.4) ? { expected: random.chance(0.2) ? -1 : (seen.get(key) ?? -1) } : {};
  const pick = random.int(0, 100);
  const index = random.chance(indexChance) ? { index: random.pick(keys) } : {};
  if (pick < 40) return { kind: "put", key, value: newValue(), ...expected, ...index };
  if (pick < 71) return { kind: "get", key };
  if (pick < 73) return { kind: "list", ...range };
  if (pick < 75) return indexChance > 0 ? { kind: "index-scan", ...range } : { kind: "get", key };
  if (pick < 85) return { kind: "delete", key, ...expected };
  if (pick < 88) return { kind: "delete-range", ...range };
  if (pick < 94) return { kind: "scan", ...range };
  return { kind: "compare", key, comparison: random.pick(["floor", "lower", "ceiling", "higher"] as const) };
}

class AtomicMap {
  readonly #records = new Map<string, Stored>();
  #versions = 0;

  run(operation: Operation): Outcome {
    switch (operation.kind) {
      case "put": {
        if (!this.#isExpected(operation)) return { status: "UNEXPECTED_VERSION_ID" };
        const version = this.#versions++;
        this.#records.set(operation.key, { value: operation.value, version, index: operation.index });
        return { status: "OK", version };
      }
      case "get":
        return found(this.#found((key) => key === operation.key)[0]);
      case "delete":
        if (!this.#records.has(operation.key)) return { status: "KEY_NOT_FOUND" };
        if (!this.#isExpected(operation)) return { status: "UNEXPECTED_VERSION_ID" };
        this.#records.delete(operation.key);
        return { status: "OK" };
      case "delete-range":
        for (const { key } of this.#inRange(operation)) this.#records.delete(key);
        return { status: "OK" };
      case "scan":
        return { status: "OK", records: this.#inRange(operation) };
      case "list":
        return { status: "OK", keys: this.#inRange(operation).map(({ key }) => key) };
      case "index-scan": {
        const isIn = (index = "") => index >= operation.fromInclusive && index < operation.toExclusive;
        return { status: "OK", records: this.#found((key) => isIn(this.#records.get(key)!.index)) };
      }
      case "session-end":
        if (this.#records.get(operation.key)?.value === operation.value) this.#records.delete(operation.key);
        return { status: "OK" };
      case "compare":
        return found(this.#compared(operation.key, operation.comparison));
    }
  }

  #isExpected({ key, expected }: { readonly key: string; readonly expected?: number }): boolean {
    return expected === undefined || (this.#records.get(key)?.version ?? -1) === expected;
  }

  #inRange({ fromInclusive, toExclusive }: { fromInclusive: string; toExclusive: string }): FoundRecord[] {
    return this.#found((key) => key >= fromInclusive && key < toExclusive);
  }

  #compared(asked: string, comparison: "floor" | "lower" | "ceiling" | "higher"): FoundRecord | undefined {
    switch (comparison) {
      case "floor":
        return this.#found((key) => key <= asked).at(-1);
      case "lower":
        return this.#found((key) => key < asked).at(-1);
      case "ceiling":
        return this.#found((key) => key >= asked)[0];
      case "higher":
        return this.#found((key) => key > asked)[0];
    }
  }

  #found(where: (key: string) => boolean): FoundRecord[] {
    const keys = [...this.#records.keys()].filter(where).sort();
    return keys.map((key) => {
      const { value, version } = this.#records.get(key)!;
      return { key, value, version };
    });
  }
}

function found(record: FoundRecord | undefined): Outcome {
  return record === undefined ? { status: "KEY_NOT_FOUND" } : { status: "OK", record };
}
