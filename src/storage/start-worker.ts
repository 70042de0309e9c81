/**
 * Starts Workers: the one place that knows where their code lies.
 *
 *     from source    beside this file: file:///…/src/storage/log-worker.ts
 *     compiled       beside the executable's own root: file:///$bunfs/root/storage/log-worker.js
 *
 * In an executable every bundled module's `import.meta.url` is that of its entry point, so a URL relative to this
 * file would miss, and a bare relative path would load source from the current directory. Each Worker here has to be
 * named as a further entry point of the build, which must keep src/ as its root:
 *
 *     bun build --compile --root src src/main.ts src/storage/log-worker.ts …
 *
 * start-worker.test.ts builds such an executable and runs it in an empty directory.
 */

import { shareOpenLock } from "./open-lock.ts";

/** Files beside this one, without their extension. */
export type WorkerEntry =
  | "log-worker"
  | "key-value/flush-worker"
  | "key-value/transfer-worker"
  | "key-value/verify-worker";

/** What its owner sees of a thread: a Worker, or whatever a test puts in its place. */
export interface Thread {
  /** Messages go to `receive`, in order; `failed` is told when the thread itself fails. Called once, before the first `post`. */
  listen(receive: (message: unknown) => void, failed: (what: string) => void): void;
  /** Buffers of `transfer` are gone here afterwards. */
  post(message: unknown, transfer: ArrayBuffer[]): void;
  /** Nothing is received any more. */
  terminate(): void;
}

export type StartThread = (entry: WorkerEntry) => Thread;

const EXECUTABLE_ROOT = /^file:\/\/\/(?:\$bunfs|[A-Z]:\/~BUN)\/root\//;

/** Starts a Worker; the caller listens to its `message` and `error` events, and terminates it. */
export function startWorker(entry: WorkerEntry): Worker {
  shareOpenLock();
  return new Worker(workerUrl(entry, import.meta.url), { name: entry });
}

export function startThread(entry: WorkerEntry): Thread {
  const worker = startWorker(entry);
  return {
    listen(receive, failed) {
      worker.onmessage = ({ data }: MessageEvent<unknown>) => receive(data);
      worker.onerror = ({ message }) => failed(message);
    },
    post: (message, transfer) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
  };
}

/** Where a Worker's code lies, seen from the module at `here`, which is this one or the bundle that holds it. */
export function workerUrl(entry: WorkerEntry, here: string): URL {
  const root = EXECUTABLE_ROOT.exec(here);
  if (root === null) return new URL(`./${entry}.ts`, here);
  return new URL(`${root[0]}storage/${entry}.js`);
}
