/** How a call over the simulated network fails, in gRPC's words, and what crosses the network of an error. */
import { assert } from "../../src/lib/assert.ts";
import { Refusal } from "../../src/model/refusal.ts";

export type CallCode =
  /** The connection broke, or there was none: what was asked may have happened, or may yet. */
  | "UNAVAILABLE"
  | "DEADLINE_EXCEEDED"
  | "CANCELLED"
  /** The other side turned the call down: `refusal` says why. */
  | "REFUSED"
  /** The other side failed. */
  | "UNKNOWN"
  | "UNIMPLEMENTED";

export class CallError extends Error {
  override readonly name = "CallError";
  readonly code: CallCode;
  /** The message without the code. */
  readonly words: string;
  readonly refusal: Refusal | undefined;

  constructor(code: CallCode, message: string, refusal?: Refusal) {
    super(`${code}: ${message}`);
    this.code = code;
    this.words = message;
    this.refusal = refusal;
  }
}

/** The error that a caller gets for what the other side's handler threw: nothing of it is shared. */
export function errorForCaller(error: unknown): CallError {
  if (error instanceof CallError) return new CallError(error.code, error.words, error.refusal);
  if (error instanceof Refusal) {
    const { reason, message, hint } = error;
    const copy = new Refusal(reason, message, hint === undefined ? {} : { hint: { ...hint } });
    return new CallError("REFUSED", `${reason}: ${message}`, copy);
  }
  return new CallError("UNKNOWN", error instanceof Error ? error.message : String(error));
}

/** A message as the other side gets it: never the same object. Plain data: what has another prototype is no message. */
export function copyMessage(message: unknown): unknown {
  if (typeof message !== "object" || message === null) return message;
  if (message instanceof Uint8Array) return message.slice();
  if (Array.isArray(message)) return message.map(copyMessage);
  if (message instanceof Map) return new Map([...message].map(([key, value]) => [key, copyMessage(value)]));
  const prototype: unknown = Object.getPrototypeOf(message);
  assert(prototype === Object.prototype || prototype === null, "a message is plain data", String(message));
  const copy: Record<string, unknown> = {};
  for (const key in message) copy[key] = copyMessage((message as Record<string, unknown>)[key]);
  return copy;
}
