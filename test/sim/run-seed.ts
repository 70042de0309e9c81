/**
 * One seed: a cluster, clients and faults, as its plan says; then the faults stop, and everything has to come to rest.
 * The answer is plain data: a worker process sends it to whoever counts.
 */
import { startWorkload, type Workload } from "./client/workload.ts";
import { drawWorkload } from "./client/workload-options.ts";
import { Cluster } from "./cluster.ts";
import { inject } from "./faults.ts";
import type { MixName } from "./mixes.ts";
import { drawPlan, type FaultKind } from "./plan.ts";
import { SimulationStuck } from "./scheduler.ts";
import type { NewStorage } from "./server-storage.ts";
import { Settled } from "./settled.ts";
import { Violation } from "./violation.ts";

export interface SeedOptions {
  readonly seed: number;
  /** Events of the whole run: faults happen in the first part of them, and the last part is for coming to rest. */
  readonly steps: number;
  /** Faults of the plan that are left out, by their places in it. */
  readonly without?: ReadonlySet<number>;
  /** So many of the last events come with a failure. */
  readonly linesMax?: number;
  readonly mix?: MixName | undefined;
  /** What data servers store on; default: simulated disks. */
  readonly newStorage?: NewStorage | undefined;
}

export interface SeedResult {
  readonly seed: number;
  readonly steps: number;
  readonly simulatedMs: number;
  /** 16 hex digits over all that happened. */
  readonly trace: string;
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
  readonly tally: Readonly<Record<string, number>>;
  readonly violation: Failure | undefined;
  readonly lines: readonly string[];
}

export interface Failure {
  /** Which checker found it. */
  readonly checker: string;
  readonly message: string;
}

/** Operations of one client: more than a run has room for. */
const OPERATIONS_MAX = 5_000;
/** Longest pause between two operations of one client. */
const PAUSES_MS = [20, 200, 1_000, 1_000, 2_000];
/** Entries that a member may be behind while clients write. */
const LAG_MAX = 64;
/** How often it is looked whether all is level. */
const LOOK_STEPS = 16;
/** Of a run's steps, those in which faults happen. */
const FAULT_SHARE = 0.6;
/** After the faults have stopped, all shards are writable and all members level within this time. */
export const SETTLE_MS_MAX = 30_000;
/** … and whoever has become a leader serves within this one. */
const ELECTION_MS_MAX = 2_000;

export function faultStepsOf(steps: number): number {
  return Math.floor(steps * FAULT_SHARE);
}

export function runSeed({ seed, steps, without = new Set(), linesMax = 0, mix, newStorage }: SeedOptions): SeedResult {
  const plan = drawPlan({ seed, faultSteps: faultStepsOf(steps), mix });
  const cluster = new Cluster({ plan, linesMax, newStorage });
  const counted: Partial<Record<FaultKind, number>> = {};
  let violation: Failure | undefined;
  try {
    const workload = startClients(cluster.start());
    for (const [nth, fault] of plan.faults.entries()) {
      if (without.has(nth)) continue;
      runToStep(cluster, fault.step);
      inject(cluster, fault);
      counted[fault.kind] = (counted[fault.kind] ?? 0) + 1;
    }
    runToStep(cluster, faultStepsOf(steps));
    cluster.heal();
    comeToRest(cluster, workload, steps);
  } catch (error) {
    violation = failureOf(error);
  }
  const { scheduler } = cluster;
  return {
    seed,
    steps: scheduler.steps,
    simulatedMs: Math.round(scheduler.nowMs),
    trace: scheduler.trace.hash,
    faults: counted,
    tally: tallyOf(cluster),
    violation,
    lines: violation === undefined ? [] : scheduler.trace.lines(),
  };
}

/** Clients that work as long as the run lasts: seldom enough that faults last for some operations, not for all. */
function startClients({ scheduler, network, dataServers, plan, random, invariants }: Cluster): Workload {
  const addresses = dataServers.map(({ publicAddress }) => publicAddress);
  const { name: namespace, readConsistency } = plan.namespaces[0]!;
  const ledSince = (shard: number) => invariants.of(shard).ledSinceMs;
  const acked = (shard: number, version: number) => invariants.of(shard).clientAcked(version);
  const draws = random.split("clients");
  const options = {
    ...drawWorkload(draws.split("options")),
    operations: OPERATIONS_MAX,
    pauseMs: plan.pauseMs ?? draws.pick(PAUSES_MS),
  };
  const clients = { scheduler, network, addresses, namespace, readConsistency, ledSince, acked };
  return startWorkload(clients, options, draws);
}

function runToStep({ scheduler }: Cluster, step: number): void {
  scheduler.run({ until: () => scheduler.steps >= step });
}

/** Runs until all is level, and then for the rest of the steps; then nothing may differ. */
function comeToRest(cluster: Cluster, workload: Workload, steps: number): void {
  const { scheduler } = cluster;
  becomeLevel(cluster, "without faults", LAG_MAX);
  runToStep(cluster, steps);
  workload.stop();
  scheduler.complete("clients", () => workload.settle({ serveWithinMs: SETTLE_MS_MAX, electionMs: ELECTION_MS_MAX }));
  becomeLevel(cluster, "without clients", 0);
  workload.check();
}

function becomeLevel(cluster: Cluster, when: string, lagMax: number): void {
  const { scheduler } = cluster;
  const settled = new Settled(cluster, lagMax);
  const untilMs = scheduler.nowMs + SETTLE_MS_MAX;
  const ended = scheduler.run({ untilMs, until: () => scheduler.steps % LOOK_STEPS === 0 && settled.isReached() });
  if (ended === "until" || settled.isReached()) return;
  const said = cluster.coordinators.map(({ coordinator }) => JSON.stringify(coordinator?.status(), withoutBigints));
  const why = `after ${SETTLE_MS_MAX} ms ${when}: ${settled.why}`;
  throw new Violation("Liveness", [why, ...said].join("\n  coordinator: "));
}

function withoutBigints(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}

function tallyOf(cluster: Cluster): Record<string, number> {
  let terms = 0;
  let committed = 0;
  for (const shard of cluster.invariants.shards().values()) {
    terms += shard.terms;
    committed += shard.committed;
  }
  return { terms, committed };
}

/** By the name of the error that it throws. */
const CHECKERS: Readonly<Record<string, string>> = {
  AssertionError: "Assert",
  NotLinearizable: "Linearizable",
  BrokenPromise: "Promises",
};

export function failureOf(error: unknown): Failure {
  if (error instanceof Violation) return { checker: error.checker, message: error.message };
  if (error instanceof SimulationStuck) return { checker: "Stuck", message: error.message };
  if (!(error instanceof Error)) return { checker: "Crash", message: String(error) };
  const { name, message, stack = "" } = error;
  const checker = CHECKERS[name] ?? "Crash";
  return { checker, message: checker === "Crash" || checker === "Assert" ? `${message}\n${stack}` : message };
}
