/**
 * A simulated cluster on which a story is played by hand: nothing happens to it but what the story does. The checkers of
 * the simulator watch as ever, and in the end all must be level and every write that was answered must still be there.
 */
import { utf8 } from "../../src/lib/bytes.ts";
import type { Refusal } from "../../src/model/refusal.ts";
import type { Leader } from "../../src/replication/leader.ts";
import type { Replica } from "../../src/replication/replica.ts";
import { decodeWrite } from "../../src/wire/requests.ts";
import { encodeWrite } from "../harness/client.ts";
import { Cluster, type DataServerMachine } from "../sim/cluster.ts";
import { CALM_DISK, type DiskCopy } from "../sim/disk.ts";
import { CALM } from "../sim/network-rates.ts";
import type { SimNode } from "../sim/node.ts";
import { type ClusterPlan, type Knobs, USUAL_KNOBS } from "../sim/plan.ts";
import { Settled } from "../sim/settled.ts";
import { Violation } from "../sim/violation.ts";

export interface StageOptions {
  readonly seed: number;
  readonly dataServers?: number;
  readonly coordinators?: number;
  readonly replicationFactor?: number;
  readonly knobs?: Partial<Knobs>;
}

/** The one shard, and where it is. */
export const PLACE = { namespace: "default", shard: 0 } as const;
/** What a story waits for comes within this time, or not at all. */
const WAIT_MS_MAX = 60_000;
/** Longer than anything that a story waits for. */
const FOR_LONG_MS = 3_600_000;

export class Stage {
  readonly cluster: Cluster;
  /** Keys of writes that were answered. */
  readonly #written: string[] = [];
  #writes = 0;

  constructor({ seed, dataServers = 3, coordinators = 1, replicationFactor = 3, knobs = {} }: StageOptions) {
    const namespace = { name: PLACE.namespace, replicationFactor, shards: 1, readConsistency: "linearizable" } as const;
    const plan: ClusterPlan = {
      seed,
      dataServers,
      coordinators,
      namespaces: [namespace],
      network: CALM,
      disk: CALM_DISK,
      knobs: { ...USUAL_KNOBS, ...knobs },
      faults: [],
    };
    this.cluster = new Cluster({ plan }).start();
  }

  // --- who is who -------------------------------------------------------------------------------------------------

  /** The stored leader's machine. */
  get leader(): DataServerMachine {
    const { leader } = this.stored;
    if (leader === undefined) throw new Error("the shard has no leader");
    return this.machine(leader);
  }

  /** Machines of members beside the leader. */
  get followers(): [DataServerMachine, DataServerMachine] {
    const { leader, members } = this.stored;
    const others = members.filter(({ server }) => server !== leader).map(({ server }) => this.machine(server));
    return others as [DataServerMachine, DataServerMachine];
  }

  /** A machine that holds no member. */
  get spare(): DataServerMachine {
    const { members } = this.stored;
    return this.cluster.dataServers.find(({ internal }) => members.every(({ server }) => server !== internal))!;
  }

  get stored() {
    return this.cluster.invariants.of(PLACE.shard).stored;
  }

  /** How many terms have been led. */
  get terms(): number {
    return this.cluster.invariants.of(PLACE.shard).terms;
  }

  get coordinator(): SimNode {
    return this.cluster.coordinators[0]!.node;
  }

  machine(internal: string): DataServerMachine {
    return this.cluster.dataServers.find((machine) => machine.internal === internal)!;
  }

  replica(machine: DataServerMachine): Replica | undefined {
    return machine.server?.replicas.replica(PLACE.shard);
  }

  // --- time -------------------------------------------------------------------------------------------------------

  pass(ms: number): void {
    const { scheduler } = this.cluster;
    scheduler.run({ untilMs: scheduler.nowMs + ms });
  }

  /** Runs until it is so. */
  until(what: string, isSo: () => boolean, withinMs = WAIT_MS_MAX): void {
    const { scheduler } = this.cluster;
    const ended = scheduler.run({ untilMs: scheduler.nowMs + withinMs, until: isSo });
    if (ended !== "until") throw new Violation("Story", `not within ${withinMs} ms: ${what}`);
  }

  /** Runs until every member is level with its leader. */
  settle(): void {
    const settled = new Settled(this.cluster, 0);
    try {
      this.until("the cluster settles", () => settled.isReached());
    } catch (error) {
      if (error instanceof Violation) throw new Violation("Liveness", settled.why);
      throw error;
    }
  }

  /** A leader of a later term than this serves. */
  untilLedAfter(term: number): void {
    this.until(`a term after ${term} is led`, () => this.stored.term > term && this.stored.leader !== undefined);
  }

  /** What must be so by now. */
  expect(what: string, isSo: boolean): void {
    if (!isSo) throw new Violation("Story", `it is not so that ${what}`);
  }

  // --- writes -----------------------------------------------------------------------------------------------------

  /** Writes, each answered before the next. */
  write(count = 1, machine = this.leader): void {
    for (let nth = 0; nth < count; nth++) {
      let isDone = false;
      this.offer(machine, () => {
        isDone = true;
      });
      this.until("a write is answered", () => isDone);
    }
  }

  /** One write that may be answered or not. */
  offer(machine: DataServerMachine, answered: () => void = () => {}): void {
    const leader = this.#serving(machine);
    const key = `key-${this.#writes++}`;
    const request = encodeWrite({
      puts: [{ kind: "put", key, value: utf8(key), expected: undefined }],
      deletes: [],
      deleteRanges: [],
    });
    const written = () => {
      this.#written.push(key);
      answered();
    };
    try {
      leader.write(decodeWrite(request), request).then(written, (_: Refusal) => {});
    } catch {
      // it takes none now
    }
  }

  #serving(machine: DataServerMachine): Leader {
    const leader = this.replica(machine)?.serving;
    if (leader === undefined) throw new Violation("Story", `${machine.internal} does not serve`);
    return leader;
  }

  // --- what happens -----------------------------------------------------------------------------------------------

  /** No message goes between the two groups. */
  cut(left: readonly SimNode[], right: readonly SimNode[]): void {
    this.cluster.network.partition(left, right);
  }

  /** All messages do again. */
  join(left: readonly SimNode[], right: readonly SimNode[]): void {
    for (const a of left) {
      for (const b of right) {
        this.cluster.network.heal(a, b);
        this.cluster.network.heal(b, a);
      }
    }
  }

  nodesBut(...machines: readonly DataServerMachine[]): SimNode[] {
    return this.cluster.nodes().filter((node) => machines.every((machine) => machine.node !== node));
  }

  /** Its power goes, for long unless it is started again. */
  powerOff(machine: DataServerMachine): void {
    machine.end("power", FOR_LONG_MS);
  }

  start(machine: DataServerMachine): void {
    machine.allowUp();
  }

  kill(machine: { end(how: "killed", downMs: number): void }, downMs: number): void {
    machine.end("killed", downMs);
  }

  /** Another disk is found at the next start: a copy of before, or an empty one. */
  replaceDisk(machine: DataServerMachine, copy: DiskCopy = { files: new Map() }): void {
    this.powerOff(machine);
    this.cluster.invariants.diskFault(machine.internal, true);
    machine.disk.restore(copy);
  }

  /** Its power goes, and these files with it. */
  loseFiles(machine: DataServerMachine, isLost: (name: string) => boolean): void {
    this.powerOff(machine);
    this.cluster.invariants.diskFault(machine.internal, false);
    for (const name of machine.disk.names()) if (isLost(name)) machine.disk.lose(name);
  }

  /** Asks for one server in the place of another. What becomes of it is the store's to say. */
  askSwap(from: DataServerMachine, to: DataServerMachine): void {
    const { coordinator, node } = this.cluster.coordinators[0]!;
    node.life!.spawn("swap", async () => {
      await coordinator!.swap(PLACE, from.internal, to.internal).catch(() => {});
    });
  }

  /** Runs a call to its end; what it is refused is answered. */
  call(what: string, ask: () => Promise<unknown>): unknown {
    let outcome: unknown;
    let hasEnded = false;
    const end = (answer: unknown) => {
      outcome = answer;
      hasEnded = true;
    };
    ask().then(end, end);
    this.until(`${what} is answered`, () => hasEnded);
    return outcome;
  }

  /** All faults end; all becomes level, and every write that was answered is there. */
  end(): void {
    this.cluster.heal();
    this.settle();
    const { kv } = this.replica(this.leader)!;
    for (const key of this.#written) {
      if (kv!.get(utf8(key)) === undefined) throw new Violation("LostWrite", `${key} was answered and is not there`);
    }
  }
}
