/**
 * `varia perf`: load on a server, with the flags of Oxia's perf and what a benchmark needs beyond them. A line a second
 * goes to standard error, the summary to standard output, as text or JSON.
 */
import { type Command, Option } from "commander";
import { connect } from "../client/connect.ts";
import type { PutOptions } from "../client/options.ts";
import { CLIENT_BATCH_LINGER_MS, CLIENT_BATCH_REQUESTS_MAX } from "../model/limits.ts";
import { authToken } from "./auth-token.ts";
import {
  addConnectionFlags,
  type ConnectionFlags,
  durationFlag,
  exitErrorOf,
  integerFlag,
  numberFlag,
} from "./client-connection.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { json, standardOutput } from "./output.ts";
import { Load, type LoadPlan, preload, type Target } from "./perf-load.ts";
import { connectRaw } from "./perf-raw.ts";
import { Progress, Stats, type Summary, summaryText } from "./perf-report.ts";

interface PerfFlags extends ConnectionFlags {
  readonly rate: number;
  readonly readWritePercent: number;
  readonly valueSize: number;
  readonly keysCardinality: number;
  readonly batchLinger: number;
  readonly maxRequestsPerBatch: number;
  readonly randomPayload?: boolean;
  readonly duration?: number;
  readonly concurrency?: number;
  readonly unary?: boolean;
  readonly puts: PutKind;
  readonly connections: number;
  readonly rangeScan?: boolean;
  readonly preload?: boolean;
  readonly seed: number;
  readonly json?: boolean;
}

const PUT_KINDS = ["plain", "indexed", "ephemeral", "sequence"] as const;
type PutKind = (typeof PUT_KINDS)[number];

/** What makes a put one of its kind: an entry in an index, a session, or a key that the server numbers. */
const PUT_OPTIONS: Readonly<Record<PutKind, (key: string) => PutOptions>> = {
  plain: () => ({}),
  indexed: (key) => ({ secondaryIndexes: [{ name: "perf", key }] }),
  ephemeral: () => ({ ephemeral: true }),
  sequence: (key) => ({ partitionKey: key, sequenceKeysDeltas: [1] }),
};

/** Operations outstanding at once unless told: enough to fill batches, the figure of the unary benchmark, a few scans. */
const CONCURRENCY = { batched: 8192, unary: 128, rangeScan: 4 } as const;
const KEYS_MAX = 0xffff_ffff;
const VALUE_BYTES_MAX = 64 * 1024 * 1024;

/** Adds `perf`. */
export function addPerfCommand(program: Command): void {
  const perf = program.command("perf").description("Put a server under load and measure it.");
  addConnectionFlags(perf);
  addLoadFlags(perf);
  perf
    .addHelpText(
      "after",
      `
The summary goes to standard output, progress to standard error. Without
--duration the load runs until it is interrupted.`,
    )
    .addHelpText(
      "after",
      examples(
        "varia perf                                 100 operations a second",
        "varia perf --rate 0 --duration 30s         as fast as the server goes",
        "varia perf --rate 0 -p 0 --keys-cardinality 1000000 --preload --json",
        "varia perf --rate 0 --unary --connections 4 --duration 10s",
        "varia perf --range-scan --rate 0 --duration 10s",
      ),
    )
    .action((_flags, command: Command) => runPerf(command.optsWithGlobals<PerfFlags>()));
}

function addLoadFlags(perf: Command): void {
  const whole = (flags: string, description: string, min: number, max: number, byDefault?: number) => {
    const option = new Option(flags, description).argParser(integerFlag(min, max));
    perf.addOption(byDefault === undefined ? option : option.default(byDefault));
  };
  perf
    .addOption(
      new Option("-r, --rate <n>", "operations a second; 0: as many as it takes")
        .argParser(numberFlag(0, Number.POSITIVE_INFINITY))
        .default(100),
    )
    .addOption(
      new Option("-p, --read-write-percent <n>", "gets among all operations, in percent")
        .argParser(numberFlag(0, 100))
        .default(80),
    );
  whole("-s, --value-size <bytes>", "size of values", 0, VALUE_BYTES_MAX, 128);
  whole("--keys-cardinality <n>", "number of keys", 1, KEYS_MAX, 1000);
  perf.addOption(
    new Option("--batch-linger <duration>", "time that a batch waits for more")
      .argParser(durationFlag)
      .default(CLIENT_BATCH_LINGER_MS, `${CLIENT_BATCH_LINGER_MS}ms`),
  );
  whole("--max-requests-per-batch <n>", "operations in one batch", 1, KEYS_MAX, CLIENT_BATCH_REQUESTS_MAX);
  perf
    .option("--random-payload", "a value of its own for each put")
    .addOption(new Option("--duration <duration>", "how long; 0: only --preload").argParser(durationFlag));
  whole("--concurrency <n>", "operations outstanding at most (default: 8192; unary 128; scans 4)", 1, 1_000_000);
  perf.addOption(
    new Option("--puts <kind>", "with an index entry, in a session, or numbered by the server")
      .choices(PUT_KINDS)
      .default("plain"),
  );
  perf.option("--unary", "one operation a call, without batches and retries");
  whole("--connections <n>", "connections to each server", 1, 1000, 1);
  perf
    .option("--range-scan", "scan all keys of the load, in place of puts and gets")
    .option("--preload", "put every key once before the load");
  whole("--seed <n>", "decides about the order of keys and operations", 0, KEYS_MAX, 1);
  perf.option("--json", "print the summary as JSON");
}

async function runPerf(flags: PerfFlags): Promise<void> {
  if (flags.unary === true && flags.rangeScan === true) {
    throw new ExitError(EXIT.usage, "--unary contradicts --range-scan");
  }
  if (flags.unary === true && flags.puts !== "plain") {
    throw new ExitError(EXIT.usage, "--unary sends plain puts only");
  }
  if (flags.duration === 0 && flags.preload !== true) throw new ExitError(EXIT.usage, "--duration 0 needs --preload");
  let summary: Summary | undefined;
  try {
    const target = await openTarget(flags);
    try {
      summary = await underLoad(target, flags);
    } finally {
      await target.close();
    }
  } catch (error) {
    throw exitErrorOf(error, flags);
  }
  if (summary !== undefined) await print(summary, flags);
}

async function underLoad(target: Target, flags: PerfFlags): Promise<Summary | undefined> {
  const plan = planOf(flags);
  const interrupted = new Promise<"interrupted">((resolve) => {
    process.once("SIGINT", () => resolve("interrupted"));
    process.once("SIGTERM", () => resolve("interrupted"));
  });
  if (flags.preload === true) {
    const loaded = await Promise.race([preloadWithProgress(target, plan), interrupted]);
    if (loaded === "interrupted") {
      process.exitCode = EXIT.interrupted;
      return undefined;
    }
    if (flags.duration === 0) return loaded;
  }
  const startMs = performance.now();
  const stats = new Stats(startMs);
  const progress = new Progress(stats, startMs);
  const ticker = setInterval(() => console.error(progress.line(performance.now())), 1000);
  const load = new Load(target, plan, stats);
  load.start();
  let deadline: NodeJS.Timeout | undefined;
  const ends: Promise<"interrupted" | "elapsed">[] = [interrupted];
  if (flags.duration !== undefined) {
    ends.push(
      new Promise((resolve) => {
        deadline = setTimeout(() => resolve("elapsed"), flags.duration);
      }),
    );
  }
  if ((await Promise.race(ends)) === "interrupted") process.exitCode = EXIT.interrupted;
  clearTimeout(deadline);
  clearInterval(ticker);
  await load.stop();
  return stats.summary(performance.now());
}

/** Puts all keys; the summary is of that alone. */
async function preloadWithProgress(target: Target, plan: LoadPlan): Promise<Summary> {
  const startMs = performance.now();
  const stats = new Stats(startMs);
  const timed: Target = {
    ...target,
    put: async (key, value) => {
      const fromMs = performance.now();
      await target.put(key, value);
      stats.succeeded("put", performance.now() - fromMs);
    },
  };
  let loaded = 0;
  const ticker = setInterval(() => console.error(`preload: ${loaded} of ${plan.keys} keys`), 1000);
  try {
    const concurrency = plan.scans ? CONCURRENCY.batched : plan.concurrency;
    await preload(timed, { ...plan, concurrency }, (done) => {
      loaded = done;
    });
  } finally {
    clearInterval(ticker);
  }
  const summary = stats.summary(performance.now());
  console.error(`preload: ${plan.keys} keys in ${summary.elapsedSeconds.toFixed(1)} s`);
  return summary;
}

function planOf(flags: PerfFlags): LoadPlan {
  const kind = flags.rangeScan === true ? "rangeScan" : flags.unary === true ? "unary" : "batched";
  return {
    rate: flags.rate,
    concurrency: flags.concurrency ?? CONCURRENCY[kind],
    keys: flags.keysCardinality,
    readPercent: flags.readWritePercent,
    scans: kind === "rangeScan",
    valueBytes: flags.valueSize,
    randomPayload: flags.randomPayload === true,
    seed: flags.seed,
  };
}

async function openTarget(flags: PerfFlags): Promise<Target & { close(): void | Promise<void> }> {
  const { serviceAddress, namespace, connections } = flags;
  const token = authToken(flags);
  const requestTimeoutMs = Math.max(1, flags.requestTimeout);
  if (flags.unary === true || flags.rangeScan === true) {
    const raw = await connectRaw({ serviceAddress, namespace, requestTimeoutMs, connections, authToken: token });
    if (flags.unary === true) return raw;
    const client = await openClient(flags, requestTimeoutMs, token);
    return {
      ...client,
      scan: () => raw.scan(),
      close: async () => {
        raw.close();
        await client.close();
      },
    };
  }
  return openClient(flags, requestTimeoutMs, token);
}

async function openClient(flags: PerfFlags, requestTimeoutMs: number, token: string | undefined) {
  const { serviceAddress, namespace, connections } = flags;
  const client = await connect({
    serviceAddress,
    namespace,
    requestTimeoutMs,
    batchLingerMs: flags.batchLinger,
    batchRequestsMax: flags.maxRequestsPerBatch,
    connectionsPerServer: connections,
    ...(token === undefined ? {} : { authToken: token }),
  });
  const optionsOf = PUT_OPTIONS[flags.puts];
  return {
    put: (key: string, value: Uint8Array) =>
      flags.puts === "plain" ? client.put(key, value) : client.put(key, value, optionsOf(key)),
    get: (key: string) => client.get(key),
    scan: () => Promise.reject(new Error("range scans are raw calls")),
    close: () => client.close(),
  };
}

async function print(summary: Summary, flags: PerfFlags): Promise<void> {
  const write = standardOutput();
  if (flags.json !== true) return write(summaryText(summary));
  const { serviceAddress, namespace, seed, keysCardinality, valueSize, rate, readWritePercent } = flags;
  const load = { serviceAddress, namespace, seed, keys: keysCardinality, valueBytes: valueSize, rate };
  await write(`${json({ load: { ...load, readPercent: readWritePercent }, ...summary })}\n`);
}
