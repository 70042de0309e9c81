/**
 * The faults of a simulated cluster: what each kind does to whom it hits, and how it is undone. Whom it hits is drawn
 * from the fault's own seed. Disks are damaged only as far as the budget allows: where it does not, the process just
 * loses its power.
 */
import type { Cluster, DataServerMachine } from "./cluster.ts";
import { CALM_DISK } from "./disk.ts";
import { damageDisk } from "./disk-faults.ts";
import type { Machine } from "./machine.ts";
import type { SimNode } from "./node.ts";
import type { FaultKind, PlannedFault } from "./plan.ts";
import { SimRandom } from "./random.ts";

interface FaultContext {
  readonly cluster: Cluster;
  readonly random: SimRandom;
  readonly durationMs: number;
  /** Calls this when the fault has lasted. */
  readonly later: (undo: () => void) => void;
}

const LEADER_CHANCE = 0.4;
/** Operations of a disk, of which a commit takes some five, until the power is lost at one of them. */
const OPERATIONS_TO_POWER_CUT_MAX = 100;

type Inject = (context: FaultContext) => void;

/** Lets a planned fault happen now. */
export function inject(cluster: Cluster, { kind, seed, durationMs }: PlannedFault): void {
  const { scheduler } = cluster;
  scheduler.trace.event(scheduler.nowMs, "", `fault: ${kind}`, seed);
  const later = (undo: () => void) => void scheduler.after(durationMs, `over: ${kind}`, undo);
  INJECT[kind]({ cluster, random: new SimRandom(seed), durationMs, later });
}

const INJECT: Readonly<Record<FaultKind, Inject>> = {
  kill: (context) => endOne(context, serverOf(context), "killed"),
  "power cut": powerCut,
  "kill all": (context) => endAll(context, "killed"),
  "power cut of all": (context) => endAll(context, "power"),
  pause: (context) => stop(context, serverOf(context), false),
  suspend: (context) => stop(context, serverOf(context), true),
  "coordinator killed": (context) => {
    disturbCoordinators(context);
    endOne(context, context.random.pick(context.cluster.coordinators), "killed");
  },
  "coordinator paused": (context) => {
    disturbCoordinators(context);
    stop(context, context.random.pick(context.cluster.coordinators), false);
  },
  "node of another cluster": (context) => {
    const machine = serverOf(context);
    machine.runForeign();
    context.later(() => machine.runOwn());
  },
  "disk lost": (context) => damageDisk(context, "lost"),
  "disk set back": setBack,
  "log bit flipped": (context) => damageDisk(context, "log"),
  "state bit flipped": (context) => damageDisk(context, "state"),
  "watermark bit flipped": (context) => damageDisk(context, "watermark"),
  "promises bit flipped": (context) => damageDisk(context, "promises"),
  "file lost": (context) => damageDisk(context, "file"),
  "write misdirected": (context) => damageDisk(context, "misdirected"),
  "I/O error": (context) => serverOf(context).storage.failAfter(context.random.int(1, 40)),
  "disk full": diskFull,
  "slow disk": slowDisk,
  "link cut": ({ cluster, random, later }) => {
    const [from, to] = twoOf(random, cluster.nodes());
    cluster.network.cut(from, to);
    later(() => cluster.network.heal(from, to));
  },
  isolated: (context) => {
    const { node } = serverOf(context);
    partition(
      context,
      [node],
      context.cluster.nodes().filter((other) => other !== node),
    );
  },
  divided,
  swizzle,
  "slow link": ({ cluster, random, later }) => {
    const [from, to] = twoOf(random, cluster.nodes());
    cluster.network.slow(from, to, random.pick([10, 100, 1_000]));
    later(() => cluster.network.slow(from, to, 1));
  },
  "connections reset": ({ cluster, random }) => {
    const [a, b] = twoOf(random, cluster.nodes());
    cluster.network.reset(a, b);
  },
  "coordinator cut off": (context) => {
    disturbCoordinators(context);
    const { cluster, random } = context;
    const some = cluster.dataServers.filter(() => random.chance(0.6)).map(({ node }) => node);
    partition(context, [random.pick(cluster.coordinators).node], some);
  },
  "store cut off": (context) => {
    disturbCoordinators(context);
    const { cluster, random, later } = context;
    const { node } = random.pick(cluster.coordinators);
    // changes go through, and their answers do not; or neither
    cluster.network.cut(cluster.store, node);
    if (random.chance(0.5)) cluster.network.cut(node, cluster.store);
    later(() => {
      cluster.network.heal(cluster.store, node);
      cluster.network.heal(node, cluster.store);
    });
  },
  "clock jumps": ({ cluster, random }) => random.pick(cluster.nodes()).time.jump(random.between(-3_600_000, 3_600_000)),
  "clock drifts": ({ cluster, random, later }) => {
    const { time } = random.pick(cluster.nodes());
    time.drift(random.between(0.95, 1.05));
    later(() => time.drift(1));
  },
  "swap asked": ({ cluster, random }) => cluster.askSwap(random),
  "request repeated": (context) => serverOf(context).repeatCall(context.random),
};

/** A data server; now and then one that leads, as the store has it: there is most to be broken. */
export function serverOf({ cluster, random }: FaultContext): DataServerMachine {
  const any = random.pick(cluster.dataServers);
  if (!random.chance(LEADER_CHANCE)) return any;
  const leaders = [...cluster.invariants.shards().values()].map(({ stored }) => stored.leader);
  const leader = random.pick([...leaders, any.internal]);
  return cluster.dataServers.find(({ internal }) => internal === leader) ?? any;
}

function twoOf(random: SimRandom, nodes: readonly SimNode[]): readonly [SimNode, SimNode] {
  const [a, b] = random.shuffled(nodes);
  return [a!, b!];
}

// --- processes ------------------------------------------------------------------------------------------------------

function endOne({ durationMs }: FaultContext, machine: Machine, how: "killed" | "power"): void {
  machine.end(how, durationMs);
}

/** Between two events, or in the middle of a write where the disk can do so. */
function powerCut(context: FaultContext): void {
  const machine = serverOf(context);
  const { storage } = machine;
  if (storage.losePowerAt === undefined || context.random.chance(0.5)) endOne(context, machine, "power");
  else storage.losePowerAt(context.random.int(1, OPERATIONS_TO_POWER_CUT_MAX));
}

function endAll({ cluster, random, durationMs }: FaultContext, how: "killed" | "power"): void {
  for (const machine of cluster.dataServers) machine.end(how, random.between(0, Math.min(durationMs, 5_000)));
}

function stop({ later }: FaultContext, { node }: Machine, freezeClocks: boolean): void {
  node.pause({ freezeClocks });
  later(() => node.resume());
}

function disturbCoordinators({ cluster, durationMs }: FaultContext): void {
  cluster.budget.coordinatorDisturbed(cluster.scheduler.nowMs + durationMs);
}

// --- disks ----------------------------------------------------------------------------------------------------------

/**
 * An older copy of the whole disk comes back. Only one that is older than the last stamp that its server has confirmed
 * can be told (safety.md §1), so only such a one is used.
 */
function setBack(context: FaultContext): void {
  const { cluster, later } = context;
  const machine = serverOf(context);
  const stamp = machine.stamp;
  if (stamp === undefined) return;
  const setBackTo = machine.storage.backUp();
  later(() => {
    const { internal } = machine;
    if (cluster.invariants.confirmedStamp(internal) <= stamp || !cluster.budget.allows(internal)) return;
    machine.end("power", 100);
    cluster.budget.spend(internal, true);
    setBackTo();
  });
}

function diskFull(context: FaultContext): void {
  const { storage } = serverOf(context);
  storage.limit(storage.usedBytes + context.random.int(0, 2_000));
  context.later(() => storage.limit());
}

function slowDisk(context: FaultContext): void {
  const { cluster, random, later } = context;
  const { storage } = serverOf(context);
  const typicalMs = random.pick([50, 500]);
  storage.rates = { ...cluster.plan.disk, sync: { minMs: 1, typicalMs, maxMs: 5_000, tailChance: 0.1 } };
  later(() => {
    storage.rates = cluster.isHealed ? CALM_DISK : cluster.plan.disk;
  });
}

// --- network --------------------------------------------------------------------------------------------------------

function partition({ cluster, later }: FaultContext, left: readonly SimNode[], right: readonly SimNode[]): void {
  cluster.network.partition(left, right);
  later(() => heal(cluster, left, right));
}

function heal({ network }: Cluster, left: readonly SimNode[], right: readonly SimNode[]): void {
  for (const a of left) {
    for (const b of right) {
      network.heal(a, b);
      network.heal(b, a);
    }
  }
}

/** Each server reaches its neighbours in a ring alone: a majority, another one for each. */
function divided(context: FaultContext): void {
  const { cluster, random } = context;
  const ring = random.shuffled(cluster.dataServers.map(({ node }) => node));
  for (const [nth, node] of ring.entries()) {
    const far = ring.filter((_, other) => other > nth + 1 && !(nth === 0 && other === ring.length - 1));
    if (far.length > 0) partition(context, [node], far);
  }
  if (ring.length === 3) partition(context, [ring[0]!], [ring[1]!]);
}

/** Links to one after the other are cut, and healed in another order. */
function swizzle({ cluster, random, durationMs }: FaultContext): void {
  const { scheduler, network } = cluster;
  const nodes = random.shuffled(cluster.nodes()).slice(0, random.int(2, 5));
  for (const [index, node] of nodes.entries()) {
    const others = cluster.nodes().filter((other) => other !== node);
    const cutMs = (durationMs * (index + 1)) / (2 * nodes.length);
    scheduler.after(cutMs, "swizzle", () => {
      if (!cluster.isHealed) network.partition([node], others);
    });
    const healMs = durationMs * random.between(0.5, 1);
    scheduler.after(healMs, "unswizzle", () => heal(cluster, [node], others));
  }
}

export type { FaultContext };
