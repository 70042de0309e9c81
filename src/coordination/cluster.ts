/** What every flow about one shard works with. */
import type { ShardId } from "../model/ids.ts";
import type { Clock, DataServers, Logger, Random } from "../ports.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import type { Servers } from "./servers.ts";
import type { Stamps } from "./stamps.ts";
import type { CoordinatorStats } from "./stats.ts";
import type { ShardRef, StatusStore } from "./status-store.ts";
import type { Permits } from "./wait.ts";

export interface Cluster {
  readonly dataServers: DataServers;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly store: StatusStore;
  readonly servers: Servers;
  readonly stamps: Stamps;
  readonly leaders: Leaders;
  readonly stats: CoordinatorStats;
  /** Elections that ask for votes at once. */
  readonly elections: Permits;
  /** As of now: it may be replaced. */
  readonly config: ClusterConfig;
  /** An error that nobody waits for: the coordinator ends with it. */
  readonly fault: (error: unknown) => void;
}

/** How many shards each server leads, or is being made to lead: so that leaders spread evenly. */
export class Leaders {
  readonly #byShard = new Map<ShardId, string>();
  readonly #counts = new Map<string, number>();

  set(shard: ShardId, server: string | undefined): void {
    const before = this.#byShard.get(shard);
    if (before === server) return;
    if (before !== undefined) this.#counts.set(before, this.ledBy(before) - 1);
    if (server === undefined) this.#byShard.delete(shard);
    else {
      this.#byShard.set(shard, server);
      this.#counts.set(server, this.ledBy(server) + 1);
    }
  }

  /** How many shards are led. */
  get size(): number {
    return this.#byShard.size;
  }

  ledBy(server: string): number {
    return this.#counts.get(server) ?? 0;
  }
}

/** Log fields of what concerns one shard. */
export function shardFields({ namespace, shard }: ShardRef, more: Readonly<Record<string, unknown>> = {}) {
  return { component: "coordinator", namespace, shard, ...more };
}
