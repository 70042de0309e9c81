/**
 * The parts of the simulator together, on the smallest thing that is worth checking: one server that keeps registers in
 * its log, clients on other machines, and whatever may happen to all of them. Also how to use them: `run` is the whole
 * of it. The server's planted bugs show that the parts find what they are there to find.
 */
import { expect, test } from "bun:test";
import { text, utf8 } from "../../src/lib/bytes.ts";
import { type LogEntry, NO_TERM } from "../../src/model/ids.ts";
import { drawDiskRates, SimDisk } from "./disk.ts";
import { type FoundRecord, History, type Operation, type Outcome } from "./history.ts";
import { checkLinearizable, NotLinearizable } from "./linearizability.ts";
import { openMemoryLog } from "./memory-log.ts";
import { Network } from "./network.ts";
import { CALM, drawNetworkRates } from "./network-rates.ts";
import { type Life, SimNode } from "./node.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

type Bug = "none" | "acknowledges before it is durable" | "applies before it is durable" | "carries out repeats";

interface Request {
  /** Of the client's making: what arrives twice is carried out once. */
  readonly id: string;
  readonly operation: Operation;
}

/** What the log's entries make of the registers. */
class Registers {
  readonly #records = new Map<string, FoundRecord>();
  readonly #answered = new Map<string, Outcome>();

  apply({ offset, value }: LogEntry, bug: Bug): Outcome {
    const { id, operation } = JSON.parse(text(value)) as Request;
    const answered = this.#answered.get(id);
    if (answered !== undefined && bug !== "carries out repeats") return answered;
    const outcome = this.#change(operation, offset);
    this.#answered.set(id, outcome);
    return outcome;
  }

  get(key: string): Outcome {
    const record = this.#records.get(key);
    return record === undefined ? { status: "KEY_NOT_FOUND" } : { status: "OK", record };
  }

  #change(operation: Operation, version: number): Outcome {
    if (operation.kind !== "put" && operation.kind !== "delete") throw new Error(operation.kind);
    const { key, expected } = operation;
    const record = this.#records.get(key);
    if (operation.kind === "delete" && record === undefined) return { status: "KEY_NOT_FOUND" };
    if (expected !== undefined && expected !== (record?.version ?? -1)) return { status: "UNEXPECTED_VERSION_ID" };
    if (operation.kind === "delete") this.#records.delete(key);
    else this.#records.set(key, { key, value: operation.value, version });
    return operation.kind === "delete" ? { status: "OK" } : { status: "OK", version };
  }
}

interface Cluster {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly server: SimNode;
  readonly disk: SimDisk;
  readonly random: SimRandom;
  readonly bug: Bug;
}

/** The server's process: recovers, then serves. */
async function serve({ network, disk, random, bug }: Cluster, life: Life): Promise<void> {
  const options = { life, disk: disk.mount(life), random: random.split(`log ${life.number}`) };
  const log = await openMemoryLog({ ...options, retentionMs: 3_600_000, segmentEntriesMax: 16 });
  if (log.replicas().length === 0) await log.create(0, { replicaId: random.bits63(), mintedTerm: NO_TERM });
  const term = log.replicas()[0]!.promise + 1;
  const head = await log.promise(0, term);
  const registers = new Registers();
  for (let next = 0; next <= head.offset; ) {
    const entries = await log.read(0, next);
    for (const entry of entries) registers.apply(entry, bug);
    next += entries.length;
  }
  let offset = head.offset;
  network.channel(life).listen("server:1", {
    async unary(_, request) {
      const { operation } = request as Request;
      if (operation.kind === "get") return registers.get(operation.key);
      const value = utf8(JSON.stringify(request));
      const entry: LogEntry = { term, offset: ++offset, timestamp: life.clock.now(), value };
      const durable = log.append(0, entry);
      if (bug === "acknowledges before it is durable") return registers.apply(entry, bug);
      if (bug !== "applies before it is durable") await durable;
      const outcome = registers.apply(entry, bug);
      await durable;
      return outcome;
    },
  });
}

async function client({ scheduler, network, random }: Cluster, node: SimNode, history: History): Promise<void> {
  const draws = random.split(node.name);
  const channel = network.channel(node.start());
  const versions = new Map<string, number>();
  for (let n = 0; n < 40; n++) {
    await scheduler.sleep(draws.between(0, 100));
    const key = draws.pick(["a", "b", "c"]);
    const id = `${node.name}/${n}`;
    const expected = draws.chance(0.4) ? { expected: versions.get(key) ?? -1 } : {};
    const operation: Operation = draws.pick([
      { kind: "put", key, value: id, ...expected },
      { kind: "put", key, value: id, ...expected },
      { kind: "delete", key, ...expected },
      { kind: "get", key },
      { kind: "get", key },
    ] as const);
    const pending = history.invoke(node.name, operation);
    try {
      const outcome = (await channel.unary("server:1", "Do", { id, operation }, { timeoutMs: 1_000 })) as Outcome;
      pending.returned(outcome);
      const version = outcome.status === "OK" ? (outcome.version ?? outcome.record?.version) : undefined;
      if (version !== undefined) versions.set(key, version);
    } catch {
      pending.unknown();
    }
  }
}

async function injectFaults(cluster: Cluster, nodes: readonly SimNode[]): Promise<void> {
  const { scheduler, network, server, disk } = cluster;
  const random = cluster.random.split("faults");
  for (let n = 0; n < 15; n++) {
    await scheduler.sleep(random.between(0, 300));
    const node = random.pick(nodes);
    const fault = random.int(0, 8);
    if (fault === 0) network.cut(server, node);
    if (fault === 1) network.cut(node, server);
    if (fault === 2) network.healAll();
    if (fault === 3) server.pause();
    if (fault === 4) server.time.jump(random.between(-3_600_000, 3_600_000));
    if (fault === 5) disk.failAfter(random.int(1, 10));
    if (fault >= 6) server.end(fault === 6 ? "killed" : "power");
    if (random.chance(0.5)) server.resume();
    if (server.life === undefined) start(cluster);
  }
  server.resume();
  network.healAll();
  network.rates = CALM;
  disk.failAfter();
  if (server.life === undefined) start(cluster);
}

function start(cluster: Cluster): void {
  const life = cluster.server.start();
  life.spawn("serve", () => serve(cluster, life));
}

/** One seed, judged. Answers its trace. */
function run(seed: number, bug: Bug = "none"): string {
  const random = new SimRandom(seed);
  const scheduler = new Scheduler({ trace: new Trace({ seed, linesMax: 100 }) });
  const network = new Network(scheduler, random.split("network"), drawNetworkRates(random.split("rates")));
  const server = new SimNode(scheduler, "server");
  const disk = new SimDisk(server, random.split("disk"), drawDiskRates(random.split("disk rates")));
  const clients = [1, 2, 3, 4].map((n) => new SimNode(scheduler, `client ${n}`));
  for (const node of [server, ...clients]) network.attach(node);
  const cluster: Cluster = { scheduler, network, server, disk, random, bug };
  const history = new History();
  start(cluster);
  for (const node of clients) scheduler.spawn(node.name, () => client(cluster, node, history));
  scheduler.spawn("faults", () => injectFaults(cluster, clients));
  scheduler.finish();
  // after the faults have stopped, whatever happened: it serves
  const life = clients[0]!.life!;
  const last = history.invoke("last", { kind: "get", key: "a" });
  const asked = { id: "last", operation: { kind: "get", key: "a" } };
  last.returned(
    scheduler.complete("last", () => network.channel(life).unary("server:1", "Do", asked), 30_000) as Outcome,
  );
  checkLinearizable(history.entries());
  return scheduler.trace.hash;
}

test("a server that does it right is found right, whatever happens, and each seed runs the same way twice", () => {
  const hashes = Array.from({ length: 100 }, (_, seed) => run(seed));
  expect(Array.from({ length: 100 }, (_, seed) => run(seed))).toEqual(hashes);
  expect(new Set(hashes).size).toBe(100);
});

for (const bug of [
  "acknowledges before it is durable",
  "applies before it is durable",
  "carries out repeats",
] as const) {
  test(`a server that ${bug} is found out within 200 seeds`, () => {
    const isFound = (seed: number) => {
      try {
        run(seed, bug);
        return false;
      } catch (error) {
        if (error instanceof NotLinearizable) return true;
        throw error;
      }
    };
    expect(Array.from({ length: 200 }, (_, seed) => seed).some(isFound)).toBe(true);
  });
}
