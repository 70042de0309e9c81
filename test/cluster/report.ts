/** What runs came to, as a line each, and as the sums that are kept. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { REPOSITORY } from "../e2e/varia.ts";
import type { Report } from "./run.ts";
import type { Act } from "./stage.ts";
import type { Gap } from "./witness.ts";

export interface NamedReport extends Report {
  readonly plan: string;
}

const FAILURES_TOLD = 5;
const GAPS_TOLD = 5;

export function lineOf(report: NamedReport): string {
  const { plan, seed, verdict, acts, peakMiB, failures } = report;
  const sums = verdict && [
    ...[`${verdict.acknowledged} operations`, `${verdict.failed} failed`, `${verdict.ledger} kept`],
    ...[`${verdict.probes} probes`, `${verdict.notes} notifications`, `${verdict.ephemerals} ephemerals`],
    ...[`longest gap ${verdict.gapMs} ms`, `peak ${peakMiB} MiB`],
  ];
  return [
    `${failures.length === 0 ? "pass" : "FAIL"} ${plan} seed ${seed}: ${acts.length} faults, ${sums?.join(", ") ?? "no verdict"}`,
    ...longGaps(report),
    ...failures.slice(0, FAILURES_TOLD).map((failure) => `  ${failure}`),
  ].join("\n");
}

/** The longest gap of each fault, longest first: how long it lasted, and how long it went on after the fault was over. */
function longGaps({ acts, verdict }: Report): string[] {
  const longest = new Map<Act | undefined, Gap>();
  for (const gap of verdict?.gaps ?? []) {
    // A gap is seen from the last write before it, which may be a little older than what caused it.
    const act = acts.findLast(({ fromMs }) => fromMs <= gap.fromMs + gap.ms / 2);
    if (gap.ms > (longest.get(act)?.ms ?? 0)) longest.set(act, gap);
  }
  return [...longest]
    .sort(([, a], [, b]) => b.ms - a.ms)
    .slice(0, GAPS_TOLD)
    .map(([act, { shard, fromMs, ms }]) => {
      if (act === undefined) return `  ${ms} ms without a write to shard ${shard}, before any fault`;
      const after = Math.max(0, Math.round(fromMs + ms - act.toMs));
      return `  ${ms} ms without a write to shard ${shard}, ${after} of it after ${act.fault}: ${act.notes.join("; ")}`;
    });
}

const FILE = join(REPOSITORY, "test/cluster/RUNS.md");
const HEADING = `# Runs under real faults

Added to by \`bun run faults --record\`: real processes, official Go client, judged by Porcupine. A run is 30 s of faults and
more unless its line says otherwise.

| core | day | plan | runs | failed | faults | operations | kept writes | probes | longest gap |
| ---- | --- | ---- | ---- | ------ | ------ | ---------- | ----------- | ------ | ----------- |
`;

/** Adds a line for each plan, with the commit that the executable was built from. */
export function recordRuns(reports: readonly NamedReport[]): void {
  const git = Bun.spawnSync(["git", "log", "-1", "--format=%h", "--", "src"], { cwd: REPOSITORY });
  const commit = git.stdout.toString().trim();
  const day = new Date().toISOString().slice(0, 10);
  const lines = [...Map.groupBy(reports, ({ plan }) => plan)].map(([plan, of]) => {
    const sum = (value: (report: NamedReport) => number) => of.reduce((all, report) => all + value(report), 0);
    const cells = [
      ...[commit, day, plan, of.length, of.filter(({ failures }) => failures.length > 0).length],
      ...[sum(({ acts }) => acts.length), sum(({ verdict }) => verdict?.acknowledged ?? 0)],
      ...[sum(({ verdict }) => verdict?.ledger ?? 0), sum(({ verdict }) => verdict?.probes ?? 0)],
      `${Math.max(...of.map(({ verdict }) => verdict?.gapMs ?? 0))} ms`,
    ];
    return `| ${cells.join(" | ")} |`;
  });
  writeFileSync(FILE, `${existing()}${lines.join("\n")}\n`);
}

function existing(): string {
  try {
    return readFileSync(FILE, "utf8");
  } catch {
    return HEADING; // the first record
  }
}
