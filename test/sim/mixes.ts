/**
 * Named mixes of faults: what a run is made of when it is to meet one kind of trouble again and again, where a run of
 * the usual plan meets a bit of everything. Planted bugs that need it say so (mutants.ts); without one, runs of each mix
 * are as clean as any.
 */
import { CALM_DISK } from "./disk.ts";
import { CALM } from "./network-rates.ts";
import type { ClusterPlan, FaultKind, PlannedFault } from "./plan.ts";
import type { SimRandom } from "./random.ts";

interface Mix {
  /** Each as often as it is named. */
  readonly kinds: readonly FaultKind[];
  readonly faults: number;
  readonly durationMsMax: number;
  readonly dataServers: number;
  readonly coordinators: number;
  readonly duplicateChance: number;
  /** Longest pause between two operations of a client. */
  readonly pauseMs: number;
}

export const MIXES = {
  /** Processes that end all the time, calls that come twice, or once more much later. */
  crashes: {
    kinds: ["kill", "kill", "power cut", "power cut", "power cut of all", "kill all", "I/O error", "request repeated"],
    faults: 40,
    durationMsMax: 3_000,
    dataServers: 3,
    coordinators: 1,
    duplicateChance: 0.2,
    pauseMs: 50,
  },
  /** Ensembles that change all the time. */
  swaps: {
    kinds: ["swap asked", "swap asked", "swap asked", "kill", "isolated", "coordinator killed", "request repeated"],
    faults: 30,
    durationMsMax: 3_000,
    dataServers: 4,
    coordinators: 1,
    duplicateChance: 0.1,
    pauseMs: 1_000,
  },
  /** Disks that are lost, come back as they were, or are damaged, while others lag behind. */
  disks: {
    kinds: [
      "disk lost",
      "disk set back",
      "promises bit flipped",
      "log bit flipped",
      "file lost",
      "isolated",
      "power cut",
      "power cut of all",
      "I/O error",
      "swap asked",
    ],
    faults: 40,
    durationMsMax: 20_000,
    dataServers: 4,
    coordinators: 1,
    duplicateChance: 0.05,
    pauseMs: 200,
  },
  /** Files that are written anew while the power goes: states that are sent, logs that are rolled and trimmed. */
  files: {
    kinds: [
      "power cut",
      "power cut",
      "power cut",
      "power cut of all",
      "I/O error",
      "I/O error",
      "kill",
      "swap asked",
      "swap asked",
      "disk lost",
    ],
    faults: 40,
    durationMsMax: 2_000,
    dataServers: 4,
    coordinators: 1,
    duplicateChance: 0.05,
    pauseMs: 50,
  },
  /** Leaders that are cut off while clients reach them. */
  partitions: {
    kinds: ["isolated", "isolated", "divided", "link cut", "swizzle", "pause", "connections reset"],
    faults: 30,
    durationMsMax: 10_000,
    dataServers: 3,
    coordinators: 1,
    duplicateChance: 0.05,
    pauseMs: 20,
  },
  /** Two coordinators at odds. */
  rivals: {
    kinds: ["coordinator paused", "coordinator cut off", "store cut off", "coordinator killed", "kill", "swap asked"],
    faults: 40,
    durationMsMax: 5_000,
    dataServers: 4,
    coordinators: 2,
    duplicateChance: 0.1,
    pauseMs: 200,
  },
} as const satisfies Readonly<Record<string, Mix>>;

export type MixName = keyof typeof MIXES;

export function isMixName(name: string): name is MixName {
  return Object.hasOwn(MIXES, name);
}

/** The plan of the same seed with the mix's faults in the place of its own. */
export function withMix(plan: ClusterPlan, mix: MixName, random: SimRandom, faultSteps: number): ClusterPlan {
  const { kinds, faults, durationMsMax, dataServers, coordinators, duplicateChance, pauseMs }: Mix = MIXES[mix];
  const drawFault = (_: unknown, nth: number): PlannedFault => {
    const own = random.split(`fault ${nth}`);
    return {
      step: own.int(0, faultSteps),
      kind: own.pick(kinds),
      seed: own.bits32(),
      durationMs: Math.ceil(50 * (durationMsMax / 50) ** own.unit()),
    };
  };
  const [namespace] = plan.namespaces;
  return {
    ...plan,
    pauseMs,
    dataServers,
    coordinators,
    namespaces: [{ ...namespace!, replicationFactor: 3, shards: 1, readConsistency: "linearizable" }],
    network: { ...(random.chance(0.5) ? plan.network : CALM), duplicateChance },
    disk: random.chance(0.5) ? plan.disk : CALM_DISK,
    faults: Array.from({ length: random.int(0, faults + 1) }, drawFault).sort((a, b) => a.step - b.step),
  };
}
