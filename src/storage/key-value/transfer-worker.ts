/** The thread that reads and writes states on their way between servers: flushes do not wait for them, nor does the event loop. */
import { assert } from "../../lib/assert.ts";
import type { Bytes } from "../../lib/bytes.ts";
import type { KeySorting } from "../../model/keys.ts";
import { Refusal } from "../../model/refusal.ts";
import { explainError, isDiskFull, sqliteErrorKind } from "../sqlite.ts";
import type { StateClaim } from "./state-check.ts";
import type { StateHead } from "./state-items.ts";
import { StateReading } from "./state-reading.ts";
import { StateWriting } from "./state-writing.ts";
import type { WorkerReply } from "./worker-calls.ts";

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

declare const self: Worker;

const readings = new Map<number, StateReading>();
const writings = new Map<number, StateWriting>();

self.onmessage = ({ data }: MessageEvent<{ readonly id: number; readonly request: TransferRequest }>): void => {
  const { id, request } = data;
  let reply: WorkerReply;
  let transfer: ArrayBuffer[] = [];
  try {
    const answer = carryOut(request);
    reply = { id, ok: true, answer };
    if (answer instanceof Uint8Array) transfer = [answer.buffer as ArrayBuffer];
  } catch (error) {
    reply = { id, ok: false, ...failure(error) };
  }
  self.postMessage(reply, transfer);
};

function failure(error: unknown): Pick<WorkerReply & { ok: false }, "error" | "errorKind" | "reason"> {
  const what = { error: explainError(error), errorKind: sqliteErrorKind(error) };
  if (error instanceof Refusal) return { ...what, reason: error.reason };
  if (isDiskFull(error)) return { ...what, reason: "RESOURCE_EXHAUSTED" };
  return what;
}

function carryOut(request: TransferRequest): StateHead | Bytes | undefined {
  const { transfer } = request;
  switch (request.kind) {
    case "send": {
      const reading = new StateReading(request.path, request.sorting);
      readings.set(transfer, reading);
      return reading.head;
    }
    case "next":
      return readings.get(transfer)?.next();
    case "end":
      readings.get(transfer)?.close();
      readings.delete(transfer);
      return undefined;
    case "receive":
      writings.set(transfer, new StateWriting(request.path, request.sorting));
      return undefined;
    case "add":
      return writing(transfer).add(request.piece) as undefined;
    case "complete":
      return writing(transfer).complete(request.claim) as undefined;
    case "drop":
      writings.get(transfer)?.drop();
      writings.delete(transfer);
      return undefined;
  }
}

function writing(transfer: number): StateWriting {
  const found = writings.get(transfer);
  assert(found !== undefined, "a transfer that is not there", transfer);
  return found;
}
