/**
 * The client's ways to the world, as ports: a transport for calls, a hash, chance and time. `connect` plugs in HTTP/2,
 * the platform's XXH3, Math.random and the system's clock; a simulator plugs in its own.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { Clock } from "../ports.ts";
import type { CallStatus } from "./call-status.ts";

/** The side of a call that hears from the server. Its functions are never called from within `open` or `send`. */
export interface CallHandler {
  /** The headers of the answer, before its first message. Not called for a call that fails at once. */
  headers?(headers: Readonly<Record<string, string | undefined>>): void;
  /** One message, whole. The bytes are the handler's to keep. */
  message(message: Bytes): void;
  /** After `send` returned false: there is room again. */
  drained(): void;
  /** The call is over, exactly once, after its last message. Not called after `cancel`. */
  ended(status: CallStatus): void;
}

export interface Call {
  /**
   * Sends one message of a call that was opened without, framed: five bytes of prefix before it. The bytes must not change afterwards. False: the server
   * reads slower than we write; the message is kept, and the next one should wait for `drained`.
   */
  send(framed: Bytes): boolean;
  /** No more messages come from this side. For calls that were opened without a message; nothing may be sent after it. */
  halfClose(): void;
  /** Holds the server back. What it had room to send before still comes. */
  pause(): void;
  resume(): void;
  /** Gives the call up: nothing is heard of it any more. */
  cancel(): void;
}

export interface CallRequest {
  /** `host:port`. */
  readonly address: string;
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Further headers, lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The server may give the call up after this long. */
  readonly timeoutMs?: number;
  /** The call's only message, framed: it is sent, and no more follows. Absent for calls that stream their messages. */
  readonly message?: Bytes;
}

export interface Transport {
  /** Opens a call, connecting where there is no connection. Failing to connect ends the call with UNAVAILABLE. */
  open(request: CallRequest, handler: CallHandler): Call;
  /** Closes all connections; calls that are open end as cancelled, unheard. */
  close(): void;
}

/** The low 32 bits of XXH3-64 with seed 0; a string has only characters below 128. */
export type KeyHash = (key: string | Bytes) => number;

export interface ClientPorts {
  readonly clock: Clock;
  readonly transport: Transport;
  readonly hash: KeyHash;
  /** A number from 0 inclusive to 1 exclusive. */
  readonly random: () => number;
}

/** A name that no other has: 64 bits of chance. */
export function randomName(random: () => number): string {
  const word = () => Math.floor(random() * 0x1_0000_0000).toString(16);
  return `${word()}${word()}`;
}
