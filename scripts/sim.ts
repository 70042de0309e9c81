/**
 * `bun run sim`: simulates whole clusters, seed after seed, on all cores.
 *
 *     --seeds N               so many seeds, default 100; with --seed alone: that one
 *     --seed S                the first one, default 0
 *     --steps N               events a run, default 5,000; in the lane "sqlite" 2,000
 *     --lane model|sqlite     where servers keep their data: on simulated disks (default), or in real files of SQLite
 *                             behind a shim that plays power cuts and errors of the disk (test/sqlite-lane; needs cc)
 *     --without 1,4           leaves out these faults of the plan
 *     --only 2,3              leaves out all others
 *     --trace N               the last events of a failing run, as text
 *     --verify-determinism    runs each seed twice: both must be the same run
 *     --mix NAME              the faults of a named mix (test/sim/mixes.ts) in the place of the seeds' own
 *     --mutant NAME           with one planted bug
 *     --mutants               all planted bugs, each until it is found: a table. --only NAME: one of them,
 *                             --seeds-max N: seeds after which one is given up, default 10,000,
 *                             --unaided-max N: seeds of the usual plan before its mix or story is tried, default 500,
 *                             --write-table: into test/sim/MUTANTS.md
 *     --mixed                 clusters of ours and reference peers, each mix of test/sim/reference/mixes.ts
 *     --workers N             processes, default one a core
 *     --minutes M             ends after so long, and runs any number of seeds where --seeds names none
 *     --record                adds what was run to test/sim/SEEDS.md
 *
 * SIGINT and SIGTERM let the seeds that are being run come to their end, and what was run is reported and recorded;
 * a second one ends it at once.
 *
 * Exits with 1 when a run has failed, or a planted bug was not found.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Campaign } from "../test/sim/campaign.ts";
import { isLane } from "../test/sim/lane.ts";
import { isMixName } from "../test/sim/mixes.ts";
import { runMutants } from "../test/sim/mutant-table.ts";
import { runMixed } from "../test/sim/reference/campaign.ts";
import { recordSeeds } from "../test/sim/seed-record.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    seeds: { type: "string" },
    seed: { type: "string" },
    steps: { type: "string" },
    lane: { type: "string", default: "model" },
    without: { type: "string" },
    only: { type: "string" },
    trace: { type: "string", default: "0" },
    "verify-determinism": { type: "boolean", default: false },
    mutant: { type: "string" },
    mutants: { type: "boolean", default: false },
    mixed: { type: "boolean", default: false },
    workers: { type: "string" },
    mix: { type: "string" },
    "seeds-max": { type: "string", default: "10000" },
    "unaided-max": { type: "string", default: "500" },
    "write-table": { type: "boolean", default: false },
    minutes: { type: "string" },
    record: { type: "boolean", default: false },
  },
});

const { lane } = values;
if (!isLane(lane)) throw new Error(`no such lane: ${lane}`);
const steps = Number(values.steps ?? (lane === "sqlite" ? 2_000 : 5_000));
const first = Number(values.seed ?? 0);
const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
if (minutes !== undefined && !(minutes > 0)) throw new Error(`no such number of minutes: ${values.minutes}`);
const count = Number(values.seeds ?? countUnnamed());
const workers = Math.min(Number(values.workers ?? availableParallelism()), count);
const numbers = (list: string | undefined) =>
  list
    ?.split(",")
    .filter((one) => one !== "")
    .map(Number);

if (values.mixed) process.exit(runMixed({ first, count, linesMax: Number(values.trace) }) === 0 ? 0 : 1);
if (values.mutants) {
  process.exit(
    (await runMutants({
      unaidedMax: Number(values["unaided-max"]),
      seedsMax: Number(values["seeds-max"]),
      steps,
      workers: Number(values.workers ?? availableParallelism()),
      only: values.only,
      writeTable: values["write-table"],
    }))
      ? 0
      : 1,
  );
}
const { mix } = values;
if (mix !== undefined && !isMixName(mix)) throw new Error(`no such mix of faults: ${mix}`);
const without = numbers(values.without);
const only = numbers(values.only);
const campaign = new Campaign({
  first,
  count,
  steps,
  linesMax: Number(values.trace),
  twice: values["verify-determinism"],
  workers,
  lane,
  ...(without === undefined ? {} : { without }),
  ...(only === undefined ? {} : { only }),
  ...(mix === undefined ? {} : { mix }),
  ...(values.mutant === undefined ? {} : { mutant: values.mutant }),
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => campaign.stop());
if (minutes !== undefined) setTimeout(() => campaign.stop(), minutes * 60_000).unref();
const failures = await campaign.run();
if (values.record) await recordSeeds(lane, first, campaign.totals);
process.exit(failures === 0 ? 0 : 1);

/** Seeds where the command names no number of them. */
function countUnnamed(): number {
  if (minutes !== undefined) return Number.POSITIVE_INFINITY;
  return values.seed === undefined ? 100 : 1;
}
