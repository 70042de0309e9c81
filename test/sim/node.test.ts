import { expect, test } from "bun:test";
import { SimNode } from "./node.ts";
import { Scheduler } from "./scheduler.ts";
import { WALL_START } from "./sim-clock.ts";
import { Trace } from "./trace.ts";

function makeNode() {
  const scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
  const node = new SimNode(scheduler, "n1");
  return { scheduler, node, life: node.start() };
}

test("timers come at their time, in the order set, and not when cancelled", () => {
  const { scheduler, life } = makeNode();
  const fired: string[] = [];
  life.clock.after(20, () => fired.push(`b ${scheduler.nowMs}`));
  life.clock.after(10, () => fired.push(`a ${scheduler.nowMs}`));
  life.clock.after(20, () => fired.push(`c ${scheduler.nowMs}`));
  life.clock.after(15, () => fired.push("cancelled"))();
  scheduler.run();
  expect(fired).toEqual(["a 10", "b 20", "c 20"]);
});

test("the wall clock jumps, the monotonic one and timers do not", () => {
  const { scheduler, node, life } = makeNode();
  const fired: number[] = [];
  life.clock.after(100, () => fired.push(scheduler.nowMs));
  scheduler.run({ untilMs: 50 });
  expect([life.clock.now(), life.clock.monotonicMs()]).toEqual([WALL_START + 50, 50]);
  node.time.jump(-3_600_000);
  expect([life.clock.now(), life.clock.monotonicMs()]).toEqual([WALL_START + 50 - 3_600_000, 50]);
  scheduler.run();
  expect(fired).toEqual([100]);
});

test("a clock that drifts is fast by as much, and its timers come early by as much", () => {
  const { scheduler, node, life } = makeNode();
  const fired: number[] = [];
  node.time.drift(1.05);
  life.clock.after(1_050, () => {
    fired.push(scheduler.nowMs);
    expect(life.clock.monotonicMs()).toBeGreaterThanOrEqual(1_050);
  });
  scheduler.run();
  expect(fired[0]).toBeCloseTo(1_000, 2);
  life.clock.after(100, () => fired.push(scheduler.nowMs));
  node.time.drift(0.5);
  scheduler.run();
  expect(fired[1]! - fired[0]!).toBeCloseTo(200, 2);
});

test("whoever waits for the monotonic clock to reach a time gets there, however it drifts", () => {
  const { scheduler, node, life } = makeNode();
  let reached = 0;
  for (let n = 1; n <= 200; n++) {
    node.time.drift(0.9 + n / 777);
    const deadline = life.clock.monotonicMs() + n / 3;
    const wait = (): void => {
      const left = deadline - life.clock.monotonicMs();
      if (left <= 0) reached++;
      else life.clock.after(left, wait);
    };
    wait();
    scheduler.run();
  }
  expect(reached).toBe(200);
});

test("a stopped process runs nothing; when it goes on, all that is due comes at once, in order, and its clocks have gone on", () => {
  const { scheduler, node, life } = makeNode();
  const fired: string[] = [];
  for (const ms of [30, 10, 200]) life.clock.after(ms, () => fired.push(`${ms} at ${scheduler.nowMs}`));
  const cancel = life.clock.after(20, () => fired.push("cancelled"));
  node.pause();
  scheduler.run({ untilMs: 100 });
  expect(fired).toEqual([]);
  cancel();
  node.resume();
  expect(life.clock.monotonicMs()).toBe(100);
  scheduler.run();
  expect(fired).toEqual(["10 at 100", "30 at 100", "200 at 200"]);
});

test("a suspended machine's clocks stand still, and its timers are late by as long", () => {
  const { scheduler, node, life } = makeNode();
  const fired: number[] = [];
  life.clock.after(30, () => fired.push(scheduler.nowMs));
  scheduler.run({ untilMs: 10 });
  node.pause({ freezeClocks: true });
  scheduler.run({ untilMs: 1_000 });
  expect(life.clock.monotonicMs()).toBe(10);
  node.resume();
  scheduler.run();
  expect(fired).toEqual([1_020]);
});

test("code of a process that has ended never runs again, and is not waited for", () => {
  const { scheduler, node, life } = makeNode();
  const ran: string[] = [];
  const sleep = (ms: number) => new Promise<void>((resolve) => life.clock.after(ms, resolve));
  life.spawn("flow", async () => {
    await sleep(10);
    ran.push("first");
    await sleep(10);
    ran.push("second");
  });
  scheduler.after(15, "kill", () => node.end("killed"));
  scheduler.finish();
  expect(ran).toEqual(["first"]);
  expect(node.life).toBeUndefined();
  life.clock.after(1, () => ran.push("a timer of the dead"));
  const second = node.start();
  expect([second.number, second.name, life.alive]).toEqual([2, "n1#2", false]);
  scheduler.finish();
  expect(ran).toEqual(["first"]);
});

test("what was held comes before what is due when its machine goes on: a stream's messages stay in order", () => {
  const { scheduler, node, life } = makeNode();
  const came: string[] = [];
  scheduler.after(100, "tick", () => {});
  life.after(100, "sent later, due at that moment", () => came.push("later"));
  life.after(10, "held", () => came.push("first"));
  node.pause();
  scheduler.run({ until: () => scheduler.nowMs === 100 });
  node.resume();
  scheduler.run();
  expect(came).toEqual(["first", "later"]);
});

test("a process that ends while it is stopped takes what was held with it", () => {
  const { scheduler, node, life } = makeNode();
  let fired = 0;
  life.clock.after(10, () => fired++);
  node.pause();
  scheduler.run({ untilMs: 20 });
  node.end("power");
  expect([node.paused, node.powered]).toEqual([false, false]);
  node.start();
  scheduler.run();
  expect([fired, node.powered]).toEqual([0, true]);
});
