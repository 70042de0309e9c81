/** Requests to a Worker that answers each of them: the owner's side, and what crosses. */
import type { Reason } from "../../model/refusal.ts";
import { Refusal } from "../../model/refusal.ts";
import type { SqliteErrorKind } from "../sqlite.ts";
import type { StartThread, Thread, WorkerEntry } from "../start-worker.ts";

/** What crosses to a Worker. */
export interface WorkerCall<Request> {
  readonly id: number;
  readonly request: Request;
}

/** What crosses back: the answer, or what failed in plain words. */
export type WorkerReply =
  | { readonly id: number; readonly ok: true; readonly answer: unknown }
  | {
      readonly id: number;
      readonly ok: false;
      readonly error: string;
      readonly errorKind: SqliteErrorKind;
      /** Set when it was a refusal. */
      readonly reason?: Reason;
    };

/** A request that failed in the Worker for another cause than a refusal. */
export class WorkerError extends Error {
  readonly kind: SqliteErrorKind;

  constructor(message: string, kind: SqliteErrorKind) {
    super(message);
    this.kind = kind;
  }
}

export class WorkerCalls<Request extends { readonly kind: keyof Answers }, Answers> {
  readonly #thread: Thread;
  readonly #onFault: (error: Error) => void;
  readonly #waiting = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  #nextId = 0;

  /** `onFault` is told when the Worker itself fails. */
  constructor(start: StartThread, entry: WorkerEntry, onFault: (error: Error) => void) {
    this.#thread = start(entry);
    this.#onFault = onFault;
    this.#thread.listen(
      (reply) => this.#answered(reply as WorkerReply),
      (what) => onFault(new Error(`the Worker ${entry} failed: ${what}`)),
    );
  }

  /** Requests that are not answered yet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Answers come in the order of the requests. Bytes of `transfer` are gone here afterwards. Rejects with a Refusal or a WorkerError. */
  ask<Asked extends Request>(request: Asked, transfer: ArrayBuffer[] = []): Promise<Answers[Asked["kind"]]> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#thread.post({ id, request } satisfies WorkerCall<Asked>, transfer);
    });
  }

  /**
   * `ask` for a step after whose failure nothing can be told: `onFault` hears of it, and it never settles. Without space it
   * rejects RESOURCE_EXHAUSTED, unless `full` says that it must not be left undone.
   */
  async carryOut<Asked extends Request>(request: Asked, full: "refuse" | "fault"): Promise<Answers[Asked["kind"]]> {
    try {
      return await this.ask(request);
    } catch (error) {
      const { kind, message } = error as WorkerError;
      if (kind === "full" && full === "refuse") throw new Refusal("RESOURCE_EXHAUSTED", message, { cause: error });
      this.#onFault(error as Error);
      return new Promise(() => {});
    }
  }

  terminate(): void {
    this.#thread.terminate();
  }

  #answered(reply: WorkerReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.ok) waiting?.resolve(reply.answer as never);
    else if (reply.reason !== undefined) waiting?.reject(new Refusal(reply.reason, reply.error));
    else waiting?.reject(new WorkerError(reply.error, reply.errorKind));
  }
}
