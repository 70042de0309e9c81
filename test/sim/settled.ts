/**
 * Whether a cluster without faults has come to rest: every shard is led, no change of an ensemble is in doubt, and every
 * member of every ensemble lives under its listed id and has applied what its leader has.
 */
import type { ShardId } from "../../src/model/ids.ts";
import type { Replica } from "../../src/replication/replica.ts";
import type { Cluster } from "./cluster.ts";
import type { StoredEnsemble, StoredSlot } from "./violation.ts";

export class Settled {
  readonly #cluster: Cluster;
  readonly #shards: number;
  readonly #lagMax: number;
  #why = "";

  /** `lagMax`: so many entries a member may be behind; while clients write there are always some. */
  constructor(cluster: Cluster, lagMax: number) {
    this.#cluster = cluster;
    this.#lagMax = lagMax;
    this.#shards = cluster.plan.namespaces.reduce((sum, { shards }) => sum + shards, 0);
  }

  /** What is still missing; empty once it is reached. */
  get why(): string {
    return this.#why;
  }

  isReached(): boolean {
    this.#why = this.#missing();
    return this.#why === "";
  }

  #missing(): string {
    const shards = this.#cluster.invariants.shards();
    if (shards.size < this.#shards) return `${shards.size} of ${this.#shards} shards are stored`;
    for (const [id, { stored }] of shards) {
      const why = this.#missingOf(id, stored);
      if (why !== "") return `shard ${id}, term ${stored.term}: ${why}`;
    }
    return "";
  }

  #missingOf(shard: ShardId, { leader, term, members, formerMembers }: StoredEnsemble): string {
    if (leader === undefined) return "it has no leader";
    if (formerMembers.length > 0) return "a change of its ensemble is in doubt";
    const leading = this.#replica(leader, shard)?.state;
    if (leading?.status !== "leader" || leading.promise !== term) return `${leader} is ${leading?.status ?? "down"}`;
    for (const member of members) {
      const why = this.#behind(member, shard, term, leading.applied);
      if (why !== "") return why;
    }
    return "";
  }

  #behind({ server, replicaId }: StoredSlot, shard: ShardId, term: number, applied: number): string {
    const replica = this.#replica(server, shard);
    if (replica === undefined) return `${server} is down`;
    const { id, promise, status } = replica.state;
    if (id !== replicaId) return `${server} has ${id} for the listed ${replicaId}: ${replica.state.ended}`;
    if (promise !== term) return `${server} is in term ${promise}`;
    if (replica.state.applied >= applied - this.#lagMax) return "";
    return `${server} is ${status} and has applied ${replica.state.applied} of ${applied}`;
  }

  #replica(server: string, shard: ShardId): Replica | undefined {
    const machine = this.#cluster.dataServers.find(({ internal }) => internal === server);
    return machine?.server?.replicas.replica(shard);
  }
}
