/**
 * Replicas agree: the same log makes the same state, told by its hash and its number of rows, whether it was applied in
 * one go, over flushes and restarts, behind a snapshot of another replica, or in the plainest model there is.
 */
import { afterAll, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ModelKeyValue } from "../../test/sim/model-key-value.ts";
import { WriteRequestSchema } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import type { LogEntry, Offset } from "../model/ids.ts";
import { type KeySorting, keyOrder } from "../model/keys.ts";
import { FEATURES } from "../model/peer-messages.ts";
import { systemClock } from "../ops/clock.ts";
import type { KeyValue } from "../ports.ts";
import { KeyValueNode } from "../storage/key-value/node.ts";
import { encodeOwnTermEntry, encodeWriteEntry } from "../wire/log-entry.ts";
import { Applier } from "./apply.ts";
import { encodeSessionEnds, encodeSessionStart } from "./session-record.ts";

type WriteInit = MessageInitShape<typeof WriteRequestSchema>;

const folder = mkdtempSync(join(tmpdir(), "varia-checksum-"));
const faults: Error[] = [];
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A replica of the shard: a state and what applies entries to it. */
class Replica {
  readonly kv: KeyValue;
  readonly #applier: Applier;

  constructor(kv: KeyValue, sorting: KeySorting) {
    this.kv = kv;
    this.#applier = new Applier(kv, { order: keyOrder(sorting), notificationsEnabled: true });
  }

  apply(entry: LogEntry): void {
    this.#applier.applyEntry(entry);
  }

  /** Applies what of the log it has not applied yet. */
  replay(log: readonly LogEntry[]): void {
    for (const entry of log.slice(this.kv.applied.offset + 1)) this.apply(entry);
  }

  get state() {
    const { rowCount, stateHash, applied } = this.kv;
    return { rowCount, stateHash, applied };
  }
}

/** A replica in a file of its own, which can be closed and opened again. */
class StoredReplica {
  readonly path: string;
  readonly #sorting: KeySorting;
  #node!: KeyValueNode;
  replica!: Replica;

  private constructor(path: string, sorting: KeySorting) {
    this.path = path;
    this.#sorting = sorting;
  }

  static async open(path: string, sorting: KeySorting): Promise<StoredReplica> {
    const stored = new StoredReplica(path, sorting);
    await stored.#open();
    return stored;
  }

  async #open(): Promise<void> {
    this.#node = new KeyValueNode({
      tableBytesMax: 8 * 1024 * 1024,
      cacheBytesMax: 1024 * 1024,
      sqliteCacheBytesMax: 1024 * 1024,
      clock: systemClock,
      logger: { debug() {}, info() {}, warn() {}, error() {} },
      onFault: (error) => faults.push(error),
    });
    const options = { path: this.path, order: keyOrder(this.#sorting), verify: true, onDamage: "refuse" } as const;
    const opened = await this.#node.open(options);
    if ("damage" in opened) throw new Error(JSON.stringify(opened.damage));
    this.replica = new Replica(opened.keyValue, this.#sorting);
  }

  async reopen(): Promise<void> {
    await this.close();
    await this.#open();
  }

  close(): Promise<void> {
    return this.#node.close();
  }

  /** Copies the file as it stands while nobody has it open. */
  async copy(path: string): Promise<void> {
    await this.close();
    for (const suffix of ["", "-wal"]) {
      if (existsSync(this.path + suffix)) copyFileSync(this.path + suffix, path + suffix);
    }
    await this.#open();
  }
}

// --- random logs ----------------------------------------------------------------------------------------------

const key = fc.oneof(
  fc.constantFrom("", "a", "a/", "/a", "a//", "b", "\0", "a-", `a-${"3".padStart(20, "0")}`).map(utf8),
  fc
    .array(fc.constantFrom(0x61, 0x62, 0x2f, 0x2d, 0xff, 0x00, 0x01), { maxLength: 3 })
    .map((it) => Uint8Array.from(it)),
);
const value = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.nat(20_000).map((length) => new Uint8Array(length).fill(5)),
);
const expectedVersionId = fc.integer({ min: -1, max: 30 }).map(BigInt);
const indexes = fc.array(fc.record({ indexName: fc.constantFrom("i", "", "i/").map(utf8), secondaryKey: key }), {
  maxLength: 3,
});
/** The id is one of the offsets at which a session may have started. */
const session = fc.nat(25);
const put = fc.record(
  {
    key,
    value,
    expectedVersionId,
    sessionId: session.map(BigInt),
    clientIdentity: fc.constantFrom("me", ""),
    partitionKey: key,
    secondaryIndexes: indexes,
    overrideVersionId: fc.constantFrom(-1n, 4n, 2n ** 63n - 1n),
    overrideModificationsCount: fc.constantFrom(0n, 7n, 2n ** 63n - 1n),
  },
  { requiredKeys: ["key", "value"] },
);
/** Counters that wrap, and prefixes that are themselves keys of a sequence, are what a replica may remember wrongly. */
const prefix = fc.constantFrom("a", "a", "b/", `a-${"1".padStart(20, "0")}`, `a-${"2".padStart(20, "0")}`).map(utf8);
const delta = fc.oneof(
  { weight: 6, arbitrary: fc.bigInt(1n, 3n) },
  { weight: 1, arbitrary: fc.constant(2n ** 64n - 3n) },
);
const sequencePut = fc.record(
  {
    key: prefix,
    value,
    partitionKey: key,
    sequenceKeyDelta: fc.oneof(
      { weight: 5, arbitrary: fc.tuple(delta) },
      { weight: 1, arbitrary: fc.array(delta, { minLength: 2, maxLength: 3 }) },
    ),
    secondaryIndexes: indexes,
  },
  { requiredKeys: ["key", "value", "partitionKey", "sequenceKeyDelta"] },
);
const write = fc.record({
  puts: fc.array(fc.oneof({ weight: 3, arbitrary: put }, { weight: 1, arbitrary: sequencePut }), { maxLength: 4 }),
  deletes: fc.array(fc.record({ key, expectedVersionId }, { requiredKeys: ["key"] }), { maxLength: 2 }),
  deleteRanges: fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.record({ startInclusive: key, endExclusive: key }), { maxLength: 2 }) },
  ),
});
const step = fc.oneof(
  { weight: 20, arbitrary: fc.record({ kind: fc.constant("write" as const), write }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("start session" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("end session" as const), session }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("control" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("flush" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("snapshot" as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** What the step puts into the log at an offset; undefined when it is something else than an entry. */
function entryValue(step: Step, offset: Offset): Uint8Array | undefined {
  switch (step.kind) {
    case "write":
      return encodeWriteEntry(toBinary(WriteRequestSchema, create(WriteRequestSchema, step.write as WriteInit)));
    case "start session":
      return encodeWriteEntry(encodeSessionStart(0, offset, 5000, utf8("me")));
    case "end session":
      return encodeWriteEntry(encodeSessionEnds(0, [step.session]));
    case "control":
      return encodeOwnTermEntry(FEATURES);
    default:
      return undefined;
  }
}

test("the same log makes the same state over flushes, restarts and snapshots", async () => {
  let runs = 0;
  const sorting = fc.constantFrom<KeySorting>("hierarchical", "natural");
  const agree = fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 80 }), sorting, async (steps, sorting) => {
    const run = join(folder, String(runs++));
    mkdirSync(run);
    const log: LogEntry[] = [];
    const model = new Replica(new ModelKeyValue(keyOrder(sorting)), sorting);
    const neverFlushed = await StoredReplica.open(join(run, "never-flushed"), sorting);
    const restarted = await StoredReplica.open(join(run, "restarted"), sorting);
    const snapshots: string[] = [];
    const agreed = () => {
      expect(neverFlushed.replica.state).toEqual(model.state);
      expect(restarted.replica.state).toEqual(model.state);
    };
    for (const step of steps) {
      const value = entryValue(step, log.length);
      if (value !== undefined) {
        const entry = { term: 1, offset: log.length, timestamp: 1000 + log.length, value };
        log.push(entry);
        for (const replica of [model, neverFlushed.replica, restarted.replica]) replica.apply(entry);
      } else if (step.kind === "flush") {
        await restarted.replica.kv.flush();
      } else if (step.kind === "reopen") {
        await restarted.reopen();
      } else if (step.kind === "snapshot") {
        snapshots.push(join(run, `snapshot-${snapshots.length}`));
        await restarted.copy(snapshots.at(-1)!);
      }
      agreed();
    }
    for (const path of snapshots) {
      const follower = await StoredReplica.open(path, sorting);
      follower.replica.replay(log);
      expect(follower.replica.state).toEqual(model.state);
      await follower.close();
    }
    await neverFlushed.reopen();
    await restarted.reopen();
    agreed();
    await Promise.all([neverFlushed.close(), restarted.close()]);
  });
  await fc.assert(agree, { numRuns: 25 });
  expect(faults).toEqual([]);
}, 120_000);

test("a state that differs in one bit of one row, or in one row, has another hash", () => {
  const stateAfter = (...puts: { key: string; value: string }[]) => {
    const replica = new Replica(new ModelKeyValue(keyOrder("hierarchical")), "hierarchical");
    for (const [offset, put] of puts.entries()) {
      const init = { puts: [{ key: utf8(put.key), value: utf8(put.value) }] };
      const value = encodeWriteEntry(toBinary(WriteRequestSchema, create(WriteRequestSchema, init)));
      replica.apply({ term: 1, offset, timestamp: 1000, value });
    }
    return replica.state.stateHash;
  };
  const hashes = [
    stateAfter(),
    stateAfter({ key: "a", value: "a" }),
    stateAfter({ key: "a", value: "b" }),
    stateAfter({ key: "b", value: "a" }),
    stateAfter({ key: "a", value: "a" }, { key: "b", value: "b" }),
    stateAfter({ key: "b", value: "b" }, { key: "a", value: "a" }),
  ];
  expect(new Set(hashes).size).toBe(hashes.length);
});
