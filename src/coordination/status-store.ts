/**
 * The cluster's status as this coordinator knows it to be stored, and the one way to change it: changes wait in line,
 * and one compare-and-swap after the other stores as many as have come.
 *
 *     update(change) ─> line ─> next = change(known) ─> compareAndSwap(version known) ─> stored: known = next
 *                                    └─────────── conflict: read, and ask each change again ──┘
 *
 * A change is a function of what is stored that declines (undefined) what it does not recognise. It resolves to a status
 * only when this coordinator's own compare-and-swap has stored it: what is merely read back, also after a conflict or a
 * lost answer, is somebody else's (safety.md §3). So a shard's flow names the very document that it rests on, and
 * whoever changed the shard in between makes it decline.
 *
 * An object that stands for a shard is the same one as long as its stored text is. After an answer that did not come,
 * or a fault, the store answers nothing any more: `failed` rejects, and this coordinator's life ends.
 */

import type { ShardId } from "../model/ids.ts";
import {
  STATUS_CHANGES_PER_SWAP_MAX,
  STATUS_CONFLICT_RETRY_MS_MAX,
  STATUS_CONFLICT_RETRY_MS_MIN,
} from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { shardKey } from "../model/status-entries.ts";
import type { Clock, MetadataChanges, MetadataState, MetadataStore, MetadataVersion, Random } from "../ports.ts";
import {
  type ClusterStatus,
  decodeStatus,
  type NamespaceStatus,
  type ShardMetadata,
  statusChanges,
} from "./status-document.ts";
import { Backoff, sleep } from "./wait.ts";

/** What it makes of the status that is stored; undefined: nothing, it is not what it was meant for. */
export type StatusChange = (stored: ClusterStatus) => ClusterStatus | undefined;

export interface ShardRef {
  readonly namespace: string;
  readonly shard: ShardId;
}

/** The store is of no use any more: the cluster's status has to be read anew, by a coordinator that knows nothing. */
export class StoreLost extends Error {
  override readonly name = "StoreLost";

  constructor(cause: unknown) {
    super("what became of the last change of the cluster's status is not known", { cause });
  }
}

interface Waiting {
  readonly change: StatusChange;
  readonly resolve: (status: ClusterStatus | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** "settled": those of the batch have heard. */
type SwapOutcome = "settled" | "conflict" | "too large" | "lost";

/** Of the time that a swap has taken: until the next one. Each costs a sync, and a look at all shards. */
const SWAP_PAUSE_FACTOR = 2;

export interface StatusStorePorts {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly random: Random;
}

export class StatusStore {
  readonly #store: MetadataStore;
  readonly #clock: Clock;
  readonly #random: Random;
  #version: MetadataVersion;
  #entries: Map<string, string>;
  #status: ClusterStatus;
  #line: Waiting[] = [];
  #reads: (() => void)[] = [];
  #working = false;
  /** Not before then is the next swap: changes that come meanwhile go along. */
  #nextMs = 0;
  #listeners: ((whose: "ours" | "read") => void)[] = [];
  #lost: StoreLost | undefined;
  #fail: (error: StoreLost) => void = () => {};
  /** Rejects with StoreLost; never resolves. */
  readonly failed: Promise<never>;

  private constructor({ store, clock, random }: StatusStorePorts, read: MetadataState) {
    this.#store = store;
    this.#clock = clock;
    this.#random = random;
    this.#version = read.version;
    this.#entries = new Map(read.entries);
    this.#status = decodeStatus(read.entries);
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {}); // who runs the coordinator hears of it from `run`
  }

  /** Reads what stands. Throws StatusInvalid when it is no cluster's status. */
  static async open(ports: StatusStorePorts): Promise<StatusStore> {
    return new StatusStore(ports, await ports.store.get());
  }

  /** As last read, or stored by this coordinator. */
  get status(): ClusterStatus {
    return this.#status;
  }

  shard({ namespace, shard }: ShardRef): ShardMetadata | undefined {
    return this.#status.namespaces.get(namespace)?.shards.get(shard);
  }

  /** Called after each change of `status`: one of this coordinator's own, or one that was read. */
  onChange(listener: (whose: "ours" | "read") => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Resolves to the status that this coordinator has stored, which may hold other changes too, or to undefined when the
   * change declined. Rejects with RESOURCE_EXHAUSTED when there is no room for it, with StoreLost for all others.
   */
  update(change: StatusChange): Promise<ClusterStatus | undefined> {
    return new Promise((resolve, reject) => {
      this.#line.push({ change, resolve, reject });
      void this.#work();
    });
  }

  /** Puts `next` in the place of `expected`, the object that `shard` answered. False: that is not stored any more. */
  async updateShard(ref: ShardRef, expected: ShardMetadata, next: ShardMetadata): Promise<boolean> {
    const change: StatusChange = (status) => {
      const stands = status.namespaces.get(ref.namespace)?.shards.get(ref.shard) === expected;
      return stands ? withShard(status, ref, next) : undefined;
    };
    return (await this.update(change)) !== undefined;
  }

  /** Reads what is stored after this call. */
  refresh(): Promise<ClusterStatus> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== undefined) reject(this.#lost);
      this.#reads.push(() => (this.#lost === undefined ? resolve(this.#status) : reject(this.#lost)));
      void this.#work();
    });
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    const conflicts = new Backoff(this.#random, {
      firstMs: STATUS_CONFLICT_RETRY_MS_MIN,
      maxMs: STATUS_CONFLICT_RETRY_MS_MAX,
      factor: 2,
    });
    let together = STATUS_CHANGES_PER_SWAP_MAX;
    while (this.#lost === undefined && this.#line.length + this.#reads.length > 0) {
      const waitMs = this.#nextMs - this.#clock.monotonicMs();
      if (waitMs > 0 && this.#reads.length === 0) await sleep(this.#clock, waitMs);
      if (this.#reads.length > 0) await this.#read();
      const batch = this.#line.slice(0, together);
      if (batch.length === 0 || this.#lost !== undefined) continue;
      const startedMs = this.#clock.monotonicMs();
      const outcome = await this.#storeAll(batch);
      const endedMs = this.#clock.monotonicMs();
      this.#nextMs = endedMs + SWAP_PAUSE_FACTOR * (endedMs - startedMs);
      if (outcome === "too large" && batch.length > 1) {
        together = 1; // the others shall not suffer for the one that has no room
        continue;
      }
      if (outcome === "settled") this.#line.splice(0, batch.length);
      if (outcome === "conflict") {
        await sleep(this.#clock, conflicts.nextMs());
        await this.#read();
      } else conflicts.reset();
    }
    this.#working = false;
    if (this.#lost !== undefined) this.#refuseAll(this.#lost);
  }

  /** Asks each change in turn, stores what they come to, and settles them unless they have to be asked again. */
  async #storeAll(batch: readonly Waiting[]): Promise<SwapOutcome> {
    let next = this.#status;
    const taken = new Set<Waiting>();
    for (const waiting of batch) {
      try {
        const changed = waiting.change(next);
        if (changed === undefined) continue;
        next = changed;
        taken.add(waiting);
      } catch (error) {
        waiting.reject(error);
      }
    }
    const changes = statusChanges(this.#status, next);
    if (changes.size > 0) {
      const outcome = await this.#swap(changes, next, batch);
      if (outcome !== "stored") return outcome;
    }
    for (const waiting of batch) waiting.resolve(taken.has(waiting) ? next : undefined);
    return "settled";
  }

  async #swap(
    changes: MetadataChanges,
    next: ClusterStatus,
    batch: readonly Waiting[],
  ): Promise<"stored" | SwapOutcome> {
    try {
      const answer = await this.#store.compareAndSwap(this.#version, changes);
      if (answer.outcome === "conflict") return "conflict";
      if (answer.outcome === "unknown") throw answer.cause;
      this.#version = answer.version;
      this.#take(changes, next);
      return "stored";
    } catch (error) {
      if (error instanceof Refusal && error.reason === "RESOURCE_EXHAUSTED") {
        if (batch.length > 1) return "too large";
        for (const waiting of batch) waiting.reject(error);
        return "settled";
      }
      this.#lose(error);
      return "lost";
    }
  }

  #take(changes: MetadataChanges, next: ClusterStatus): void {
    for (const [key, text] of changes) {
      if (text === undefined) this.#entries.delete(key);
      else this.#entries.set(key, text);
    }
    this.#status = next;
    for (const listener of this.#listeners) listener("ours");
  }

  async #read(): Promise<void> {
    const reads = this.#reads;
    this.#reads = [];
    try {
      const { version, entries } = await this.#store.get();
      if (version !== this.#version) {
        const before = { status: this.#status, entries: this.#entries };
        this.#version = version;
        this.#entries = new Map(entries);
        this.#status = keepingObjects(decodeStatus(entries), entries, before);
        for (const listener of this.#listeners) listener("read");
      }
    } catch (error) {
      this.#lose(error);
    }
    for (const read of reads) read();
  }

  #lose(cause: unknown): void {
    this.#lost ??= new StoreLost(cause);
    this.#fail(this.#lost);
  }

  #refuseAll(error: StoreLost): void {
    const line = this.#line;
    const reads = this.#reads;
    this.#line = [];
    this.#reads = [];
    for (const waiting of line) waiting.reject(error);
    for (const read of reads) read();
  }
}

/** The status with another document for one shard, or with none. */
export function withShard(status: ClusterStatus, ref: ShardRef, next: ShardMetadata | undefined): ClusterStatus {
  const namespace = status.namespaces.get(ref.namespace);
  if (namespace === undefined) return status;
  const shards = new Map(namespace.shards);
  if (next === undefined) shards.delete(ref.shard);
  else shards.set(ref.shard, next);
  return { ...status, namespaces: new Map(status.namespaces).set(ref.namespace, { ...namespace, shards }) };
}

/** What was read, with the objects from before for shards whose text has not changed. */
function keepingObjects(
  read: ClusterStatus,
  entries: ReadonlyMap<string, string>,
  before: { readonly status: ClusterStatus; readonly entries: ReadonlyMap<string, string> },
): ClusterStatus {
  const namespaces = [...read.namespaces].map(([name, namespace]): [string, NamespaceStatus] => {
    const shards = [...namespace.shards].map(([id, shard]): [ShardId, ShardMetadata] => {
      const key = shardKey(name, id);
      const same = entries.get(key) === before.entries.get(key);
      return [id, (same ? before.status.namespaces.get(name)?.shards.get(id) : undefined) ?? shard];
    });
    return [name, { ...namespace, shards: new Map(shards) }];
  });
  return { ...read, namespaces: new Map(namespaces) };
}
