/**
 * One run: a cluster, clients of the official Go client in several processes that write down what they see, faults of
 * the kinds named, one after the other, and the verdict over all histories.
 *
 *     DIRECTORY/cluster/…        the members' directories and logs
 *     DIRECTORY/w0.jsonl …       histories; audit.jsonl is what the cluster holds in the end
 *     DIRECTORY/report.json      what was done and what came of it
 *
 * A run that is clean leaves nothing behind.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, type ClusterOptions } from "../e2e/cluster.ts";
import { SimRandom } from "../sim/random.ts";
import { FAULTS, type FaultName } from "./faults.ts";
import { type Act, Stage } from "./stage.ts";
import { audit, judge, Recorder, type Verdict } from "./witness.ts";

const RECORDERS = 3;
const SHARDS = 4;
/** Of the disks of a run that fills them. */
const SMALL_DISK_BYTES = 192 * 1024 * 1024;
/** Stops during the very first start. */
const BOOTSTRAP_KILLS = 4;

export interface RunOptions {
  readonly directory: string;
  readonly seed: number;
  readonly faults: readonly FaultName[];
  /** Faults follow one another so long; the last one is played to its end. */
  readonly seconds: number;
  readonly shim: string;
  readonly servers?: number;
  /** The members are killed again and again while the cluster comes up for the first time. */
  readonly bootstrap?: boolean;
  /** Megabytes written before the clients begin, so that a snapshot takes a while. */
  readonly fillMiB?: number;
  /** No operation may fail that the client's own retries can save. */
  readonly noFailures?: boolean;
}

export interface Report {
  readonly seed: number;
  readonly faults: readonly FaultName[];
  readonly seconds: number;
  readonly acts: readonly Act[];
  readonly verdict: Verdict | undefined;
  /** Largest resident set of any member, in MiB. */
  readonly peakMiB: number;
  /** Empty: nothing is wrong. */
  readonly failures: readonly string[];
}

/** Never rejects for what the cluster does: that is in the report. */
export async function runFaults(options: RunOptions): Promise<Report> {
  const random = new SimRandom(options.seed);
  const cluster = await Cluster.start(clusterOptions(options));
  const stage = new Stage({ ...options, cluster, random: random.unit });
  const failures: string[] = [];
  let verdict: Verdict | undefined;
  let peakMiB = 0;
  try {
    if (options.bootstrap) await stage.play("killed-during-bootstrap", killDuringBootstrap);
    verdict = await witnessed(options, stage, failures);
    for (const member of cluster.members) {
      if (!member.running)
        throw new Error(`${member.name} has ended by itself (${member.exit}):\n${tail(member.log())}`);
    }
    peakMiB = Math.max(...cluster.members.map((member) => peakResidentMiB(member.pid)));
  } catch (error) {
    failures.push((error as Error).message);
  } finally {
    await cluster.remove();
  }
  failures.push(...(verdict?.violations ?? []), ...crashes(cluster));
  if (options.noFailures && verdict !== undefined && verdict.failed > 0)
    failures.push(`${verdict.failed} operations failed: ${JSON.stringify(verdict.errors)}`);
  const { seed, faults, seconds } = options;
  const report = { seed, faults, seconds, acts: stage.acts, verdict, peakMiB, failures };
  if (failures.length === 0) rmSync(options.directory, { recursive: true });
  else writeFileSync(join(options.directory, "report.json"), JSON.stringify(report, null, 2));
  return report;
}

function clusterOptions(options: RunOptions): ClusterOptions {
  const flags = ["--memory", "64MiB", "--wal-retention-time", "1s"];
  const directory = join(options.directory, "cluster");
  const common = { directory, servers: options.servers ?? 3, shards: SHARDS, flags };
  if (!options.faults.includes("disk-full")) return common;
  return { ...common, diskBytes: { s1: SMALL_DISK_BYTES, s2: SMALL_DISK_BYTES } };
}

async function witnessed(options: RunOptions, stage: Stage, failures: string[]): Promise<Verdict> {
  const { cluster } = stage;
  await stage.whole();
  const { directory, noFailures, fillMiB } = options;
  const recorders = await Promise.all(
    Array.from({ length: RECORDERS }, (_, index) =>
      Recorder.start({
        ...{ servers: cluster.addresses, directory, name: `w${index}`, patient: noFailures === true },
        observers: index === 0,
        fillMiB: index === 0 ? (fillMiB ?? 0) : 0,
      }),
    ),
  );
  const ended = performance.now() + options.seconds * 1_000;
  try {
    await stage.sleep(1_000, 2_000);
    while (performance.now() < ended) {
      const fault = stage.pick(options.faults);
      await stage.play(fault, FAULTS[fault]);
      await stage.sleep(500, 2_500);
    }
    await stage.whole();
  } catch (error) {
    failures.push((error as Error).message);
  }
  const told = await Promise.all(recorders.map((recorder) => recorder.end()));
  failures.push(...told.filter((text) => text !== ""));
  await audit({ servers: cluster.addresses, directory, names: recorders.map(({ name }) => name) });
  return judge(
    directory,
    recorders.map(({ name }) => name),
  );
}

async function killDuringBootstrap(stage: Stage): Promise<void> {
  const { members } = stage.cluster;
  for (let killed = 0; killed < BOOTSTRAP_KILLS; killed++) {
    const some = stage.between(0, 1) < 0.3 ? members : [stage.pick(members)];
    stage.note(`${some.map(({ name }) => name).join(", ")} killed`);
    await Promise.all(some.map((member) => member.kill()));
    for (const member of some) member.launch();
    await stage.sleep(50, 700);
  }
}

/** What no member may write, whatever happens to it: that our own code broke its promise. */
function crashes(cluster: Cluster): string[] {
  return cluster.members.flatMap((member) =>
    readFileSync(member.logFile, "utf8")
      .split("\n")
      .filter((line) => /AssertionError|TypeError|RangeError|ReferenceError|panic\(/.test(line))
      .slice(0, 3)
      .map((line) => `${member.name}: ${line.slice(0, 500)}`),
  );
}

const LOG_CHARACTERS_TOLD = 2_000;

function tail(log: string): string {
  return log.slice(-LOG_CHARACTERS_TOLD);
}

function peakResidentMiB(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Math.round(Number(line?.[1] ?? 0) / 1024);
}
