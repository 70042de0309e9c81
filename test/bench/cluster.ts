/**
 * CPU and throughput of a cluster beside a peer's, interleaved in one run on one machine: what counts is the ratio.
 * Three data servers and a coordinator of the built executable, 4 shards, replication factor 3.
 *
 *     bun run bench:cluster                                                     Varia alone
 *     bun run bench:cluster --peer 127.0.0.1:6648 --peer-pids 11,12,13,14       beside three servers of another kind; the
 *                                                                               last pid is the coordinator's
 *     … --rounds 3 --seconds 8 --rows "put;get, linearizable" --port 16648
 *
 * CPU is that of the three servers, all their threads, from the OS; of all four processes in rows at a fixed rate. A
 * figure is the median of its rounds. A namespace of Varia's reads with `readConsistency: leader`, as the peer always does.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cpuSeconds, EXECUTABLE, perf } from "./load.ts";

const SHARDS = 4;
const SERVERS = [0, 1, 2];
const HOST = "127.0.0.1";
const START_MS_MAX = 30_000;
const POLL_MS = 100;

const { values: flags } = parseArgs({
  options: {
    peer: { type: "string" },
    "peer-pids": { type: "string" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "8" },
    rows: { type: "string" },
    port: { type: "string", default: "16648" },
  },
});

interface Side {
  readonly name: string;
  readonly address: string;
  /** Of the data servers, then of the coordinator. */
  readonly pids: readonly number[];
}

interface Row {
  readonly name: string;
  readonly flags: readonly string[];
  /** Varia's namespace; the peer has only the default one. */
  readonly namespace: string;
  /** The rate is fixed: the CPU of all processes counts, in cores, and not what an operation costs. */
  readonly fixedRate?: boolean;
  /** What the ratio to the peer must be; for reading only. */
  readonly wanted: string;
}

const batched = ["--rate", "0", "--value-size", "128", "--keys-cardinality", "1000"];
const ROWS: readonly Row[] = [
  { name: "put", namespace: "default", flags: [...batched, "-p", "0"], wanted: "cpu <= 0.5" },
  { name: "get, leader", namespace: "leader", flags: [...batched, "-p", "100"], wanted: "cpu <= 0.65" },
  { name: "get, linearizable", namespace: "default", flags: [...batched, "-p", "100"], wanted: "cpu <= 1" },
  {
    name: "5,000 mixed operations a second",
    namespace: "default",
    flags: ["--rate", "5000", "--value-size", "128", "--keys-cardinality", "1000", "-p", "80"],
    fixedRate: true,
    wanted: "cores <= 0.4",
  },
];

interface Figure {
  readonly opsPerS: number;
  /** µs an operation; of a fixed rate the cores in use. */
  readonly cpu: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function measure(side: Side, row: Row): Promise<Figure> {
  const namespace = side.name === "Varia" ? row.namespace : "default";
  const pids = row.fixedRate === true ? side.pids : side.pids.slice(0, SERVERS.length);
  const before = cpuSeconds(...pids);
  const summary = await perf(side.address, ["-n", namespace, ...row.flags, "--duration", `${flags.seconds}s`]);
  const cpu = cpuSeconds(...pids) - before;
  const kinds = Object.values(summary.byOperation);
  const operations = kinds.reduce((sum, { operations: each }) => sum + each, 0);
  return {
    opsPerS: operations / summary.elapsedSeconds,
    cpu: row.fixedRate === true ? cpu / summary.elapsedSeconds : (cpu / operations) * 1e6,
    p50Ms: Math.max(...kinds.map(({ latencyMs }) => latencyMs.p50)),
    p99Ms: Math.max(...kinds.map(({ latencyMs }) => latencyMs.p99)),
  };
}

function configuration(port: number): string {
  const servers = SERVERS.map(
    (n) => `  - {name: s${n}, public: "${HOST}:${port + 10 * n}", internal: "${HOST}:${port + 10 * n + 1}"}`,
  );
  const namespaces = [
    `  - {name: default, initialShardCount: ${SHARDS}, replicationFactor: 3}`,
    `  - {name: leader, initialShardCount: ${SHARDS}, replicationFactor: 3, readConsistency: leader}`,
  ];
  return ["servers:", ...servers, "namespaces:", ...namespaces, ""].join("\n");
}

/** Starts a cluster and waits until it is well. */
async function startVaria(directory: string, port: number): Promise<{ side: Side; stop(): Promise<void> }> {
  const config = join(directory, "cluster.yaml");
  writeFileSync(config, configuration(port));
  const spawn = (...words: string[]) => Bun.spawn([EXECUTABLE, ...words], { stdout: "ignore", stderr: "ignore" });
  const children = SERVERS.map((n) => {
    const own = join(directory, `s${n}`);
    mkdirSync(own);
    const at = (offset: number) => `${HOST}:${port + 10 * n + offset}`;
    const places = ["--data-dir", join(own, "db"), "--wal-dir", join(own, "wal")];
    return spawn("storage", "-p", at(0), "-i", at(1), "-m", at(2), ...places);
  });
  const at = (offset: number) => `${HOST}:${port + 30 + offset}`;
  const metadata = ["--cconfig", config, "--metadata-dir", join(directory, "coordinator")];
  children.push(spawn("coordinator", "-p", at(0), "-i", at(1), "-m", at(2), ...metadata));
  const stop = async () => {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map((child) => child.exited));
  };
  for (const deadline = performance.now() + START_MS_MAX; ; await Bun.sleep(POLL_MS)) {
    if (Bun.spawnSync([EXECUTABLE, "status", "--admin-address", at(0)]).exitCode === 0) break;
    if (performance.now() < deadline) continue;
    await stop();
    throw new Error("the cluster does not become well");
  }
  return { side: { name: "Varia", address: `${HOST}:${port}`, pids: children.map(({ pid }) => pid) }, stop };
}

function median(figures: readonly Figure[], of: (figure: Figure) => number): number {
  return figures.map(of).sort((a, b) => a - b)[figures.length >> 1]!;
}

function describe(row: Row, figures: readonly Figure[]): string {
  const cpu = median(figures, (one) => one.cpu);
  const unit = row.fixedRate === true ? `${cpu.toFixed(2)} cores` : `${cpu.toFixed(1)} µs CPU`;
  const latency = `p50 ${median(figures, (one) => one.p50Ms).toFixed(1)} ms, p99 ${median(figures, (one) => one.p99Ms).toFixed(1)} ms`;
  return `${unit}, ${Math.round(median(figures, (one) => one.opsPerS))}/s, ${latency}`;
}

function peer(): Side | undefined {
  if (flags.peer === undefined) return undefined;
  const pids = (flags["peer-pids"] ?? "").split(",").map(Number);
  if (pids.length !== SERVERS.length + 1 || pids.some((pid) => !Number.isInteger(pid) || pid < 1))
    throw new Error("--peer-pids: three data servers, then the coordinator");
  return { name: "peer", address: flags.peer, pids };
}

const directory = mkdtempSync(join(tmpdir(), "varia-bench-cluster-"));
const asked = flags.rows?.split(";").map((name) => name.trim());
const unknown = asked?.find((name) => !ROWS.some((row) => row.name === name));
if (unknown !== undefined)
  throw new Error(`no such row: ${unknown}; there are ${ROWS.map(({ name }) => name).join("; ")}`);
const other = peer();
const { side, stop } = await startVaria(directory, Number(flags.port));
try {
  for (const row of ROWS.filter(({ name }) => asked?.includes(name) ?? true)) {
    const own: Figure[] = [];
    const theirs: Figure[] = [];
    for (let round = 0; round < Number(flags.rounds); round++) {
      own.push(await measure(side, row));
      if (other !== undefined) theirs.push(await measure(other, row));
    }
    console.log(`${row.name}: ${describe(row, own)}`);
    if (theirs.length === 0) continue;
    const cpu = median(own, (one) => one.cpu) / median(theirs, (one) => one.cpu);
    const ops = median(own, (one) => one.opsPerS) / median(theirs, (one) => one.opsPerS);
    console.log(`  peer: ${describe(row, theirs)}`);
    console.log(`  ratio: cpu ${cpu.toFixed(2)}, operations/s ${ops.toFixed(2)}   (wanted: ${row.wanted})`);
  }
} finally {
  await stop();
  rmSync(directory, { recursive: true, force: true });
}
