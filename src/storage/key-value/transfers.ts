/** States on their way to and from other servers: the owner's side of transfer-service.ts, which lives as long as there is something to do. */
import { assert } from "../../lib/assert.ts";
import type { KeySorting } from "../../model/keys.ts";
import { STATES_RECEIVED_MAX, STATES_SENT_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type { StartThread } from "../start-worker.ts";
import type { StateHead } from "./state-items.ts";
import type { Writing } from "./state-receiver.ts";
import type { PieceSource } from "./state-sender.ts";
import type { TransferAnswers, TransferRequest } from "./transfer-service.ts";
import { WorkerCalls, WorkerError } from "./worker-calls.ts";

/** A state that is being read. */
export interface Reading extends PieceSource {
  readonly head: StateHead;
}

export class Transfers {
  readonly #start: StartThread;
  readonly #onFault: (error: Error) => void;
  #calls: WorkerCalls<TransferRequest, TransferAnswers> | undefined;
  #nextTransfer = 0;
  #reading = 0;
  #writing = 0;
  readonly #waiters: (() => void)[] = [];

  /** `onFault` is told of an I/O error, and of a bug. What was asked for then never settles. */
  constructor(start: StartThread, onFault: (error: Error) => void) {
    this.#start = start;
    this.#onFault = onFault;
  }

  /** Pins a file and begins to read it; waits while STATES_SENT_MAX are read. Rejects DATA_LOSS when it is damaged. */
  async read(path: string, sorting: KeySorting): Promise<Reading> {
    if (this.#reading >= STATES_SENT_MAX) await new Promise<void>((resolve) => this.#waiters.push(resolve));
    else this.#reading++;
    const transfer = this.#nextTransfer++;
    try {
      const head = await this.#ask({ kind: "send", transfer, path, sorting });
      return {
        head,
        next: () => this.#ask({ kind: "next", transfer }),
        close: async () => {
          await this.#ask({ kind: "end", transfer });
          this.#readingEnded();
        },
      };
    } catch (error) {
      this.#readingEnded();
      throw error;
    }
  }

  /** A place becomes free, or goes to who waits for one. */
  #readingEnded(): void {
    const next = this.#waiters.shift();
    if (next !== undefined) next();
    else this.#reading--;
    this.#rest();
  }

  /** Begins to write a state beside the one at `path`. Rejects RESOURCE_EXHAUSTED without space, or past STATES_RECEIVED_MAX. */
  async write(path: string, sorting: KeySorting): Promise<Writing> {
    if (this.#writing >= STATES_RECEIVED_MAX) {
      throw new Refusal("RESOURCE_EXHAUSTED", `${STATES_RECEIVED_MAX} states are received already`);
    }
    this.#writing++;
    const transfer = this.#nextTransfer++;
    const leave = (): void => {
      this.#writing--;
      this.#rest();
    };
    try {
      await this.#ask({ kind: "receive", transfer, path, sorting });
    } catch (error) {
      leave();
      throw error;
    }
    return {
      add: (piece) => {
        const own = piece.slice();
        return this.#ask({ kind: "add", transfer, piece: own }, [own.buffer]);
      },
      complete: (claim) => this.#ask({ kind: "complete", transfer, claim }),
      drop: async () => {
        await this.#ask({ kind: "drop", transfer });
        leave();
      },
      leave,
    };
  }

  /** Nothing is on its way any more. */
  stop(): void {
    this.#calls?.terminate();
    this.#calls = undefined;
  }

  #rest(): void {
    assert(this.#reading >= 0 && this.#writing >= 0, "a transfer ended twice", this.#reading, this.#writing);
    if (this.#reading + this.#writing === 0 && this.#calls?.waiting === 0) this.stop();
  }

  async #ask<Asked extends TransferRequest>(
    request: Asked,
    moved: ArrayBuffer[] = [],
  ): Promise<TransferAnswers[Asked["kind"]]> {
    this.#calls ??= new WorkerCalls(this.#start, "key-value/transfer-worker", this.#onFault);
    try {
      return await this.#calls.ask(request, moved);
    } catch (error) {
      if (!(error instanceof WorkerError)) throw error;
      this.#onFault(error);
      return new Promise(() => {});
    }
  }
}
