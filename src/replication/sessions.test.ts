import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import type { SessionId } from "../model/ids.ts";
import {
  SESSION_END_RETRY_MS,
  SESSION_ENDS_PER_ENTRY_MAX,
  SESSION_TICK_MS,
  SESSION_TIMEOUT_MS_MAX,
  SESSION_TIMEOUT_MS_MIN,
} from "../model/limits.ts";
import type { Clock } from "../ports.ts";
import { Sessions } from "./sessions.ts";

/** One entry that ends sessions: which, and when it was proposed. */
interface End {
  readonly ids: readonly SessionId[];
  readonly atMs: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Sessions whose ends wait for the test's word, or are applied at once with `endAtOnce`. */
function sessionsOn(clock: Clock, { endAtOnce = true } = {}) {
  const ends: End[] = [];
  const sessions: Sessions = new Sessions(clock, (ids) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const applied = () => {
      for (const id of ids) sessions.remove(id);
      resolve();
    };
    ends.push({ ids, atMs: clock.monotonicMs(), resolve: applied, reject });
    if (endAtOnce) applied();
    return promise;
  });
  return { sessions, ends, ended: () => ends.flatMap(({ ids }) => ids) };
}

/** A clock that counts its timers, and may jump past them all, as when the process was stopped. */
class PausingClock implements Clock {
  ms: number;
  timers = new Set<{ dueMs: number; callback: () => void }>();
  timersMade = 0;

  constructor(ms = 1_000_000) {
    this.ms = ms;
  }

  now(): number {
    return this.ms;
  }

  monotonicMs(): number {
    return this.ms;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { dueMs: this.ms + ms, callback };
    this.timers.add(timer);
    this.timersMade++;
    return () => this.timers.delete(timer);
  }

  soon(callback: () => void): void {
    setImmediate(callback);
  }

  /** Jumps by `ms`, then runs once what was due by then. */
  jump(ms: number): void {
    this.ms += ms;
    for (const timer of [...this.timers].filter(({ dueMs }) => dueMs <= this.ms)) {
      this.timers.delete(timer);
      timer.callback();
    }
  }
}

/** Settles promises that are resolved or rejected already. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A small generator of numbers that repeat from run to run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test.each([SESSION_TIMEOUT_MS_MIN, SESSION_TIMEOUT_MS_MIN + 1, 15_000, SESSION_TIMEOUT_MS_MAX])(
  "a session of %d ms ends neither before its deadline nor later than a tick behind it",
  (timeoutMs) => {
    // wherever between two ticks it begins
    for (const phase of [0, 1, 77, SESSION_TICK_MS / 2, SESSION_TICK_MS - 1]) {
      const clock = new ManualClock();
      const { sessions, ended } = sessionsOn(clock);
      clock.advance(phase);
      sessions.add(1, timeoutMs);
      clock.advance(timeoutMs - 1);
      expect(ended()).toEqual([]);
      clock.advance(1 + SESSION_TICK_MS);
      expect(ended()).toEqual([1]);
      expect(sessions.size).toBe(0);
    }
  },
);

test("a heartbeat gives the full timeout again, from its own time", () => {
  const clock = new ManualClock();
  const { sessions, ended } = sessionsOn(clock);
  sessions.add(1, 5_000);
  sessions.add(2, 5_000);
  clock.advance(3_333);
  expect(sessions.keepAlive(1)).toBe(true);
  clock.advance(5_000 - 3_333 + SESSION_TICK_MS);
  expect(ended()).toEqual([2]);
  clock.advance(3_333 - SESSION_TICK_MS - 1);
  expect(ended()).toEqual([2]);
  clock.advance(1 + SESSION_TICK_MS);
  expect(ended()).toEqual([2, 1]);
});

test("heartbeats keep a session alive for ever, and cost no timer", () => {
  const clock = new PausingClock();
  const { sessions, ended } = sessionsOn(clock);
  sessions.add(1, SESSION_TIMEOUT_MS_MIN);
  for (let beat = 0; beat < 1_000; beat++) {
    clock.jump(SESSION_TIMEOUT_MS_MIN - 1);
    expect(sessions.keepAlive(1)).toBe(true);
    expect(clock.timers.size).toBe(1);
  }
  expect(ended()).toEqual([]);
});

test("a session that is not there has no heartbeat and no end", async () => {
  const { sessions, ends } = sessionsOn(new ManualClock());
  sessions.add(0, 2_000);
  expect(sessions.keepAlive(7)).toBe(false);
  expect(sessions.keepAlive(-1)).toBe(false);
  expect(await sessions.close(7)).toBe(false);
  expect(ends).toEqual([]);
});

test("a close ends the session at once, and a second one finds nothing: also while the first is on its way", async () => {
  const clock = new ManualClock();
  const { sessions, ends } = sessionsOn(clock, { endAtOnce: false });
  sessions.add(1, 2_000);
  const closing = sessions.close(1);
  expect(await sessions.close(1)).toBe(false);
  expect(sessions.keepAlive(1)).toBe(false);
  ends[0]!.resolve();
  expect(await closing).toBe(true);
  expect(await sessions.close(1)).toBe(false);
  clock.advance(60_000);
  expect(ends.length).toBe(1);
});

test("a close that the log refuses rejects, and the session lives on with its deadline", async () => {
  const clock = new ManualClock();
  const { sessions, ends } = sessionsOn(clock, { endAtOnce: false });
  sessions.add(1, 5_000);
  clock.advance(1_000);
  const closing = sessions.close(1);
  ends[0]!.reject(new Error("disk full"));
  await expect(closing).rejects.toThrow("disk full");
  expect(sessions.size).toBe(1);
  clock.advance(3_999);
  expect(ends.length).toBe(1);
  clock.advance(1 + SESSION_TICK_MS);
  expect(ends.length).toBe(2);
  expect(ends[1]!.ids).toEqual([1]);
});

test("a session whose end is on its way takes no heartbeat; it is not ended a second time meanwhile", async () => {
  const clock = new ManualClock();
  const { sessions, ends } = sessionsOn(clock, { endAtOnce: false });
  sessions.add(1, 2_000);
  clock.advance(2_000 + SESSION_TICK_MS);
  expect(ends.length).toBe(1);
  expect(sessions.keepAlive(1)).toBe(false);
  expect(await sessions.close(1)).toBe(false);
  clock.advance(10 * SESSION_END_RETRY_MS);
  expect(ends.length).toBe(1);
  expect(sessions.keepAlive(1)).toBe(false);
  ends[0]!.resolve();
  clock.advance(10 * SESSION_END_RETRY_MS);
  expect(ends.length).toBe(1);
  expect(sessions.size).toBe(0);
});

test("an end that fails is tried again, for as long as it fails", async () => {
  const clock = new ManualClock();
  const { sessions, ends } = sessionsOn(clock, { endAtOnce: false });
  sessions.add(1, 2_000);
  clock.advance(2_000 + SESSION_TICK_MS);
  for (let attempt = 1; attempt <= 5; attempt++) {
    expect(ends.length).toBe(attempt);
    ends.at(-1)!.reject(new Error("disk full"));
    await settled();
    expect(sessions.size).toBe(1);
    clock.advance(SESSION_END_RETRY_MS - 1);
    expect(ends.length).toBe(attempt);
    clock.advance(1 + SESSION_TICK_MS);
  }
  ends.at(-1)!.resolve();
  clock.advance(60_000);
  expect(ends.length).toBe(6);
  expect(ends.every(({ ids }) => ids.length === 1 && ids[0] === 1)).toBe(true);
});

test("a heartbeat between a failed end and the next attempt saves the session", async () => {
  const clock = new ManualClock();
  const { sessions, ends } = sessionsOn(clock, { endAtOnce: false });
  sessions.add(1, 4_000);
  clock.advance(4_000 + SESSION_TICK_MS);
  ends[0]!.reject(new Error("disk full"));
  await settled();
  expect(sessions.keepAlive(1)).toBe(true);
  clock.advance(3_999);
  expect(ends.length).toBe(1);
  clock.advance(1 + SESSION_TICK_MS);
  expect(ends.length).toBe(2);
});

test("sessions that are due together end in batches, all of them in the same tick", () => {
  const clock = new ManualClock();
  const { sessions, ends } = sessionsOn(clock, { endAtOnce: false });
  const count = 3 * SESSION_ENDS_PER_ENTRY_MAX + 1;
  for (let id = 0; id < count; id++) sessions.add(id, 2_000);
  clock.advance(2_000 + SESSION_TICK_MS);
  expect(ends.map(({ ids }) => ids.length)).toEqual([
    SESSION_ENDS_PER_ENTRY_MAX,
    SESSION_ENDS_PER_ENTRY_MAX,
    SESSION_ENDS_PER_ENTRY_MAX,
    1,
  ]);
  expect(new Set(ends.flatMap(({ ids }) => ids)).size).toBe(count);
});

test("of several batches only those fail whose end failed", async () => {
  const clock = new ManualClock();
  const { sessions, ends } = sessionsOn(clock, { endAtOnce: false });
  for (let id = 0; id < 2 * SESSION_ENDS_PER_ENTRY_MAX; id++) sessions.add(id, 2_000);
  clock.advance(2_000 + SESSION_TICK_MS);
  const [first, second] = ends;
  first!.resolve();
  second!.reject(new Error("disk full"));
  await settled();
  expect(sessions.size).toBe(SESSION_ENDS_PER_ENTRY_MAX);
  expect(second!.ids.every((id) => sessions.keepAlive(id))).toBe(true);
});

test("there is one timer while there are sessions, and none without", async () => {
  const clock = new PausingClock();
  const { sessions } = sessionsOn(clock);
  expect(clock.timers.size).toBe(0);
  for (let id = 0; id < 1_000; id++) sessions.add(id, 2_000 + id);
  expect(clock.timers.size).toBe(1);
  for (let id = 0; id < 1_000; id++) await sessions.close(id);
  // the slots are taken back when their time comes
  for (let tick = 0; tick < 4_000 / SESSION_TICK_MS; tick++) clock.jump(SESSION_TICK_MS);
  expect(sessions.size).toBe(0);
  expect(clock.timers.size).toBe(0);
  sessions.add(5_000, 2_000);
  expect(clock.timers.size).toBe(1);
});

test("after a stop no session ends by this node's doing", () => {
  const clock = new PausingClock();
  const { sessions, ends } = sessionsOn(clock);
  sessions.add(1, 2_000);
  sessions.stop();
  sessions.add(2, 2_000);
  clock.jump(60_000);
  expect(ends).toEqual([]);
  expect(clock.timers.size).toBe(0);
});

test.each([10_000, SESSION_TIMEOUT_MS_MAX, 24 * 3_600_000])(
  "after a pause of %d ms everything that is due ends, once, and the rest when it is due",
  (pauseMs) => {
    const clock = new PausingClock();
    const { sessions, ended, ends } = sessionsOn(clock);
    for (let id = 0; id < 500; id++) sessions.add(id, 2_000 + 599 * id);
    const due = Array.from({ length: 500 }, (_, id) => id).filter((id) => 2_000 + 599 * id <= pauseMs);
    clock.jump(pauseMs);
    // one that is due within the tick in which the clock stands again may have to wait for its end
    const early = ended();
    expect(early.every((id) => due.includes(id))).toBe(true);
    clock.jump(SESSION_TICK_MS);
    expect(due.every((id) => ended().includes(id))).toBe(true);
    const startedAt = clock.ms - pauseMs - SESSION_TICK_MS;
    while (sessions.size > 0) clock.jump(SESSION_TICK_MS);
    expect(ended().length).toBe(500);
    for (const { ids, atMs } of ends)
      for (const id of ids) expect(atMs - startedAt).toBeGreaterThanOrEqual(2_000 + 599 * id);
  },
);

test("a session that gets a heartbeat right after a long pause lives for its full timeout from then", () => {
  const clock = new PausingClock();
  const { sessions, ended } = sessionsOn(clock);
  sessions.add(1, SESSION_TIMEOUT_MS_MAX);
  sessions.add(2, 2_000);
  // the clock went on, and the heartbeat is served before the timer is
  clock.ms += 10 * SESSION_TIMEOUT_MS_MAX;
  expect(sessions.keepAlive(1)).toBe(true);
  clock.jump(0);
  expect(ended()).toEqual([2]);
  for (let waited = 0; waited < SESSION_TIMEOUT_MS_MAX - SESSION_TICK_MS; waited += SESSION_TICK_MS) {
    clock.jump(SESSION_TICK_MS);
  }
  expect(ended()).toEqual([2]);
  for (let tick = 0; tick < 3; tick++) clock.jump(SESSION_TICK_MS);
  expect(ended()).toEqual([2, 1]);
});

test("100,000 sessions with any timeouts, some kept alive and some closed, each end in their tick", async () => {
  const clock = new ManualClock();
  const below = random(11);
  const deadlines = new Map<SessionId, number>();
  const timeouts = new Map<SessionId, number>();
  let endsEarly = 0;
  let endsLate = 0;
  let endedCount = 0;
  const sessions: Sessions = new Sessions(clock, async (ids) => {
    if (ids.length > SESSION_ENDS_PER_ENTRY_MAX) throw new Error("too many in one entry");
    for (const id of ids) {
      const lateMs = clock.monotonicMs() - deadlines.get(id)!;
      if (lateMs < 0) endsEarly++;
      if (lateMs > SESSION_TICK_MS) endsLate++;
      endedCount++;
      sessions.remove(id);
      deadlines.delete(id);
    }
  });
  const timeout = () => SESSION_TIMEOUT_MS_MIN + below(SESSION_TIMEOUT_MS_MAX - SESSION_TIMEOUT_MS_MIN + 1);
  let next = 0;
  let gone = 0;
  for (let step = 0; step < 100; step++) {
    for (let n = 0; n < 1_000; n++) {
      const timeoutMs = timeout();
      sessions.add(next, timeoutMs);
      timeouts.set(next, timeoutMs);
      deadlines.set(next++, clock.monotonicMs() + timeoutMs);
    }
    for (let n = 0; n < 500; n++) {
      const id = below(next);
      const lives = deadlines.has(id);
      if (sessions.keepAlive(id) !== lives) throw new Error("a heartbeat knew better");
      if (lives) deadlines.set(id, clock.monotonicMs() + timeouts.get(id)!);
    }
    for (let n = 0; n < 50; n++) {
      const id = below(next);
      if (!deadlines.delete(id)) continue;
      sessions.remove(id);
      gone++;
    }
    clock.advance(below(700));
  }
  clock.advance(2 * SESSION_TIMEOUT_MS_MAX);
  await settled();
  expect({ endsEarly, endsLate, ended: endedCount + gone, left: sessions.size }).toEqual({
    endsEarly: 0,
    endsLate: 0,
    ended: 100_000,
    left: 0,
  });
});

/** Bytes of the heap and of what it holds outside, after a full collection. */
function heapBytes(): number {
  Bun.gc(true);
  const { heapSize, extraMemorySize } = heapStats();
  return heapSize + extraMemorySize;
}

test("a session costs at most 300 bytes of memory, and no timer of its own", () => {
  const clock = new PausingClock();
  const { sessions } = sessionsOn(clock);
  const count = 1_000_000;
  const before = heapBytes();
  for (let id = 0; id < count; id++) sessions.add(id, SESSION_TIMEOUT_MS_MIN + (id % 298_000));
  const each = (heapBytes() - before) / count;
  expect(sessions.size).toBe(count);
  expect(each).toBeGreaterThan(20); // it was measured at all
  expect(each).toBeLessThanOrEqual(300);
  expect(clock.timersMade).toBe(1);
});

test("sessions that come and go use the same memory again", () => {
  const clock = new PausingClock();
  const { sessions } = sessionsOn(clock);
  const round = (first: number) => {
    for (let id = first; id < first + 50_000; id++) sessions.add(id, SESSION_TIMEOUT_MS_MIN);
    for (let id = first; id < first + 50_000; id++) sessions.remove(id);
    for (let tick = 0; tick < 2 + SESSION_TIMEOUT_MS_MIN / SESSION_TICK_MS; tick++) clock.jump(SESSION_TICK_MS);
  };
  round(0);
  const before = heapBytes();
  for (let n = 1; n < 20; n++) round(n * 50_000);
  expect(sessions.size).toBe(0);
  // without reuse these would be 950,000 slots of 24 bytes
  expect(heapBytes() - before).toBeLessThan(8 * 1024 * 1024);
});
