/**
 * How many disks may be damaged at a time: never more than what the cluster promises to survive, a minority of each
 * ensemble. A damaged server counts until no stored ensemble lists an id of it that may be gone, and for a while longer:
 * a coordinator may be about to store one.
 *
 * Source: safety.md §1; test/harness/protocol-model/world.ts, which damages one disk a run.
 */
import type { ClusterInvariants } from "./cluster-invariants.ts";
import type { ShardInvariants } from "./shard-invariants.ts";
import type { StoredSlot } from "./violation.ts";

/** What a coordinator has in mind is stored within this time, or its call has failed. */
const SETTLE_MS = 20_000;

export class FaultBudget {
  readonly #invariants: ClusterInvariants;
  readonly #nowMs: () => number;
  /** By server: when its disk was damaged last. */
  readonly #damagedAt = new Map<string, number>();
  /** Since when all coordinators have run undisturbed. */
  #calmSince = 0;

  constructor(invariants: ClusterInvariants, nowMs: () => number) {
    this.#invariants = invariants;
    this.#nowMs = nowMs;
  }

  /** A coordinator was stopped or cut off: what it had in mind may be stored much later. */
  coordinatorDisturbed(untilMs: number): void {
    this.#calmSince = Math.max(this.#calmSince, untilMs);
  }

  /** Whether this server's disk may be damaged now: the others that are suffice for every shard. */
  allows(server: string): boolean {
    for (const shard of this.#invariants.shards().values()) {
      const { members, formerMembers } = shard.stored;
      if (members.length === 0) return false;
      if (!this.#survives(shard, members, server) || !this.#survives(shard, formerMembers, server)) return false;
    }
    return this.#invariants.shards().size > 0;
  }

  /** To be called when a disk is damaged; `gone`: it is empty, or an older one. */
  spend(server: string, gone: boolean): void {
    this.#damagedAt.set(server, this.#nowMs());
    this.#invariants.diskFault(server, gone);
  }

  /** Whether its disk has ever been damaged. */
  wasDamaged(server: string): boolean {
    return this.#damagedAt.has(server);
  }

  #survives(shard: ShardInvariants, slots: readonly StoredSlot[], server: string): boolean {
    if (slots.length === 0) return true;
    const damaged = new Set([server]);
    for (const slot of slots) if (isLost(shard, slot)) damaged.add(slot.server);
    for (const [other, atMs] of this.#damagedAt) {
      if (this.#nowMs() - Math.max(atMs, this.#calmSince) < SETTLE_MS) damaged.add(other);
    }
    return damaged.size <= (slots.length - 1) >> 1;
  }
}

/** Whether what a slot names may be gone; of an empty one, whether anything has ever gone there. */
function isLost(shard: ShardInvariants, { server, replicaId }: StoredSlot): boolean {
  const named = shard.replica(replicaId);
  if (named !== undefined) return named.lost;
  for (const replica of shard.replicas()) if (replica.server === server && replica.lost) return true;
  return false;
}
