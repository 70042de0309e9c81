/**
 * What operators have asked for that takes time: each with what has become of it, the last ones that ended, and all that
 * run. None begins that the journal does not take; what it does not take later, it is given again with the next change.
 */
import { assert } from "../lib/assert.ts";
import type { ShardId } from "../model/ids.ts";
import { type JournalRoom, NO_JOURNAL } from "../model/journal.ts";
import { Refusal } from "../model/refusal.ts";

/** Of those that have ended; older ones go when there are more. */
export const OPERATIONS_ENDED_MAX = 500;
/** More at a time are refused. */
export const OPERATIONS_RUNNING_MAX = 100;

export const OPERATION_KINDS = [
  "create-namespace",
  "delete-namespace",
  "drain-server",
  "freeze-shard",
  "recover-shard",
  "swap-replica",
  "switch-leader",
] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];

/** What has one end already, or is over before anybody could ask, cannot be cancelled. */
export const CANCELLABLE: Readonly<Record<OperationKind, boolean>> = {
  "create-namespace": true,
  "delete-namespace": true,
  "drain-server": true,
  "freeze-shard": true,
  "recover-shard": false,
  "swap-replica": true,
  "switch-leader": false,
};

export const OPERATION_STATES = ["running", "succeeded", "failed", "cancelled"] as const;
export type OperationState = (typeof OPERATION_STATES)[number];

/** What it is about. What does not apply is empty, or absent. */
export interface OperationGoal {
  readonly kind: OperationKind;
  readonly namespace: string;
  readonly shard?: ShardId | undefined;
  /** Internal address: whose replica goes, or which server is emptied. */
  readonly from: string;
  /** Internal address: who gets the replica, or the leadership. */
  readonly to: string;
  /** Which replica goes, in decimal digits: where `from` is `to`, nothing else tells the old one from the new one. */
  readonly replica?: string | undefined;
  /** When a freeze ends, in milliseconds since the epoch. */
  readonly untilMs?: number | undefined;
  /** Replicas, or shards, of which it consists. */
  readonly parts?: number | undefined;
  /** What a server was in the configuration, so that it can be put back. */
  readonly server?: OperationServer | undefined;
}

export interface OperationServer {
  readonly name: string;
  readonly public: string;
  readonly internal: string;
  readonly labels: readonly (readonly [string, string])[];
}

export interface Operation extends OperationGoal {
  /** Rises with each operation, from 1 on. */
  readonly id: number;
  readonly state: OperationState;
  /** What it is at, in words; empty once it has ended. */
  readonly phase: string;
  /** In [0, 1]; undefined: it cannot be told. */
  readonly progress: number | undefined;
  /** Why it has failed, or was cancelled; empty otherwise. */
  readonly reason: string;
  readonly startedMs: number;
  /** Undefined while it runs. */
  readonly endedMs: number | undefined;
  /** Somebody wants it to end: whoever drives it, or takes it up, has it end. */
  readonly cancelRequested?: boolean;
}

export interface OperationFilter {
  readonly kind?: OperationKind | undefined;
  readonly state?: OperationState | undefined;
}

export class OperationList {
  readonly #now: () => number;
  readonly #journal: JournalRoom;
  readonly #all = new Map<number, Operation>();
  readonly #unsaved = new Set<number>();
  readonly #gone = new Set<number>();
  #lastId = 0;

  /** `now`: in milliseconds since the epoch. Begins with what `journal` holds. */
  constructor(now: () => number, journal = NO_JOURNAL) {
    this.#now = now;
    this.#journal = journal;
    for (const { id, text } of journal.read()) {
      this.#all.set(id, { ...(JSON.parse(text) as Omit<Operation, "id">), id });
      this.#lastId = id;
    }
  }

  get running(): readonly Operation[] {
    return [...this.#all.values()].filter(({ state }) => state === "running");
  }

  get(id: number): Operation | undefined {
    return this.#all.get(id);
  }

  /** Throws RESOURCE_EXHAUSTED when OPERATIONS_RUNNING_MAX run already, STORE_FAILED when it cannot be kept. */
  begin(goal: OperationGoal, phase: string): Operation {
    if (this.running.length >= OPERATIONS_RUNNING_MAX) {
      throw new Refusal("RESOURCE_EXHAUSTED", `${OPERATIONS_RUNNING_MAX} operations run already: wait for one of them`);
    }
    const begun: Operation = {
      ...goal,
      ...{ id: this.#lastId + 1, state: "running", phase, progress: undefined, reason: "" },
      ...{ startedMs: this.#now(), endedMs: undefined },
    };
    this.#store(begun, true);
    if (this.#unsaved.has(begun.id)) {
      this.#unsaved.delete(begun.id);
      this.#all.delete(begun.id);
      throw new Refusal("STORE_FAILED", "the operation could not be stored: nothing was begun");
    }
    this.#lastId = begun.id;
    return begun;
  }

  /** How far a running one is. */
  advance(id: number, phase: string, progress: number | undefined): void {
    const operation = this.#running(id);
    if (operation.phase !== phase || operation.progress !== progress) this.#store({ ...operation, phase, progress });
  }

  /** Keeps that it is to end, also for the next coordinator. Throws STORE_FAILED, and it goes on. */
  requestCancel(id: number): void {
    const operation = this.#running(id);
    this.#store({ ...operation, cancelRequested: true }, true);
    if (!this.#unsaved.has(id)) return;
    this.#all.set(id, operation);
    throw new Refusal("STORE_FAILED", "that the operation is to end could not be stored: it goes on");
  }

  end(id: number, state: Exclude<OperationState, "running">, reason: string): Operation {
    const { progress, ...operation } = this.#running(id);
    const left = state === "succeeded" ? 1 : progress;
    const ended: Operation = { ...operation, state, phase: "", progress: left, reason, endedMs: this.#now() };
    this.#store(ended);
    return ended;
  }

  /** The newest first, at most `limit`, of those that match and are older than `beforeId` (0: all); and whether there are more. */
  list({ kind, state }: OperationFilter, { beforeId, limit }: { readonly beforeId: number; readonly limit: number }) {
    const found = [...this.#all.values()].filter(
      (one) =>
        (beforeId === 0 || one.id < beforeId) &&
        (kind === undefined || one.kind === kind) &&
        (state === undefined || one.state === state),
    );
    const operations = found.slice(-limit).reverse();
    return { operations, hasMore: found.length > operations.length };
  }

  #running(id: number): Operation {
    const operation = this.#all.get(id);
    assert(operation?.state === "running", "an operation that runs", id);
    return operation!;
  }

  /** Those that have ended first go where there are too many. */
  #store(operation: Operation, durable = false): void {
    this.#all.set(operation.id, operation);
    this.#unsaved.add(operation.id);
    const ended = [...this.#all.values()].filter(({ state }) => state !== "running");
    ended.sort((a, b) => a.endedMs! - b.endedMs!);
    for (const { id } of ended.slice(0, Math.max(0, ended.length - OPERATIONS_ENDED_MAX))) {
      this.#all.delete(id);
      this.#unsaved.delete(id);
      this.#gone.add(id);
    }
    this.#save(durable);
  }

  /** `durable`: no number is given out twice, also over a power cut. */
  #save(durable: boolean): void {
    const put = [...this.#unsaved].map((unsaved) => {
      const { id, ...rest } = this.#all.get(unsaved)!;
      return { id, text: JSON.stringify(rest) };
    });
    try {
      this.#journal.write({ put, drop: [...this.#gone], durable });
    } catch {
      return;
    }
    this.#unsaved.clear();
    this.#gone.clear();
  }
}
