/**
 * One data server as the coordinator holds on to it: its health, its stamp, and the stream of assignments.
 *
 *     unavailable ── serves, handshake done ──> available ──┐
 *         ^                                        ^        │ the stream has ended: the process may be another one
 *         │ does not serve, or is silent           └──── greeting
 *         └─────────────── too often ──────────────────────┘
 *
 *     available ── says that it does not serve, and answers ──> leaving ── stops, or takes too long ──> unavailable
 *
 * A server that is leaving is about to stop: it does what it is asked until then, and what it leads is handed over.
 *
 * The stream tells at once when the connection breaks; asking for health finds a process that stands still. Whoever
 * answers after a break is greeted by a new Handshake before anything else is asked of it, and what it should be is
 * verified, however soon it came back: it may be a new process, on another disk.
 *
 * Source: semantics.md §9.2 (whose [BUG] is a server that restarts faster than it is missed); safety.md §1, check (c).
 */
import {
  ASSIGNMENTS_REPEAT_FIRST_MS,
  ASSIGNMENTS_REPEAT_MS,
  FENCE_CALL_MS_MAX,
  HEALTH_CALL_MS_MAX,
  HEALTH_FAILURES_MAX,
  HEALTH_INTERVAL_MS,
  HEALTH_RETRY_MS,
  SERVER_LEAVING_MS_MAX,
  SERVER_MISMATCH_RETRY_MS,
  SERVER_RETRY_MS,
  STAMP_INTERVAL_MS,
} from "../model/limits.ts";
import type { Feature, ShardAssignments } from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { AssignmentStream, Clock, DataServers, Logger } from "../ports.ts";
import type { Stamps } from "./stamps.ts";
import type { CoordinatorStats } from "./stats.ts";
import type { StatusStore } from "./status-store.ts";
import { sleep, Wakeup } from "./wait.ts";

export type ServerState = "available" | "leaving" | "greeting" | "unavailable";

export interface LinkPorts {
  readonly dataServers: DataServers;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly store: StatusStore;
  readonly stamps: Stamps;
  readonly stats: CoordinatorStats;
}

export interface LinkHooks {
  /** The state is another one. */
  changed(server: string, state: ServerState): void;
}

type Health = { readonly serves: true } | { readonly serves: false; readonly why: string; readonly silent: boolean };

export class ServerLink {
  readonly server: string;
  readonly #ports: LinkPorts;
  readonly #hooks: LinkHooks;
  readonly #stop = new AbortController();
  #state: ServerState = "unavailable";
  #why = "has not been reached yet";
  #features: readonly Feature[] | undefined;
  #stream: AssignmentStream | undefined;
  #assignments: ShardAssignments | undefined;
  #tried: () => void = () => {};
  /** Resolves once it has been found available or not for the first time. */
  readonly tried = new Promise<void>((resolve) => {
    this.#tried = resolve;
  });

  constructor(ports: LinkPorts, server: string, hooks: LinkHooks) {
    this.#ports = ports;
    this.server = server;
    this.#hooks = hooks;
  }

  get state(): ServerState {
    return this.#state;
  }

  /** Why it is not available; empty when it is. */
  get why(): string {
    return this.#why;
  }

  /** As it last told them; undefined before it did. */
  get features(): readonly Feature[] | undefined {
    return this.#features;
  }

  /** Sends them now and with each new stream. */
  publish(assignments: ShardAssignments): void {
    this.#assignments = assignments;
    this.#stream?.send(assignments);
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Until `stop`; rejects with StoreLost. */
  async run(): Promise<void> {
    const { clock } = this.#ports;
    const { signal } = this.#stop;
    let brokeMs = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      const trouble = await this.#connect();
      if (trouble !== undefined) {
        this.#become("unavailable", trouble.why);
        await sleep(clock, trouble.retryMs, signal);
        continue;
      }
      const why = await this.#watch();
      if (why !== undefined) this.#become("unavailable", why);
      else this.#become("greeting", "its connection broke");
      // One that ends each stream at once is not asked in a tight loop.
      if (clock.monotonicMs() - brokeMs < SERVER_RETRY_MS) await sleep(clock, SERVER_RETRY_MS, signal);
      brokeMs = clock.monotonicMs();
    }
    this.#stream?.cancel();
  }

  /** Undefined: it serves and has been greeted. A server that was available a moment ago is asked more than once. */
  async #connect(): Promise<{ readonly why: string; readonly retryMs: number } | undefined> {
    const triesMax = this.#state === "unavailable" ? 1 : HEALTH_FAILURES_MAX;
    let why = "";
    for (let tries = 0; tries < triesMax && !this.#stop.signal.aborted; tries++) {
      if (tries > 0) await sleep(this.#ports.clock, HEALTH_RETRY_MS, this.#stop.signal);
      const health = await this.#askHealth();
      if (!health.serves) {
        why = health.why;
        if (health.silent) continue;
        break;
      }
      const refused = await this.#greet();
      if (refused !== undefined) return refused;
      this.#become("available", "");
      return undefined;
    }
    return { why, retryMs: SERVER_RETRY_MS };
  }

  /** Until its connection breaks (undefined), or it is found not to serve. */
  async #watch(): Promise<string | undefined> {
    const { dataServers, clock } = this.#ports;
    const { signal } = this.#stop;
    const broken = new Wakeup();
    let ended = false;
    const stream = dataServers.pushAssignments(this.server);
    this.#stream = stream;
    if (this.#assignments !== undefined) stream.send(this.#assignments);
    void stream.ended.then(() => {
      ended = true;
      broken.wake();
    });
    let failures = 0;
    let leavingSinceMs: number | undefined;
    let stampDueMs = clock.monotonicMs() + STAMP_INTERVAL_MS;
    let repeatDueMs = clock.monotonicMs() + ASSIGNMENTS_REPEAT_FIRST_MS;
    try {
      for (;;) {
        await broken.wait(clock, failures > 0 ? HEALTH_RETRY_MS : HEALTH_INTERVAL_MS, signal);
        if (ended || signal.aborted) return undefined;
        const health = await this.#askHealth();
        failures = !health.serves && health.silent ? failures + 1 : 0;
        if (!health.serves && failures >= HEALTH_FAILURES_MAX) return health.why;
        if (!health.serves && !health.silent) {
          leavingSinceMs ??= clock.monotonicMs();
          if (clock.monotonicMs() - leavingSinceMs >= SERVER_LEAVING_MS_MAX) return health.why;
          this.#become("leaving", health.why);
        }
        if (!health.serves) continue;
        if (leavingSinceMs !== undefined) return undefined; // it stays after all
        if (this.#assignments !== undefined && clock.monotonicMs() >= repeatDueMs) {
          repeatDueMs = clock.monotonicMs() + ASSIGNMENTS_REPEAT_MS;
          stream.send(this.#assignments);
        }
        if (clock.monotonicMs() < stampDueMs) continue;
        stampDueMs = clock.monotonicMs() + STAMP_INTERVAL_MS;
        const refused = await this.#greet();
        if (refused !== undefined) return refused.why;
      }
    } finally {
      this.#stream = undefined;
      stream.cancel();
    }
  }

  async #askHealth(): Promise<Health> {
    const health = await this.#health();
    if (!health.serves) this.#ports.stats.healthCheckFailed(this.server);
    return health;
  }

  async #health(): Promise<Health> {
    try {
      const serves = await this.#ports.dataServers.checkHealth(this.server, { timeoutMs: HEALTH_CALL_MS_MAX });
      return serves ? { serves } : { serves, why: "says that it does not serve", silent: false };
    } catch (error) {
      return { serves: false, why: wordsOf(error), silent: true };
    }
  }

  /** Handshake with a new stamp. What the server has confirmed is read behind the answer that shows that it is there. */
  async #greet(): Promise<{ readonly why: string; readonly retryMs: number } | undefined> {
    const { dataServers, store, stamps, logger } = this.#ports;
    try {
      const { instanceId } = await store.refresh();
      const stamp = await stamps.next();
      const request = { instanceId, stamp, confirmedStamp: stamps.confirmed(this.server) };
      const limits = { timeoutMs: FENCE_CALL_MS_MAX };
      const { status, features, stamp: held } = await dataServers.handshake(this.server, request, limits);
      if (status === "MISMATCH") {
        const why = "belongs to another cluster";
        if (this.#why !== why) logger.error({ component: "coordinator", server: this.server }, why);
        return { why, retryMs: SERVER_MISMATCH_RETRY_MS };
      }
      this.#features = features;
      if (held !== undefined) await stamps.confirm(this.server, stamp);
      return undefined;
    } catch (error) {
      return { why: wordsOf(error), retryMs: SERVER_RETRY_MS };
    }
  }

  #become(state: ServerState, why: string): void {
    this.#why = why;
    this.#tried();
    if (this.#state === state) return;
    this.#state = state;
    const fields = { component: "coordinator", server: this.server, ...(why === "" ? {} : { why }) };
    this.#ports.logger[state === "unavailable" ? "warn" : "info"](fields, `data server ${state}`);
    this.#hooks.changed(this.server, state);
  }
}

/** What an answer that is none says; any other error is not one of a call, and rises. */
export function wordsOf(error: unknown): string {
  if (error instanceof Refusal) return `${error.reason}: ${error.message}`;
  if (error instanceof Unreachable) return error.message;
  throw error;
}
