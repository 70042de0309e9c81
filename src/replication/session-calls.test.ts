import { expect, test } from "bun:test";
import { LeaderWorld } from "../../test/harness/leader-world.ts";
import { encodeSessionEnds, encodeSessionStart } from "../database/session-record.ts";
import { utf8 } from "../lib/bytes.ts";
import { LEADER_SILENCE_MS_MAX, READS_WAITING_MAX, SESSION_TICK_MS, SESSION_TIMEOUT_MS_MIN } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { encodeWriteEntry } from "../wire/log-entry.ts";

const TIMEOUT_MS = SESSION_TIMEOUT_MS_MIN;

/** A leader with one session, and what its end needs. */
function withSession(followers = 2): { readonly world: LeaderWorld; readonly id: number } {
  const world = new LeaderWorld({ followers }).start();
  const id = world.run(() => world.leader.createSession(TIMEOUT_MS, utf8("me")));
  expect(world.leader.sessionCount).toBe(1);
  return { world, id };
}

function hold(world: LeaderWorld): void {
  for (const follower of world.members) follower.syncsUpTo = world.leader.head.offset;
}

function release(world: LeaderWorld): void {
  for (const follower of world.members) {
    follower.syncsUpTo = undefined;
    follower.ack();
  }
}

test("sessions of entries that are applied on the way to the lead are taken over, each once", () => {
  const session = (offset: number) => encodeWriteEntry(encodeSessionStart(3, offset, TIMEOUT_MS, utf8("me")));
  const end = encodeWriteEntry(encodeSessionEnds(3, [1]));
  const world = new LeaderWorld({ followers: 0, values: [session(0), session(1), end, session(3)] }).start();
  expect([world.started, world.leader.sessionCount]).toEqual(["served", 2]);
  expect(world.run(() => world.leader.createSession(TIMEOUT_MS, utf8("me")))).toBe(5);
  expect(world.leader.sessionCount).toBe(3);
});

test("a heartbeat counts once a round that was sent after it is confirmed, from then on", () => {
  const { world, id } = withSession();
  world.pass(TIMEOUT_MS / 2);
  for (const follower of world.members) follower.echoes = false;
  const beat = world.watch(() => world.leader.keepAlive(id));
  world.pass(500);
  expect(beat.outcome).toBe("pending");
  for (const follower of world.members) {
    follower.echoes = true;
    follower.ack({ readRound: follower.received.at(-1)!.readRound });
  }
  world.pass(1);
  expect(beat.outcome).toBe("done");
  world.pass(TIMEOUT_MS - 10);
  expect(world.leader.sessionCount).toBe(1);
  world.pass(SESSION_TICK_MS + 100);
  expect(world.leader.sessionCount).toBe(0);
});

test("a heartbeat that is not confirmed does not save its session", () => {
  const { world, id } = withSession();
  for (const follower of world.members) follower.echoes = false;
  const beat = world.watch(() => world.leader.keepAlive(id));
  world.pass(TIMEOUT_MS + SESSION_TICK_MS + 100);
  expect([beat.outcome, world.leader.sessionCount]).toEqual(["pending", 0]);
});

test.each([0, 2])("with %d followers a heartbeat behind a proposed end hears what came of it", (followers) => {
  const { world, id } = withSession(followers);
  world.disk.rates = { ...world.disk.rates, sync: { minMs: 300, typicalMs: 300, maxMs: 300, tailChance: 0 } };
  hold(world);
  const proposed = world.leader.inFlight;
  while (world.leader.inFlight === proposed) world.pass(10);
  const beat = world.watch(() => world.leader.keepAlive(id));
  world.pass(50);
  expect(beat.outcome).toBe("pending");
  release(world);
  world.pass(1_000);
  expect([beat.outcome, world.leader.sessionCount]).toEqual(["SESSION_NOT_FOUND", 0]);
});

test("if the end fails, the heartbeat behind it is confirmed and the session lives on", () => {
  let isHeld = false;
  const held: ((error: Refusal) => void)[] = [];
  const world = new LeaderWorld({
    followers: 0,
    wrapLog: (log) =>
      new Proxy(log, {
        get(target, name) {
          if (name === "append" && isHeld) return () => new Promise((_, reject) => held.push(reject));
          const value = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      }),
  }).start();
  const id = world.run(() => world.leader.createSession(TIMEOUT_MS, utf8("me")));
  isHeld = true;
  world.scheduler.run({ until: () => held.length > 0 });
  const beat = world.watch(() => world.leader.keepAlive(id));
  world.pass(20);
  expect(beat.outcome).toBe("pending");
  held[0]!(new Refusal("RESOURCE_EXHAUSTED", "no space"));
  isHeld = false;
  world.pass(20);
  expect([beat.outcome, world.leader.sessionCount]).toEqual(["done", 1]);
  world.pass(TIMEOUT_MS - 50);
  expect(world.leader.sessionCount).toBe(1);
});

test("a heartbeat behind an end that nobody decides is refused when the leader falls silent or stops", () => {
  const { world, id } = withSession();
  hold(world);
  while (world.leader.inFlight === 0) world.pass(10);
  const beat = world.watch(() => world.leader.keepAlive(id));
  world.pass(10);
  for (const follower of world.members) follower.echoes = false;
  world.pass(2 * LEADER_SILENCE_MS_MAX);
  expect(beat.outcome).toBe("RESOURCE_UNAVAILABLE");
  const { world: other, id: otherId } = withSession();
  hold(other);
  while (other.leader.inFlight === 0) other.pass(10);
  const otherBeat = other.watch(() => other.leader.keepAlive(otherId));
  other.pass(10);
  other.leader.stop(new Refusal("RESOURCE_UNAVAILABLE", "a later term"));
  other.pass(1);
  expect(otherBeat.outcome).toBe("RESOURCE_UNAVAILABLE");
});

test("heartbeats that wait for an end of their session are bounded", () => {
  const { world, id } = withSession();
  hold(world);
  while (world.leader.inFlight === 0) world.pass(10);
  let refused = "";
  for (let n = 0; n <= READS_WAITING_MAX; n++) {
    world.leader.keepAlive(id)!.catch(({ reason }) => {
      refused ||= reason;
    });
    if (n % 1_000 === 0) world.pass(1);
  }
  world.pass(1);
  expect(refused).toBe("RESOURCE_EXHAUSTED");
});

test("a session that is not known is denied only by a leader that is confirmed", () => {
  const { world } = withSession();
  for (const follower of world.members) follower.echoes = false;
  const asked = [world.watch(() => world.leader.keepAlive(77)), world.watch(() => world.leader.closeSession(77))];
  world.pass(200);
  expect(asked.map(({ outcome }) => outcome)).toEqual(["pending", "pending"]);
  world.pass(2 * LEADER_SILENCE_MS_MAX);
  expect(asked.map(({ outcome }) => outcome)).toEqual(["RESOURCE_UNAVAILABLE", "RESOURCE_UNAVAILABLE"]);
});

test("a frozen leader ends no session; once thawed it does", () => {
  const { world } = withSession();
  void world.leader.freeze();
  world.pass(2 * TIMEOUT_MS);
  expect(world.leader.sessionCount).toBe(1);
  world.leader.thaw();
  world.pass(1_500);
  expect(world.leader.sessionCount).toBe(0);
});

test("a stopped leader ends no session", () => {
  const { world } = withSession();
  const { head } = world.leader;
  world.leader.stop(new Refusal("RESOURCE_UNAVAILABLE", "a later term"));
  world.pass(5 * TIMEOUT_MS);
  expect(world.leader.head).toBe(head);
});

test("a session is closed at its client's word", () => {
  const { world, id } = withSession();
  const closed = world.watch(() => world.leader.closeSession(id));
  world.pass();
  expect([closed.outcome, world.leader.sessionCount]).toEqual(["done", 0]);
  expect(world.leader.counters).toMatchObject({ sessionsCreated: 1, sessionsClosed: 1, sessionsExpired: 0 });
});
