/**
 * Real clusters under real faults, one run for each plan, judged by Porcupine and by what each kind of client was
 * promised. `bun run faults` makes as many more as one likes.
 *
 *     VARIA_CLUSTER_SECONDS    how long faults follow one another in each run, default 30
 *     VARIA_CLUSTER_PARALLEL   clusters at a time, default 3
 *     VARIA_E2E_SEED           of the first run; the next ones count up
 *
 * Needs root, Go, iproute2 and nftables, as CI has them.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { buildShim } from "../e2e/fault.ts";
import { scratch, seed } from "../e2e/varia.ts";
import { PLAN_NAMES, PLANS } from "./plans.ts";
import { lineOf, type NamedReport } from "./report.ts";
import { runFaults } from "./run.ts";
import { buildWitness, useWitness } from "./witness.ts";

const missing = ["go", "nft", "ip"].filter((tool) => Bun.which(tool) === null);
const isRoot = process.getuid?.() === 0;
if (process.env.CI && (missing.length > 0 || !isRoot)) throw new Error(`needs root, and ${missing.join(", ")}`);
const able = missing.length === 0 && isRoot;
if (!able) console.log(`skipped: real faults need root, and ${missing.join(", ") || "all tools are there"}`);

// A run waits for a cluster that comes back slowly before it is failed.
setDefaultTimeout(15 * 60_000);

const seconds = Number(process.env.VARIA_CLUSTER_SECONDS ?? 30);
const parallel = Number(process.env.VARIA_CLUSTER_PARALLEL ?? 3);
const directory = scratch("cluster");
const firstSeed = seed();
const reports = new Map(PLAN_NAMES.map((name) => [name, Promise.withResolvers<NamedReport>()]));
let failed = false;

afterAll(() => {
  if (!failed) directory.remove();
});

async function lane(queue: (typeof PLAN_NAMES)[number][], shim: string): Promise<void> {
  for (let plan = queue.shift(); plan !== undefined; plan = queue.shift()) {
    const { resolve, reject } = reports.get(plan)!;
    const at = { directory: `${directory.path}/${plan}`, seed: firstSeed + PLAN_NAMES.indexOf(plan), seconds, shim };
    const report = runFaults({ ...PLANS[plan], ...at }).then((it) => ({ ...it, plan: plan! }));
    await report.then(resolve, reject);
  }
}

if (able) {
  useWitness(buildWitness(directory.path));
  const shim = buildShim(directory.path);
  const queue = [...PLAN_NAMES];
  for (let n = 0; n < parallel; n++) void lane(queue, shim);
}

for (const name of PLAN_NAMES) {
  test.skipIf(!able)(`under ${name} no acknowledged write is lost and no old one is read`, async () => {
    const report = await reports.get(name)!.promise;
    console.log(lineOf(report));
    if (report.failures.length > 0) {
      failed = true;
      console.log(`kept in ${directory.path}/${name}`);
    }
    expect(report.failures).toEqual([]);
    expect(report.acts.length).toBeGreaterThan(0);
    expect(report.verdict?.acknowledged).toBeGreaterThan(0);
    expect(report.verdict?.ledger).toBeGreaterThan(0);
  });
}
