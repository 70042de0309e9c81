import { expect, test } from "bun:test";
import { Refusal } from "../../src/model/refusal.ts";
import type { CallError } from "./call-error.ts";
import { type Channel, type IncomingCall, Network, type Service } from "./network.ts";
import { CALM, drawNetworkRates, type NetworkRates } from "./network-rates.ts";
import { type Life, SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import type { DuplexStream } from "./stream-call.ts";
import { Trace } from "./trace.ts";

/** Two machines; the second one echoes at "b:1". */
class World {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly a: SimNode;
  readonly b: SimNode;
  /** Requests and stream messages that reached b, and how its streams ended. */
  readonly heard: unknown[] = [];

  constructor(rates: Partial<NetworkRates> = {}, seed = 1) {
    this.scheduler = new Scheduler({ trace: new Trace({ seed, linesMax: 400 }) });
    this.network = new Network(this.scheduler, new SimRandom(seed).split("network"), { ...CALM, ...rates });
    this.a = new SimNode(this.scheduler, "a");
    this.b = new SimNode(this.scheduler, "b");
    for (const node of [this.a, this.b]) this.network.attach(node);
    this.a.start();
    this.serve();
  }

  /** Starts b. */
  serve(service: Service = this.echo): Life {
    const life = this.b.start();
    this.network.channel(life).listen("b:1", service);
    return life;
  }

  get channel(): Channel {
    return this.network.channel(this.a.life!);
  }

  readonly echo: Service = {
    unary: async (call, request) => {
      this.heard.push(request);
      call.signal.addEventListener("abort", () => this.heard.push("aborted"));
      if (request === "refuse")
        throw new Refusal("NODE_IS_NOT_LEADER", "not here", { hint: { shard: 1, leader: "c" } });
      if (request === "fail") throw new Error("on purpose");
      if (request === "slow") await this.sleepAtB(100);
      return request;
    },
    stream: async (call: IncomingCall, stream) => {
      call.signal.addEventListener("abort", () => this.heard.push("aborted"));
      try {
        for await (const message of stream) {
          this.heard.push(message);
          if (message === "refuse") throw new Refusal("INVALID_TERM", "old");
          if (message === "stop") return;
          if (stream.send(message) === false) await stream.drained();
        }
        this.heard.push("end");
      } catch (error) {
        this.heard.push((error as CallError).code);
        throw error;
      }
    },
  };

  sleepAtB(ms: number): Promise<void> {
    return new Promise((resolve) => this.b.life?.clock.after(ms, resolve));
  }

  unary(request: unknown, options = {}): Promise<string> {
    return outcome(this.channel.unary("b:1", "Echo", request, options));
  }

  complete<T>(flow: () => Promise<T>): T {
    return this.scheduler.complete("test", flow);
  }
}

function outcome(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    (answer) => `${answer}`,
    (error: CallError) => error.refusal?.reason ?? error.code,
  );
}

/** Reads to the end: the messages, then `end` or the error's code. */
async function readAll(stream: DuplexStream): Promise<unknown[]> {
  const all: unknown[] = [];
  try {
    for await (const message of stream) all.push(message);
    all.push("end");
  } catch (error) {
    all.push((error as CallError).refusal?.reason ?? (error as CallError).code);
  }
  return all;
}

// --- unary ------------------------------------------------------------------------------------------------------

test("a question gets its answer, a refusal or an error; nothing is shared with the other side", () => {
  const world = new World();
  expect(world.complete(() => world.unary("hello"))).toBe("hello");
  expect(world.complete(() => world.unary("refuse"))).toBe("NODE_IS_NOT_LEADER");
  expect(world.complete(() => world.unary("fail"))).toBe("UNKNOWN");
  const sent = { bytes: new Uint8Array([1, 2]), nested: { n: 1 } };
  const got = world.complete(() => world.channel.unary("b:1", "Echo", sent)) as typeof sent;
  expect(got).toEqual(sent);
  expect(got.nested).not.toBe(sent.nested);
  expect(world.heard.at(-1)).not.toBe(sent);
  expect(world.network.open).toBe(0);
});

test("headers and the caller's name arrive with a call", () => {
  const world = new World();
  world.b.end("killed");
  const tell = (call: IncomingCall) =>
    `${call.method} from ${call.from}: ${call.headers["shard-id"]}, ${call.timeoutMs}`;
  world.serve({
    unary: async (call) => tell(call),
    stream: async (call, stream) => void stream.send(tell(call)),
  });
  const options = { headers: { "shard-id": "3" }, timeoutMs: 100 };
  expect(world.complete(() => world.unary("x", options))).toBe("Echo from a: 3, 100");
  const stream = world.channel.serverStream("b:1", "List", "x", options);
  expect(world.complete(() => readAll(stream))).toEqual(["List from a: 3, 100", "end"]);
});

test("a refusal keeps its hint", () => {
  const world = new World();
  const error = world.complete(() => world.channel.unary("b:1", "Echo", "refuse").catch((caught) => caught));
  expect((error as CallError).refusal).toMatchObject({ reason: "NODE_IS_NOT_LEADER", hint: { shard: 1, leader: "c" } });
});

test("deadline and cancellation end a call at once; the other side hears of it later", () => {
  const world = new World();
  expect(world.complete(() => world.unary("slow", { timeoutMs: 20 }))).toBe("DEADLINE_EXCEEDED");
  expect(world.scheduler.nowMs).toBe(20);
  world.scheduler.run();
  expect(world.heard).toEqual(["slow", "aborted"]);
  const controller = new AbortController();
  world.scheduler.after(10, "cancel", () => controller.abort());
  expect(world.complete(() => world.unary("slow", { signal: controller.signal }))).toBe("CANCELLED");
  expect(world.complete(() => world.unary("never sent", { signal: controller.signal }))).toBe("CANCELLED");
  world.scheduler.run();
  expect(world.heard).toEqual(["slow", "aborted", "slow", "aborted"]);
  expect([world.network.open, world.scheduler.eventsWaiting]).toEqual([0, 0]);
});

test("who listens nowhere, no longer, or not yet again is unavailable", () => {
  const world = new World();
  expect(world.complete(() => outcome(world.channel.unary("c:1", "Echo", 1)))).toBe("UNAVAILABLE");
  world.b.end("killed");
  expect(world.complete(() => world.unary("refused"))).toBe("UNAVAILABLE");
  expect(world.scheduler.nowMs).toBeLessThan(10);
  world.serve();
  expect(world.complete(() => world.unary("again"))).toBe("again");
});

test("a process that is killed breaks its calls soon; a machine that is gone breaks them when the keepalive fails", () => {
  for (const [how, atLeastMs, atMostMs] of [
    ["killed", 10, 15],
    ["power", CALM.keepaliveMs, CALM.keepaliveMs + 20],
  ] as const) {
    const world = new World();
    world.scheduler.after(10, "end", () => world.b.end(how));
    expect(world.complete(() => world.unary("slow"))).toBe("UNAVAILABLE");
    expect(world.scheduler.nowMs).toBeGreaterThanOrEqual(atLeastMs);
    expect(world.scheduler.nowMs).toBeLessThan(atMostMs);
    expect(world.complete(() => world.unary("to nobody", { timeoutMs: 1_000 }))).not.toBe("to nobody");
    world.serve();
    expect(world.complete(() => world.unary("again"))).toBe("again");
  }
});

test("a machine that comes back resets what it no longer knows", () => {
  const world = new World();
  world.scheduler.after(10, "end", () => world.b.end("power"));
  world.scheduler.after(100, "start", () => world.serve());
  expect(world.complete(() => world.unary("slow"))).toBe("UNAVAILABLE");
  expect(world.scheduler.nowMs).toBeLessThan(110);
});

test("a cut holds questions and answers back, in its direction alone", () => {
  for (const [from, to] of ["ab", "ba"]) {
    const world = new World({ lateChance: 1 });
    const node = { a: world.a, b: world.b } as Record<string, SimNode>;
    world.network.cut(node[from!]!, node[to!]!);
    world.scheduler.after(1_000, "heal", () => world.network.healAll());
    world.scheduler.after(500, "look", () => expect(world.heard).toEqual(from === "a" ? [] : ["x"]));
    expect(world.complete(() => world.unary("x"))).toBe("x");
    expect(world.scheduler.nowMs).toBeGreaterThan(1_000);
  }
});

test("a cut that outlasts the keepalive breaks the call; what waited in it may still arrive, or not", () => {
  for (const lateChance of [0, 1]) {
    const world = new World({ lateChance });
    world.network.partition([world.a], [world.b]);
    expect(world.complete(() => world.unary("x"))).toBe("UNAVAILABLE");
    expect(world.scheduler.nowMs).toBe(CALM.keepaliveMs);
    world.network.healAll();
    world.scheduler.run();
    expect(world.heard).toEqual(lateChance === 1 ? ["x", "aborted"] : []);
  }
});

test("cuts that heal in time do not break, however many", () => {
  const world = new World({ lateChance: 1 });
  const flap = async () => {
    for (let i = 0; i < 20; i++) {
      world.network.partition([world.a], [world.b]);
      await world.scheduler.sleep(CALM.keepaliveMs - 100);
      world.network.healAll();
      await world.scheduler.sleep(10);
    }
  };
  world.scheduler.spawn("flap", flap);
  const stream = world.channel.stream("b:1", "Replicate");
  stream.send("x");
  expect(world.complete(() => stream.next())).toBe("x");
  world.scheduler.run({ untilMs: 90_000 });
  stream.closeSend();
  expect(world.complete(() => stream.next())).toBeUndefined();
});

test("questions are lost, doubled and reordered at their rates", () => {
  const world = new World({ loseChance: 0.2, duplicateChance: 0.1, delay: { ...CALM.delay, typicalMs: 100 } });
  const outcomes = world.complete(() => Promise.all(Array.from({ length: 1_000 }, (_, n) => world.unary(n))));
  const lost = outcomes.filter((one) => one === "UNAVAILABLE").length;
  expect(Math.abs(lost - 350)).toBeLessThan(60);
  expect(outcomes.every((one, n) => one === "UNAVAILABLE" || one === `${n}`)).toBe(true);
  world.scheduler.run();
  const handled = world.heard.filter((one) => typeof one === "number") as number[];
  expect(Math.abs(handled.length - new Set(handled).size - 80)).toBeLessThan(40);
  expect(handled.some((one, nth) => nth > 0 && one < handled[nth - 1]!)).toBe(true);
  expect(world.network.open).toBe(0);
});

test("a stopped process answers when it goes on, and is found dead before that by the keepalive", () => {
  const world = new World();
  world.b.pause();
  world.scheduler.after(1_000, "resume", () => world.b.resume());
  expect(world.complete(() => world.unary("x"))).toBe("x");
  expect(world.scheduler.nowMs).toBeGreaterThan(1_000);
  world.b.pause();
  expect(world.complete(() => world.unary("y"))).toBe("UNAVAILABLE");
  world.b.resume();
  world.scheduler.run();
  expect(world.heard).toContain("y");
});

// --- streams ----------------------------------------------------------------------------------------------------

test("a stream carries messages both ways, in order, whatever the delays", () => {
  const world = new World({ delay: { minMs: 0.1, typicalMs: 50, maxMs: 500, tailChance: 0.2 }, windowMessages: 1_000 });
  const stream = world.channel.stream("b:1", "Replicate");
  for (let n = 0; n < 300; n++) stream.send(n);
  stream.closeSend();
  const numbers = Array.from({ length: 300 }, (_, n) => n);
  expect(world.complete(() => readAll(stream))).toEqual([...numbers, "end"]);
  expect(world.heard).toEqual([...numbers, "end", "aborted"]);
  expect(world.complete(() => stream.ended)).toBeUndefined();
  expect(world.network.open).toBe(0);
});

test("one request and many answers; leaving the loop cancels", () => {
  const world = new World();
  world.b.end("killed");
  world.serve({
    stream: async (call, stream) => {
      const count = (await stream.next()) as number;
      call.signal.addEventListener("abort", () => world.heard.push("aborted"));
      for (let n = 0; n < count; n++) {
        stream.send(n);
        await world.sleepAtB(10);
      }
    },
  });
  expect(world.complete(() => readAll(world.channel.serverStream("b:1", "List", 3)))).toEqual([0, 1, 2, "end"]);
  world.complete(async () => {
    for await (const n of world.channel.serverStream("b:1", "List", 1_000)) if (n === 5) break;
    await world.scheduler.sleep(5);
  });
  expect(world.heard).toEqual(["aborted", "aborted"]);
  expect(world.scheduler.nowMs).toBeLessThan(200);
});

test("a stream ends with what its handler throws, behind what was sent before", () => {
  const world = new World();
  const stream = world.channel.stream("b:1", "Replicate");
  for (const message of ["one", "refuse", "two"]) stream.send(message);
  expect(world.complete(() => readAll(stream))).toEqual(["one", "INVALID_TERM"]);
  const stopped = world.channel.stream("b:1", "Replicate");
  for (const message of ["one", "stop"]) stopped.send(message);
  expect(world.complete(() => readAll(stopped))).toEqual(["one", "end"]);
  expect(world.network.open).toBe(0);
});

test("a full window holds the sender back until the other side has read", () => {
  const world = new World({ windowMessages: 4 });
  world.b.end("killed");
  world.serve({
    stream: async (_, stream) => {
      await world.sleepAtB(100);
      for await (const message of stream) world.heard.push(message);
    },
  });
  const stream = world.channel.stream("b:1", "Replicate");
  expect([1, 2, 3, 4, 5].map((n) => stream.send(n))).toEqual([true, true, true, true, false]);
  world.complete(() => stream.drained());
  expect(world.scheduler.nowMs).toBeGreaterThan(100);
  stream.closeSend();
  expect(world.complete(() => readAll(stream))).toEqual(["end"]);
  expect(world.heard).toEqual([1, 2, 3, 4, 5]);
});

test("a stream keeps its window when the network changes", () => {
  const world = new World({ windowMessages: 4 });
  const stream = world.channel.stream("b:1", "Replicate");
  world.network.rates = CALM;
  const messages = Array.from({ length: 20 }, (_, n) => n);
  for (const message of messages) stream.send(message);
  stream.closeSend();
  expect(world.complete(() => readAll(stream))).toEqual([...messages, "end"]);
});

test("a machine that was off when a stream was opened tells of it once it is back", () => {
  const world = new World();
  const stream = world.channel.stream("b:1", "Replicate");
  stream.send("one");
  world.b.end("power");
  world.scheduler.run({ untilMs: 100 });
  world.serve();
  expect(world.complete(() => readAll(stream))).toEqual(["UNAVAILABLE"]);
  expect(world.scheduler.nowMs).toBeLessThan(CALM.keepaliveMs);
});

test("deadline and cancellation end a stream on both sides", () => {
  const world = new World();
  const late = world.channel.stream("b:1", "Replicate", { timeoutMs: 50 });
  late.send("x");
  expect(world.complete(() => readAll(late))).toEqual(["x", "DEADLINE_EXCEEDED"]);
  const cancelled = world.channel.stream("b:1", "Replicate");
  cancelled.cancel();
  expect(world.complete(() => readAll(cancelled))).toEqual(["CANCELLED"]);
  const controller = new AbortController();
  const aborted = world.channel.stream("b:1", "Replicate", { signal: controller.signal });
  controller.abort();
  expect(world.complete(() => readAll(aborted))).toEqual(["CANCELLED"]);
  world.scheduler.run();
  expect(world.heard).toEqual(["x", "aborted", "CANCELLED", "aborted", "CANCELLED", "aborted", "CANCELLED"]);
  expect([world.network.open, world.scheduler.eventsWaiting]).toEqual([0, 0]);
});

test("a process that restarts breaks its streams on both sides", () => {
  for (const restarted of ["a", "b"] as const) {
    const world = new World();
    const stream = world.channel.stream("b:1", "Replicate");
    stream.send("x");
    world.scheduler.run({ untilMs: 20 });
    world[restarted].end("killed");
    if (restarted === "a") world.a.start();
    else {
      expect(world.complete(() => readAll(stream)).at(-1)).toBe("UNAVAILABLE");
      world.serve();
    }
    world.scheduler.run();
    expect(world.heard).toEqual(restarted === "a" ? ["x", "aborted", "UNAVAILABLE"] : ["x"]);
    expect(world.network.open).toBe(0);
  }
});

test("a cut holds a stream up, in order; past the keepalive both sides hear that it is broken", () => {
  const world = new World();
  const stream = world.channel.stream("b:1", "Replicate");
  stream.send(0);
  world.scheduler.run({ untilMs: 10 });
  world.network.cut(world.a, world.b);
  for (let n = 1; n < 10; n++) stream.send(n);
  world.scheduler.run({ untilMs: 1_000 });
  expect(world.heard).toEqual([0]);
  world.network.healAll();
  for (let n = 10; n < 20; n++) stream.send(n);
  world.scheduler.run({ untilMs: 1_100 });
  expect(world.heard).toEqual(Array.from({ length: 20 }, (_, n) => n));
  world.network.cut(world.b, world.a);
  stream.send("into the cut");
  world.scheduler.run({ untilMs: 20_000 });
  expect(world.heard.slice(20)).toEqual(["into the cut", "aborted", "UNAVAILABLE"]);
  expect(world.complete(() => readAll(stream)).at(-1)).toBe("UNAVAILABLE");
});

test("of a half-open stream one side hears at once, the other at its keepalive; what arrives is a prefix", () => {
  const sides = new Set<string>();
  for (let seed = 0; seed < 40; seed++) {
    const world = new World({ breakChance: 0.2, halfOpenChance: 1 }, seed);
    const stream = world.channel.stream("b:1", "Replicate");
    let endedMs = 0;
    void stream.ended.then(() => {
      endedMs = world.scheduler.nowMs;
    });
    const flow = async () => {
      for (let n = 0; n < 200 && endedMs === 0; n++) {
        stream.send(n);
        await world.scheduler.sleep(5);
      }
    };
    world.scheduler.spawn("sends", flow);
    world.scheduler.run();
    const numbers = world.heard.filter((one) => typeof one === "number");
    expect(numbers).toEqual(numbers.map((_, n) => n));
    if (world.heard.length > 0) expect(world.heard.at(-1)).toBe("UNAVAILABLE");
    sides.add(endedMs > 4_000 ? "server first" : "client first");
    expect(world.network.open).toBe(0);
  }
  expect(sides.size).toBe(2);
});

test("whatever happens, one seed gives one trace, streams are prefixes, and nothing stays open", () => {
  const run = (seed: number): string => {
    const random = new SimRandom(seed).split("test");
    const world = new World(drawNetworkRates(random.split("rates")), seed);
    const sent = async (nth: number) => {
      const stream = world.channel.stream("b:1", "Replicate", random.chance(0.5) ? { timeoutMs: 3_000 } : {});
      const reading = readAll(stream);
      for (let n = 0; n < 30; n++) {
        if (!stream.send(`${nth}/${n}`)) await stream.drained();
        await world.scheduler.sleep(random.between(0, 40));
        void world.unary(n, { timeoutMs: 500 });
      }
      stream.closeSend();
      const got = (await reading).slice(0, -1);
      expect(got).toEqual(got.map((_, n) => `${nth}/${n}`));
    };
    const faults = async () => {
      for (let i = 0; i < 20; i++) {
        await world.scheduler.sleep(random.between(0, 400));
        const fault = random.int(0, 7);
        if (fault === 0) world.network.cut(world.a, world.b);
        if (fault === 1) world.network.cut(world.b, world.a);
        if (fault === 2) world.network.healAll();
        if (fault === 3) world.b.pause();
        if (fault === 4) world.b.resume();
        if (fault === 5) world.b.end(random.pick(["killed", "power"] as const));
        if (fault === 6) world.network.reset(world.a, world.b);
        if (world.b.life === undefined && random.chance(0.7)) world.serve();
      }
      world.network.healAll();
      world.b.resume();
      if (world.b.life === undefined) world.serve();
      world.network.rates = CALM;
    };
    for (let nth = 0; nth < 5; nth++) world.scheduler.spawn(`stream ${nth}`, () => sent(nth));
    world.scheduler.spawn("faults", faults);
    world.scheduler.finish();
    expect(world.network.open).toBe(0);
    return world.scheduler.trace.hash;
  };
  const hashes = Array.from({ length: 60 }, (_, seed) => run(seed));
  expect(Array.from({ length: 60 }, (_, seed) => run(seed))).toEqual(hashes);
  expect(new Set(hashes).size).toBe(60);
});
