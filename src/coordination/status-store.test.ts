import { expect, test } from "bun:test";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { randomPort, SimRandom } from "../../test/sim/random.ts";
import { STATUS_CHANGES_PER_SWAP_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { MetadataChanges, MetadataStore, SwapAnswer } from "../ports.ts";
import { MemoryMetadata, openMemoryMetadata } from "../storage/metadata/memory.ts";
import { type ClusterStatus, decodeStatus, type ShardMetadata, statusChanges } from "./status-document.ts";
import { type StatusChange, StatusStore, StoreLost, withShard } from "./status-store.ts";

const SHARD: ShardMetadata = {
  status: "Election",
  term: 0,
  leader: undefined,
  ensemble: [],
  formerEnsemble: undefined,
  observers: [],
  removedNodes: [],
  pendingDeleteShardNodes: [],
  int32HashRange: { minInclusive: 0, maxInclusive: 9 },
  split: undefined,
  adoptedTerm: undefined,
  unknown: {},
};

/** A store with `count` shards, what it is asked, and a hand on its answers. */
async function opened(count = 2) {
  const memory = new MemoryMetadata();
  const store = openMemoryMetadata(memory);
  const swaps: MetadataChanges[] = [];
  let answers: ((real: () => Promise<SwapAnswer>) => Promise<SwapAnswer>)[] = [];
  const watched: MetadataStore = {
    get: () => store.get(),
    compareAndSwap: (expected, changes) => {
      swaps.push(changes);
      const real = () => store.compareAndSwap(expected, changes);
      return answers.shift()?.(real) ?? real();
    },
    close: () => store.close(),
  };
  const clock = new ManualClock();
  const status = await StatusStore.open({ store: watched, clock, random: randomPort(new SimRandom(1)) });
  const shards = new Map(Array.from({ length: count }, (_, id) => [id, { ...SHARD }]));
  const namespaces = new Map([["default", { replicationFactor: 1, shards, unknown: {} }]]);
  await status.update((before) => ({ ...before, shardIdGenerator: count, namespaces }));
  swaps.length = 0;
  /** Another coordinator's change. */
  const behind = (change: StatusChange) => {
    const before = decodeStatus(memory.entries.copy());
    memory.entries.apply(statusChanges(before, change(before)!));
    memory.version += 1;
  };
  const answer = (...next: typeof answers) => {
    answers = next;
  };
  return { status, swaps, behind, answer, clock, memory };
}

function ref(shard: number) {
  return { namespace: "default", shard };
}

function termed(shard: number, term: number): StatusChange {
  return (status) => withShard(status, ref(shard), { ...SHARD, term });
}

/** Lets everything run that does not wait for time, and moves the clock where something does. */
async function settled<T>(promise: Promise<T>, clock: ManualClock): Promise<T> {
  let done = false;
  void promise.then(
    () => {
      done = true;
    },
    () => {
      done = true;
    },
  );
  for (let turn = 0; turn < 100 && !done; turn++) {
    for (let tick = 0; tick < 20; tick++) await Promise.resolve();
    clock.advance(1_000);
  }
  return promise;
}

test("a change of one shard writes one entry, and leaves the objects of all others", async () => {
  const { status, swaps } = await opened(3);
  const [one, two] = [status.shard(ref(0))!, status.shard(ref(1))!];
  expect(await status.updateShard(ref(0), one, { ...one, term: 4 })).toBe(true);
  expect(swaps.map((changes) => [...changes.keys()])).toEqual([["shard/0/default"]]);
  expect(status.shard(ref(0))!.term).toBe(4);
  expect(status.shard(ref(1))).toBe(two);
  // What it rested on is not stored any more.
  expect(await status.updateShard(ref(0), one, { ...one, term: 5 })).toBe(false);
  expect(swaps).toHaveLength(1);
});

test("changes that come while one is under way are stored together, each resting on those before it", async () => {
  const count = STATUS_CHANGES_PER_SWAP_MAX + 20;
  const { status, swaps } = await opened(count);
  const all = Array.from({ length: count }, (_, id) => {
    const before = status.shard(ref(id))!;
    return status.updateShard(ref(id), before, { ...before, term: 1 });
  });
  const twice = status.updateShard(ref(count - 1), status.shard(ref(count - 1))!, { ...SHARD, term: 7 });
  expect(await Promise.all(all)).toEqual(Array(count).fill(true));
  expect(await twice).toBe(false);
  expect(swaps.length).toBeLessThanOrEqual(3);
  expect(Math.max(...swaps.map(({ size }) => size))).toBeLessThanOrEqual(STATUS_CHANGES_PER_SWAP_MAX);
});

test("after a conflict each change is asked again of what is stored now: it goes on, or declines", async () => {
  const { status, behind, clock } = await opened();
  const [one, two] = [status.shard(ref(0))!, status.shard(ref(1))!];
  behind(termed(1, 9));
  const mine = status.updateShard(ref(0), one, { ...one, term: 1 });
  const lost = status.updateShard(ref(1), two, { ...two, term: 1 });
  expect(await settled(mine, clock)).toBe(true);
  expect(await settled(lost, clock)).toBe(false);
  expect(status.shard(ref(0))!.term).toBe(1);
  expect(status.shard(ref(1))!.term).toBe(9);
});

test("a change that was stored, but whose answer says otherwise, is somebody else's", async () => {
  const { status, answer, clock } = await opened();
  const before = status.shard(ref(0))!;
  answer(async (real) => {
    await real();
    return { outcome: "conflict", version: 99 };
  });
  const mine = status.updateShard(ref(0), before, { ...before, term: 1 });
  expect(await settled(mine, clock)).toBe(false);
  expect(status.shard(ref(0))!.term).toBe(1);
});

test("an answer that does not come ends it: all that wait, and all that come, hear of that", async () => {
  const { status, answer } = await opened();
  const before = status.shard(ref(0))!;
  answer(async (real) => {
    await real();
    return { outcome: "unknown", cause: new Error("gone") };
  });
  const mine = status.updateShard(ref(0), before, { ...before, term: 1 });
  const other = status.update((stored) => ({ ...stored, serverIdx: 1 }));
  const read = status.refresh();
  const outcomes = await Promise.allSettled([mine, other, read]);
  for (const outcome of outcomes) {
    expect(outcome.status === "rejected" && outcome.reason).toBeInstanceOf(StoreLost);
  }
  await expect(status.failed).rejects.toBeInstanceOf(StoreLost);
  await expect(status.update((stored) => stored)).rejects.toBeInstanceOf(StoreLost);
  expect(status.shard(ref(0))).toBe(before);
});

test("a change for which there is no room is refused, the others with it are stored", async () => {
  const { status, answer } = await opened();
  const full = async () => {
    throw new Refusal("RESOURCE_EXHAUSTED", "too much");
  };
  const [one, two] = [status.shard(ref(0))!, status.shard(ref(1))!];
  answer((real) => real(), full, full);
  // While the first is under way the others come together.
  const first = status.update((stored) => ({ ...stored, serverIdx: 1 }));
  const large = status.updateShard(ref(0), one, { ...one, term: 1 });
  const small = status.updateShard(ref(1), two, { ...two, term: 1 });
  await expect(large).rejects.toMatchObject({ reason: "RESOURCE_EXHAUSTED" });
  expect(await small).toBe(true);
  expect(await first).toBeDefined();
  expect(status.shard(ref(0))).toBe(one);
});

test("what is read has the objects from before, where the text is the same; whoever listens is told whose it was", async () => {
  const { status, behind } = await opened();
  const heard: string[] = [];
  status.onChange((whose) => heard.push(whose));
  const [one, two] = [status.shard(ref(0))!, status.shard(ref(1))!];
  await status.refresh();
  expect(heard).toEqual([]);
  behind(termed(1, 3));
  const read: ClusterStatus = await status.refresh();
  expect(read).toBe(status.status);
  expect(status.shard(ref(0))).toBe(one);
  expect(status.shard(ref(1))).not.toBe(two);
  await status.updateShard(ref(0), one, { ...one, term: 1 });
  expect(heard).toEqual(["read", "ours"]);
});

test("a change that throws harms no other", async () => {
  const { status } = await opened();
  const before = status.shard(ref(0))!;
  const broken = status.update(() => {
    throw new Error("a bug");
  });
  const sound = status.updateShard(ref(0), before, { ...before, term: 1 });
  await expect(broken).rejects.toThrow("a bug");
  expect(await sound).toBe(true);
});
