/** Seeds on all cores: processes that each run one seed at a time, fed from one list. */
import { join } from "node:path";
import { MUTANT_VARIABLE } from "./mutate-name.ts";
import type { SeedResult } from "./run-seed.ts";
import type { WorkerRequest } from "./seed-worker.ts";

export interface WorkersOptions {
  readonly count: number;
  readonly mutant?: string;
  /** The next thing to do; undefined: nothing more. */
  readonly next: () => WorkerRequest | undefined;
  /**
   * `again` is the trace of the second run, or the first one's. A seed that does not end comes with a violation of the
   * checker `DOES_NOT_END`, and nothing of what it did. False: stop everything.
   */
  readonly done: (result: SeedResult, again: string) => boolean;
  /** Default: 120,000. */
  readonly seedMsMax?: number;
  /** What a worker runs; default: seed-worker.ts. */
  readonly script?: string;
}

type Answer = { readonly ready: true } | { readonly result: SeedResult; readonly again: string };

/** Seeds that one process has at once: so that it never waits for the next. */
const QUEUED_PER_WORKER = 3;
/** A seed that takes longer than this does not get anywhere: its code never waits. */
const SEED_MS_MAX = 120_000;

/** The checker of what takes longer than `seedMsMax`: whoever runs it again in its own process does not come back. */
export const DOES_NOT_END = "DoesNotEnd";

/** Resolves when all that `next` gave is done, or `done` has said to stop. Rejects when a worker dies by itself. */
export async function runWorkers(options: WorkersOptions): Promise<void> {
  const workers = Array.from({ length: options.count }, () => new Worker(options, stopAll));
  function stopAll(): void {
    for (const worker of workers) worker.stop();
  }
  try {
    await Promise.all(workers.map(({ ended }) => ended));
  } finally {
    stopAll();
  }
}

class Worker {
  readonly #options: WorkersOptions;
  readonly #stopAll: () => void;
  readonly #ended = Promise.withResolvers<void>();
  /** Sent and not answered, oldest first. */
  readonly #waiting: WorkerRequest[] = [];
  #child: Bun.Subprocess;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;

  constructor(options: WorkersOptions, stopAll: () => void) {
    this.#options = options;
    this.#stopAll = stopAll;
    this.#child = this.#spawn();
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  stop(): void {
    this.#isStopped = true;
    this.#child.kill();
  }

  #spawn(): Bun.Subprocess {
    const { mutant, script = join(import.meta.dir, "seed-worker.ts") } = this.#options;
    const preload = mutant === undefined ? [] : ["--preload", join(import.meta.dir, "mutate.ts")];
    return Bun.spawn([process.execPath, ...preload, script], {
      env: { ...process.env, ...(mutant === undefined ? {} : { [MUTANT_VARIABLE]: mutant }) },
      stdout: "inherit",
      stderr: "inherit",
      serialization: "json",
      ipc: (message: Answer, child) => {
        if (child !== this.#child) return; // its last answer came when its seed was given up
        if ("result" in message) this.#answer(message.result, message.again);
        // one that was begun in the place of another has seeds to do already
        else for (const request of this.#waiting) child.send(request);
        this.#feed();
      },
      onExit: (child, code) => {
        if (child !== this.#child) return;
        clearTimeout(this.#watchdog);
        if (this.#isStopped) this.#ended.resolve();
        else this.#ended.reject(new Error(`a worker has ended with ${code}`));
      },
    });
  }

  #answer(result: SeedResult, again: string): void {
    this.#waiting.shift();
    if (!this.#isStopped && !this.#options.done(result, again)) this.#stopAll();
  }

  #feed(): void {
    while (!this.#isStopped && this.#waiting.length < QUEUED_PER_WORKER) {
      const request = this.#options.next();
      if (request === undefined) break;
      this.#waiting.push(request);
      this.#child.send(request);
    }
    if (this.#waiting.length === 0) this.stop();
    this.#watch();
  }

  #watch(): void {
    clearTimeout(this.#watchdog);
    const [current] = this.#waiting;
    if (current === undefined || this.#isStopped) return;
    const { seedMsMax = SEED_MS_MAX } = this.#options;
    this.#watchdog = setTimeout(() => this.#giveUp(current, seedMsMax), seedMsMax);
  }

  /** Counts the seed as failed; what was sent behind it is done by another process. */
  #giveUp({ options: { seed } }: WorkerRequest, afterMs: number): void {
    const given = this.#child;
    const message = `it does not end: nothing came of it in ${afterMs} ms`;
    const violation = { checker: DOES_NOT_END, message };
    this.#answer({ seed, steps: 0, simulatedMs: 0, trace: "", faults: {}, tally: {}, violation, lines: [] }, "");
    if (!this.#isStopped) this.#child = this.#spawn();
    given.kill("SIGKILL");
  }
}
