/** The witness: a program of the official Go client that writes down what it sees of a cluster, and judges histories. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { REPOSITORY } from "../e2e/varia.ts";

const MODULE = join(REPOSITORY, "test/compat/go-cluster");
/** Ephemeral records that the observing process holds at a time. */
const EPHEMERALS = 4;
const READY_MS_MAX = 90_000;

export interface Gap {
  readonly shard: number;
  readonly fromMs: number;
  readonly ms: number;
}

/** As the witness prints it. */
export interface Verdict {
  readonly operations: number;
  readonly acknowledged: number;
  readonly failed: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly ledger: number;
  readonly probes: number;
  readonly notes: number;
  readonly ephemerals: number;
  readonly repeated: number;
  readonly gapMs: number;
  readonly gaps: readonly Gap[];
  readonly violations: readonly string[];
}

/** Builds the witness into a directory and returns its path. */
export function buildWitness(directory: string): string {
  const path = resolve(directory, "witness");
  const { exitCode, stderr } = Bun.spawnSync(["go", "build", "-o", path, "."], { cwd: MODULE });
  if (exitCode !== 0) throw new Error(`the witness cannot be built:\n${stderr.toString()}`);
  return path;
}

/** Where the witness is; set once it is built. */
let witness = "";
export function useWitness(path: string): void {
  if (!existsSync(path)) throw new Error(`${path} is missing`);
  witness = path;
}

export interface RecorderOptions {
  readonly servers: readonly string[];
  readonly directory: string;
  readonly name: string;
  /** Also holds ephemeral records, hears notifications, probes each server, and writes what is found again. */
  readonly observers: boolean;
  /** Operations have the time that the official client gives them by default. */
  readonly patient: boolean;
  readonly fillMiB: number;
}

/** A process that records until it is told to end. */
export class Recorder {
  readonly name: string;
  readonly #process: Bun.Subprocess<"pipe", "pipe", "pipe">;

  /** Resolves once each shard has taken a write and all its clients are connected. */
  static async start(options: RecorderOptions): Promise<Recorder> {
    const recorder = new Recorder(options);
    const reader = recorder.#process.stdout.getReader();
    const late = setTimeout(() => recorder.#process.kill("SIGKILL"), READY_MS_MAX);
    const { value } = await reader.read();
    clearTimeout(late);
    if (value === undefined) throw new Error(`${options.name} does not begin: ${await recorder.#errors()}`);
    return recorder;
  }

  private constructor(options: RecorderOptions) {
    const { servers, directory, name } = options;
    this.name = name;
    const observers = ["--pulse", "40ms", "--probe", "50ms", "--ephemerals", String(EPHEMERALS), "--subscribe"];
    this.#process = Bun.spawn({
      cmd: [
        ...[witness, "record", "--servers", servers.join(","), "--name", name],
        ...["--out", historyFile(directory, name), "--fill-mib", String(options.fillMiB)],
        ...["--timeout", options.patient ? "30s" : "3s"],
        ...(options.observers ? observers : []),
      ],
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
  }

  /** Ends it and waits for its history; returns what went wrong, in words, or nothing. */
  async end(): Promise<string> {
    this.#process.stdin.end();
    const errors = await this.#errors();
    const code = await this.#process.exited;
    return code === 0 ? "" : `${this.name}: ${errors || `ended with code ${code}`}`;
  }

  async #errors(): Promise<string> {
    return (await new Response(this.#process.stderr).text()).trim();
  }
}

export interface AuditOptions {
  readonly servers: readonly string[];
  readonly directory: string;
  readonly names: readonly string[];
}

/** Reads what the cluster holds, after the last write. */
export async function audit({ servers, directory, names }: AuditOptions): Promise<void> {
  const words = ["audit", "--servers", servers.join(","), "--names", names.join(","), "--ephemerals", `${EPHEMERALS}`];
  const { code, errors } = await call([...words, "--out", historyFile(directory, "audit")]);
  if (code !== 0) throw new Error(`the audit failed: ${errors}`);
}

export async function judge(directory: string, names: readonly string[]): Promise<Verdict> {
  const files = [...names, "audit"].map((name) => historyFile(directory, name));
  const { output, errors } = await call(["judge", ...files]);
  if (output === "") throw new Error(`the histories cannot be judged: ${errors}`);
  return JSON.parse(output) as Verdict;
}

async function call(words: readonly string[]) {
  const child = Bun.spawn([witness, ...words], { stdout: "pipe", stderr: "pipe" });
  const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, output, errors };
}

const historyFile = (directory: string, name: string) => join(directory, `${name}.jsonl`);
