/**
 * All that a seed decides about a run before it begins: the cluster, how its network and disks behave, and the faults,
 * each with draws of its own. So any of them can be left out, and the others stay as they are: a failing run is shrunk
 * by leaving out what it does not need.
 */
import type { ReadConsistency } from "../../src/model/peer-messages.ts";
import { CALM_DISK, type DiskRates, drawDiskRates } from "./disk.ts";
import { type MixName, withMix } from "./mixes.ts";
import { CALM, drawNetworkRates, type NetworkRates } from "./network-rates.ts";
import { SimRandom } from "./random.ts";

export const FAULT_KINDS = [
  // processes
  "kill",
  "power cut",
  "kill all",
  "power cut of all",
  "pause",
  "suspend",
  "coordinator killed",
  "coordinator paused",
  "node of another cluster",
  "request repeated",
  // disks
  "disk lost",
  "disk set back",
  "log bit flipped",
  "state bit flipped",
  "watermark bit flipped",
  "promises bit flipped",
  "file lost",
  "write misdirected",
  "I/O error",
  "disk full",
  "slow disk",
  // network
  "link cut",
  "isolated",
  "divided",
  "swizzle",
  "slow link",
  "connections reset",
  "coordinator cut off",
  "store cut off",
  // time
  "clock jumps",
  "clock drifts",
  // what an operator asks
  "swap asked",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** One fault, to begin at a step of the run. */
export interface PlannedFault {
  readonly step: number;
  readonly kind: FaultKind;
  /** What it draws: whom it hits, and how. */
  readonly seed: number;
  /** Until it is undone, where it is; faults that stop are undone too. */
  readonly durationMs: number;
}

export interface NamespacePlan {
  readonly name: string;
  readonly replicationFactor: number;
  readonly shards: number;
  readonly readConsistency: ReadConsistency;
}

/** Sizes that are far from the usual ones, so that what is rare is not. */
export interface Knobs {
  readonly segmentEntriesMax: number;
  /** 0: the log is trimmed as soon as the state allows. */
  readonly logRetentionMs: number;
  readonly flushCommits: number;
  readonly ballastBytes: number;
  readonly notificationsRetentionMs: number;
}

export interface ClusterPlan {
  readonly seed: number;
  readonly dataServers: number;
  readonly coordinators: number;
  readonly namespaces: readonly NamespacePlan[];
  readonly network: NetworkRates;
  readonly disk: DiskRates;
  readonly knobs: Knobs;
  readonly faults: readonly PlannedFault[];
  /** Longest pause between two operations of a client; undefined: as they draw it. */
  readonly pauseMs?: number;
}

export interface PlanOptions {
  readonly seed: number;
  /** Faults begin within so many steps. */
  readonly faultSteps: number;
  /** Its faults in the place of those that any run may have. */
  readonly mix?: MixName | undefined;
}

export const USUAL_KNOBS: Knobs = {
  segmentEntriesMax: 256,
  logRetentionMs: 3_600_000,
  flushCommits: 64,
  ballastBytes: 4_096,
  notificationsRetentionMs: 3_600_000,
};

const FAULTS_MAX = 24;

export function drawPlan({ seed, faultSteps, mix }: PlanOptions): ClusterPlan {
  const random = new SimRandom(seed).split("plan");
  const plan = drawUsualPlan(random, seed, faultSteps);
  return mix === undefined ? plan : withMix(plan, mix, random.split(mix), faultSteps);
}

function drawUsualPlan(random: SimRandom, seed: number, faultSteps: number): ClusterPlan {
  const dataServers = random.pick([3, 3, 3, 4, 4, 5]);
  return {
    seed,
    dataServers,
    coordinators: random.pick([1, 1, 2]),
    namespaces: drawNamespaces(random.split("namespaces"), dataServers),
    network: random.chance(0.15) ? CALM : drawNetworkRates(random.split("network")),
    disk: random.chance(0.15) ? CALM_DISK : drawDiskRates(random.split("disk")),
    knobs: drawKnobs(random.split("knobs")),
    faults: drawFaults(random.split("faults"), faultSteps),
  };
}

function drawNamespaces(random: SimRandom, dataServers: number): NamespacePlan[] {
  const shards = random.pick([1, 1, 2, 3]);
  const replicationFactor = Math.min(dataServers, random.pick([3, 3, 3, 3, 3, 3, 1, 2, 4, 5]));
  const readConsistency = random.chance(0.1) ? "leader" : "linearizable";
  return [{ name: "default", replicationFactor, shards, readConsistency }];
}

function drawKnobs(random: SimRandom): Knobs {
  return {
    segmentEntriesMax: random.pick([4, 16, 256]),
    logRetentionMs: random.pick([0, 1_000, 3_600_000]),
    flushCommits: random.pick([1, 8, 64]),
    ballastBytes: random.pick([1_024, 4_096]),
    notificationsRetentionMs: random.pick([1_000, 5_000, 3_600_000]),
  };
}

/** Some kinds alone, so that runs differ in what happens in them and not only in how often. */
function drawFaults(random: SimRandom, faultSteps: number): PlannedFault[] {
  const share = random.pick([0.1, 0.3, 0.6, 1]);
  const kinds = FAULT_KINDS.filter(() => random.chance(share));
  if (kinds.length === 0) return [];
  const count = random.int(0, FAULTS_MAX + 1);
  const faults = Array.from({ length: count }, (_, nth): PlannedFault => {
    const own = random.split(`fault ${nth}`);
    return {
      step: own.int(0, faultSteps),
      kind: own.pick(kinds),
      seed: own.bits32(),
      // up to a minute, short ones as likely as long ones
      durationMs: Math.ceil(100 * 600 ** own.unit()),
    };
  });
  return faults.sort((a, b) => a.step - b.step);
}

/** For messages: `12: step 340, pause for 512 ms`. */
export function describeFault({ step, kind, durationMs }: PlannedFault, nth: number): string {
  return `${nth}: step ${step}, ${kind}, ${durationMs} ms`;
}
