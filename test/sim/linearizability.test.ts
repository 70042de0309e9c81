import { expect, describe as group, test } from "bun:test";
import { atomicHistory } from "./atomic-register.ts";
import { ABSENT, MISMATCH, OK, RIGHT, version, WRONG } from "./histories.ts";
import { History, type HistoryEntry, type Operation, type Outcome } from "./history.ts";
import { checkLinearizable, NotLinearizable, Undecided } from "./linearizability.ts";
import { SimRandom } from "./random.ts";

group("histories that are right are accepted", () => {
  for (const [name, entries] of Object.entries(RIGHT)) test(name, () => checkLinearizable(entries));
});

group("histories that are wrong are rejected", () => {
  for (const [name, entries] of Object.entries(WRONG)) {
    test(name, () => expect(() => checkLinearizable(entries)).toThrow(NotLinearizable));
  }
});

test("a rejection shows the operations that do not fit", () => {
  expect(() => checkLinearizable(WRONG["a stale read"]!)).toThrow(
    [
      "key k: no order explains it; after 1 of 3 operations none of these can be next",
      "  a [2, 3] put k=y: OK, version 1",
      "while the record that is there is still read by",
      "  a [4, 5] get k: OK, k=x version 0",
    ].join("\n"),
  );
});

// --- random histories, right by construction, and each with one corruption ------------------------------------------

function randomHistory(seed: number): readonly HistoryEntry[] {
  const random = new SimRandom(seed);
  const options = {
    clients: random.int(2, 9),
    operationsPerClient: random.int(5, 40),
    keys: random.int(1, 5),
    unknownChance: random.pick([0, 0.05, 0.3]),
    indexChance: random.pick([0, 0.3]),
  };
  return atomicHistory(random.split("workload"), options).entries();
}

test("histories that were really run are accepted, whatever their interleaving and whatever answers were lost", () => {
  for (let seed = 0; seed < 400; seed++) checkLinearizable(randomHistory(seed));
  for (let seed = 0; seed < 200; seed++) {
    const options = { clients: 4, operationsPerClient: 20, keys: 3, unknownChance: 0.1 };
    const repeated = { ...options, repeatChance: 0.2, expireChance: 0.2, indexChance: 0.3 };
    checkLinearizable(atomicHistory(new SimRandom(seed), repeated).entries());
  }
});

interface Corruption {
  readonly name: string;
  /** All entries that can be replaced so that the history is wrong for certain. */
  readonly candidates: (
    entries: readonly HistoryEntry[],
  ) => { readonly entry: HistoryEntry; readonly outcome: Outcome }[];
}

type Put = HistoryEntry & { readonly operation: Extract<Operation, { kind: "put" }>; readonly version: number };

function putsIn(entries: readonly HistoryEntry[]): Put[] {
  return entries.flatMap((entry) =>
    entry.operation.kind === "put" && entry.outcome?.status === "OK"
      ? [{ ...entry, operation: entry.operation, version: entry.outcome.version! }]
      : [],
  );
}

function readsIn(entries: readonly HistoryEntry[]): (HistoryEntry & { readonly key: string })[] {
  return entries.flatMap((entry) =>
    entry.operation.kind === "get" && entry.outcome !== undefined ? [{ ...entry, key: entry.operation.key }] : [],
  );
}

const sawPut = ({ operation, version: id }: Put): Outcome => ({
  status: "OK",
  record: { key: operation.key, value: operation.value, version: id },
});

/** Whether an operation may remove the key. */
function removes({ operation }: HistoryEntry, key: string): boolean {
  if (operation.kind === "delete") return operation.key === key;
  return operation.kind === "delete-range" && operation.fromInclusive <= key && key < operation.toExclusive;
}

const CORRUPTIONS: readonly Corruption[] = [
  {
    name: "stale read",
    candidates: (entries) =>
      readsIn(entries).flatMap((read) => {
        const before = putsIn(entries).filter((one) => one.operation.key === read.key && one.returned < read.invoked);
        const newest = before.reduce((max, one) => Math.max(max, one.version), -1);
        const stale = before.filter((one) => one.version < newest);
        return stale.map((one) => ({ entry: read, outcome: sawPut(one) }));
      }),
  },
  {
    name: "lost write",
    candidates: (entries) =>
      readsIn(entries).flatMap((read) => {
        const isThere = putsIn(entries).some((one) => one.operation.key === read.key && one.returned < read.invoked);
        const mayBeGone = entries.some((one) => one.invoked < read.returned && removes(one, read.key));
        return isThere && !mayBeGone ? [{ entry: read, outcome: ABSENT }] : [];
      }),
  },
  {
    name: "resurrected delete",
    candidates: (entries) =>
      readsIn(entries).flatMap((read) =>
        entries
          .filter((one) => removes(one, read.key) && one.outcome?.status === "OK" && one.returned < read.invoked)
          .flatMap((deletion) =>
            putsIn(entries).filter((one) => one.operation.key === read.key && one.returned < deletion.invoked),
          )
          .map((one) => ({ entry: read, outcome: sawPut(one) })),
      ),
  },
  {
    name: "value out of thin air",
    candidates: (entries) =>
      readsIn(entries).map((entry) => ({
        entry,
        outcome: { status: "OK", record: { key: entry.key, value: "nobody's", version: 1_000_000 } },
      })),
  },
  {
    name: "two winners of one expected version",
    candidates: (entries) => {
      const puts = putsIn(entries).filter(({ operation }) => (operation.expected ?? -1) >= 0);
      const fractions = new Map(
        puts.map((one) => [`${one.operation.key} ${one.operation.expected}`, one.version + 0.5]),
      );
      return entries.flatMap((entry) => {
        const { operation, outcome } = entry;
        if (operation.kind !== "put" || outcome?.status !== "UNEXPECTED_VERSION_ID") return [];
        const free = fractions.get(`${operation.key} ${operation.expected}`);
        return free === undefined ? [] : [{ entry, outcome: version(free) }];
      });
    },
  },
  {
    name: "read of a write that came later",
    candidates: (entries) =>
      readsIn(entries).flatMap((read) =>
        putsIn(entries)
          .filter((one) => one.operation.key === read.key && one.invoked > read.returned)
          .map((one) => ({ entry: read, outcome: sawPut(one) })),
      ),
  },
  {
    name: "version reused",
    candidates: (entries) => {
      const puts = putsIn(entries);
      return puts.slice(1).map((entry, nth) => ({ entry, outcome: version(puts[nth]!.version) }));
    },
  },
];

for (const { name, candidates } of CORRUPTIONS) {
  test(`one corruption in a history that was really run is rejected: ${name}`, () => {
    let corrupted = 0;
    for (let seed = 0; seed < 250; seed++) {
      const entries = randomHistory(seed);
      const all = candidates(entries);
      if (all.length === 0) continue;
      const { entry, outcome } = new SimRandom(seed).split(name).pick(all);
      const changed = entries.map((one) => (one.invoked === entry.invoked ? { ...one, outcome } : one));
      const check = () => checkLinearizable(changed);
      expect(check, `seed ${seed}`).toThrow(NotLinearizable);
      corrupted++;
    }
    expect(corrupted).toBeGreaterThan(20);
  });
}

// --- against a slow, obvious search ---------------------------------------------------------------------------------

interface Plain {
  readonly value: string;
  /** Undefined: any above those before it. */
  readonly version: number | undefined;
}

/** Tries every order of one key's operations, and for each that has no answer, also that it never happened. */
function explains(entries: readonly HistoryEntry[], record: Plain | undefined = undefined, floor = -1): boolean {
  if (entries.every(({ outcome }) => outcome === undefined)) return true;
  const firstEnd = Math.min(...entries.map(({ returned }) => returned));
  return entries.some((entry) => {
    if (entry.invoked > firstEnd) return false;
    const next = step(entry, record, floor);
    if (next === undefined) return false;
    return explains(
      entries.filter((other) => other !== entry),
      next.record,
      next.floor,
    );
  });
}

function step({ operation, outcome }: HistoryEntry, record: Plain | undefined, floor: number) {
  const same = { record, floor };
  const gone = { record: undefined, floor };
  const expected = "expected" in operation ? operation.expected : undefined;
  const mayHave = (id: number) =>
    id < 0 ? record === undefined : record !== undefined && (record.version ?? Math.max(id, floor + 0.1)) === id;
  const mayDiffer = (id: number) => (id < 0 ? record !== undefined : record?.version !== id);
  if (outcome?.status === "UNEXPECTED_VERSION_ID")
    return expected !== undefined && mayDiffer(expected) ? same : undefined;
  if (outcome?.status === "KEY_NOT_FOUND") return record === undefined ? same : undefined;
  if (operation.kind === "get") {
    const seen = outcome?.record;
    if (seen === undefined) return same;
    if (record?.value !== seen.value) return undefined;
    // a version that nobody was told is settled by whoever reads it
    if (record.version === undefined) return seen.version > floor ? { record: seen, floor: seen.version } : undefined;
    return record.version === seen.version ? same : undefined;
  }
  if (operation.kind === "session-end") return record?.value === operation.value ? gone : same;
  if (operation.kind === "delete-range") {
    const covers = operation.fromInclusive <= "k0" && "k0" < operation.toExclusive;
    return covers ? gone : same;
  }
  if (expected !== undefined && !mayHave(expected)) return undefined;
  if (operation.kind === "delete") return record === undefined ? undefined : gone;
  if (operation.kind !== "put") return same;
  const id = outcome?.status === "OK" ? outcome.version : undefined;
  if (id !== undefined && id <= Math.max(floor, expected ?? -1)) return undefined;
  return { record: { value: operation.value, version: id }, floor: id ?? floor };
}

test("the search and a slow, obvious one agree on small histories, right and wrong", () => {
  const verdicts = { right: 0, wrong: 0 };
  for (let seed = 0; seed < 6_000; seed++) {
    const random = new SimRandom(seed);
    const options = {
      clients: 3,
      operationsPerClient: random.int(1, 4),
      keys: 1,
      unknownChance: random.pick([0.1, 0.4]),
      repeatChance: random.pick([0, 0.2]),
      expireChance: random.pick([0, 0.3]),
    };
    let entries = atomicHistory(random.split("workload"), options)
      .entries()
      .filter(({ operation }) => !["scan", "compare", "list", "index-scan"].includes(operation.kind))
      .slice(0, 9);
    const values = [
      "nobody's",
      ...entries.flatMap(({ operation }) => (operation.kind === "put" ? operation.value : [])),
    ];
    for (let changes = random.int(0, 3); changes > 0 && entries.length > 0; changes--) {
      const changed = random.pick(entries);
      const outcome: Outcome = random.pick([ABSENT, MISMATCH, drawOk(changed.operation, random, values)]);
      if (changed.outcome === undefined || changed.operation.kind === "delete-range") continue;
      if (changed.operation.kind === "put" && outcome === ABSENT) continue;
      if (changed.operation.kind === "get" && outcome === MISMATCH) continue;
      entries = entries.map((entry) => (entry === changed ? { ...entry, outcome } : entry));
    }
    const isRight = explains(entries.flatMap(withRepeats));
    verdicts[isRight ? "right" : "wrong"]++;
    if (isRight) checkLinearizable(entries);
    else expect(() => checkLinearizable(entries), `seed ${seed}`).toThrow(NotLinearizable);
  }
  expect(Math.min(verdicts.right, verdicts.wrong)).toBeGreaterThan(1_000);
});

/** Each time that it was sent as an operation of its own. */
function withRepeats(entry: HistoryEntry): HistoryEntry[] {
  const again: HistoryEntry = { ...entry, returned: Number.POSITIVE_INFINITY, outcome: undefined };
  return entry.operation.kind === "get" ? [entry] : [entry, ...Array.from({ length: entry.repeats }, () => again)];
}

function drawOk(operation: Operation, random: SimRandom, values: readonly string[]): Outcome {
  if (operation.kind === "put") return version(random.int(0, 6));
  if (operation.kind !== "get") return OK;
  return { status: "OK", record: { key: operation.key, value: random.pick(values), version: random.int(0, 5) } };
}

// --- size -----------------------------------------------------------------------------------------------------------

function largeHistory(unknownChance: number): readonly HistoryEntry[] {
  const options = { clients: 20, operationsPerClient: 100, keys: 1, unknownChance };
  return atomicHistory(new SimRandom(9), options).entries();
}

test("2,000 operations of 20 clients on one key take little more states than operations, with answers and without", () => {
  for (const unknownChance of [0, 0.1]) {
    const entries = largeHistory(unknownChance);
    expect(entries.length).toBeGreaterThan(1_900);
    checkLinearizable(entries, { statesMax: 4_000 });
  }
});

test("2,000 operations with one that is wrong are rejected", () => {
  for (const unknownChance of [0, 0.1]) {
    const entries = largeHistory(unknownChance);
    const stale = CORRUPTIONS[0]!.candidates(entries).at(-1)!;
    const changed = entries.map((one) =>
      one.invoked === stale.entry.invoked ? { ...one, outcome: stale.outcome } : one,
    );
    expect(() => checkLinearizable(changed)).toThrow(NotLinearizable);
  }
});

/** Puts of records that may have expired, and deletes, whose answers were lost, and then a delete that must come before a put for a read to fit. */
function wrongTurn(lost: number): readonly HistoryEntry[] {
  const history = new History();
  for (let nth = 0; nth < lost; nth++) {
    history.invoke("a", { kind: "put", key: "k", value: `lost ${nth}`, expected: -1 }).unknown();
    history.invoke("a", { kind: "session-end", key: "k", value: `lost ${nth}` }).unknown();
    history.invoke("a", { kind: "delete", key: "k" }).unknown();
  }
  const put = history.invoke("b", { kind: "put", key: "k", value: "kept", expected: -1 });
  history.invoke("c", { kind: "delete", key: "k" }).returned(OK);
  put.returned(version(7));
  const seen = { key: "k", value: "kept", version: 7 };
  history.invoke("c", { kind: "get", key: "k" }).returned({ status: "OK", record: seen });
  return history.entries();
}

test("a turn after which a read cannot fit any more is not gone on with, whatever else may have happened", () => {
  for (const lost of [1, 5, 40]) checkLinearizable(wrongTurn(lost), { statesMax: 50 });
  const withoutPuts = wrongTurn(40).filter(({ operation }) => operation.kind !== "put" || operation.value === "kept");
  expect(() => checkLinearizable(withoutPuts)).toThrow(NotLinearizable);
});

test("past its bounds it says so instead of judging", () => {
  const entries = largeHistory(0.1);
  expect(() => checkLinearizable(entries, { keyOperationsMax: 100 })).toThrow(/more than the 100 that are judged/);
  expect(() => checkLinearizable(entries, { statesMax: 50 })).toThrow(Undecided);
  expect(() => checkLinearizable(entries, { comparisonsMax: 0 })).toThrow(Undecided);
});
