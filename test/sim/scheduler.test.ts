import { drainMicrotasks } from "bun:jsc";
import { expect, test } from "bun:test";
import { SimRandom } from "./random.ts";
import { Scheduler, SimulationStuck } from "./scheduler.ts";
import { Trace } from "./trace.ts";

function makeScheduler(eventsPerInstantMax?: number): Scheduler {
  const trace = new Trace({ seed: 1, linesMax: 100 });
  return new Scheduler(eventsPerInstantMax === undefined ? { trace } : { trace, eventsPerInstantMax });
}

async function awaitTimes(times: number, done: () => void): Promise<void> {
  for (let i = 0; i < times; i++) await undefined;
  done();
}

/** Every way that code of ours waits without the event loop; each calls `done` at its end. */
const WAYS: Record<string, (done: () => void) => void> = {
  "100,000 awaits": (done) => void awaitTimes(100_000, done),
  "calls 1,000 deep": (done) => {
    const nested = async (depth: number): Promise<void> => {
      if (depth > 0) await nested(depth - 1);
    };
    void nested(1_000).then(done);
  },
  thenables: (done) => {
    // biome-ignore lint/suspicious/noThenProperty: a thenable is what this is about
    const thenable = { then: (resolve: (value: number) => void) => queueMicrotask(() => resolve(1)) };
    void (async () => {
      for (let i = 0; i < 100; i++) await (thenable as unknown as Promise<number>);
      done();
    })();
  },
  "async generators": (done) => {
    async function* counting() {
      for (let i = 0; i < 1_000; i++) yield i;
    }
    void (async () => {
      for await (const _ of counting());
      done();
    })();
  },
  combinators: (done) => {
    const some = Array.from({ length: 100 }, (_, n) => awaitTimes(n, () => {}));
    void Promise.all([...some, Promise.race(some), Promise.allSettled(some), Promise.any(some)]).then(done);
  },
  rejections: (done) => {
    const failing = async () => {
      await undefined;
      throw new Error("expected");
    };
    void (async () => {
      for (let i = 0; i < 100; i++) await failing().catch(() => {});
    })().finally(done);
  },
  "nextTick and microtasks that queue each other": (done) => {
    let left = 1_000;
    const hop = () => {
      if (left-- === 0) done();
      else if (left % 2 === 0) process.nextTick(hop);
      else queueMicrotask(hop);
    };
    hop();
  },
  "abort signals": (done) => {
    const controller = new AbortController();
    controller.signal.addEventListener("abort", () => void awaitTimes(10, done));
    void awaitTimes(10, () => controller.abort());
  },
};

for (const [name, way] of Object.entries(WAYS)) {
  const drains = () => {
    let ended = false;
    way(() => {
      ended = true;
    });
    drainMicrotasks();
    return ended;
  };
  test(`microtasks are drained to the last, called from anywhere: ${name}`, async () => {
    expect(drains()).toBe(true);
    expect(await Promise.resolve().then(drains)).toBe(true);
    await undefined;
    expect(drains()).toBe(true);
    expect(await new Promise((resolve) => setImmediate(() => resolve(drains())))).toBe(true);
  });
}

test("between two events all code runs on until it waits", () => {
  const scheduler = makeScheduler();
  const order: string[] = [];
  scheduler.spawn("long", async () => {
    await scheduler.sleep(1);
    await awaitTimes(5_000, () => order.push("long"));
  });
  scheduler.after(1, "next", () => order.push("next"));
  expect(scheduler.run()).toBe("idle");
  expect(order).toEqual(["long", "next"]);
});

test("events come in order of time, and of setting where times are equal; cancelled ones do not come", () => {
  const scheduler = makeScheduler();
  const random = new SimRandom(7);
  const expected: { at: number; nth: number }[] = [];
  const got: { at: number; nth: number }[] = [];
  const cancels: (() => void)[] = [];
  for (let nth = 0; nth < 2_000; nth++) {
    const at = random.int(0, 300);
    const cancel = scheduler.after(at, "event", () => got.push({ at: scheduler.nowMs, nth }));
    if (random.chance(0.7)) cancels.push(cancel);
    else expected.push({ at, nth });
  }
  for (const cancel of cancels) cancel();
  expect(scheduler.eventsWaiting).toBe(expected.length);
  scheduler.run();
  expect(got).toEqual(expected.sort((a, b) => a.at - b.at || a.nth - b.nth));
  for (const cancel of cancels) cancel();
  expect(scheduler.eventsWaiting).toBe(0);
});

test("a run ends at its time, at its condition, or when nothing is left", () => {
  const scheduler = makeScheduler();
  let ran = 0;
  for (const at of [10, 20, 30]) scheduler.after(at, "event", () => ran++);
  expect(scheduler.run({ untilMs: 15 })).toBe("time");
  expect([ran, scheduler.nowMs]).toEqual([1, 15]);
  expect(scheduler.run({ until: () => ran === 2 })).toBe("until");
  expect([ran, scheduler.nowMs]).toEqual([2, 20]);
  expect(scheduler.run({ untilMs: 100 })).toBe("idle");
  expect([ran, scheduler.nowMs]).toEqual([3, 100]);
});

test("a flow's value and error come out; a flow that fails in the background ends the run", () => {
  const scheduler = makeScheduler();
  const value = scheduler.complete("adds", async () => {
    await scheduler.sleep(5);
    return 7;
  });
  expect([value, scheduler.nowMs]).toEqual([7, 5]);
  const failing = async () => {
    await scheduler.sleep(1);
    throw new Error("expected");
  };
  expect(() => scheduler.complete("fails", failing)).toThrow("expected");
  scheduler.spawn("background", failing);
  expect(() => scheduler.run()).toThrow("expected");
  expect(scheduler.run()).toBe("idle");
});

test("what waits for something that never comes is stuck, and named", () => {
  const scheduler = makeScheduler();
  const never = () => new Promise<void>(() => {});
  expect(() => scheduler.complete("waits for ever", never)).toThrow(SimulationStuck);
  scheduler.spawn("a second one", never);
  expect(() => scheduler.finish()).toThrow(
    /no event is left, and these wait: waits for ever, a second one; replay: .*--seed 1/,
  );
});

test("what waits for the real event loop is stuck", () => {
  const scheduler = makeScheduler();
  const real = () => new Promise<void>((resolve) => setImmediate(resolve));
  expect(() => scheduler.complete("a real timer", real)).toThrow("a real timer");
});

test("what takes too long is stuck, and so is time that does not move on", () => {
  const scheduler = makeScheduler(1_000);
  const tick = () => void scheduler.after(1, "tick", tick);
  tick();
  expect(() => scheduler.complete("too slow", () => scheduler.sleep(500), 100)).toThrow("100 ms have passed");
  const spin = () => void scheduler.after(0, "spin", spin);
  spin();
  expect(() => scheduler.run()).toThrow('time does not move on at 100 ms, at "spin"');
});

test("a run cannot be run from within itself", () => {
  const scheduler = makeScheduler();
  scheduler.after(1, "event", () => scheduler.run());
  expect(() => scheduler.run()).toThrow("from within");
});

test("one seed gives one trace, another seed another one", () => {
  const hashOf = (seed: number) => {
    const scheduler = new Scheduler({ trace: new Trace({ seed }) });
    const random = new SimRandom(seed);
    for (let n = 0; n < 5; n++) {
      scheduler.spawn(`flow ${n}`, async () => {
        for (let i = 0; i < 20; i++) await scheduler.sleep(random.between(0, 10));
      });
    }
    scheduler.finish();
    return scheduler.trace.hash;
  };
  const hashes = Array.from({ length: 20 }, (_, seed) => hashOf(seed));
  expect(hashes).toEqual(Array.from({ length: 20 }, (_, seed) => hashOf(seed)));
  expect(new Set(hashes).size).toBe(20);
});
