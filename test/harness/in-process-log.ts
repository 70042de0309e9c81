/**
 * The real log, SQLite files and all, in the thread of whoever asks: no Worker, no timer of its own. When a commit runs,
 * and what the time is, the caller decides: under a simulated clock all of it is part of the run. On a directory in
 * memory (/dev/shm) its syncs cost nothing.
 *
 *     append -> `soon` -> the writer -> `commitSoon` -> one commit of all that has come -> resolved
 *
 * Whatever else is asked is carried out at once, and its promise resolves in the next microtask, unless messages take
 * their time (`hop`).
 */
import { cpSync, rmSync } from "node:fs";
import { basename } from "node:path";
import type { Clock, Log } from "../../src/ports.ts";
import { type LogChannel, openLogOver, type SqliteLogOptions } from "../../src/storage/log.ts";
import { ballastPath } from "../../src/storage/log-files.ts";
import { type FromLogThread, LogService, type LogThread } from "../../src/storage/log-service.ts";

export interface InProcessLogOptions extends SqliteLogOptions {
  /** Upkeep is called by `after`, once a while after something was asked: a log that nobody uses sets no timer. */
  readonly clock: Clock;
  /** Runs a commit, once what is appended in one go has been. */
  readonly commitSoon: (run: () => void) => void;
  /** A message's way to the writer, and an answer's back, in order; default: none. */
  readonly hop?: (run: () => void) => void;
  /** Default: at once. */
  readonly removeSegment?: LogThread["removeSegment"];
}

export interface InProcessLog {
  readonly log: Log;
  /** Nothing that was asked is answered any more, and nothing more is done. */
  cut(): void;
  /** Closes the files, which are written once more for it. */
  drop(): void;
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
    cut: () => channel.cut(),
    drop: () => channel.drop(),
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
  readonly #hop: (run: () => void) => void;
  #receive: (message: FromLogThread) => void = () => {};
  #upkeep: { readonly ms: number; readonly run: () => void } | undefined;
  #cancelUpkeep: (() => void) | undefined;
  #isCut = false;

  constructor(options: InProcessLogOptions) {
    this.#options = options;
    const { clock, commitSoon, removeSegment } = options;
    this.#hop = options.hop ?? ((run) => run());
    this.#service = new LogService({
      post: (message) => this.#hop(() => this.#unlessCut(() => this.#receive(message))),
      commitSoon: (run) => commitSoon(() => this.#unlessCut(run)),
      every: (ms, run) => {
        this.#upkeep = { ms, run };
        return () => this.#endUpkeep();
      },
      now: () => clock.now(),
      monotonicMs: () => clock.monotonicMs(),
      ...(removeSegment === undefined ? {} : { removeSegment }),
    });
  }

  listen(receive: (message: FromLogThread) => void): void {
    this.#receive = receive;
  }

  post(message: Parameters<LogChannel["post"]>[0]): void {
    this.#hop(() => this.#unlessCut(() => this.#deliver(message)));
  }

  #deliver(message: Parameters<LogChannel["post"]>[0]): void {
    this.#service.receive(message);
    if (this.#upkeep === undefined || this.#cancelUpkeep !== undefined) return;
    const { ms, run } = this.#upkeep;
    this.#cancelUpkeep = this.#options.clock.after(ms, () => {
      this.#cancelUpkeep = undefined;
      this.#unlessCut(run);
    });
  }

  soon(callback: () => void): void {
    this.#options.clock.soon(() => this.#unlessCut(callback));
  }

  #unlessCut(run: () => void): void {
    if (!this.#isCut) run();
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
