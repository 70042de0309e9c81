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
  /** `again` is the trace of the second run, or the first one's. False: stop everything. */
  readonly done: (result: SeedResult, again: string) => boolean;
}

type Answer = { readonly ready: true } | { readonly result: SeedResult; readonly again: string };

/** Seeds that one process has at once: so that it never waits for the next. */
const QUEUED_PER_WORKER = 3;
/** A seed that takes longer than this does not get anywhere: its code never waits. */
const SEED_MS_MAX = 120_000;

/** Resolves when all that `next` gave is done, or `done` has said to stop. Rejects when a worker dies. */
export async function runWorkers(options: WorkersOptions): Promise<void> {
  let stopped = false;
  const workers = Array.from({ length: options.count }, () => startWorker(options, () => stopped, stopAll));
  function stopAll(): void {
    stopped = true;
    for (const { stop } of workers) stop();
  }
  try {
    await Promise.all(workers.map(({ ended }) => ended));
  } finally {
    stopAll();
  }
}

interface Worker {
  readonly ended: Promise<void>;
  readonly stop: () => void;
}

function startWorker({ mutant, next, done }: WorkersOptions, isStopped: () => boolean, stopAll: () => void): Worker {
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  /** Sent and not answered, oldest first. */
  const waiting: WorkerRequest[] = [];
  let isIdle = false;
  let watchdog: ReturnType<typeof setTimeout> | undefined;
  const watch = () => {
    clearTimeout(watchdog);
    const [current] = waiting;
    if (current === undefined || isStopped()) return;
    watchdog = setTimeout(() => {
      reject(new Error(`seed ${current.options.seed} does not end`));
      child.kill("SIGKILL");
    }, SEED_MS_MAX);
  };
  const preload = mutant === undefined ? [] : ["--preload", join(import.meta.dir, "mutate.ts")];
  const child = Bun.spawn([process.execPath, ...preload, join(import.meta.dir, "seed-worker.ts")], {
    env: { ...process.env, ...(mutant === undefined ? {} : { [MUTANT_VARIABLE]: mutant }) },
    stdout: "inherit",
    stderr: "inherit",
    serialization: "json",
    ipc(message: Answer) {
      if ("result" in message) {
        waiting.shift();
        if (!isStopped() && !done(message.result, message.again)) stopAll();
      }
      feed();
    },
    onExit(_, code) {
      clearTimeout(watchdog);
      if (isIdle || isStopped()) resolve();
      else reject(new Error(`a worker has ended with ${code}`));
    },
  });
  function feed(): void {
    while (!isStopped() && waiting.length < QUEUED_PER_WORKER) {
      const request = next();
      if (request === undefined) break;
      waiting.push(request);
      child.send(request);
    }
    watch();
    if (waiting.length > 0 && !isStopped()) return;
    isIdle = true;
    child.kill();
  }
  return { ended, stop: () => child.kill() };
}
