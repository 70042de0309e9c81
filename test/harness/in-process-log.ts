/**
 * The real log, SQLite files and all, in the thread of whoever asks: no Worker, no timer of its own. When a commit runs,
 * and what the time is, the caller decides: under a simulated clock all of it is part of the run. On a directory in
 * memory (/dev/shm) its syncs cost nothing.
 *
 *     append -> `soon` -> the writer -> `commitSoon` -> one commit of all that has come -> resolved
 *
 * Whatever else is asked is carried out at once, and its promise resolves in the next microtask.
 */
import { cpSync, rmSync } from "node:fs";
import { basename } from "node:path";
import type { Clock, Log } from "../../src/ports.ts";
import { type LogChannel, openLogOver, type SqliteLogOptions } from "../../src/storage/log.ts";
import { ballastPath } from "../../src/storage/log-files.ts";
import { type FromLogThread, LogService } from "../../src/storage/log-service.ts";

export interface InProcessLogOptions extends SqliteLogOptions {
  /** Upkeep is called by `after`, once a while after something was asked: a log that nobody uses sets no timer. */
  readonly clock: Pick<Clock, "now" | "monotonicMs" | "after">;
  /** Runs what it is given once what is appended in one go has been, in order. */
  readonly commitSoon: (run: () => void) => void;
}

export interface InProcessLog {
  readonly log: Log;
  /**
   * Ends it as a killed process would end: nothing that was asked is answered any more, no file is touched. What is on
   * the disk then moves to `directory`, where it may be opened again; the old one is removed.
   */
  kill(directory: string): void;
}

/** See openSqliteLog. */
export async function openLogInProcess(options: InProcessLogOptions): Promise<InProcessLog> {
  const channel = new InProcessChannel(options);
  const log = await openLogOver(channel, options);
  return {
    log,
    kill(directory) {
      channel.cut();
      const ballast = basename(ballastPath(options.directory)); // is laid down again
      cpSync(options.directory, directory, { recursive: true, filter: (from) => basename(from) !== ballast });
      channel.drop();
      rmSync(options.directory, { recursive: true });
    },
  };
}

class InProcessChannel implements LogChannel {
  readonly #options: InProcessLogOptions;
  readonly #service: LogService;
  #receive: (message: FromLogThread) => void = () => {};
  #upkeep: { readonly ms: number; readonly run: () => void } | undefined;
  #cancelUpkeep: (() => void) | undefined;
  #isCut = false;

  constructor(options: InProcessLogOptions) {
    this.#options = options;
    const { clock } = options;
    this.#service = new LogService({
      post: (message) => {
        if (!this.#isCut) this.#receive(message);
      },
      commitSoon: (run) => this.soon(run),
      every: (ms, run) => {
        this.#upkeep = { ms, run };
        return () => this.#endUpkeep();
      },
      now: () => clock.now(),
      monotonicMs: () => clock.monotonicMs(),
    });
  }

  listen(receive: (message: FromLogThread) => void): void {
    this.#receive = receive;
  }

  post(message: Parameters<LogChannel["post"]>[0]): void {
    if (this.#isCut) return;
    this.#service.receive(message);
    if (this.#upkeep === undefined || this.#cancelUpkeep !== undefined) return;
    const { ms, run } = this.#upkeep;
    this.#cancelUpkeep = this.#options.clock.after(ms, () => {
      this.#cancelUpkeep = undefined;
      if (!this.#isCut) run();
    });
  }

  soon(callback: () => void): void {
    this.#options.commitSoon(() => {
      if (!this.#isCut) callback();
    });
  }

  close(): void {
    this.cut();
  }

  /** Nothing goes in or comes out any more. */
  cut(): void {
    this.#isCut = true;
    this.#endUpkeep();
  }

  /** Closes the files, which nobody looks at any more. */
  drop(): void {
    this.#service.receive({ id: 0, request: { kind: "close" } });
  }

  #endUpkeep(): void {
    this.#cancelUpkeep?.();
    this.#cancelUpkeep = undefined;
    this.#upkeep = undefined;
  }
}
