import { expect, test } from "bun:test";
import { LeaderWorld } from "../../test/harness/leader-world.ts";
import { LOG_FULL_RETRY_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { KeyValue } from "../ports.ts";

test("with replication factor 1 a leader serves once its own entry is durable and applied", () => {
  const world = new LeaderWorld({ followers: 0, terms: [1, 1, 2] }).start();
  expect(world.started).toBe("served");
  expect(world.leader).toMatchObject({ committed: 3, applied: 3, serving: true });
  const put = world.put("a");
  world.pass();
  expect(put.outcome).toBe("done");
  expect(world.watch(() => world.leader.confirmRead()).outcome).toBe("at once");
});

test("the own-term entry waits for floor(RF / 2) followers, goes to all, and is served once a majority has it", () => {
  const world = new LeaderWorld({ followers: 2, terms: [1, 1] });
  for (const follower of world.members) follower.reachable = false;
  world.start();
  expect([world.started, world.leader.head.offset]).toEqual(["pending", 1]);
  const [first] = world.members;
  first!.reachable = true;
  first!.syncsUpTo = 1;
  world.pass(1_000);
  expect(first!.head).toMatchObject({ term: 2, offset: 2 });
  expect([world.started, world.leader.head.offset, world.leader.committed]).toEqual(["pending", 2, -1]);
  first!.syncsUpTo = undefined;
  first!.ack();
  world.pass();
  expect(world.started).toBe("served");
  expect(world.leader).toMatchObject({ committed: 2, applied: 2 });
});

test("no commit offset is told before the own-term entry is on a majority", () => {
  const world = new LeaderWorld({ followers: 2, terms: [1, 1] });
  const [first, second] = world.members;
  first!.syncsUpTo = 1;
  second!.syncsUpTo = 1;
  world.start();
  world.pass(2_000);
  const told = () => [first!, second!].flatMap(({ received }) => received.map(({ commitOffset }) => commitOffset));
  expect(new Set(told())).toEqual(new Set([-1]));
  second!.syncsUpTo = undefined;
  second!.ack();
  world.pass();
  expect(Math.max(...told())).toBe(2);
  expect(first!.commitOffset).toBe(2);
});

test("writes go to followers, and are answered once one of two has them", () => {
  const world = new LeaderWorld().start();
  const [first, second] = world.members;
  first!.syncsUpTo = 0;
  second!.syncsUpTo = 0;
  const put = world.put("a");
  world.pass();
  expect(put.outcome).toBe("pending");
  expect([first!.head.offset, second!.head.offset]).toEqual([1, 1]);
  first!.syncsUpTo = undefined;
  first!.ack();
  world.pass();
  expect(put.outcome).toBe("done");
  // the commit offset comes by itself
  expect(second!.commitOffset).toBe(1);
});

test("followers hold what the leader holds, with the same chain", () => {
  const world = new LeaderWorld({ terms: [1, 1, 3] }).start();
  const puts = Array.from({ length: 50 }, (_, n) => world.put(`k${n}`, "x".repeat(n * 10)));
  world.pass(500);
  expect(puts.every(({ outcome }) => outcome === "done")).toBe(true);
  const { head } = world.leader;
  expect(world.run(() => world.leader.durableHead())).toEqual(head);
  for (const follower of world.members) expect(follower.head).toEqual(head);
  expect(world.budget.tailBytes).toBe(0);
});

test("a stop refuses what waits, ends what clients hold open, and nothing happens afterwards", () => {
  const calls: string[] = [];
  const world = new LeaderWorld({
    wrapKeyValue: (kv) =>
      new Proxy(kv, {
        get(target, name) {
          const value = Reflect.get(target, name, target);
          if (typeof value === "function") calls.push(String(name));
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
  }).start();
  const [first, second] = world.members;
  first!.syncsUpTo = 0;
  second!.syncsUpTo = 0;
  const put = world.put("a");
  const read = world.watch(() => world.leader.confirmRead());
  const freeze = world.watch(() => world.leader.freeze());
  let interrupted: Refusal | undefined;
  world.leader.onInterrupt((reason) => {
    interrupted = reason;
  });
  const reason = new Refusal("RESOURCE_UNAVAILABLE", "a later term");
  world.leader.stop(reason);
  const before = [calls.length, first!.received.length];
  first!.syncsUpTo = undefined;
  first!.ack();
  world.pass(20_000);
  expect(put.outcome).toBe("RESOURCE_UNAVAILABLE");
  expect([read.outcome, freeze.outcome]).toEqual(["RESOURCE_UNAVAILABLE", "RESOURCE_UNAVAILABLE"]);
  expect(interrupted).toBe(reason);
  expect(world.leader.notifications.ended).toBe(reason);
  expect([calls.length, first!.received.length]).toEqual(before);
  expect(() => world.leader.readable()).toThrow("a later term");
  expect(() => world.leader.confirmRead()).toThrow("a later term");
  expect(world.put("b").outcome).toBe("pending");
  expect(world.faults).toEqual([]);
  expect(world.scheduler.eventsWaiting).toBe(0);
});

test("a leader that is stopped while it applies stops at the next entry, and leaves the state whole", () => {
  const room = { wait: undefined as Promise<void> | undefined };
  const world = new LeaderWorld({
    terms: [1, 1, 1, 1],
    wrapKeyValue: (kv) =>
      new Proxy(kv, {
        get(target, name) {
          if (name === "room") return () => (target.applied.offset === 1 ? room.wait : undefined);
          const value = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
  });
  const gate = Promise.withResolvers<void>();
  room.wait = gate.promise;
  world.start();
  expect([world.started, world.kv.applied.offset]).toEqual(["pending", 1]);
  world.leader.stop(new Refusal("RESOURCE_UNAVAILABLE", "a later term"));
  gate.resolve();
  world.pass();
  expect(world.started).toBeInstanceOf(Refusal);
  expect(world.kv.applied.offset).toBe(1);
});

test("a frozen leader takes no write, tells its head once that is durable, and takes writes again", () => {
  const world = new LeaderWorld().start();
  const put = world.put("a");
  let head = -1;
  void world.leader.freeze().then((offset) => {
    head = offset;
  });
  expect(head).toBe(-1);
  const refused = world.put("b");
  world.pass();
  expect([put.outcome, refused.outcome, head]).toEqual(["done", "NODE_IS_NOT_LEADER", 1]);
  expect(world.leader.readable().applied.offset).toBe(1);
  expect(world.watch(() => world.leader.confirmRead()).outcome).toBe("pending");
  world.leader.thaw();
  const again = world.put("b");
  world.pass();
  expect(again.outcome).toBe("done");
});

test("an entry that the own log refuses while followers hold it is offered again, the very same, until there is space", () => {
  const world = new LeaderWorld().start();
  world.put("before");
  world.pass();
  world.disk.limit(world.disk.usedBytes);
  const puts = ["a", "b", "c"].map((key) => world.put(key));
  world.pass();
  const held = world.members.map(({ head }) => head);
  expect(held[0]!.offset).toBe(4);
  expect(puts.map(({ outcome }) => outcome)).toEqual(["pending", "pending", "pending"]);
  expect(world.leader.head.offset).toBe(1);
  // nothing new is taken, and nothing is committed that is not durable here
  const refused = world.put("d");
  const offered = world.appends;
  world.pass(1_000);
  // one at a time, until one has found room
  expect(world.appends - offered).toBeLessThanOrEqual(1_000 / LOG_FULL_RETRY_MS);
  expect([refused.outcome, world.leader.committed]).toEqual(["RESOURCE_EXHAUSTED", 1]);
  world.disk.limit();
  world.pass(1_000);
  expect(puts.map(({ outcome }) => outcome)).toEqual(["done", "done", "done"]);
  expect(world.leader.head).toEqual(held[0]!);
  const after = world.put("d");
  world.pass();
  expect(after.outcome).toBe("done");
  for (const follower of world.members) expect(follower.head).toEqual(world.leader.head);
});

test("a log that has space for one entry and no more is asked no more often for that", () => {
  const world = new LeaderWorld().start();
  world.refuseAppends = () => true;
  const puts = ["a", "b", "c"].map((key) => world.put(key));
  world.pass();
  world.refuseAppends = (offset) => offset > 1;
  const offered = world.appends;
  world.pass(2_000);
  expect(world.leader.head.offset).toBe(1);
  expect(world.appends - offered).toBeLessThanOrEqual(2_000 / LOG_FULL_RETRY_MS + 3);
  world.refuseAppends = () => false;
  world.pass(1_000);
  expect(puts.map(({ outcome }) => outcome)).toEqual(["done", "done", "done"]);
  for (const follower of world.members) expect(follower.head).toEqual(world.leader.head);
});

test("what is applied while a refused entry waits to be offered again does not have it offered twice", () => {
  const gate = Promise.withResolvers<void>();
  let waits = false;
  const wrapKeyValue = (kv: KeyValue) => {
    kv.room = () => (waits ? gate.promise : undefined);
    return kv;
  };
  const world = new LeaderWorld({ wrapKeyValue }).start();
  waits = true;
  const applied = world.put("a");
  world.pass();
  world.refuseAppends = () => true;
  const refused = world.put("b");
  world.pass();
  waits = false;
  gate.resolve();
  world.pass();
  expect([applied.outcome, refused.outcome]).toEqual(["done", "pending"]);
  world.refuseAppends = () => false;
  const offered = world.appends;
  world.pass(2 * LOG_FULL_RETRY_MS);
  expect([refused.outcome, world.appends - offered, world.faults]).toEqual(["done", 1, []]);
});

test("with replication factor 1 an entry that the log refuses is refused, and its offset is used again", () => {
  const world = new LeaderWorld({ followers: 0 }).start();
  world.disk.limit(world.disk.usedBytes);
  const puts = ["a", "b"].map((key) => world.put(key));
  world.pass();
  expect(puts.map(({ outcome }) => outcome)).toEqual(["RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"]);
  world.disk.limit();
  const after = world.put("c");
  world.pass();
  expect([after.outcome, world.leader.head.offset]).toEqual(["done", 1]);
});

test("the log's word that another term stands ends the leadership", () => {
  const world = new LeaderWorld().start();
  const put = world.put("a");
  world.run(() => world.log.promise(3, world.term + 1));
  const late = world.put("b");
  world.pass();
  expect(late.outcome).toBe("RESOURCE_UNAVAILABLE");
  expect(["done", "RESOURCE_UNAVAILABLE"]).toContain(put.outcome);
  expect(world.leader.serving).toBe(false);
  expect(world.faults).toEqual([]);
});

test("a log that cannot be read is a fault, told once, and ends the leadership", () => {
  const damage = new Refusal("DATA_LOSS", "a row is gone");
  const world = new LeaderWorld({
    followers: 0,
    terms: [1, 1],
    wrapLog: (log) =>
      new Proxy(log, {
        get(target, name) {
          if (name === "read") return () => Promise.reject(damage);
          const value = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
  }).start();
  expect(world.started).toBe(damage);
  expect(world.faults).toEqual([damage]);
});
