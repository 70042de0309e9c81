/**
 * A lock among all clients of a namespace: first come, first served, given back by `release`, and by the server when its
 * holder is not heard of for its session's timeout.
 *
 * Nobody polls: who waits hears from notifications that the one before it in the line (tickets.ts) has gone, and looks
 * again on its own only every CLIENT_LOCK_RECHECK_MS.
 *
 * No lock over a network keeps its holder from going on after it was lost. `HeldLock.signal` says so as early as can be
 * known, and `HeldLock.token` grows from holder to holder, so that whatever the lock protects can refuse an older one.
 */
import { CLIENT_LOCK_RECHECK_MS } from "../model/limits.ts";
import type { Int64 } from "../wire/reader.ts";
import type { NotificationItem } from "./changes.ts";
import { VariaClient } from "./client.ts";
import { ClientClosedError, LockLostError, RequestTimeoutError } from "./errors.ts";
import { type Ticket, Tickets } from "./tickets.ts";
import { randomName } from "./transport.ts";
import { Wake, Watch } from "./watch.ts";

export interface LockOptions {
  /** Who this is, for others to see. Default: the client's identity. */
  readonly identity?: string;
}

export interface AcquireOptions {
  /** Milliseconds to wait at most; then it rejects with RequestTimeoutError. 0: only if nobody has it. Default: no end. */
  readonly waitMs?: number;
  /** Gives up, and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export class Lock {
  readonly #client: VariaClient;
  readonly #key: string;
  readonly #identity: string;
  readonly #tickets: Tickets;

  /** Locks with one key exclude each other. Their records are `key/ticket-…`. */
  constructor(client: VariaClient, key: string, options: LockOptions = {}) {
    this.#client = client;
    this.#key = key;
    this.#identity = options.identity ?? VariaClient.inside(client).identity;
    this.#tickets = new Tickets(client, key);
  }

  /** Waits for the lock. Each call is a holder of its own, also in one program. */
  async acquire(options: AcquireOptions = {}): Promise<HeldLock> {
    const { signal, waitMs } = options;
    signal?.throwIfAborted();
    const place = new Place(this.#client, this.#tickets, this.#identity);
    const { clock } = VariaClient.inside(this.#client);
    let outOfTime = false;
    const abort = () => place.wake.raise();
    signal?.addEventListener("abort", abort, { once: true });
    const cancelTimeout =
      waitMs === undefined || waitMs <= 0
        ? () => {}
        : clock.after(waitMs, () => {
            outOfTime = true;
            place.wake.raise();
          });
    try {
      await place.join();
      while (!(await place.isFirst())) {
        if (outOfTime || waitMs === 0) throw new RequestTimeoutError(`the lock ${this.#key}`, waitMs ?? 0);
        await place.change();
        signal?.throwIfAborted();
      }
      return new HeldLock(place);
    } catch (error) {
      // what was lost with it is not as telling as the error itself
      await place.leave().catch(() => {});
      throw error;
    } finally {
      cancelTimeout();
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Who has the lock, by identity, and who waits for it, in order. */
  async line(): Promise<string[]> {
    return (await this.#tickets.inLine()).map(({ holder }) => holder);
  }
}

/** A lock that was acquired: until `release`, or until `signal` is aborted. */
export class HeldLock {
  readonly #place: Place;
  readonly #controller = new AbortController();
  #released: Promise<void> | undefined;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
    place.onLost((why) => this.#controller.abort(new LockLostError(why)));
  }

  /** Greater than that of every holder before. */
  get token(): Int64 {
    return this.#place.ticket.versionId;
  }

  /** Aborted, with a LockLostError, when the lock is lost or may be. Not by `release`. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Gives the lock back. */
  release(): Promise<void> {
    this.#released ??= this.#place.leave();
    return this.#released;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** One holder's place in the line, from joining it to leaving it. */
class Place {
  readonly wake = new Wake();
  readonly #client: VariaClient;
  readonly #tickets: Tickets;
  readonly #identity: string;
  #attempt = "";
  #sessionId: Int64 | undefined;
  /** Sessions of the shard that were lost: their tickets are gone, or will be. */
  readonly #lostSessions = new Set<Int64 | undefined>();
  #own: Ticket | undefined;
  /** The ticket before ours, whose end is waited for. */
  #before: string | undefined;
  #lost: ((why: string) => void) | undefined;
  /** What is found is not known yet: whatever goes may be what is waited for. */
  #looking = true;
  #checking = false;
  #stops: (() => void)[] = [];

  constructor(client: VariaClient, tickets: Tickets, identity: string) {
    this.#client = client;
    this.#tickets = tickets;
    this.#identity = identity;
  }

  /** Only once it is first. */
  get ticket(): Ticket {
    return this.#own!;
  }

  async join(): Promise<void> {
    this.#stops.push(
      this.#client.onSessionLost(({ shard, sessionId }) => {
        const { shardIdOf } = VariaClient.inside(this.#client);
        if (shard !== shardIdOf(this.#tickets.partitionKey)) return;
        this.#lostSessions.add(sessionId);
        this.wake.raise();
        if (sessionId === this.#sessionId) this.#tellLost("the session of the lock is lost");
      }),
      await Watch.of(this.#client).add((item) => this.#hear(item)),
    );
    await this.#draw();
  }

  /** Whether nobody is before us. Draws a new ticket when ours is gone. */
  async isFirst(): Promise<boolean> {
    this.#looking = true;
    const line = await this.#tickets.inLine();
    const at = line.findIndex(({ attempt }) => attempt === this.#attempt);
    if (at < 0 || this.#lostSessions.has(this.#sessionId)) {
      await this.#draw();
      this.wake.raise();
      return false;
    }
    this.#own = line[at]!;
    this.#before = line[at - 1]?.key;
    this.#looking = false;
    return at === 0;
  }

  /** Resolves when it is worth to look again. */
  async change(): Promise<void> {
    const { clock } = VariaClient.inside(this.#client);
    const cancel = clock.after(CLIENT_LOCK_RECHECK_MS, () => this.wake.raise());
    await this.wake.wait();
    cancel();
  }

  /** Calls `lost` once, when the place at the front is lost, or already is. */
  onLost(lost: (why: string) => void): void {
    this.#lost = lost;
    if (this.#lostSessions.has(this.#sessionId)) this.#tellLost("the session of the lock is lost");
    else if (this.wake.raised) void this.#check();
  }

  async leave(): Promise<void> {
    this.#lost = undefined;
    for (const stop of this.#stops.splice(0)) stop();
    // the ticket of a session that is lost goes with it, and there may be no server to ask
    if (this.#attempt === "" || this.#lostSessions.has(this.#sessionId)) return;
    try {
      await this.#tickets.leave(this.#attempt);
    } catch (error) {
      // a client that is closed has ended its sessions, and with them the ticket
      if (!(error instanceof ClientClosedError)) throw error;
    }
  }

  async #draw(): Promise<void> {
    // a ticket of an attempt before may still be there, until its session ends
    this.#attempt = randomName(VariaClient.inside(this.#client).random);
    this.#sessionId = await this.#tickets.draw(this.#identity, this.#attempt);
  }

  #hear(item: NotificationItem | undefined): void {
    const certain = item?.type === "created" || item?.type === "modified" || item?.type === "deleted";
    if (certain && item.type !== "deleted") return;
    if (certain && !this.#tickets.includes(item.key)) return;
    if (certain && !this.#looking && item.key !== this.#before && item.key !== this.#own?.key) return;
    this.wake.raise();
    if (this.#lost === undefined) return;
    if (certain && item.key === this.#own?.key) this.#tellLost("the record of the lock was deleted");
    else void this.#check();
  }

  /** Looks whether the ticket is still there, after what may have deleted it. */
  async #check(): Promise<void> {
    if (this.#checking) return;
    this.#checking = true;
    try {
      const line = await this.#tickets.inLine();
      if (line[0]?.attempt !== this.#attempt) this.#tellLost("the record of the lock was deleted");
    } catch {
      // not known: the session tells when there is no connection any more
    } finally {
      this.#checking = false;
    }
  }

  #tellLost(why: string): void {
    const lost = this.#lost;
    this.#lost = undefined;
    lost?.(why);
  }
}
