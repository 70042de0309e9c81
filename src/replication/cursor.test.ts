import { expect, test } from "bun:test";
import { entryOf, LeaderWorld } from "../../test/harness/leader-world.ts";
import type { ScriptedFollower } from "../../test/harness/scripted-follower.ts";
import { NO_OFFSET } from "../model/ids.ts";
import {
  COMMIT_TOLD_MS_MAX,
  CURSOR_BYTES_IN_FLIGHT_MAX,
  CURSOR_ENTRIES_IN_FLIGHT_MAX,
  CURSOR_RETRY_MS_MAX,
  LEADER_SILENCE_MS_MAX,
  TAIL_BYTES_PER_SHARD_MAX,
} from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";

const MiB = 1024 * 1024;

/** What the follower was sent of entries. */
function offsets({ received }: ScriptedFollower): number[] {
  return received.flatMap(({ entry }) => entry?.offset ?? []);
}

function expectSame(world: LeaderWorld, follower: ScriptedFollower): void {
  expect(follower.head).toEqual(world.leader.head);
}

test("a follower without entries is sent all of them, in order", () => {
  const world = new LeaderWorld({ terms: [1, 1, 2, 2, 2, 4] }).start();
  for (const follower of world.members) {
    expect(offsets(follower)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expectSame(world, follower);
  }
});

test("a follower with a foreign tail is truncated until both agree, and its entries are told by chain, not by place", () => {
  const world = new LeaderWorld({ terms: [1, 1, 3, 3] });
  const [longer, other] = world.members;
  longer!.entries = [1, 1, 2, 2, 2].map((term, offset) => entryOf(term, offset));
  // the same terms at the same places, but another entry at 1
  other!.entries = [entryOf(1, 0), entryOf(1, 1, "another"), entryOf(3, 2), entryOf(3, 3)];
  world.start();
  world.pass(2_000);
  expect(longer!.calls.filter((call) => call.startsWith("Truncate"))).toEqual(["Truncate 1"]);
  expect(other!.calls.filter((call) => call.startsWith("Truncate"))).toEqual([
    "Truncate 2",
    "Truncate 1",
    "Truncate 0",
  ]);
  expect(world.started).toBe("served");
  for (const follower of world.members) expectSame(world, follower);
});

test("a commit offset goes with the next entry, and alone only when none comes for a while", () => {
  const world = new LeaderWorld().start();
  const [follower] = world.members;
  world.pass(COMMIT_TOLD_MS_MAX + 5);
  const before = follower!.received.length;
  world.put("a");
  world.pass(COMMIT_TOLD_MS_MAX / 2);
  world.put("b");
  world.pass(COMMIT_TOLD_MS_MAX / 4);
  const sent = follower!.received.slice(before);
  expect(sent.map(({ entry, commitOffset }) => [entry?.offset, commitOffset])).toEqual([
    [1, 0],
    [2, 1],
  ]);
  world.pass(COMMIT_TOLD_MS_MAX);
  const [last] = follower!.received.slice(before + 2);
  expect([last?.entry, last?.commitOffset]).toEqual([undefined, 2]);
});

test("a follower that is fenced by a later term is left alone", () => {
  const world = new LeaderWorld();
  const [fenced] = world.members;
  fenced!.refuses = new Refusal("INVALID_TERM", "a later term");
  world.start();
  world.pass(300_000);
  expect(fenced!.calls).toEqual(["Replicate"]);
  expect(world.leader.followers()[0]).toMatchObject({ server: "f1", state: "fenced" });
  expect(world.started).toBe("served");
});

test("an id that has ended ends its cursor, and what it acked counts no more", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  const [gone, other] = world.members;
  other!.syncsUpTo = 0;
  const put = world.put("a");
  gone!.breakStream(new Refusal("NODE_IS_NOT_MEMBER", "its disk is another one"));
  const calls = gone!.calls.length;
  world.pass(LEADER_SILENCE_MS_MAX / 2);
  expect([put.outcome, world.ended, gone!.calls.length]).toEqual(["pending", ["f1"], calls]);
  expect(world.leader.followers().map(({ server }) => server)).toEqual(["f2"]);
  other!.syncsUpTo = undefined;
  other!.ack();
  world.pass();
  expect(put.outcome).toBe("done");
});

test("a stream that breaks is opened again, later and later, from what was acked, with a new round", () => {
  const world = new LeaderWorld({ terms: [1, 1, 1] }).start();
  const [follower] = world.members;
  world.put("a");
  world.pass();
  const opening = () => follower!.received.filter(({ ackedOffset }) => ackedOffset !== undefined);
  const [first] = opening();
  expect(first).toMatchObject({ ackedOffset: NO_OFFSET, replicaId: 1n, entry: undefined, term: 2 });
  follower!.reachable = false;
  follower!.breakStream();
  world.put("b");
  const attempts = () => follower!.calls.filter((call) => call === "Replicate").length;
  const before = attempts();
  const passedMs = 60_000;
  world.pass(passedMs);
  const within = attempts() - before;
  // a wait varies by a half of itself
  expect(within).toBeGreaterThan(passedMs / (2 * CURSOR_RETRY_MS_MAX));
  expect(within).toBeLessThan((2 * passedMs) / CURSOR_RETRY_MS_MAX);
  follower!.reachable = true;
  world.pass(CURSOR_RETRY_MS_MAX);
  const again = opening().at(-1)!;
  expect(again.ackedOffset).toBe(4);
  expect(again.readRound!).toBeGreaterThan(first!.readRound!);
  expect(offsets(follower!)).toEqual([0, 1, 2, 3, 4, 5]);
  expectSame(world, follower!);
});

test("a follower that still holds a stream which is broken here is tried every few seconds: it may notice late", () => {
  const world = new LeaderWorld().start();
  const [follower] = world.members;
  follower!.refuses = new Refusal("RESOURCE_CONFLICT", "a replicate stream is open");
  follower!.breakStream();
  world.pass(120_000);
  world.put("a");
  follower!.refuses = undefined;
  world.pass(6_000);
  expect(follower!.streaming).toBe(true);
  expectSame(world, follower!);
});

test("an ack of what was not sent ends the stream and counts for nothing", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  const [liar, other] = world.members;
  other!.syncsUpTo = 0;
  liar!.syncsUpTo = 0;
  const put = world.put("a");
  world.pass(10);
  liar!.ack({ offset: 17 });
  world.pass(10);
  expect([put.outcome, liar!.streaming]).toEqual(["pending", false]);
  liar!.syncsUpTo = undefined;
  world.pass(1_000);
  expect([put.outcome, liar!.streaming]).toEqual(["done", true]);
});

test("the ack of a follower that has promised a later term does not count", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  for (const follower of world.members) follower.syncsUpTo = 0;
  const put = world.put("a");
  world.pass(10);
  for (const follower of world.members) {
    follower.syncsUpTo = undefined;
    follower.ack({ promise: world.term + 1 });
  }
  world.pass(10);
  expect(put.outcome).toBe("pending");
  world.members[0]!.ack();
  world.pass(10);
  expect(put.outcome).toBe("done");
});

test("a follower that does not ack is sent a bounded number of bytes, memory is bounded, and it catches up from the log", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  const [slow, fast] = world.members;
  slow!.syncsUpTo = 0;
  const puts = Array.from({ length: 24 }, (_, n) => {
    const put = world.put(`k${n}`, "x".repeat(MiB));
    world.pass(20);
    return put;
  });
  expect(puts.every(({ outcome }) => outcome === "done")).toBe(true);
  expectSame(world, fast!);
  const sent = offsets(slow!).length;
  expect(sent * MiB).toBeLessThanOrEqual(CURSOR_BYTES_IN_FLIGHT_MAX + 2 * MiB);
  expect(world.budget.tailBytes).toBeLessThanOrEqual(TAIL_BYTES_PER_SHARD_MAX);
  expect(world.leader.followers()[0]).toMatchObject({ acked: 0, sent: sent - 1, state: "streaming" });
  slow!.syncsUpTo = undefined;
  slow!.ack();
  world.pass(1_000);
  expectSame(world, slow!);
  expect([world.budget.tailBytes, world.budget.reads]).toEqual([0, 0]);
});

test("a follower that does not ack is sent a bounded number of entries", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  const [slow] = world.members;
  slow!.syncsUpTo = 0;
  const entries = () => world.leader.followers()[0]!.sent;
  for (let batch = 0; entries() < CURSOR_ENTRIES_IN_FLIGHT_MAX && batch < 40; batch++) {
    for (let n = 0; n < 1_000; n++) world.put("k");
    world.pass(20);
  }
  expect(entries()).toBe(CURSOR_ENTRIES_IN_FLIGHT_MAX);
  const put = world.put("k");
  world.pass(20);
  expect([put.outcome, entries()]).toEqual(["done", CURSOR_ENTRIES_IN_FLIGHT_MAX]);
  slow!.syncsUpTo = undefined;
  slow!.ack();
  world.pass(500);
  expectSame(world, slow!);
});

test("a follower that does not read is sent nothing until it has drained, and others are not held up", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  const [stuck, fast] = world.members;
  stuck!.reads = false;
  world.put("a");
  world.pass();
  const before = stuck!.received.length;
  const put = world.put("b");
  world.pass();
  expect([put.outcome, stuck!.received.length]).toEqual(["done", before]);
  expectSame(world, fast!);
  stuck!.drain();
  world.pass();
  expectSame(world, stuck!);
});

test("an observer is sent everything, and its acks do not count", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  const observer = world.followers.at(-1)!;
  world.addObserver(observer);
  for (const follower of world.members) follower.syncsUpTo = 0;
  const put = world.put("a");
  world.pass();
  expectSame(world, observer);
  expect(put.outcome).toBe("pending");
  expect(world.leader.followers().at(-1)).toMatchObject({ server: "f3", observer: true, acked: 1, sent: 1 });
  world.leader.removeFollower("f3", 3);
  expect([observer.streaming, world.leader.followers().length]).toEqual([false, 2]);
});

test("with replication factor 1 an observer is sent only what is durable, so nothing that the log may still refuse", () => {
  const world = new LeaderWorld({ followers: 0, terms: [1] }).start();
  const observer = world.followers[0]!;
  world.addObserver(observer);
  world.pass();
  expectSame(world, { head: { ...observer.head, crc: 0 } } as ScriptedFollower);
  expect(observer.head).toEqual(world.run(() => world.leader.durableHead()));
  world.disk.limit(world.disk.usedBytes);
  const refused = world.put("refused", "x".repeat(1_000));
  world.pass();
  expect([refused.outcome, observer.head.offset]).toEqual(["RESOURCE_EXHAUSTED", 1]);
  world.disk.limit();
  world.put("taken");
  world.pass();
  expect(observer.head).toEqual(world.run(() => world.leader.durableHead()));
  expect(observer.commitOffset).toBe(2);
});

test("a follower that the log cannot bring up to date is sent a snapshot, then what follows", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  for (let n = 0; n < 30; n++) {
    world.put(`k${n}`);
    world.pass(20);
  }
  world.run(() => world.kv.flush());
  world.log.release(3, world.leader.applied);
  world.put("later");
  world.pass(20);
  world.put("later still");
  world.pass(20);
  expect(world.run(() => world.log.shape(3)).base.offset).toBeGreaterThan(0);
  const observer = world.followers.at(-1)!;
  world.addObserver(observer);
  world.pass(500);
  expect(observer.calls).toEqual(["SendSnapshot", "Replicate"]);
  const [first] = observer.chunks;
  expect(first).toMatchObject({ term: world.term, last: observer.base, replicaId: observer.replicaId });
  expect(world.run(() => world.log.at(3, observer.base.offset))).toEqual(observer.base);
  const end = observer.chunks.at(-1)!;
  expect(end).toMatchObject({ rowCount: world.kv.rowCount, stateHash: world.kv.stateHash });
  expect(end.content.length).toBe(0);
  expect(observer.chunks.slice(1).every(({ last }) => last === undefined)).toBe(true);
  world.put("after");
  world.pass();
  expectSame(world, observer);
});

test("a snapshot that is refused is tried again", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  for (let n = 0; n < 30; n++) {
    world.put(`k${n}`);
    world.pass(20);
  }
  world.run(() => world.kv.flush());
  world.log.release(3, world.leader.applied);
  world.put("later");
  world.pass(40);
  const observer = world.followers.at(-1)!;
  observer.refuses = new Refusal("FAILED_PRECONDITION", "entries above are applied");
  world.addObserver(observer);
  world.pass(1_000);
  expect(observer.calls.filter((call) => call === "SendSnapshot").length).toBeGreaterThan(1);
  expect(world.leader.followers().at(-1)!.state).toBe("waiting");
  observer.refuses = undefined;
  world.pass(5_000);
  expectSame(world, observer);
});

test("a follower that needs entries which are damaged, and of use to it alone, is sent a snapshot", () => {
  let lost = Number.POSITIVE_INFINITY;
  const world = new LeaderWorld({
    terms: [1, 1, 1],
    wrapLog: (log) =>
      new Proxy(log, {
        get(target, name) {
          const value = Reflect.get(target, name, target);
          if (name !== "read") return typeof value === "function" ? value.bind(target) : value;
          return (shard: number, from: number) =>
            from >= lost ? Promise.reject(new Refusal("DATA_LOSS", "a bad row")) : log.read(shard, from);
        },
      }),
  }).start();
  lost = 0;
  const observer = world.followers.at(-1)!;
  world.addObserver(observer);
  world.pass(1_000);
  expect(observer.calls).toEqual(["Replicate", "SendSnapshot", "Replicate"]);
  expectSame(world, observer);
  expect([world.faults, world.leader.serving]).toEqual([[], true]);
});

test("no snapshot is sent of a state in which nothing is applied", () => {
  const world = new LeaderWorld({
    terms: [1, 1, 1],
    wrapLog: (log) =>
      new Proxy(log, {
        get(target, name) {
          const value = Reflect.get(target, name, target);
          if (name !== "read") return typeof value === "function" ? value.bind(target) : value;
          return () => Promise.reject(new Refusal("DATA_LOSS", "a bad row"));
        },
      }),
  }).start();
  world.pass(5_000);
  for (const { calls } of world.members) expect(calls).not.toContain("SendSnapshot");
  expect(world.started).toBe("pending");
});

test("a cursor takes a newer head only while it has not agreed, and is replaced for another id", () => {
  const world = new LeaderWorld({ terms: [1, 1, 1] }).start();
  const [follower] = world.members;
  const calls = follower!.calls.length;
  world.leader.addFollower({ ...world.named(follower!), observer: false, targetShard: 3 });
  world.pass();
  expect([follower!.calls.length, follower!.streaming]).toEqual([calls, true]);
  const other = { ...world.named(follower!), replicaId: 77n, observer: true, targetShard: 3 };
  world.leader.addFollower(other);
  world.pass();
  const { replicaId, observer } = world.leader.followers().find(({ server }) => server === "f1")!;
  expect([replicaId, observer]).toEqual([77n, true]);
});

test("a reference follower attaches, confirms reads, and is told commit offsets though it answers entries alone", () => {
  const world = new LeaderWorld({ isReference: true, terms: [1, 1], features: ["VARIA_SAFETY"] });
  const [first, second] = world.members;
  second!.reachable = false;
  world.start();
  expect(world.started).toBe("served");
  // an empty write, since it may not know what a control entry asks for
  expect(first!.entries.at(-1)!.value).toEqual(Uint8Array.of(0x0a, 2, 0x0a, 0));
  const put = world.put("a");
  world.pass();
  expect(put.outcome).toBe("done");
  expect(first!.commitOffset).toBe(3);
  const asked = first!.calls.length;
  const read = world.watch(() => world.leader.confirmRead());
  expect(read.outcome).toBe("pending");
  world.pass();
  expect(read.outcome).toBe("done");
  expect(first!.calls.slice(asked)).toContain("GetStatus");
});

test("a reference follower is truncated once a NewTerm, and compared by the head that NewTerm answers", () => {
  const world = new LeaderWorld({ isReference: true, terms: [1, 1, 3, 3] });
  const [longer, other] = world.members;
  longer!.entries = [1, 1, 2, 2, 2].map((term, offset) => entryOf(term, offset));
  world.start();
  world.pass(2_000);
  expect(longer!.calls.slice(0, 5)).toEqual(["GetStatus", "Truncate 1", "GetStatus", "NewTerm", "Replicate"]);
  expect(world.started).toBe("served");
  for (const follower of [longer!, other!]) expectSame(world, follower);
});

test("a truncation of a reference follower whose outcome is unknown leaves it out for the term", () => {
  const world = new LeaderWorld({ isReference: true, terms: [1, 1, 3, 3] });
  const [lost] = world.members;
  lost!.entries = [1, 1, 2].map((term, offset) => entryOf(term, offset));
  lost!.losesTruncations = true;
  world.start();
  lost!.losesTruncations = false;
  world.pass(100_000);
  expect(lost!.calls).toEqual(["GetStatus", "Truncate 1"]);
  expect(world.leader.followers()[0]!.state).toBe("fenced");
});

test("a follower whose log was cut by trimming while it was away is compared anew", () => {
  const world = new LeaderWorld({ followers: 2 }).start();
  const [away] = world.members;
  away!.reachable = false;
  away!.breakStream();
  for (let n = 0; n < 30; n++) {
    world.put(`k${n}`);
    world.pass(20);
  }
  world.run(() => world.kv.flush());
  world.log.release(3, world.leader.applied);
  world.put("later");
  world.pass(40);
  away!.reachable = true;
  world.pass(10_000);
  expect(away!.calls).toContain("SendSnapshot");
  expectSame(world, away!);
});

test("a stream opens with what the follower holds of this term's entries, also if its ack was lost: nothing else would verify it", () => {
  const world = new LeaderWorld({ followers: 2, terms: [1, 1] });
  const [unheard] = world.members;
  unheard!.syncsUpTo = NO_OFFSET;
  world.start();
  world.pass(100);
  expect(unheard!.head).toEqual(world.leader.head);
  unheard!.syncsUpTo = undefined;
  unheard!.verified = NO_OFFSET;
  unheard!.breakStream(new Refusal("RESOURCE_CONFLICT", "it has forgotten what was compared"));
  world.pass(60_000);
  expect(world.leader.followers()[0]).toMatchObject({ server: "f1", acked: world.leader.head.offset });
});
