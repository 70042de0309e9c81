/**
 * Scans of files that were too large to be scanned before they serve (safety.md §7): one after the other, in a Worker
 * that lives as long as there is something to scan.
 */
import type { KeySorting } from "../../model/keys.ts";
import type { Damage } from "../../ports.ts";
import type { StartThread, Thread } from "../start-worker.ts";
import type { VerifyReply, VerifyRequest } from "./verify-service.ts";

interface Scan {
  readonly path: string;
  readonly sorting: KeySorting;
  readonly bytes: number;
  /** Told what is wrong with it, if anything is. */
  readonly onEnd: (damage: Damage | undefined) => void;
}

export class BackgroundScan {
  readonly #start: StartThread;
  readonly #onFault: (error: Error) => void;
  #waiting: Scan[] = [];
  #thread: Thread | undefined;

  /** `onFault` is told of an I/O error. */
  constructor(start: StartThread, onFault: (error: Error) => void) {
    this.#start = start;
    this.#onFault = onFault;
  }

  /** Bytes of files that serve and are not proved whole yet. */
  get bytesLeft(): number {
    return this.#waiting.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  add(scan: Scan): void {
    this.#waiting.push(scan);
    if (this.#waiting.length === 1) this.#next();
  }

  /** Scans of this file do not matter any more. */
  forget(path: string): void {
    this.#waiting = this.#waiting.filter((scan, at) => at === 0 || scan.path !== path);
  }

  stop(): void {
    this.#waiting = [];
    this.#thread?.terminate();
    this.#thread = undefined;
  }

  #next(): void {
    const [scan] = this.#waiting;
    if (scan === undefined) {
      this.stop();
      return;
    }
    if (this.#thread === undefined) {
      this.#thread = this.#start("key-value/verify-worker");
      this.#thread.listen(
        (reply) => this.#scanned(reply as VerifyReply),
        (what) => this.#onFault(new Error(`the scanning Worker failed: ${what}`)),
      );
    }
    this.#thread.post({ path: scan.path, sorting: scan.sorting } satisfies VerifyRequest, []);
  }

  #scanned(reply: VerifyReply): void {
    const scan = this.#waiting.shift();
    if ("fault" in reply) this.#onFault(new Error(reply.fault));
    else scan?.onEnd(reply.damage);
    this.#next();
  }
}
