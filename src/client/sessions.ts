/**
 * The sessions of one client, at most one a shard: created by the first ephemeral put on the shard, kept by heartbeats,
 * ended when the client closes. Records put in a session are deleted when it ends.
 *
 * While a session is being created, all writes to its shard wait, so that none overtakes the put that asked for it.
 *
 * A session is lost when a server says that it is gone, or when no heartbeat was confirmed for as long as it lives
 * without one: then it may be gone, and nothing keeps it up any more. The next ephemeral put makes another.
 *
 * When a shard is split, its session lives on in each of its children, under the same id, and gets heartbeats in each.
 *
 * One timer serves all sessions: it goes off when the first of them is due.
 *
 * Invariant: a session in #current is in #sessions.
 *
 * Source: semantics.md §4, §9.5; errors.md §2.
 */
import type { Int64 } from "../wire/reader.ts";
import { retryDelayMs } from "./backoff.ts";
import { callOnce, callShard, ShardGoneError } from "./call-once.ts";
import type { CallStatus } from "./call-status.ts";
import { decodeSessionId } from "./feed-answers.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { WireKey } from "./keys.ts";
import { createSessionFrame, sessionFrame } from "./requests.ts";
import type { ShardContext } from "./shard-context.ts";
import { type HashRange, hashesOf, type Shard } from "./shard-table.ts";
import type { Call } from "./transport.ts";

const SERVICE = "/io.oxia.proto.v1.OxiaClient";

export interface SessionLost {
  readonly shard: number;
  readonly sessionId: Int64;
  /** `expired`: the server says so. `unconfirmed`: no heartbeat was answered in time, and it may have expired. */
  readonly reason: "expired" | "unconfirmed";
}

export interface SessionOptions {
  readonly timeoutMs: number;
  readonly heartbeatMs: number;
  readonly clientIdentity: WireKey;
  /** Milliseconds that `close` waits for answers. */
  readonly closeMs: number;
}

/** A write that waits for a session. */
export interface HeldWrite {
  readonly bytes: number;
  readonly ephemeral: boolean;
  /** The session is there, or the shard is not: takes the write up again. */
  again(): void;
  /** For an ephemeral one: there is no session to be had. */
  fail(error: Error): void;
}

interface Session {
  readonly shard: number;
  readonly hashes: HashRange;
  readonly id: Int64;
  /** When the last heartbeat was sent that the server confirmed. */
  confirmedMs: number;
  /** When the next heartbeat is due. */
  dueMs: number;
  attempts: number;
  call: Call | undefined;
}

export class Sessions {
  readonly #context: ShardContext;
  readonly #options: SessionOptions;
  readonly #sessions = new Set<Session>();
  /** The session of each shard that puts join. */
  readonly #current = new Map<number, Session>();
  /** Writes that wait for a session, by shard, in order. */
  readonly #held = new Map<number, HeldWrite[]>();
  readonly #listeners = new Set<(lost: SessionLost) => void>();
  readonly #idleWaiters: (() => void)[] = [];
  #timer: { readonly dueMs: number; readonly cancel: () => void } | undefined;
  #closed = false;

  constructor(context: ShardContext, options: SessionOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Writes to some shard wait for its session. */
  get holding(): boolean {
    return this.#held.size > 0;
  }

  holds(shard: number): boolean {
    return this.#held.has(shard);
  }

  /** The id of the shard's session, if it has one. */
  idOf(shard: number): Int64 | undefined {
    return this.#current.get(shard)?.id;
  }

  /** Makes the write wait for the shard's session, which is created unless it is already under way. */
  hold(shard: Shard, write: HeldWrite): void {
    this.#context.budget.take(1, write.bytes);
    const held = this.#held.get(shard.id);
    if (held !== undefined) {
      held.push(write);
      return;
    }
    this.#held.set(shard.id, [write]);
    this.#create(shard).then(
      (session) => {
        this.#add(session);
        this.#release(shard.id, undefined);
      },
      (error: Error) => this.#release(shard.id, error instanceof ShardGoneError ? undefined : error),
    );
  }

  /** Resolves once no write waits for a session. */
  idle(): Promise<void> {
    if (this.#held.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Calls `listener` when a session is lost. The returned function ends that. */
  onLost(listener: (lost: SessionLost) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A server refused a put because its session is gone. */
  refused(shard: number, id: Int64): void {
    for (const session of this.#sessions) {
      if (session.shard === shard && session.id === id) this.#lose(session, "expired");
    }
  }

  /** Sessions of a shard that was split live on in its children. */
  assignmentsChanged(): void {
    const { table } = this.#context.assignments;
    for (const session of [...this.#sessions]) {
      if (table.byId(session.shard) !== undefined) continue;
      this.#remove(session);
      for (const child of table.within(session.hashes)) {
        this.#add({ ...session, shard: child.id, hashes: hashesOf(child), dueMs: this.#nowMs(), call: undefined });
      }
    }
  }

  /** Ends all sessions, and with them their records. Resolves when the servers have confirmed, or `closeMs` have passed. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    const sessions = [...this.#sessions];
    for (const session of sessions) this.#remove(session);
    await Promise.all(
      sessions.map(({ shard, id }) =>
        callShard(this.#context, {
          shard,
          path: `${SERVICE}/CloseSession`,
          message: sessionFrame(shard, id),
          what: "closing a session",
          timeoutMs: this.#options.closeMs,
          // what is not closed runs out by itself
        }).catch(() => {}),
      ),
    );
  }

  // --- creating -------------------------------------------------------------------------------------------------

  async #create(shard: Shard): Promise<Session> {
    const { timeoutMs, clientIdentity, heartbeatMs } = this.#options;
    const startedMs = this.#nowMs();
    const answer = await callShard(this.#context, {
      shard: shard.id,
      path: `${SERVICE}/CreateSession`,
      message: createSessionFrame(shard.id, timeoutMs, clientIdentity),
      what: "creating a session",
      timeoutMs: this.#context.requestTimeoutMs,
    });
    const confirmedMs = startedMs + timeoutMs > this.#nowMs() ? startedMs : this.#nowMs();
    return {
      shard: shard.id,
      hashes: hashesOf(shard),
      id: decodeSessionId(answer),
      confirmedMs,
      dueMs: confirmedMs + heartbeatMs,
      attempts: 0,
      call: undefined,
    };
  }

  #add(session: Session): void {
    this.#sessions.add(session);
    if (!this.#current.has(session.shard)) this.#current.set(session.shard, session);
    this.#schedule();
  }

  /** Takes up what waited, in order: what comes now goes behind it. */
  #release(shard: number, error: Error | undefined): void {
    const held = this.#held.get(shard)!;
    this.#held.delete(shard);
    for (const write of held) {
      this.#context.budget.give(1, write.bytes);
      if (error !== undefined && write.ephemeral) write.fail(error);
      else write.again();
    }
    if (this.#held.size === 0) for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  // --- keeping --------------------------------------------------------------------------------------------------

  #nowMs(): number {
    return this.#context.ports.clock.monotonicMs();
  }

  #schedule(): void {
    if (this.#closed) return;
    let dueMs = Number.POSITIVE_INFINITY;
    for (const session of this.#sessions) {
      dueMs = Math.min(dueMs, session.dueMs, session.confirmedMs + this.#options.timeoutMs);
    }
    if (this.#timer?.dueMs === dueMs) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (dueMs === Number.POSITIVE_INFINITY) return;
    const cancel = this.#context.ports.clock.after(Math.max(0, dueMs - this.#nowMs()), () => {
      this.#timer = undefined;
      this.#beat();
      this.#schedule();
    });
    this.#timer = { dueMs, cancel };
  }

  #beat(): void {
    const nowMs = this.#nowMs();
    for (const session of [...this.#sessions]) {
      if (nowMs - session.confirmedMs >= this.#options.timeoutMs) this.#lose(session, "unconfirmed");
      else if (nowMs >= session.dueMs) this.#keepAlive(session, nowMs);
    }
  }

  #keepAlive(session: Session, sentMs: number): void {
    const { assignments, ports, headers } = this.#context;
    const { heartbeatMs, timeoutMs } = this.#options;
    // one that hangs is given up for the next
    session.call?.cancel();
    session.call = undefined;
    session.dueMs = sentMs + heartbeatMs;
    const leader = assignments.table.byId(session.shard)?.leader;
    if (leader === undefined || leader === "") {
      this.#retryLater(session);
      return;
    }
    const call = callOnce(
      ports.transport,
      {
        address: leader,
        path: `${SERVICE}/KeepAlive`,
        headers,
        message: sessionFrame(session.shard, session.id),
        timeoutMs,
      },
      (answer, status) => {
        if (session.call !== call) return;
        session.call = undefined;
        if (answer === undefined) this.#notKept(session, leader, status);
        else {
          session.confirmedMs = sentMs;
          session.attempts = 0;
        }
        this.#schedule();
      },
    );
    session.call = call;
  }

  #notKept(session: Session, address: string, status: CallStatus): void {
    const unknown =
      status.reason === "SESSION_NOT_FOUND" || (status.code === GrpcCode.notFound && status.reason === undefined);
    // Oxia's servers say it too when they no longer lead: then the one that does is asked
    if (unknown && this.#context.assignments.table.byId(session.shard)?.leader === address) {
      this.#lose(session, "expired");
      return;
    }
    if (status.hint !== undefined) this.#context.assignments.takeHint(status.hint);
    this.#retryLater(session);
  }

  #retryLater(session: Session): void {
    session.attempts++;
    const delayMs = retryDelayMs(session.attempts, this.#context.ports.random);
    session.dueMs = Math.min(session.dueMs, this.#nowMs() + delayMs);
  }

  #lose(session: Session, reason: SessionLost["reason"]): void {
    if (!this.#sessions.has(session)) return;
    this.#remove(session);
    const { shard, id: sessionId } = session;
    for (const listener of [...this.#listeners]) listener({ shard, sessionId, reason });
  }

  #remove(session: Session): void {
    session.call?.cancel();
    session.call = undefined;
    this.#sessions.delete(session);
    if (this.#current.get(session.shard) === session) this.#current.delete(session.shard);
    this.#schedule();
  }
}
