/** The runs that are made: which faults go together, and what else is special about them. */
import type { FaultName } from "./faults.ts";
import type { RunOptions } from "./run.ts";

export type Plan = Pick<RunOptions, "faults" | "servers" | "bootstrap" | "fillMiB" | "noFailures">;

export const PLANS = {
  kills: { faults: ["leader-killed", "follower-killed", "coordinator-killed", "coordinator-and-leader-killed"] },
  "kills-of-many": { faults: ["all-killed", "majority-killed", "restarted-fast"], bootstrap: true },
  stops: { faults: ["leader-stopped", "follower-stopped", "coordinator-stopped", "stopped-in-turn"] },
  "long-stops": { faults: ["leader-stopped-long"] },
  partitions: { faults: ["leader-isolated", "coordinator-isolated", "pair-cut", "ring-cut"] },
  "one-way-partitions": { faults: ["leader-deaf", "leader-mute", "pair-cut"] },
  "five-servers": {
    faults: ["leader-killed", "leader-stopped", "leader-isolated", "all-killed", "disk-wiped"],
    servers: 5,
  },
  "lost-disks": { faults: ["disk-wiped", "killed-during-snapshot"], fillMiB: 32 },
  "old-disks": { faults: ["disk-rolled-back", "leader-killed"] },
  "damaged-disks": { faults: ["bits-flipped", "device-error"] },
  "full-disks": { faults: ["disk-full"] },
  "rolling-restart": { faults: ["rolling-restart"], noFailures: true },
} as const satisfies Record<string, Plan & { readonly faults: readonly FaultName[] }>;

export type PlanName = keyof typeof PLANS;

export const PLAN_NAMES = Object.keys(PLANS) as PlanName[];

export function isPlanName(name: string): name is PlanName {
  return Object.hasOwn(PLANS, name);
}
