/** The clients on a server that does it right, and on servers that each do one thing wrong: whoever checks it finds it. */
import { expect, test } from "bun:test";
import { sessionFrame } from "../../../src/client/requests.ts";
import { type Bytes, EMPTY_BYTES, text } from "../../../src/lib/bytes.ts";
import type { ReadConsistency } from "../../../src/model/peer-messages.ts";
import type { KeyValue } from "../../../src/ports.ts";
import type { BidiControls, Method, ServedMethod, Sink } from "../../../src/rpc/method.ts";
import { CALM_DISK, drawDiskRates, SimDisk } from "../disk.ts";
import { NotLinearizable } from "../linearizability.ts";
import { Network } from "../network.ts";
import { CALM, drawNetworkRates } from "../network-rates.ts";
import { type Life, SimNode } from "../node.ts";
import { SimRandom } from "../random.ts";
import { Scheduler } from "../scheduler.ts";
import { Trace } from "../trace.ts";
import { BrokenPromise } from "./broken-promise.ts";
import { NODE_ADDRESS, type Planted, startOneNode } from "./one-node.ts";
import { startWorkload, type Workload } from "./workload.ts";
import { drawWorkload, type Kind, WEIGHTS, type WorkloadOptions } from "./workload-options.ts";

const SEEDS = 30;

interface RunOptions {
  readonly faults?: boolean;
  readonly planted?: Planted;
  readonly workload?: Partial<WorkloadOptions>;
  readonly readConsistency?: ReadConsistency;
}

/** One seed, judged. Answers its trace. */
function run(seed: number, options: RunOptions = {}): string {
  const { faults = true, planted, workload = {}, readConsistency = "linearizable" } = options;
  const random = new SimRandom(seed);
  const scheduler = new Scheduler({ trace: new Trace({ seed, linesMax: 100 }) });
  const rates = faults ? drawNetworkRates(random.split("network rates")) : CALM;
  const network = new Network(scheduler, random.split("network"), rates);
  const node = new SimNode(scheduler, "node");
  network.attach(node);
  const disk = new SimDisk(node, random.split("disk"), faults ? drawDiskRates(random.split("disk rates")) : CALM_DISK);
  const serve = {
    network,
    node,
    disk,
    random,
    shards: random.int(1, 4),
    ...(planted === undefined ? {} : { planted }),
  };
  startOneNode(serve);
  const drawn = { ...drawWorkload(random.split("options")), ...workload };
  const cluster = { scheduler, network, addresses: [NODE_ADDRESS], namespace: "default", readConsistency };
  const clients = startWorkload(cluster, drawn, random.split("workload"));
  if (faults) injectFaults({ scheduler, network, node, random, clients, restart: () => startOneNode(serve) });
  else scheduler.run({ untilMs: 60_000, until: () => clients.done });
  clients.stop();
  scheduler.complete("settles", () => clients.settle({ serveWithinMs: 60_000, electionMs: 1_000 }));
  clients.check();
  return scheduler.trace.hash;
}

interface Faults {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly node: SimNode;
  readonly random: SimRandom;
  readonly clients: Workload;
  readonly restart: () => void;
}

/** Runs the clients with faults in between; all is well in the end. */
function injectFaults({ scheduler, network, node, random: ofRun, clients, restart }: Faults): void {
  const random = ofRun.split("faults");
  for (let n = 0; n < 15 && !clients.done; n++) {
    scheduler.run({ untilMs: scheduler.nowMs + random.between(0, 1_000) });
    const other = random.pick(clients.nodes);
    const fault = random.int(0, 9);
    if (fault === 0) network.cut(node, other);
    if (fault === 1) network.cut(other, node);
    if (fault === 2) network.healAll();
    if (fault === 3) node.pause();
    if (fault === 4) node.time.jump(random.between(-3_600_000, 3_600_000));
    if (fault === 5) node.time.drift(random.between(0.95, 1.05));
    if (fault === 6) network.reset(node, other);
    if (fault >= 7) node.end(fault === 7 ? "killed" : "power");
    if (random.chance(0.5)) node.resume();
    if (node.life === undefined) restart();
  }
  node.resume();
  node.time.drift(1);
  network.healAll();
  network.rates = CALM;
}

test("a server that does it right is found right, whatever happens, and each seed runs the same way twice", () => {
  const hashes = Array.from({ length: SEEDS }, (_, seed) => run(seed));
  expect(Array.from({ length: SEEDS }, (_, seed) => run(seed))).toEqual(hashes);
  expect(new Set(hashes).size).toBe(SEEDS);
}, 60_000);

// --- servers that do something wrong ------------------------------------------------------------------------------

interface Bug {
  readonly planted: Planted;
  readonly message: RegExp;
  /** What clients have to do for it to show. */
  readonly kinds?: readonly Kind[];
  /** What else they do, or not. */
  readonly workload?: Partial<WorkloadOptions>;
}

const FOLLOW = { notifications: true, sequences: true };

const BUGS: Record<string, Bug> = {
  "answers a read as it did before": {
    planted: { methods: wrap("Read", staleReads) },
    message: /no order explains it/,
  },
  "loses a put": {
    planted: { keyValue: losing((key) => /^[a-d]\d$/.test(key)) },
    message: /no order explains it|notifications .* lead to|a scan shows/,
    // the server itself finds index entries without a record
    workload: { weights: { ...WEIGHTS, "index-scan": 0 } },
  },
  "gives a version out twice": {
    planted: { keyValue: (keyValue) => overridden(keyValue, { applied: staleVersions(keyValue) }) },
    message: /version \d+ was given out twice|a version is not above|version \d+ at \d+ is told after/,
  },
  "answers heartbeats of sessions that it lets expire": {
    planted: { methods: wrap("KeepAlive", () => ({ kind: "unary", handle: () => EMPTY_BYTES })) },
    message: /no order explains it/,
    kinds: ["ephemeral"],
  },
  "lets sessions live on": {
    planted: { methods: immortalSessions },
    message: /had its last heartbeat at .* and has records/,
    kinds: ["ephemeral", "crash"],
  },
  "answers that a session is closed, and keeps its records": {
    planted: { methods: wrap("CloseSession", () => ({ kind: "unary", handle: () => EMPTY_BYTES })) },
    message: /was closed at .* and has records/,
    kinds: ["ephemeral", "reopen"],
  },
  "leaves a notification out of a stream": {
    planted: { methods: wrap("GetNotifications", (method) => sinking(method, dropping)) },
    message: /a stream of shard|was told of shard \d+ up to/,
  },
  "sends a notification twice": {
    planted: { methods: wrap("GetNotifications", (method) => sinking(method, doubling)) },
    message: /a stream of shard|a batch at \d+ comes after/,
  },
  "sends notifications in another order": {
    planted: { methods: wrap("GetNotifications", (method) => sinking(method, swapping)) },
    message: /a stream of shard|a batch at \d+ comes after|was told of shard \d+ up to/,
  },
  "stops sending notifications": {
    planted: { methods: wrap("GetNotifications", (method) => sinking(method, stopping)) },
    message: /was told of shard \d+ up to|lead to version|was not told|is not there|a stream of shard/,
  },
  "does not store what an entry tells": {
    planted: { keyValue: forgettingNotifications },
    message: /lead to version|was not told|where the key was|deleted more often/,
  },
  "loses a put of a sequence": {
    planted: { keyValue: losing((key) => key.startsWith("zs-")) },
    message: /was acknowledged and is not there|were added|lead to version/,
    kinds: ["sequence"],
  },
  "gives two puts of a sequence one key": {
    planted: { methods: wrap("WriteStream", repeatedSequenceKeys) },
    message: /was acknowledged and is not there/,
    kinds: ["sequence"],
    // an answer has no other put in it
    workload: { concurrency: 1 },
  },
  "tells no more of a sequence after its first key": {
    planted: { methods: wrap("GetSequenceUpdates", (method) => sinking(method, stopping)) },
    message: /follows z[st] and was last told/,
    kinds: ["sequence"],
  },
};

for (const [name, { planted, message, kinds = [], workload: its = {} }] of Object.entries(BUGS)) {
  test(`a server that ${name} is found out within 50 seeds`, () => {
    const weights = { ...WEIGHTS, ...Object.fromEntries(kinds.map((kind) => [kind, 30])) };
    const workload = { weights, follow: FOLLOW, ...its };
    const found = Array.from({ length: 50 }, (_, seed) => seed).some((seed) => {
      try {
        run(seed, { faults: false, planted, workload });
        return false;
      } catch (error) {
        if (!(error instanceof BrokenPromise) && !(error instanceof NotLinearizable)) throw error;
        expect(error.message).toMatch(message);
        return true;
      }
    });
    expect(found).toBe(true);
  });
}

test("where any leader of before may answer, old answers are right", () => {
  const planted = { methods: wrap("Read", staleReads) };
  for (let seed = 0; seed < 10; seed++) run(seed, { faults: false, planted, readConsistency: "leader" });
});

/** The table with one method replaced. */
function wrap(name: string, replaced: (method: Method) => Method): NonNullable<Planted["methods"]> {
  return (methods) =>
    methods.map((served) =>
      served.paths[0]!.endsWith(`/${name}`) ? { ...served, method: replaced(served.method) } : served,
    );
}

type Change = (sink: Sink, message: Bytes, nth: number) => boolean;

/** A method whose answers, but for the first one, go another way. */
function sinking(method: Method, change: () => Change): Method {
  if (method.kind !== "server-stream") throw new Error(method.kind);
  return {
    kind: "server-stream",
    handle(request, call, sink) {
      const changed = change();
      let nth = 0;
      const send = (message: Bytes) => (nth++ === 0 ? sink.send(message) : changed(sink, message, nth));
      return method.handle(request, call, { send, drained: () => sink.drained() });
    },
  };
}

const dropping = (): Change => (sink, message, nth) => nth % 4 === 0 || sink.send(message);
const stopping = (): Change => () => true;
const doubling = (): Change => (sink, message) => {
  sink.send(message.slice());
  return sink.send(message);
};

function swapping(): Change {
  let held: Bytes | undefined;
  return (sink, message) => {
    if (held === undefined) {
      held = message;
      return true;
    }
    sink.send(message);
    const isFlowing = sink.send(held);
    held = undefined;
    return isFlowing;
  };
}

function staleReads(method: Method): Method {
  if (method.kind !== "server-stream") throw new Error(method.kind);
  const answers = new Map<string, Bytes>();
  let reads = 0;
  return {
    kind: "server-stream",
    handle(request, call, sink) {
      const asked = text(request);
      const before = answers.get(asked);
      if (before !== undefined && ++reads % 3 === 0) {
        sink.send(before.slice());
        return undefined;
      }
      const send = (message: Bytes) => {
        answers.set(asked, message.slice());
        return sink.send(message);
      };
      return method.handle(request, call, { send, drained: () => sink.drained() });
    },
  };
}

/** Every third answer that has a sequence's key is the one before it once more. */
function repeatedSequenceKeys(method: Method): Method {
  if (method.kind !== "bidi") throw new Error(method.kind);
  let before: Bytes | undefined;
  let answers = 0;
  return {
    ...method,
    open(call, controls) {
      const send = (message: Bytes) => {
        if (!text(message).includes("zs-0")) return controls.send(message);
        const told = before !== undefined && before.length === message.length && ++answers % 3 === 0 ? before : message;
        before = message.slice();
        return controls.send(told.slice());
      };
      const changed: BidiControls = {
        send,
        drained: () => controls.drained(),
        resume: () => controls.resume(),
        end: () => controls.end(),
        fail: (error) => controls.fail(error),
      };
      return method.open(call, changed);
    },
  };
}

/** The server sends heartbeats of its own for every session that has had one. */
function immortalSessions(methods: readonly ServedMethod[], life: Life): readonly ServedMethod[] {
  return wrap("CreateSession", (method) => {
    if (method.kind !== "unary") throw new Error(method.kind);
    const keepAlive = methods.find(({ paths }) => paths[0]!.endsWith("/KeepAlive"))!.method;
    if (keepAlive.kind !== "unary") throw new Error(keepAlive.kind);
    const handle: typeof method.handle = async (request, call) => {
      const answer = await method.handle(request, call);
      const shard = request[0] === 0x08 ? request[1]! : 0;
      const id = answer[0] === 0x08 ? answer[1]! : 0;
      const beat = () => {
        life.clock.after(500, beat);
        void Promise.resolve(keepAlive.handle(sessionFrame(shard, id).subarray(5), call)).catch(() => {});
      };
      beat();
      return answer;
    };
    return { kind: "unary", handle };
  })(methods, life);
}

/** Loses every fifth put of such a key. */
function losing(isConcerned: (key: string) => boolean): (keyValue: KeyValue) => KeyValue {
  return (keyValue) => {
    let puts = 0;
    const isLost = (key: Bytes) => isConcerned(text(key)) && ++puts % 5 === 0;
    return overridden(keyValue, {
      put: (key: Bytes, row: Bytes) => {
        if (!isLost(key)) keyValue.put(key, row);
      },
      putNew: (key: Bytes, row: Bytes) => {
        if (!isLost(key)) keyValue.putNew(key, row);
      },
    });
  };
}

function forgettingNotifications(keyValue: KeyValue): KeyValue {
  let commits = 0;
  return overridden(keyValue, {
    commit: (...[state, told]: Parameters<KeyValue["commit"]>) =>
      keyValue.commit(state, ++commits % 6 === 0 ? undefined : told),
  });
}

/** Forgets every tenth time what the last version was. */
function staleVersions(keyValue: KeyValue): () => KeyValue["applied"] {
  let asked = 0;
  return () => {
    const { applied } = keyValue;
    return ++asked % 10 === 0 && applied.versionId > 0 ? { ...applied, versionId: applied.versionId - 1 } : applied;
  };
}

/** The state with some of its members replaced; `applied` by what a function gives. */
function overridden(keyValue: KeyValue, members: { readonly [name: string]: unknown }): KeyValue {
  return new Proxy(keyValue, {
    get(target, name) {
      const member = members[String(name)];
      if (name === "applied" && typeof member === "function") return member();
      if (member !== undefined) return member;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
