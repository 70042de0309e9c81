/**
 * `bun run faults`: real clusters under real faults, run after run, judged by Porcupine. Needs root, Go, nftables.
 *
 *     --runs N          so many runs, default one of each plan
 *     --minutes M       or as many as begin within so many minutes
 *     --plans a,b       these plans of test/cluster/plans.ts only, in turn
 *     --faults a,b      these faults (test/cluster/faults.ts) in the place of plans
 *     --seconds S       faults follow one another so long in each run, default 30
 *     --seed S          of the first run; the next ones count up. Default: any
 *     --parallel P      clusters at a time, default 1
 *     --directory DIR   for the runs; those that failed stay there. Default: a temporary one
 *     --record          adds what was done to test/cluster/RUNS.md
 *
 * Exits with 1 when a run has failed. The executable under test is dist/varia, or VARIA_E2E_SERVER.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type FaultName, isFaultName } from "../test/cluster/faults.ts";
import { isPlanName, PLAN_NAMES, PLANS, type Plan } from "../test/cluster/plans.ts";
import { lineOf, type NamedReport, recordRuns } from "../test/cluster/report.ts";
import { runFaults } from "../test/cluster/run.ts";
import { buildWitness, useWitness } from "../test/cluster/witness.ts";
import { buildShim } from "../test/e2e/fault.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string" },
    minutes: { type: "string" },
    plans: { type: "string" },
    faults: { type: "string" },
    seconds: { type: "string", default: "30" },
    seed: { type: "string" },
    parallel: { type: "string", default: "1" },
    directory: { type: "string" },
    record: { type: "boolean", default: false },
  },
});

const directory =
  values.directory === undefined ? mkdtempSync(join(tmpdir(), "varia-faults-")) : resolve(values.directory);
mkdirSync(directory, { recursive: true });
useWitness(buildWitness(directory));
const shim = buildShim(directory);
const plans = plansNamed();
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const until = values.minutes === undefined ? undefined : performance.now() + Number(values.minutes) * 60_000;
const runs =
  values.runs === undefined ? (until === undefined ? plans.length : Number.POSITIVE_INFINITY) : Number(values.runs);

function plansNamed(): [name: string, plan: Plan][] {
  if (values.faults !== undefined) {
    const faults = values.faults.split(",");
    const unknown = faults.find((name) => !isFaultName(name));
    if (unknown !== undefined) throw new Error(`no such fault: ${unknown}`);
    return [[values.faults, { faults: faults as FaultName[] }]];
  }
  return (values.plans?.split(",") ?? PLAN_NAMES).map((name) => {
    if (!isPlanName(name)) throw new Error(`no such plan: ${name}; there are ${PLAN_NAMES.join(", ")}`);
    return [name, PLANS[name]];
  });
}

const reports: NamedReport[] = [];
let begun = 0;

async function lane(): Promise<void> {
  while (begun < runs && (until === undefined || performance.now() < until)) {
    const number = begun++;
    const [name, plan] = plans[number % plans.length]!;
    const at = join(directory, `${number}-${seed + number}`);
    const options = { ...plan, directory: at, seed: seed + number, seconds: Number(values.seconds), shim };
    const report = { ...(await runFaults(options)), plan: name };
    reports.push(report);
    console.log(lineOf(report));
    if (report.failures.length > 0) console.log(`  kept in ${at}`);
  }
}

await Promise.all(Array.from({ length: Number(values.parallel) }, lane));
const failed = reports.filter(({ failures }) => failures.length > 0).length;
console.log(`${reports.length - failed} runs passed, ${failed} failed`);
if (values.record) recordRuns(reports);
process.exit(failed === 0 ? 0 : 1);
