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
}

interface Stored {
  readonly value: string;
  readonly version: number;
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
        const operation = drawOperation(random, keys, seen, () => `v${values++}`);
        const pending = history.invoke(`c${client}`, operation);
        const fate = random.chance(options.unknownChance)
          ? random.pick(["never", "late", "done", "refused"])
          : "answered";
        await scheduler.sleep(random.between(0, 10));
        if (fate === "late") scheduler.after(random.between(0, 50), "late", () => register.run(operation));
        const outcome = fate === "answered" || fate === "done" ? register.run(operation) : undefined;
        await scheduler.sleep(random.between(0, 10));
        if (fate === "refused") pending.refused();
        else if (fate !== "answered" || outcome === undefined) pending.unknown();
        else {
          pending.returned(outcome);
          remember(seen, operation, outcome);
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
  for (const { key, version } of outcome.records ?? []) seen.set(key, version);
  if (outcome.record !== undefined) seen.set(outcome.record.key, outcome.record.version);
}

function drawOperation(
  random: SimRandom,
  keys: readonly string[],
  seen: ReadonlyMap<string, number>,
  newValue: () => string,
): Operation {
  const key = random.pick(keys);
  const [from, to] = [random.pick(keys), random.pick(keys)].sort() as [string, string];
  const range = { fromInclusive: from, toExclusive: to };
  const expected = random.chance(0.4) ? { expected: random.chance(0.2) ? -1 : (seen.get(key) ?? -1) } : {};
  const pick = random.int(0, 100);
  if (pick < 40) return { kind: "put", key, value: newValue(), ...expected };
  if (pick < 75) return { kind: "get", key };
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
        this.#records.set(operation.key, { value: operation.value, version });
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
    return keys.map((key) => ({ key, ...this.#records.get(key)! }));
  }
}

function found(record: FoundRecord | undefined): Outcome {
  return record === undefined ? { status: "KEY_NOT_FOUND" } : { status: "OK", record };
}
