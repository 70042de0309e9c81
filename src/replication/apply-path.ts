/**
 * A follower's way from the log into the state: entries are applied in order, up to what is committed, verified by this
 * term's leader and durable here, whichever is lowest. One that is not durable here is never applied: after a crash the
 * state would be ahead of its log, which is damage.
 *
 *     kept in memory ── or, past the bound, read back from the log ──> room in the tables ──> a turn ──> applied
 *
 * It lives as long as one Replicate stream. `stop` is synchronous: nothing is applied behind it.
 */
import { Applier } from "../database/apply.ts";
import { assert } from "../lib/assert.ts";
import type { LogEntry, Offset, ShardId } from "../model/ids.ts";
import { keyOrder } from "../model/keys.ts";
import { ENTRY_MEMORY_OVERHEAD_BYTES, FOLLOWER_KEPT_BYTES_MAX } from "../model/limits.ts";
import type { TermOptions } from "../model/peer-messages.ts";
import { damageRefusal } from "../model/refusal.ts";
import type { Clock, KeyValue, Log } from "../ports.ts";
import type { FollowerMemory } from "./follower-memory.ts";
import { readNeeded } from "./needed-entries.ts";
import type { Turns } from "./turns.ts";

export interface ApplyPorts {
  readonly log: Log;
  readonly kv: KeyValue;
  readonly clock: Clock;
  readonly turns: Turns;
  readonly memory: FollowerMemory;
}

export interface ApplyHooks {
  /** Applying has failed: the state is unknown, or the files are damaged. */
  readonly fault: (error: unknown) => void;
  /** It has caught up, or has stopped: whoever waits for room may look again. */
  readonly idle: () => void;
}

export class ApplyPath {
  readonly #ports: ApplyPorts;
  readonly #shard: ShardId;
  readonly #applier: Applier;
  readonly #hooks: ApplyHooks;
  /** Entries that are not applied yet, by offset; not all of them. */
  readonly #kept = new Map<Offset, LogEntry>();
  #keptBytes = 0;
  /** What was read back from the log last. */
  #readBack: readonly LogEntry[] = [];
  #target: Offset;
  #running = false;
  #stopped = false;

  constructor(ports: ApplyPorts, shard: ShardId, options: TermOptions, hooks: ApplyHooks) {
    this.#ports = ports;
    this.#shard = shard;
    const { notificationsEnabled, keySorting } = options;
    this.#applier = new Applier(ports.kv, { order: keyOrder(keySorting), notificationsEnabled });
    this.#hooks = hooks;
    this.#target = ports.kv.applied.offset;
  }

  /** Keeps an entry that was handed to the log, if there is room. */
  keep(entry: LogEntry): void {
    const { memory } = this.#ports;
    if (this.#keptBytes >= FOLLOWER_KEPT_BYTES_MAX || memory.keptFull || this.#stopped) return;
    this.#kept.set(entry.offset, entry);
    const bytes = bytesOf(entry);
    this.#keptBytes += bytes;
    memory.kept += bytes;
  }

  /** The log has been cut behind `to`: what was kept of it is not what will be there. */
  cut(to: Offset): void {
    assert(this.#target <= to, "cut below what is to be applied", to, this.#target);
    for (const entry of [...this.#kept.values()]) if (entry.offset > to) this.#forget(entry);
    this.#readBack = this.#readBack.filter(({ offset }) => offset <= to);
  }

  /** Entries up to `target`, inclusive, may be applied. */
  advance(target: Offset): void {
    if (target <= this.#target || this.#stopped) return;
    this.#target = target;
    if (!this.#running) void this.#run();
  }

  /** Whether the leader should wait: more is kept than may be, and what is kept is being applied. */
  get full(): boolean {
    return this.#running && this.#keptBytes >= FOLLOWER_KEPT_BYTES_MAX;
  }

  /** Nothing more is applied. */
  stop(): void {
    this.#stopped = true;
    this.#ports.memory.kept -= this.#keptBytes;
    this.#keptBytes = 0;
    this.#kept.clear();
    this.#readBack = [];
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      while (!this.#stopped && this.#ports.kv.applied.offset < this.#target) await this.#applyNext();
    } catch (error) {
      if (!this.#stopped) this.#hooks.fault(error);
    } finally {
      this.#running = false;
    }
    this.#hooks.idle();
  }

  async #applyNext(): Promise<void> {
    const { kv, turns, clock } = this.#ports;
    const entry = await this.#entryAt(kv.applied.offset + 1);
    const room = kv.room();
    if (room !== undefined) await room;
    await turns.place();
    if (this.#stopped) return;
    if (kv.damage !== undefined) throw damageRefusal(this.#shard, kv.damage);
    const startedMs = clock.monotonicMs();
    this.#applier.applyEntry(entry);
    turns.spent(clock.monotonicMs() - startedMs);
    this.#forget(entry);
    if (!this.full) this.#hooks.idle();
  }

  async #entryAt(offset: Offset): Promise<LogEntry> {
    const kept = this.#kept.get(offset) ?? this.#readBack[offset - (this.#readBack[0]?.offset ?? offset)];
    if (kept !== undefined) return kept;
    this.#readBack = await readNeeded(this.#ports.log, this.#shard, offset);
    const [first] = this.#readBack;
    assert(first?.offset === offset, "a durable entry is in the log", offset);
    return first;
  }

  #forget(entry: LogEntry): void {
    if (!this.#kept.delete(entry.offset)) return;
    const bytes = bytesOf(entry);
    this.#keptBytes -= bytes;
    this.#ports.memory.kept -= bytes;
  }
}

/** What an entry costs in memory. */
export function bytesOf(entry: LogEntry): number {
  return entry.value.length + ENTRY_MEMORY_OVERHEAD_BYTES;
}
