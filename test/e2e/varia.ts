/**
 * Runs the compiled executable as a user would, and as an operator never should: kills it, starts it under a preload
 * or another user, with a full disk under it.
 *
 * VARIA_E2E_SERVER replaces the executable, words separated by blanks (`bun src/main.ts`). The reference server fits
 * too: it takes the same flags, which is how the harness and its checker were tried out.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Connection } from "../harness/grpc.ts";

export const REPOSITORY = resolve(import.meta.dir, "../..");
const BUILT = join(REPOSITORY, "dist/varia");
/** Longer than any start takes, also one that replays a log on a busy machine. */
const START_MS_MAX = 60_000;
/** Longer than any orderly end takes. */
const STOP_MS_MAX = 30_000;

/** The command line up to the subcommand. */
export function serverCommand(): string[] {
  const given = process.env.VARIA_E2E_SERVER;
  if (given) return given.split(" ").map((word) => (/^(src|dist)\//.test(word) ? join(REPOSITORY, word) : word));
  if (!existsSync(BUILT)) throw new Error("dist/varia is missing: build it first");
  return [BUILT];
}

/** Servers that run, by directory: a test that fails leaves some behind. */
const running = new Map<Server, string>();

/** A directory that goes away with `remove`, and with it the servers that still run in it. */
export function scratch(name: string): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `varia-e2e-${name}-`));
  return {
    path,
    remove: () => {
      for (const [server, directory] of running) if (directory.startsWith(path)) server.signal("SIGKILL");
      rmSync(path, { recursive: true, force: true });
    },
  };
}

export interface StartOptions {
  /** Holds `data` and `log`, made when they are missing. */
  readonly directory: string;
  readonly shards?: number;
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Working directory of the process; default: `directory`. */
  readonly cwd?: string;
  /** Words before the command: `setpriv …`. */
  readonly prefix?: readonly string[];
  /** In place of `serverCommand()`. */
  readonly executable?: string;
}

export interface Exit {
  /** Exit code; 128 + signal number when a signal ended the process. */
  readonly code: number;
  readonly signal: string | null;
}

export const dataDirectory = (directory: string) => join(directory, "data");
export const logDirectory = (directory: string) => join(directory, "log");

/** A process of the server: starting, serving or ended. */
export class Server {
  /** Resolves with the public address once it is printed; rejects with the output when the process ends before. */
  readonly ready: Promise<string>;
  readonly exited: Promise<Exit>;
  readonly pid: number;
  readonly #process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #connections: Connection[] = [];
  #output = "";
  #errors = "";

  private constructor(options: StartOptions) {
    if (!existsSync(dataDirectory(options.directory))) mkdirSync(dataDirectory(options.directory), { recursive: true });
    mkdirSync(logDirectory(options.directory), { recursive: true });
    this.#process = Bun.spawn({
      cmd: [
        ...(options.prefix ?? []),
        ...(options.executable === undefined ? serverCommand() : [options.executable]),
        "standalone",
        ...["-p", "127.0.0.1:0", "-m", "127.0.0.1:0"],
        ...["--data-dir", dataDirectory(options.directory), "--wal-dir", logDirectory(options.directory)],
        ...(options.shards === undefined ? [] : ["-s", String(options.shards)]),
        ...(options.flags ?? []),
      ],
      cwd: options.cwd ?? options.directory,
      env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", ...options.environment },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.pid = this.#process.pid;
    const { promise, resolve } = Promise.withResolvers<string>();
    const drained = Promise.all([
      collect(this.#process.stdout, (text) => {
        this.#output += text;
        const address = publicAddress(this.#output);
        if (address !== undefined) resolve(address);
      }),
      collect(this.#process.stderr, (text) => {
        this.#errors += text;
      }),
    ]);
    running.set(this, options.directory);
    this.exited = this.#process.exited.then(async (code) => {
      running.delete(this);
      await drained;
      return { code, signal: this.#process.signalCode === null ? null : String(this.#process.signalCode) };
    });
    const ended = this.exited.then(({ code }) => {
      throw new Error(`the server ended with code ${code} before it served:\n${this.log()}`);
    });
    this.ready = Promise.race([promise, ended]);
    this.ready.catch(() => {}); // those who wait for it are told; a start that is killed has nobody who waits
  }

  /** Starts the process and returns at once. */
  static launch(options: StartOptions): Server {
    return new Server(options);
  }

  /** Starts the process and waits until it serves. */
  static async start(options: StartOptions): Promise<Server> {
    const server = new Server(options);
    await server.serves();
    return server;
  }

  /** Waits until it serves; rejects with the output when it ends instead, or takes too long and is killed. */
  async serves(): Promise<void> {
    const timer = setTimeout(() => this.signal("SIGKILL"), START_MS_MAX);
    try {
      await this.ready;
    } finally {
      clearTimeout(timer);
    }
  }

  async connect(): Promise<Connection> {
    const connection = await Connection.open(await this.ready);
    this.#connections.push(connection);
    return connection;
  }

  signal(signal: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT" | "SIGINT"): void {
    this.#process.kill(signal);
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  async kill(): Promise<Exit> {
    this.signal("SIGKILL");
    return this.#end();
  }

  /** SIGTERM, and waits for the end; kills it and rejects when it does not come. */
  async stop(): Promise<Exit> {
    this.signal("SIGTERM");
    return this.ends(STOP_MS_MAX);
  }

  /** Waits for the end that the server itself brings about; kills it and rejects after `ms`. */
  async ends(ms: number): Promise<Exit> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.signal("SIGKILL");
    }, ms);
    const exit = await this.#end();
    clearTimeout(timer);
    if (late) throw new Error(`the server did not end within ${ms} ms:\n${this.log()}`);
    return exit;
  }

  /** All that it wrote, on both streams. */
  log(): string {
    return this.#output + this.#errors;
  }

  get errors(): string {
    return this.#errors;
  }

  async #end(): Promise<Exit> {
    const exit = await this.exited;
    await Promise.all(this.#connections.map((connection) => connection.close()));
    return exit;
  }
}

async function collect(stream: ReadableStream<Uint8Array>, onText: (text: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) onText(decoder.decode(chunk, { stream: true }));
}

/** From the line `public 127.0.0.1:6648`, or the reference's log. */
function publicAddress(output: string): string | undefined {
  const plain = Bun.stripANSI(output);
  return /^\s*public\s+(\S+:\d+)\s/m.exec(plain)?.[1] ?? /Started Grpc server bindAddress=(\S+:\d+)/.exec(plain)?.[1];
}

/** How often a scenario repeats: `VARIA_E2E_<NAME>`, or the default. */
export function repetitions(name: string, byDefault: number): number {
  return Number(process.env[`VARIA_E2E_${name}`] ?? byDefault);
}

/** A seed that is printed, so that a failing run can be repeated with VARIA_E2E_SEED. */
export function seed(): number {
  const value = Number(process.env.VARIA_E2E_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`VARIA_E2E_SEED=${value}`);
  return value;
}
