/**
 * What clients ask of the sessions of a shard that this replica leads, and how sessions end by themselves.
 *
 * A heartbeat counts once a read round that was sent after it arrived is confirmed (safety.md §8): a deposed leader must
 * not answer for a session that its successor expires. It waits behind a proposed end of its session: if that commits the
 * session is gone, if it fails the session lives on.
 */
import { rowValue } from "../database/record.ts";
import { sessionIdOf, sessionsRange } from "../database/session-key.ts";
import { encodeSessionEnds, encodeSessionStart, sessionTimeoutMs } from "../database/session-record.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { Offset, SessionId, ShardId } from "../model/ids.ts";
import type { KeySorting } from "../model/keys.ts";
import { READS_WAITING_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, KeyValue } from "../ports.ts";
import { Sessions } from "./sessions.ts";

/** Keys looked at for sessions before the event loop has its turn. */
const KEYS_PER_TURN = 1024;

/** What the leadership does for its sessions. */
export interface SessionHost {
  readonly shard: ShardId;
  readonly sessionsMax: number;
  /** Throws when the leader does not serve. */
  requireServing(): void;
  /** Proposes a write made for the offset that it gets. */
  propose(make: (offset: Offset) => Bytes): Promise<unknown>;
  /** Resolves once this leader is known to lead; undefined when it is known already. */
  confirm(): Promise<void> | undefined;
  /** Calls back when all that clients wait for ends. The returned function takes it back. */
  onInterrupt(callback: (reason: Refusal) => void): () => void;
}

export interface SessionCounters {
  sessionsCreated: number;
  /** At their client's word. */
  sessionsClosed: number;
  sessionsExpired: number;
}

export class SessionCalls {
  readonly #clock: Clock;
  readonly #host: SessionHost;
  readonly #counters: SessionCounters;
  readonly #sessions: Sessions;
  /** Sessions on their way into the state. */
  #proposed = 0;
  /** Heartbeats that wait for an end of their session to be decided. */
  #waiting = 0;

  constructor(clock: Clock, host: SessionHost, counters: SessionCounters) {
    this.#clock = clock;
    this.#host = host;
    this.#counters = counters;
    this.#sessions = new Sessions(clock, (ids) => this.#end(ids));
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** Sessions are in the state; their time begins anew with each leader. `goesOn` is asked after each wait. */
  async takeOver(kv: KeyValue, sorting: KeySorting, goesOn: () => boolean): Promise<void> {
    const snapshot = await kv.snapshot();
    try {
      if (!goesOn()) return;
      const cursor = snapshot.cursor(sessionsRange(sorting));
      for (let steps = 1; cursor.next(); steps++) {
        const id = sessionIdOf(cursor.key);
        if (id !== undefined) this.#sessions.add(id, sessionTimeoutMs(rowValue(cursor.row)));
        if (steps % KEYS_PER_TURN > 0) continue;
        await new Promise<void>((resolve) => this.#clock.soon(resolve));
        if (!goesOn()) return;
      }
    } finally {
      snapshot.release();
    }
  }

  started(id: SessionId, timeoutMs: number): void {
    this.#sessions.add(id, timeoutMs);
  }

  ended(id: SessionId): void {
    this.#sessions.remove(id);
  }

  /** Makes a session; its id is the offset of the entry that makes it. Throws RESOURCE_EXHAUSTED past the shard's bound. */
  async create(timeoutMs: number, identity: Bytes): Promise<SessionId> {
    const { shard, sessionsMax } = this.#host;
    this.#host.requireServing();
    if (this.#sessions.size + this.#proposed >= sessionsMax) {
      throw new Refusal("RESOURCE_EXHAUSTED", `the shard has ${sessionsMax} sessions`);
    }
    let id = -1;
    this.#proposed++;
    try {
      await this.#host.propose((offset) => {
        id = offset;
        return encodeSessionStart(shard, id, timeoutMs, identity);
      });
    } finally {
      this.#proposed--;
    }
    this.#counters.sessionsCreated++;
    return id;
  }

  /** Gives a session its full timeout again: at once when it returns undefined. SESSION_NOT_FOUND when it does not live. */
  keepAlive(id: SessionId): Promise<void> | undefined {
    this.#host.requireServing();
    const confirmed = this.#host.confirm();
    if (confirmed === undefined && this.#sessions.ending(id) === undefined) {
      this.#extend(id);
      return undefined;
    }
    return this.#keepAliveLater(id, confirmed);
  }

  async #keepAliveLater(id: SessionId, confirmed: Promise<void> | undefined): Promise<void> {
    if (this.#waiting >= READS_WAITING_MAX) {
      throw new Refusal("RESOURCE_EXHAUSTED", `${READS_WAITING_MAX} heartbeats of this shard wait`);
    }
    this.#waiting++;
    try {
      await confirmed;
      for (;;) {
        const ending = this.#sessions.ending(id);
        if (ending === undefined) break;
        await this.#unlessInterrupted(ending);
        await this.#host.confirm();
      }
    } finally {
      this.#waiting--;
    }
    this.#extend(id);
  }

  #extend(id: SessionId): void {
    this.#host.requireServing();
    if (!this.#sessions.keepAlive(id)) throw new Refusal("SESSION_NOT_FOUND", "");
  }

  #unlessInterrupted(decided: Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      const takeBack = this.#host.onInterrupt(reject);
      void decided.then(() => {
        takeBack();
        resolve();
      });
    });
  }

  /** Ends a session with all its records. Rejects SESSION_NOT_FOUND when it does not live. */
  async close(id: SessionId): Promise<void> {
    this.#host.requireServing();
    // a deposed leader may not know of it
    if (!this.#sessions.has(id)) await this.#host.confirm();
    this.#host.requireServing();
    if (!(await this.#sessions.close(id))) throw new Refusal("SESSION_NOT_FOUND", "");
    this.#counters.sessionsClosed++;
    this.#counters.sessionsExpired--;
  }

  /** No session ends any more by this leader's doing. */
  stop(): void {
    this.#sessions.stop();
  }

  async #end(ids: readonly SessionId[]): Promise<void> {
    await this.#host.propose(() => encodeSessionEnds(this.#host.shard, ids));
    this.#counters.sessionsExpired += ids.length;
  }
}
