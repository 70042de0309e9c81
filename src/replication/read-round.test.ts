import { expect, test } from "bun:test";
import { LeaderWorld } from "../../test/harness/leader-world.ts";
import { LEADER_SILENCE_MS_MAX, READ_WAIT_MS_MAX, READS_WAITING_MAX, ROUND_INTERVAL_MS } from "../model/limits.ts";
import type { Refusal } from "../model/refusal.ts";

/** A leader that serves, whose followers echo no round from now on. */
function unanswered(): LeaderWorld {
  const world = new LeaderWorld().start();
  for (const follower of world.members) follower.echoes = false;
  return world;
}

function answer(world: LeaderWorld): void {
  for (const follower of world.members) {
    follower.echoes = true;
    follower.ack({ readRound: follower.received.at(-1)!.readRound });
  }
}

test("a read waits for a round that is sent after it arrived", () => {
  const world = new LeaderWorld().start();
  const [first, second] = world.members;
  second!.reachable = false;
  second!.breakStream();
  const before = first!.received.length;
  const read = world.watch(() => world.leader.confirmRead());
  expect([read.outcome, first!.received.length]).toEqual(["pending", before]);
  world.pass(1);
  expect(read.outcome).toBe("done");
  expect(first!.received.length).toBe(before + 1);
  expect(first!.received.at(-1)).toMatchObject({ entry: undefined });
});

test("a read does not join a round that is on its way", () => {
  const world = unanswered();
  const early = world.watch(() => world.leader.confirmRead());
  world.pass(10);
  const underWay = world.members[0]!.received.at(-1)!.readRound!;
  const late = world.watch(() => world.leader.confirmRead());
  world.pass(10);
  world.members[0]!.ack({ readRound: underWay });
  expect(world.members[0]!.received.at(-1)!.readRound).toBe(underWay);
  world.pass(0);
  expect([early.outcome, late.outcome]).toEqual(["done", "pending"]);
  world.pass(1);
  answer(world);
  world.pass(1);
  expect(late.outcome).toBe("done");
});

test("all reads that wait share a round", () => {
  const world = new LeaderWorld().start();
  const rounds = () => new Set(world.members[0]!.received.map(({ readRound }) => readRound)).size;
  const before = rounds();
  const reads = Array.from({ length: 1_000 }, () => world.watch(() => world.leader.confirmRead()));
  world.pass(20);
  expect(reads.every(({ outcome }) => outcome === "done")).toBe(true);
  expect(rounds()).toBe(before + 1);
});

test("under load a round rides on the appends, also when one is on its way", () => {
  const world = unanswered();
  world.watch(() => world.leader.confirmRead());
  world.pass(10);
  const messages = world.members[0]!.received.length;
  const read = world.watch(() => world.leader.confirmRead());
  world.put("a");
  world.pass(1);
  const sent = world.members[0]!.received.slice(messages);
  expect(sent[0]!.entry).toBeDefined();
  world.members[0]!.ack({ readRound: sent[0]!.readRound });
  world.pass(20);
  expect(read.outcome).toBe("done");
});

test("a read waits until what was committed when it arrived is applied", () => {
  let gate: Promise<void> | undefined;
  const world = new LeaderWorld({
    wrapKeyValue: (kv) =>
      new Proxy(kv, {
        get(target, name) {
          if (name === "room") return () => gate;
          const value = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
  }).start();
  const opened = Promise.withResolvers<void>();
  gate = opened.promise;
  world.put("a");
  world.pass();
  expect([world.leader.committed, world.leader.applied]).toEqual([1, 0]);
  const read = world.watch(() => world.leader.confirmRead());
  world.pass(500);
  expect(read.outcome).toBe("pending");
  gate = undefined;
  opened.resolve();
  world.pass();
  expect(read.outcome).toBe("done");
});

test("a namespace that reads from the leader waits for nothing, but its heartbeats do", () => {
  const world = new LeaderWorld({ options: { readConsistency: "leader" } }).start();
  expect(world.watch(() => world.leader.confirmRead()).outcome).toBe("at once");
  const heartbeat = world.watch(() => world.leader.keepAlive(17));
  expect(heartbeat.outcome).toBe("pending");
  world.pass();
  expect(heartbeat.outcome).toBe("SESSION_NOT_FOUND");
});

test("an idle leader sends a round every second", () => {
  const world = new LeaderWorld().start();
  const before = world.members[0]!.received.length;
  world.pass(10 * ROUND_INTERVAL_MS);
  const rounds = world.members[0]!.received.slice(before).map(({ readRound }) => readRound);
  expect(rounds.length).toBeGreaterThanOrEqual(9);
  expect(new Set(rounds).size).toBe(rounds.length);
  expect(rounds.length).toBeLessThanOrEqual(11);
});

test("a leader that no majority answers ends what clients hold open, refuses reads and writes, and serves again when it is heard", () => {
  const world = unanswered();
  const interrupts: Refusal[] = [];
  world.leader.onInterrupt((reason) => void interrupts.push(reason));
  const read = world.watch(() => world.leader.confirmRead());
  world.pass(LEADER_SILENCE_MS_MAX - 200);
  expect([interrupts.length, read.outcome]).toEqual([0, "pending"]);
  world.pass(ROUND_INTERVAL_MS + 200);
  expect(interrupts.map(({ reason }) => reason)).toEqual(["RESOURCE_UNAVAILABLE"]);
  expect(read.outcome).toBe("RESOURCE_UNAVAILABLE");
  expect(world.watch(() => world.leader.confirmRead()).outcome).toBe("RESOURCE_UNAVAILABLE");
  const write = world.put("a");
  const beat = world.watch(() => world.leader.keepAlive(17));
  world.pass(20_000);
  expect([write.outcome, beat.outcome]).toEqual(["RESOURCE_UNAVAILABLE", "RESOURCE_UNAVAILABLE"]);
  expect(interrupts.length).toBe(1);
  expect(world.leader.notifications.ended).toBeUndefined();
  answer(world);
  world.pass();
  const [again, readAgain] = [world.put("a"), world.watch(() => world.leader.confirmRead())];
  world.pass();
  expect([again.outcome, readAgain.outcome]).toEqual(["done", "done"]);
});

test("a leader without any follower falls silent too", () => {
  const world = new LeaderWorld().start();
  for (const follower of world.members) {
    follower.reachable = false;
    follower.breakStream();
  }
  const read = world.watch(() => world.leader.confirmRead());
  world.pass(LEADER_SILENCE_MS_MAX + ROUND_INTERVAL_MS);
  expect(read.outcome).toBe("RESOURCE_UNAVAILABLE");
});

test("a read that is not confirmed or not applied in time is refused", () => {
  let gate: Promise<void> | undefined;
  const world = new LeaderWorld({
    wrapKeyValue: (kv) =>
      new Proxy(kv, {
        get(target, name) {
          if (name === "room") return () => gate;
          const value = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
  }).start();
  gate = new Promise(() => {});
  world.put("a");
  world.pass();
  const read = world.watch(() => world.leader.confirmRead());
  world.pass(READ_WAIT_MS_MAX - ROUND_INTERVAL_MS);
  expect(read.outcome).toBe("pending");
  world.pass(2 * ROUND_INTERVAL_MS);
  expect(read.outcome).toBe("RESOURCE_UNAVAILABLE");
});

test("reads past the bound are refused, until those before are answered", () => {
  const world = unanswered();
  const first = world.watch(() => world.leader.confirmRead());
  for (let n = 1; n < READS_WAITING_MAX; n++) void world.leader.confirmRead();
  expect(world.watch(() => world.leader.confirmRead()).outcome).toBe("RESOURCE_EXHAUSTED");
  world.pass(1);
  answer(world);
  world.pass(1);
  expect(first.outcome).toBe("done");
  expect(world.watch(() => world.leader.confirmRead()).outcome).toBe("pending");
});
