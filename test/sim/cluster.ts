/**
 * A whole cluster in one process: data servers and coordinators, each on a machine of its own, and the coordinators'
 * store on another, on one simulated network. What runs in the machines is the code of src/; the checkers watch its log
 * and state ports (watched-log.ts, watched-key-values.ts).
 */
import { ClusterInvariants } from "./cluster-invariants.ts";
import { type CoordinatorMachine, newCoordinatorMachine } from "./coordinator-machine.ts";
import { type DataServerMachine, newDataServerMachine } from "./data-server-machine.ts";
import { CALM_DISK } from "./disk.ts";
import type { Owner } from "./event-heap.ts";
import { FaultBudget } from "./fault-budget.ts";
import { SimMetadata } from "./metadata-store.ts";
import { ModelStorage } from "./model-storage.ts";
import { Network } from "./network.ts";
import { CALM } from "./network-rates.ts";
import { SimNode } from "./node.ts";
import type { ClusterPlan } from "./plan.ts";
import { SimRandom } from "./random.ts";
import { Scheduler } from "./scheduler.ts";
import type { NewStorage, ServerStorage } from "./server-storage.ts";
import { Trace } from "./trace.ts";

export interface ClusterOptions {
  readonly plan: ClusterPlan;
  /** So many of the last events are kept as text. */
  readonly linesMax?: number;
  /** What data servers store on; default: simulated disks. */
  readonly newStorage?: NewStorage | undefined;
}

export const STORE_ADDRESS = "store:1";

export class Cluster {
  readonly plan: ClusterPlan;
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly random: SimRandom;
  readonly invariants: ClusterInvariants;
  readonly budget: FaultBudget;
  readonly metadata = new SimMetadata();
  /** When the last leadership of a shard began, by shard. */
  readonly ledSince = new Map<number, number>();
  /** The machine of the coordinators' store: it never fails, but it may be out of reach. */
  readonly store: SimNode;
  readonly dataServers: readonly DataServerMachine[];
  readonly coordinators: readonly CoordinatorMachine[];
  #healed = false;

  constructor({ plan, linesMax = 0, newStorage = (options) => new ModelStorage(options) }: ClusterOptions) {
    this.plan = plan;
    this.random = new SimRandom(plan.seed);
    this.scheduler = new Scheduler({ trace: new Trace({ seed: plan.seed, linesMax, command: "bun run sim" }) });
    this.network = new Network(this.scheduler, this.random.split("network"), plan.network);
    const nowMs = () => this.scheduler.nowMs;
    this.invariants = new ClusterInvariants((violation) => this.scheduler.fail(violation), nowMs);
    this.budget = new FaultBudget(this.invariants, nowMs);
    this.store = this.#node("store");
    this.dataServers = Array.from({ length: plan.dataServers }, (_, nth) =>
      newDataServerMachine(this, this.#node(`s${nth + 1}`), newStorage),
    );
    this.coordinators = Array.from({ length: plan.coordinators }, (_, nth) =>
      newCoordinatorMachine(this, this.#node(`c${nth + 1}`)),
    );
    this.metadata.changed = (entries) => this.invariants.stored(entries);
    this.scheduler.onStep = (owner) => this.#watchStatus(owner);
  }

  /** Starts everything. */
  start(): this {
    this.network.channel(this.store.start()).listen(STORE_ADDRESS, this.metadata.service());
    for (const machine of [...this.dataServers, ...this.coordinators]) machine.start();
    return this;
  }

  /** All machines of the cluster itself. */
  nodes(): readonly SimNode[] {
    return [...this.dataServers, ...this.coordinators].map(({ node }) => node);
  }

  get isHealed(): boolean {
    return this.#healed;
  }

  /** Asks a coordinator to put another server in the place of one of a shard's. */
  askSwap(random: SimRandom): void {
    random.pick(this.coordinators).askSwap(random);
  }

  /**
   * Faults stop: all that was done to machines, disks and links is undone, and nothing more is lost or late. Two
   * coordinators of one store are a fault too: one of them is left, and opens the store anew.
   */
  heal(): void {
    this.#healed = true;
    const [last, ...others] = this.random.split("heal").shuffled(this.coordinators);
    for (const machine of others) machine.retire();
    last?.end("killed", 0);
    this.network.rates = CALM;
    this.network.healAll();
    const nodes = [...this.nodes(), this.store];
    for (const from of nodes) for (const to of nodes) this.network.slow(from, to, 1);
    for (const { storage } of this.dataServers) healDisk(storage);
    for (const node of this.nodes()) {
      node.resume();
      node.time.drift(1);
    }
    for (const machine of this.dataServers) machine.runOwn();
    for (const machine of [...this.dataServers, last]) {
      machine?.allowUp();
    }
  }

  /** A machine that clients or a test bring along. */
  addNode(name: string): SimNode {
    return this.#node(name);
  }

  #node(name: string): SimNode {
    const node = new SimNode(this.scheduler, name);
    this.network.attach(node);
    return node;
  }

  /** Only the process whose event it was can have changed anything. */
  #watchStatus(owner: Owner | undefined): void {
    for (const machine of this.dataServers) if (machine.node.life === owner) machine.watchStatus();
  }
}

function healDisk(storage: ServerStorage): void {
  storage.rates = CALM_DISK;
  storage.limit();
  storage.failAfter();
}

export type { DataServerMachine } from "./data-server-machine.ts";
