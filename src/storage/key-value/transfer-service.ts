/** What reads and writes states on their way between servers, as its thread runs it. */
import { assert } from "../../lib/assert.ts";
import type { Bytes } from "../../lib/bytes.ts";
import type { KeySorting } from "../../model/keys.ts";
import { Refusal } from "../../model/refusal.ts";
import { explainError, isDiskFull, sqliteErrorKind } from "../sqlite.ts";
import type { StateClaim } from "./state-check.ts";
import type { StateHead } from "./state-items.ts";
import { StateReading } from "./state-reading.ts";
import { StateWriting } from "./state-writing.ts";
import type { WorkerCall, WorkerReply } from "./worker-calls.ts";

/** `transfer` is a number that the owner gives each. */
export type TransferRequest =
  | { readonly kind: "send"; readonly transfer: number; readonly path: string; readonly sorting: KeySorting }
  | { readonly kind: "next"; readonly transfer: number }
  | { readonly kind: "end"; readonly transfer: number }
  | { readonly kind: "receive"; readonly transfer: number; readonly path: string; readonly sorting: KeySorting }
  | { readonly kind: "add"; readonly transfer: number; readonly piece: Bytes }
  | { readonly kind: "complete"; readonly transfer: number; readonly claim: StateClaim }
  | { readonly kind: "drop"; readonly transfer: number };

export interface TransferAnswers {
  send: StateHead;
  next: Bytes | undefined;
  end: undefined;
  receive: undefined;
  add: undefined;
  complete: undefined;
  drop: undefined;
}

export class TransferService {
  readonly #readings = new Map<number, StateReading>();
  readonly #writings = new Map<number, StateWriting>();

  /** The answer, and buffers that go with it. */
  receive({ id, request }: WorkerCall<TransferRequest>): {
    readonly reply: WorkerReply;
    readonly moved: ArrayBuffer[];
  } {
    try {
      const answer = this.#carryOut(request);
      const moved = answer instanceof Uint8Array ? [answer.buffer as ArrayBuffer] : [];
      return { reply: { id, ok: true, answer }, moved };
    } catch (error) {
      return { reply: { id, ok: false, ...failure(error) }, moved: [] };
    }
  }

  #carryOut(request: TransferRequest): StateHead | Bytes | undefined {
    const { transfer } = request;
    switch (request.kind) {
      case "send": {
        const reading = new StateReading(request.path, request.sorting);
        this.#readings.set(transfer, reading);
        return reading.head;
      }
      case "next":
        return this.#readings.get(transfer)?.next();
      case "end":
        this.#readings.get(transfer)?.close();
        this.#readings.delete(transfer);
        return undefined;
      case "receive":
        this.#writings.set(transfer, new StateWriting(request.path, request.sorting));
        return undefined;
      case "add":
        return this.#writing(transfer).add(request.piece) as undefined;
      case "complete":
        return this.#writing(transfer).complete(request.claim) as undefined;
      case "drop":
        this.#writings.get(transfer)?.drop();
        this.#writings.delete(transfer);
        return undefined;
    }
  }

  #writing(transfer: number): StateWriting {
    const found = this.#writings.get(transfer);
    assert(found !== undefined, "a transfer that is not there", transfer);
    return found;
  }
}

function failure(error: unknown): Pick<WorkerReply & { ok: false }, "error" | "errorKind" | "reason"> {
  const what = { error: explainError(error), errorKind: sqliteErrorKind(error) };
  if (error instanceof Refusal) return { ...what, reason: error.reason };
  if (isDiskFull(error)) return { ...what, reason: "RESOURCE_EXHAUSTED" };
  return what;
}
