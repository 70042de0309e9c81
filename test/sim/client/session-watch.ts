/**
 * What clients know of their sessions by the answers that they get: until when each is alive for certain, and when it
 * may be over.
 *
 *     creation or heartbeat sent … answered: alive for certain until `timeoutMs` after it was sent, by the fastest clock
 *     from then on, or once its client has asked for its end: its records may go at any time
 *
 * The history is told of a record's possible end exactly from then on: a record that is gone earlier fits no order.
 *
 * Source: safety.md §8.
 */
import { decodeSessionId } from "../../../src/client/feed-answers.ts";
import type { Bytes } from "../../../src/lib/bytes.ts";
import { decodeSessionRequest } from "../../../src/wire/requests.ts";
import type { History, PendingOperation } from "../history.ts";
import type { Scheduler } from "../scheduler.ts";
import { BrokenPromise } from "./broken-promise.ts";
import type { TappedCall, TransportTap } from "./transport.ts";

interface Session {
  readonly shard: number;
  readonly id: number;
  readonly timeoutMs: number;
  /** When the last of what was confirmed had been sent. True times, as all here. */
  confirmedMs: number;
  /** When its last heartbeat was sent, confirmed or not. */
  sentMs: number;
  /** When its client has asked for its end, and when it was told that this has come. */
  closeSentMs: number;
  closedMs: number;
  /** Its records may go now. */
  lapsed: boolean;
  /** When they last could. */
  lapsedMs: number;
  /** Records that go with it, whose end the history has not been told of. */
  readonly records: EphemeralPut[];
}

interface EphemeralPut {
  readonly shard: number;
  readonly key: string;
  readonly value: string;
}

/** A put under way. */
export interface PendingEphemeral {
  /** It was answered with the id of its session. */
  stored(session: number): void;
  /** It was not carried out, for certain. */
  refused(): void;
}

/** True times. */
interface SeenAt {
  readonly readMs: number;
  readonly lateMs: number;
  readonly ledSinceMs: number;
}

export interface SessionWatchOptions {
  readonly scheduler: Scheduler;
  readonly history: (shard: number) => History;
  /** Servers' clocks run at most this much faster than true time. */
  readonly clockRateMax: number;
  /** Reads are answered by leaders alone: what they show is there. */
  readonly readsConfirmed: boolean;
}

export class SessionWatch implements TransportTap {
  readonly #options: SessionWatchOptions;
  readonly #sessions = new Map<string, Session>();

  constructor(options: SessionWatchOptions) {
    this.#options = options;
  }

  /** To be called before the put is sent. */
  put(put: EphemeralPut): PendingEphemeral {
    const invokedMs = this.#nowMs();
    // should the answer never come, it may go with its session at any time from now on
    const end = this.#endOf(put);
    return {
      stored: (id) => {
        const session = this.#sessions.get(nameOf(put.shard, id));
        if (session === undefined) throw new BrokenPromise(`${put.key} is in session ${id}, which nobody has made`);
        if (session.lapsed || session.lapsedMs >= invokedMs) return;
        end.refused();
        session.records.push(put);
      },
      refused: () => end.refused(),
    };
  }

  /**
   * A read that was sent at `readMs` shows a record of the session. Throws when it is over by then: its end was
   * confirmed, or it had no heartbeat for its timeout and `lateMs` more, from the beginning of its leadership on.
   */
  seen(shard: number, id: number, { readMs, lateMs, ledSinceMs }: SeenAt): void {
    if (!this.#options.readsConfirmed) return;
    const session = this.#sessions.get(nameOf(shard, id));
    if (session === undefined) return; // its client never heard that it was made
    const { timeoutMs, sentMs, closedMs } = session;
    const boundMs = timeoutMs * this.#options.clockRateMax + lateMs;
    if (closedMs < readMs)
      throw new BrokenPromise(`session ${id} was closed at ${closedMs} and has records at ${readMs}`);
    if (Math.max(sentMs, ledSinceMs) + boundMs < readMs) {
      throw new BrokenPromise(`session ${id} had its last heartbeat at ${sentMs} and has records at ${readMs}`);
    }
  }

  // --- TransportTap ---------------------------------------------------------------------------------------------

  opened(call: TappedCall): void {
    const method = methodOf(call);
    if (method !== "CloseSession" && method !== "KeepAlive") return;
    const session = this.#sessionOf(call);
    if (session === undefined) return;
    if (method === "KeepAlive") {
      session.sentMs = this.#nowMs();
      return;
    }
    session.closeSentMs = Math.min(session.closeSentMs, this.#nowMs());
    this.#lapse(session);
  }

  answered(call: TappedCall, message: Bytes): void {
    switch (methodOf(call)) {
      case "CreateSession":
        this.#created(call, Number(decodeSessionId(message)));
        return;
      case "KeepAlive": {
        const session = this.#sessionOf(call);
        if (session !== undefined) this.#confirmed(session, call.openedMs);
        return;
      }
      case "CloseSession": {
        const session = this.#sessionOf(call);
        if (session !== undefined) session.closedMs = Math.min(session.closedMs, this.#nowMs());
      }
    }
  }

  // --- inside ---------------------------------------------------------------------------------------------------

  #nowMs(): number {
    return this.#options.scheduler.nowMs;
  }

  #created(call: TappedCall, id: number): void {
    const { shard, timeoutMsOrId } = requestOf(call);
    const name = nameOf(Number(shard), id);
    if (this.#sessions.has(name)) throw new BrokenPromise(`two sessions of shard ${shard} have the id ${id}`);
    const session: Session = {
      shard: Number(shard),
      id,
      timeoutMs: Number(timeoutMsOrId),
      confirmedMs: call.openedMs,
      sentMs: this.#nowMs(),
      closeSentMs: Number.POSITIVE_INFINITY,
      closedMs: Number.POSITIVE_INFINITY,
      lapsed: false,
      lapsedMs: Number.NEGATIVE_INFINITY,
      records: [],
    };
    this.#sessions.set(name, session);
    this.#watch(session);
  }

  #confirmed(session: Session, sentMs: number): void {
    session.confirmedMs = Math.max(session.confirmedMs, sentMs);
    if (!session.lapsed || session.closeSentMs <= this.#nowMs() || this.#leftMs(session) <= 0) return;
    session.lapsed = false;
    session.lapsedMs = this.#nowMs();
    this.#watch(session);
  }

  /** How much longer it is alive for certain. */
  #leftMs({ confirmedMs, timeoutMs }: Session): number {
    return confirmedMs + timeoutMs / this.#options.clockRateMax - this.#nowMs();
  }

  #watch(session: Session): void {
    if (session.lapsed) return;
    const leftMs = this.#leftMs(session);
    if (leftMs <= 0) this.#lapse(session);
    else this.#options.scheduler.after(leftMs, "session may end", () => this.#watch(session));
  }

  #lapse(session: Session): void {
    session.lapsed = true;
    for (const put of session.records.splice(0)) this.#endOf(put);
  }

  #endOf({ shard, key, value }: EphemeralPut): PendingOperation {
    return this.#options.history(shard).invoke("session", { kind: "session-end", key, value });
  }

  #sessionOf(call: TappedCall): Session | undefined {
    const { shard, timeoutMsOrId } = requestOf(call);
    return this.#sessions.get(nameOf(Number(shard), Number(timeoutMsOrId)));
  }
}

export function methodOf({ request: { path } }: TappedCall): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function requestOf({ request: { message } }: TappedCall) {
  return decodeSessionRequest(message!.subarray(5));
}

function nameOf(shard: number, id: number): string {
  return `${shard}/${id}`;
}
