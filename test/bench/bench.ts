/**
 * CPU and throughput of the built server beside a peer, interleaved in one run on one machine: what counts is the ratio.
 *
 *     bun run bench                                        Varia alone
 *     bun run bench --peer 127.0.0.1:6648 --peer-pid 4711  beside a server that speaks the same protocol, with 4 shards
 *     … --rounds 3 --seconds 8 --rows "put, 1 k keys;range scan" --keys 1000000
 *
 * Load comes from `varia perf` in a process of its own. CPU is the server's, all threads, from the OS; resident memory
 * too. A figure is the median of its rounds. Varia's own yardsticks are measured with the rows that they belong to: an
 * empty handler on the same server, and the machine's fdatasync of an append. At the end come the pauses of the whole run.
 */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Http2Transport } from "../../src/client/http2-transport.ts";
import {
  CreateSessionRequestSchema,
  CreateSessionResponseSchema,
  SessionHeartbeatSchema,
} from "../../src/gen/io/oxia/proto/v1/client_pb.ts";
import { cpuSeconds, EXECUTABLE, perf } from "./load.ts";

const SHARDS = 4;

const { values: flags } = parseArgs({
  options: {
    peer: { type: "string" },
    "peer-pid": { type: "string" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "8" },
    rows: { type: "string" },
    keys: { type: "string", default: "1000000" },
  },
});

interface Server {
  readonly name: string;
  readonly address: string;
  readonly pid: number;
}

interface OwnServer extends Server {
  /** Of /metrics. */
  readonly http: string;
  stop(): Promise<void>;
}

interface Row {
  readonly name: string;
  readonly keys: number;
  readonly flags: readonly string[];
  /** What the ratio to the peer must be, as the issue says it; for reading only. */
  readonly wanted: string;
}

const many = Number(flags.keys);
const batched = ["--rate", "0", "--value-size", "128"];
const ROWS: readonly Row[] = [
  { name: "put, 1 k keys", keys: 1000, flags: [...batched, "-p", "0"], wanted: "cpu <= 0.5" },
  { name: "get, 1 k keys", keys: 1000, flags: [...batched, "-p", "100"], wanted: "cpu <= 0.6" },
  { name: "put, 1 M keys", keys: many, flags: [...batched, "-p", "0"], wanted: "cpu <= 0.52" },
  { name: "get, 1 M keys", keys: many, flags: [...batched, "-p", "100"], wanted: "cpu <= 0.48" },
  { name: "range scan", keys: many, flags: ["--rate", "0", "--range-scan"], wanted: "records/s >= 1.5" },
  { name: "unary get", keys: 1000, flags: [...batched, "--unary", "--connections", "4", "-p", "100"], wanted: "" },
  {
    name: "unary put",
    keys: 1000,
    flags: [...batched, "--unary", "--connections", "4", "-p", "0"],
    wanted: "cpu <= 0.75",
  },
  {
    name: "one put at a time",
    keys: 1000,
    flags: [...batched, "--unary", "--concurrency", "1", "-p", "0"],
    wanted: "",
  },
];
/** What is measured on Varia alone, in the rounds of the row of this name. */
const YARDSTICKS: Readonly<Record<string, (server: OwnServer) => Promise<string>>> = {
  "unary get": async (server) =>
    `empty handler ${(await emptyCallCpuUs(server)).toFixed(2)} µs CPU (wanted: get <= 1.4 x)`,
  "one put at a time": async () => {
    const ms = fdatasyncMs();
    return `fdatasync of an append ${ms.toFixed(2)} ms p50 (wanted: put <= ${(1.5 * (ms + 0.3)).toFixed(2)} ms)`;
  },
};
/** Two loads on Varia, in turns: what the second costs beside the first. */
interface Comparison {
  readonly name: string;
  readonly wanted: string;
  readonly base: (server: OwnServer) => Promise<number>;
  /** Also what is to be told beside the ratio. */
  readonly other: (server: OwnServer) => Promise<{ readonly cpuUs: number; readonly note?: string }>;
}
const PUTS = { name: "", keys: 1000, wanted: "" };
const puts = (...more: string[]): Row => ({ ...PUTS, flags: [...batched, "-p", "0", ...more] });
const putCpuUs = async (server: OwnServer, ...more: string[]) => (await measure(server, puts(...more))).cpuUs;
const kindOfPut = (kind: string, wanted: string): Comparison => ({
  name: `put, ${kind}`,
  wanted,
  base: (server) => putCpuUs(server),
  other: async (server) => ({ cpuUs: await putCpuUs(server, "--puts", kind) }),
});
const NOTIFICATIONS_PER_S = 100_000;
/** So many keys that hardly one is put twice in a batch, of which only the last put is told. */
const FOLLOWED = ["--rate", String(NOTIFICATIONS_PER_S), "--keys-cardinality", "200000"];
const COMPARISONS: readonly Comparison[] = [
  kindOfPut("indexed", "cpu <= 1.8"),
  kindOfPut("ephemeral", "cpu <= 1.3"),
  kindOfPut("sequence", "cpu <= 1.5"),
  {
    name: "put, sequence, beside plain puts that make records too",
    wanted: "",
    base: (server) => putCpuUs(server, "--keys-cardinality", String(0xffff_ffff)),
    other: async (server) => ({ cpuUs: await putCpuUs(server, "--puts", "sequence") }),
  },
  {
    name: "put at 100,000 a second, followed by a subscriber",
    wanted: "cpu <= 1.25, 100,000 notifications/s",
    base: (server) => putCpuUs(server, ...FOLLOWED),
    other: followedPuts,
  },
  {
    name: "100,000 sessions on 100 connections, a heartbeat each 10 s, beside empty calls at that rate",
    wanted: "cpu <= 1.15",
    base: async (server) => (await heartbeats(server, "empty")).cpuUs,
    other: (server) => heartbeats(server, "keep-alive"),
  },
];

/** As many calls at once as the unary rows have. */
const UNARY_CONCURRENCY = 128;
const UNARY_CONNECTIONS = 4;

interface Figure {
  readonly opsPerS: number;
  readonly cpuUs: number;
  readonly residentMb: number;
  readonly p50Ms: number;
}

function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
}

async function measure(server: Server, row: Row): Promise<Figure> {
  const before = cpuSeconds(server.pid);
  const summary = await perf(server.address, [
    "--keys-cardinality",
    String(row.keys),
    ...row.flags,
    "--duration",
    `${flags.seconds}s`,
  ]);
  const cpu = cpuSeconds(server.pid) - before;
  const kinds = Object.values(summary.byOperation);
  const operations = kinds.reduce((sum, each) => sum + (each.records ?? each.operations), 0);
  const seconds = summary.elapsedSeconds;
  return {
    opsPerS: operations / seconds,
    cpuUs: (cpu / operations) * 1e6,
    residentMb: residentMb(server.pid),
    p50Ms: kinds[0]?.latencyMs.p50 ?? 0,
  };
}

/** CPU of the server for a call that does nothing: a health check, at the concurrency of the unary rows. */
async function emptyCallCpuUs(server: Server): Promise<number> {
  const transport = new Http2Transport({ connectionsPerServer: UNARY_CONNECTIONS });
  const end = performance.now() + Number(flags.seconds) * 1000;
  const before = cpuSeconds(server.pid);
  let calls = 0;
  const load = async (): Promise<void> => {
    while (performance.now() < end) {
      await callOnce(transport, server, "/grpc.health.v1.Health/Check", framed(new Uint8Array(0)));
      calls++;
    }
  };
  await Promise.all(Array.from({ length: UNARY_CONCURRENCY }, load));
  transport.close();
  return ((cpuSeconds(server.pid) - before) / calls) * 1e6;
}

/** What the machine takes to append 200 bytes to a file and have them on the disk: the median of a second. */
function fdatasyncMs(): number {
  const path = join(directory, "fdatasync");
  const file = openSync(path, "a");
  const taken: number[] = [];
  const bytes = new Uint8Array(200);
  for (const end = performance.now() + 1000; performance.now() < end; ) {
    const from = performance.now();
    writeSync(file, bytes);
    fdatasyncSync(file);
    taken.push(performance.now() - from);
  }
  closeSync(file);
  return taken.sort((a, b) => a - b)[taken.length >> 1]!;
}

/** Puts at a rate, with a subscriber in a process of its own that counts what it hears. */
async function followedPuts(server: OwnServer): Promise<{ cpuUs: number; note: string }> {
  const follower = Bun.spawn(["bun", join(import.meta.dir, "subscriber.ts"), server.address, String(SHARDS)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const lines = follower.stdout.getReader();
  await lines.read(); // it is subscribed
  const cpuUs = await putCpuUs(server, ...FOLLOWED);
  follower.stdin.end();
  let counted = "";
  for (let chunk = await lines.read(); !chunk.done; chunk = await lines.read()) counted += Buffer.from(chunk.value);
  await follower.exited;
  const perS = Math.round(Number(counted) / Number(flags.seconds));
  return { cpuUs, note: `${perS} notifications/s` };
}

const SESSIONS = 100_000;
const SESSION_CONNECTIONS = 100;
const HEARTBEATS_PER_S = SESSIONS / 10;
/** Sessions made on a server, by shard, so that each round has them. */
let sessions: { readonly shard: number; readonly id: bigint }[] | undefined;

/** CPU of the server for a call at the rate of the heartbeats: one a session, or one that does nothing. */
async function heartbeats(server: OwnServer, kind: "empty" | "keep-alive"): Promise<{ cpuUs: number }> {
  const transport = new Http2Transport({ connectionsPerServer: SESSION_CONNECTIONS });
  try {
    sessions ??= await makeSessions(server, transport);
    const all = sessions;
    const path = kind === "empty" ? "/grpc.health.v1.Health/Check" : "/io.oxia.proto.v1.OxiaClient/KeepAlive";
    const messages = all.map(({ shard, id }) =>
      framed(kind === "empty" ? new Uint8Array(0) : sessionMessage(shard, id)),
    );
    const before = cpuSeconds(server.pid);
    let sent = 0;
    const started = performance.now();
    const calls: Promise<unknown>[] = [];
    while (performance.now() - started < Number(flags.seconds) * 1000) {
      for (const due = ((performance.now() - started) / 1000) * HEARTBEATS_PER_S; sent < due; sent++) {
        calls.push(callOnce(transport, server, path, messages[sent % messages.length]!));
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(calls);
    return { cpuUs: ((cpuSeconds(server.pid) - before) / sent) * 1e6 };
  } finally {
    transport.close();
  }
}

async function makeSessions(server: OwnServer, transport: Http2Transport): Promise<{ shard: number; id: bigint }[]> {
  const made: { shard: number; id: bigint }[] = [];
  const create = async (from: number): Promise<void> => {
    for (let nth = from; nth < SESSIONS; nth += UNARY_CONCURRENCY * 8) {
      const shard = nth % SHARDS;
      const answer = await callOnce(
        transport,
        server,
        "/io.oxia.proto.v1.OxiaClient/CreateSession",
        framed(toBinary(CreateSessionRequestSchema, create_({ shard: BigInt(shard), sessionTimeoutMs: 300_000 }))),
      );
      made.push({ shard, id: fromBinary(CreateSessionResponseSchema, answer).sessionId });
    }
  };
  await Promise.all(Array.from({ length: UNARY_CONCURRENCY * 8 }, (_, from) => create(from)));
  return made;
}

const create_ = (init: { shard: bigint; sessionTimeoutMs: number }) => create(CreateSessionRequestSchema, init);

function sessionMessage(shard: number, sessionId: bigint): Uint8Array {
  return toBinary(SessionHeartbeatSchema, create(SessionHeartbeatSchema, { shard: BigInt(shard), sessionId }));
}

/** A message behind its prefix. */
function framed(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(5 + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, 5);
  return frame;
}

function callOnce(transport: Http2Transport, server: Server, path: string, message: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let answer: Uint8Array = new Uint8Array(0);
    const target = { address: server.address, path, headers: {}, timeoutMs: 30_000, message };
    transport.open(target, {
      message: (bytes) => {
        answer = bytes.slice();
      },
      drained: () => {},
      ended: (status) => {
        if (status.code === 0) resolve(answer);
        else reject(new Error(`${path} failed: ${status.message}`));
      },
    });
  });
}

/** The longest pauses since the start, as the server measures them. */
async function pauses(server: OwnServer): Promise<string> {
  const text = await (await fetch(`${server.http}/metrics`)).text();
  const ms = (metric: string) => {
    const value = new RegExp(`^${metric.replace(/[{}"]/g, "\\$&")} (\\S+)$`, "m").exec(text)?.[1];
    if (value === undefined) throw new Error(`no metric ${metric}`);
    return `${(Number(value) * 1000).toFixed(1)} ms`;
  };
  const delay = ms('varia_event_loop_delay_seconds{quantile="0.999"}');
  const upkeep = ms("varia_log_upkeep_seconds_max");
  return `event loop late by ${delay} at p99.9 (wanted: <= 50), commits held up by upkeep for ${upkeep} at most (wanted: <= 20)`;
}

async function startOwn(directory: string): Promise<OwnServer> {
  const words = [
    "standalone",
    "-s",
    String(SHARDS),
    "-p",
    "127.0.0.1:0",
    "-m",
    "127.0.0.1:0",
    "--data-dir",
    `${directory}/db`,
    "--wal-dir",
    `${directory}/wal`,
  ];
  const child = Bun.spawn([EXECUTABLE, ...words], { stdout: "pipe", stderr: "ignore" });
  let text = "";
  for await (const chunk of child.stdout) {
    text += Buffer.from(chunk).toString();
    const address = /^public (\S+)$/m.exec(text)?.[1];
    const http = /^http +(\S+)$/m.exec(text)?.[1];
    if (address === undefined || http === undefined) continue;
    const stop = async () => {
      child.kill();
      await child.exited;
    };
    return { name: "varia", address, http, pid: child.pid, stop };
  }
  throw new Error(`the server did not start:\n${text}`);
}

function median(figures: readonly Figure[], of: (figure: Figure) => number): number {
  return medianOf(figures.map(of));
}

function medianOf(figures: readonly number[]): number {
  return figures.toSorted((a, b) => a - b)[figures.length >> 1]!;
}

function isAsked({ name }: { readonly name: string }): boolean {
  return flags.rows === undefined || flags.rows.split(";").includes(name);
}

function line(name: string, figures: readonly Figure[]): string {
  const ops = Math.round(median(figures, (figure) => figure.opsPerS));
  const cpu = median(figures, (figure) => figure.cpuUs).toFixed(2);
  const resident = Math.round(median(figures, (figure) => figure.residentMb));
  const p50 = median(figures, (figure) => figure.p50Ms).toFixed(2);
  return `${name.padEnd(8)} ${String(ops).padStart(9)} ops/s  ${cpu.padStart(8)} µs CPU  ${p50.padStart(8)} ms p50  ${resident} MB`;
}

const directory = mkdtempSync(join(tmpdir(), "varia-bench-"));
const own = await startOwn(directory);
const servers: Server[] = [own];
if (flags.peer !== undefined) servers.push({ name: "peer", address: flags.peer, pid: Number(flags["peer-pid"]) });
try {
  let loaded = 0;
  for (const row of ROWS.filter(isAsked)) {
    if (row.keys > loaded) {
      for (const server of servers)
        await perf(server.address, [
          "--rate",
          "0",
          "--preload",
          "--keys-cardinality",
          String(row.keys),
          "--duration",
          "0s",
        ]);
      loaded = row.keys;
      if (row.keys === many)
        for (const { name, pid } of servers)
          console.log(`${name}: ${Math.round(residentMb(pid))} MB resident after loading ${many} keys`);
    }
    const figures = new Map<string, Figure[]>(servers.map(({ name }) => [name, []]));
    for (let round = 0; round < Number(flags.rounds); round++) {
      for (const server of servers) figures.get(server.name)!.push(await measure(server, row));
    }
    const yardstick = await YARDSTICKS[row.name]?.(own);
    console.log(`\n${row.name}`);
    for (const [name, each] of figures) console.log(`  ${line(name, each)}`);
    if (yardstick !== undefined) console.log(`  ${yardstick}`);
    if (servers.length === 2) {
      const [ours, theirs] = [...figures.values()] as [Figure[], Figure[]];
      const ratio = (of: (figure: Figure) => number) => (median(ours, of) / median(theirs, of)).toFixed(2);
      console.log(
        `  ratio    cpu ${ratio((figure) => figure.cpuUs)}  throughput ${ratio((figure) => figure.opsPerS)}  wanted: ${row.wanted}`,
      );
    }
  }
  for (const { name, wanted, base, other } of COMPARISONS.filter(isAsked)) {
    const bases: number[] = [];
    const others: number[] = [];
    let note = "";
    for (let round = 0; round < Number(flags.rounds); round++) {
      bases.push(await base(own));
      const figure = await other(own);
      others.push(figure.cpuUs);
      note = figure.note ?? "";
    }
    const [before, after] = [medianOf(bases), medianOf(others)];
    console.log(`\n${name}`);
    console.log(
      `  ${before.toFixed(2)} µs CPU beside ${after.toFixed(2)}: ${(after / before).toFixed(2)}  ${note}  wanted: ${wanted}`,
    );
  }
  console.log(`\npauses\n  ${await pauses(own)}`);
} finally {
  await own.stop();
  rmSync(directory, { recursive: true, force: true });
}
