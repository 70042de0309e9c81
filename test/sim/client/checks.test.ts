/** The checkers on what was written down by hand: right as it is, and wrong in one place. */
import { expect, describe as group, test } from "bun:test";
import { History, type Outcome } from "../history.ts";
import { Scheduler } from "../scheduler.ts";
import { Trace } from "../trace.ts";
import { BrokenPromise } from "./broken-promise.ts";
import {
  checkOpenStream,
  checkReader,
  checkResumed,
  checkStream,
  checkWhole,
  type ToldShard,
} from "./check-notifications.ts";
import { checkScans } from "./check-scans.ts";
import { checkFollowed, checkSequence } from "./check-sequences.ts";
import type { ToldBatch, ToldChange, ToldStream } from "./feeds.ts";
import { Record } from "./record.ts";
import { SessionWatch } from "./session-watch.ts";

function broken(check: () => void, message: RegExp): void {
  expect(check).toThrow(BrokenPromise);
  expect(check).toThrow(message);
}

// --- scans ----------------------------------------------------------------------------------------------------------

const SCAN = { kind: "scan", fromInclusive: "a", toExclusive: "z" } as const;
type Found = readonly [key: string, version: number];

/** a@1, b@2, a@3, b@4 are put one after the other, then a scan sees this. */
function scanned(found: readonly Found[], { deletes = [] as readonly string[], inParts = false } = {}) {
  const history = new History();
  for (const [at, key] of ["a", "b", "a", "b"].entries()) {
    history.invoke("w", { kind: "put", key, value: `${at + 1}` }).returned({ status: "OK", version: at + 1 });
  }
  for (const key of deletes) history.invoke("w", { kind: "delete", key });
  const records = found.map(([key, version]) => ({ key, value: `${version}`, version }));
  history.invoke("r", SCAN).returned({ status: "OK", records, inParts } satisfies Outcome);
  return history.entries();
}

group("a scan", () => {
  test("may show any moment: what came first, what was deleted since", () => {
    const moments: readonly (readonly Found[])[] = [
      [],
      [["a", 1]],
      [
        ["a", 1],
        ["b", 2],
      ],
      [
        ["a", 3],
        ["b", 2],
      ],
      [
        ["a", 3],
        ["b", 4],
      ],
    ];
    for (const found of moments) checkScans(scanned(found));
    checkScans(scanned([["b", 4]], { deletes: ["a"] }));
  });

  test("may not show one key of a moment and another of a later one", () => {
    const torn: readonly Found[] = [
      ["a", 1],
      ["b", 4],
    ];
    broken(() => checkScans(scanned(torn)), /a scan shows version 4, and a not as of version 3/);
    broken(() => checkScans(scanned([["b", 4]])), /and a not as of version/);
    broken(() => checkScans(scanned([["b", 4]], { deletes: ["b"] })), /and a not as of version/);
    checkScans(scanned(torn, { inParts: true }));
  });
});

// --- sequences ------------------------------------------------------------------------------------------------------

const keyOf = (...counters: number[]) => `zs${counters.map((one) => `-${String(one).padStart(20, "0")}`).join("")}`;

/** Puts with deltas 1, 2, 3, … of which the n-th is answered unless it is listed, and the records that are there. */
function sequence(stored: readonly (readonly [value: string, ...counters: number[]])[], unanswered: readonly string[]) {
  const record = new Record();
  for (const [at, value] of ["x", "y", "z"].entries()) {
    const sent = record.sent({ value, shard: 0, key: "zs", deltas: [at + 1], ephemeral: false, invokedMs: 0 });
    const found = stored.findIndex(([its]) => its === value);
    if (!unanswered.includes(value)) {
      sent.stored = { key: keyOf(...(stored[found]!.slice(1) as number[])), version: found, atMs: 0 };
    }
  }
  const records = stored.map(([value, ...counters], version) => ({ key: keyOf(...counters), value, version }));
  return { stored: { prefix: "zs", records }, puts: record.puts };
}

group("a sequence", () => {
  const right = sequence(
    [
      ["x", 1],
      ["z", 4],
      ["y", 6],
    ],
    [],
  );

  test("has the keys that its puts make, in any order; one that was not answered may be missing", () => {
    checkSequence(right.stored, right.puts);
    const { stored, puts } = sequence([["z", 3]], ["x", "y"]);
    checkSequence(stored, puts);
  });

  test("has no gap and no overlap", () => {
    const gap = sequence(
      [
        ["x", 1],
        ["z", 5],
      ],
      ["y"],
    );
    broken(() => checkSequence(gap.stored, gap.puts), /1 and 3 were added/);
    const overlap = sequence(
      [
        ["x", 1],
        ["z", 3],
      ],
      ["y"],
    );
    broken(() => checkSequence(overlap.stored, overlap.puts), /were added/);
  });

  test("has all that was acknowledged, and each put as often as it was sent", () => {
    const lost = { ...right.stored, records: right.stored.records.slice(0, 2) };
    broken(() => checkSequence(lost, right.puts), /was acknowledged and is not there/);
    const twice = sequence(
      [
        ["x", 1],
        ["x", 2],
      ],
      ["y", "z"],
    );
    broken(() => checkSequence(twice.stored, twice.puts), /sent 1 times and is there 2 times/);
    twice.puts.get("x")!.repeats = 1;
    checkSequence(twice.stored, twice.puts);
    const foreign = sequence([["nobody's", 1]], ["x", "y", "z"]);
    broken(() => checkSequence(foreign.stored, foreign.puts), /is of no sequence put/);
  });

  test("is told upwards, to the end, and only what is there", () => {
    const followed = (items: string[], ended = false) => ({ client: "c", prefix: "zs", items, ended });
    checkFollowed(followed([keyOf(1), keyOf(6)]), right.stored);
    checkFollowed(followed([keyOf(4)], true), right.stored);
    broken(() => checkFollowed(followed([keyOf(4)]), right.stored), /was last told of/);
    broken(() => checkFollowed(followed([keyOf(4), keyOf(1)]), right.stored), /was told of .* after/);
    broken(() => checkFollowed(followed([keyOf(2)]), right.stored), /which is not there/);
  });
});

// --- notifications --------------------------------------------------------------------------------------------------

const change = (type: ToldChange["type"], key: string, versionId?: number, toExclusive?: string): ToldChange => {
  return { type, key, versionId, toExclusive };
};

const WHOLE: readonly ToldBatch[] = [
  { offset: 1, changes: [change("created", "a", 0), change("created", "b", 1)] },
  { offset: 2, changes: [change("modified", "a", 2)] },
  { offset: 4, changes: [change("deleted", "b")] },
  { offset: 5, changes: [change("created", "c", 3)] },
  { offset: 6, changes: [change("rangeDeleted", "a", undefined, "b")] },
];

function told(batches: readonly ToldBatch[] = WHOLE, records: readonly Found[] = [["c", 3]]): ToldShard {
  return { shard: 0, batches, trimmed: -1, records: new Map(records) };
}

const NOTHING = { puts: [], deletes: [] };

/** The whole with one batch in the place of another, or none. */
function changed(at: number, ...batches: readonly ToldBatch[]): ToldShard {
  return told(WHOLE.toSpliced(at, 1, ...batches));
}

group("what a shard has told", () => {
  const put = new Record().sent({ value: "x", shard: 0, key: "a", deltas: undefined, ephemeral: false, invokedMs: 0 });

  test("leads to its records, and has all that clients were told", () => {
    put.stored = { key: "a", version: 2, atMs: 0 };
    checkWhole(told(), { puts: [put], deletes: [{ shard: 0, key: "b" }] });
    // what is gone cannot be looked at
    checkWhole({ ...told(WHOLE.slice(2)), trimmed: 2 }, { puts: [put], deletes: [] });
  });

  test("rises in offsets and versions", () => {
    broken(() => checkWhole(changed(1, WHOLE[1]!, WHOLE[1]!), NOTHING), /a batch at 2 comes after one at 2/);
    const old = { offset: 2, changes: [change("modified", "a", 1)] };
    broken(() => checkWhole(changed(1, old), NOTHING), /version 1 at 2 is told after version 1/);
  });

  test("fits the records as they were", () => {
    const again = { offset: 2, changes: [change("created", "a", 2)] };
    broken(() => checkWhole(changed(1, again), NOTHING), /created a version 2 at 2, where the key was/);
    broken(() => checkWhole(changed(0), NOTHING), /where the key was not/);
    broken(() => checkWhole(changed(3), NOTHING), /lead to version undefined of c, where 3 is/);
    broken(() => checkWhole(changed(4), NOTHING), /lead to version 2 of a, where undefined is/);
  });

  test("leaves nothing out", () => {
    put.stored = { key: "a", version: 7, atMs: 0 };
    broken(() => checkWhole(told(), { puts: [put], deletes: [] }), /the put of a with version 7 was not told/);
    const twice = [1, 2].map(() => ({ shard: 0, key: "b" }));
    broken(() => checkWhole(told(), { puts: [], deletes: twice }), /deleted more often than was told/);
  });

  const stream = (batches: readonly ToldBatch[], after: number | undefined): ToldStream => {
    return { client: "c", shard: 0, after, batches: [...batches], firstOffset: undefined, ended: false };
  };

  test("may go on after it was read: sessions end, with their records or without any", () => {
    for (const changes of [[], [change("deleted", "c")]]) {
      checkStream(
        {
          client: "c",
          shard: 0,
          after: -1,
          batches: [...WHOLE, { offset: 9, changes }],
          firstOffset: undefined,
          ended: false,
        },
        told(),
      );
    }
  });

  test("is told by each stream from where it began, without a gap", () => {
    checkStream(stream(WHOLE, -1), told());
    checkStream(stream(WHOLE.slice(2, 4), 2), told());
    checkStream(stream(WHOLE.slice(2), 3), told());
    checkStream(stream([{ offset: 3, changes: [] }, ...WHOLE.slice(2)], undefined), told());
    checkStream({ ...stream(WHOLE.slice(3), 1), firstOffset: 5 }, told());
    broken(() => checkStream(stream(WHOLE.slice(3), 2), told()), /a stream of shard 0 behind 2 has 5/);
    broken(() => checkStream(stream(WHOLE.toSpliced(2, 1), -1), told()), /has 5: .* where 4: /);
    broken(() => checkStream(stream([WHOLE[1]!, WHOLE[0]!], -1), told()), /has 2: .* where 1: /);
    const after = (...changes: ToldChange[]) => stream([...WHOLE, { offset: 9, changes }], -1);
    broken(() => checkStream(after(change("created", "d", 4)), told()), /where nothing was told/);
    broken(() => checkStream(stream([...WHOLE, { offset: 6, changes: [] }], -1), told()), /where nothing was told/);
    const other = { offset: 2, changes: [change("modified", "a", 3)] };
    broken(() => checkStream(stream([WHOLE[0]!, other], -1), told()), /has 2: modified a version 3 where/);
  });

  test("is told to the end by a stream that is open", () => {
    checkOpenStream(stream(WHOLE, -1), told());
    broken(() => checkOpenStream(stream(WHOLE.slice(0, 3), -1), told()), /up to 4, and not up to 6/);
    broken(() => checkOpenStream(stream([], 5), told()), /up to 5, and not up to 6/);
  });

  test("is told to a stream that was opened later, but for what was gone by then", () => {
    const left = (batches: readonly ToldBatch[]) => ({ batches });
    const afterwards = { offset: 9, changes: [change("deleted", "a")] };
    checkResumed(stream(WHOLE.slice(2), 2), told(), left(WHOLE));
    // told before `afterwards` came about, which is not in the whole
    checkResumed(stream(WHOLE, -1), told(), left([...WHOLE, afterwards]));
    // all of the whole is gone, or only its end is left
    checkResumed(stream([], 2), told(), left([afterwards]));
    checkResumed({ ...stream(WHOLE.slice(3), 1), firstOffset: 5 }, told(), left(WHOLE.slice(3)));
    broken(() => checkResumed(stream(WHOLE.slice(0, 3), -1), told(), left(WHOLE)), /up to 4, and not up to 6/);
    broken(() => checkResumed(stream([], 2), told(), left([...WHOLE.slice(3), afterwards])), /up to 2, and not up to/);
    broken(() => checkResumed(stream(WHOLE.toSpliced(2, 1), -1), told(), left(WHOLE)), /has 5: .* where 4: /);
  });

  test("is given to readers in one piece, of each shard", () => {
    const items = WHOLE.flatMap(({ changes }) => changes).filter(({ type }) => type !== "rangeDeleted");
    const reader = (its: readonly unknown[], ended = false) => ({ client: "c", items: its as never[], ended });
    const check = (its: readonly unknown[], ended?: boolean) => checkReader(reader(its, ended), [told()], () => 0);
    check(items);
    check(items.slice(2));
    check(items.slice(1, 3), true);
    broken(() => check(items.slice(1, 3)), /was given/);
    broken(() => check(items.toSpliced(2, 1)), /was given/);
    broken(() => check([items[0], items[0]], true), /was given/);
    check([{ type: "missed", shard: 0, writesMax: 3 }, ...items.toSpliced(2, 1)]);
  });
});

// --- sessions -------------------------------------------------------------------------------------------------------

test("a session is over when its client was told so, or when it had no heartbeat for too long", () => {
  const scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
  const record = new Record();
  const watch = new SessionWatch({
    scheduler,
    history: (shard) => record.history(shard),
    clockRateMax: 1,
    readsConfirmed: true,
  });
  const callOf = (method: string, message: readonly number[]) => ({
    request: { address: "", path: `/x/${method}`, message: new Uint8Array([0, 0, 0, 0, message.length, ...message]) },
    openedMs: scheduler.nowMs,
  });
  // shard 1, a timeout of 2,000 ms; the answer: session 5
  const create = callOf("CreateSession", [0x08, 1, 0x10, 0xd0, 0x0f]);
  watch.opened(create);
  watch.answered(create, new Uint8Array([0x08, 5]));
  const seen = (readMs: number, ledSinceMs = 0) => watch.seen(1, 5, { readMs, lateMs: 1_000, ledSinceMs });
  seen(2_999);
  broken(() => seen(3_001), /had its last heartbeat at 0 and has records at 3001/);
  seen(3_001, 500);
  const put = watch.put({ shard: 1, key: "e", value: "v" });
  put.stored(5);
  expect(record.history(1).entries()).toEqual([]);
  scheduler.run({ untilMs: 1_000 });
  const beat = callOf("KeepAlive", [0x08, 1, 0x10, 5]);
  watch.opened(beat);
  watch.answered(beat, new Uint8Array());
  // alive for certain until 3,000
  scheduler.run({ untilMs: 2_999 });
  expect(record.history(1).entries()).toEqual([]);
  scheduler.run({ untilMs: 3_000 });
  expect(
    record
      .history(1)
      .entries()
      .map(({ operation }) => operation),
  ).toEqual([{ kind: "session-end", key: "e", value: "v" }]);
  seen(3_999);
  const close = callOf("CloseSession", [0x08, 1, 0x10, 5]);
  watch.opened(close);
  watch.answered(close, new Uint8Array());
  seen(2_999);
  broken(() => seen(3_001), /was closed at 3000/);
  broken(() => watch.put({ shard: 1, key: "e", value: "w" }).stored(6), /is in session 6, which nobody has made/);
});

test("a record of a session that may have ended meanwhile may be gone at any time since its put", () => {
  const scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
  const record = new Record();
  const watch = new SessionWatch({
    scheduler,
    history: (shard) => record.history(shard),
    clockRateMax: 1.05,
    readsConfirmed: true,
  });
  const message = new Uint8Array([0, 0, 0, 0, 3, 0x10, 0xd0, 0x0f]);
  const create = { request: { address: "", path: "/x/CreateSession", message }, openedMs: 0 };
  watch.opened(create);
  watch.answered(create, new Uint8Array([0x08, 5]));
  const ends = () => record.history(0).entries().length;
  const early = watch.put({ shard: 0, key: "e", value: "v" });
  expect(ends()).toBe(1);
  early.refused();
  expect(ends()).toBe(0);
  const put = watch.put({ shard: 0, key: "e", value: "w" });
  scheduler.run({ untilMs: 1_950 });
  put.stored(5);
  expect(ends()).toBe(1);
});
