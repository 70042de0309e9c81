/**
 * The shards as clients see them from this server: which of them it leads, and where the others are, as the coordinator
 * last said.
 *
 * A shard id may be any 64-bit number on the wire: one that nobody leads here is refused like one whose leader is
 * elsewhere. The refusal names the leader where the assignments know one, unless this server's own replica is on its way
 * to lead or was just fenced, or has promised a later term than when they came: then they are about to change, and name a
 * leader that was, which may be this very server. A damaged replica refuses with DATA_LOSS, naming file and
 * place, one that has stopped with its reason; the others serve.
 *
 * Source: semantics.md §6; errors.md §2.
 */
import { NO_TERM, type ShardId, type Term } from "../model/ids.ts";
import type { ShardAssignment, ShardAssignments } from "../model/peer-messages.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Int64 } from "../wire/reader.ts";
import type { Leader } from "./leader.ts";
import type { Replica } from "./replica.ts";

export class Shards {
  readonly #replicas = new Map<ShardId, Replica>();
  readonly #watchers = new Set<() => void>();
  #assignments: ShardAssignments | undefined;
  /** What each replica had promised when the assignments came. */
  readonly #promisedThen = new Map<ShardId, Term>();

  // --- replicas -------------------------------------------------------------------------------------------------

  add(replica: Replica): void {
    this.#replicas.set(replica.shard, replica);
  }

  replica(shard: ShardId): Replica | undefined {
    return this.#replicas.get(shard);
  }

  /** All replicas, ended and damaged ones too, in order of their ids. */
  all(): Replica[] {
    return [...this.#replicas.values()].sort((a, b) => a.shard - b.shard);
  }

  /** The leaderships that serve, in order of their shards. */
  leaders(): Leader[] {
    return this.all().flatMap(({ serving }) => (serving?.serving === true ? serving : []));
  }

  /** The leader that a request is for. Throws INVALID_ARGUMENT, NODE_IS_NOT_LEADER or DATA_LOSS, or why the replica has stopped. */
  leader(id: Int64 | undefined): Leader {
    if (id === undefined) throw new Refusal("INVALID_ARGUMENT", "shard id is required");
    const replica = this.#replicas.get(id as ShardId);
    const serving = replica?.serving;
    if (serving?.serving === true) return serving;
    throw this.#notLeading(id as ShardId, replica);
  }

  #notLeading(id: ShardId, replica: Replica | undefined): Refusal {
    if (replica?.damage !== undefined) return damageRefusal(id, replica.damage);
    if (replica?.stopped !== undefined) return replica.stopped;
    const isChanging = replica !== undefined && ["fenced", "becoming-leader"].includes(replica.state.status);
    const isOld = replica !== undefined && replica.state.promise > (this.#promisedThen.get(id) ?? NO_TERM);
    const leader = isChanging || isOld ? "" : this.assignedLeader(id);
    const hint = leader === undefined || leader === "" ? {} : { hint: { shard: id, leader } };
    return new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader", hint);
  }

  // --- assignments ----------------------------------------------------------------------------------------------

  /**
   * What was last pushed; undefined before that. A set with neither namespaces nor authorities is none: a coordinator may
   * begin with it, and it would deny everybody.
   */
  get assignments(): ShardAssignments | undefined {
    return this.#assignments;
  }

  /** The set, whole, in the place of the one before. */
  takeAssignments(assignments: ShardAssignments): void {
    const { namespaces, allowedAuthorities } = assignments;
    if (namespaces.size === 0 && allowedAuthorities.length === 0) return;
    this.#assignments = assignments;
    this.#promisedThen.clear();
    for (const { shard, state } of this.#replicas.values()) this.#promisedThen.set(shard, state.promise);
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Calls `callback` whenever a set was taken. The returned function takes it back. */
  onAssignments(callback: () => void): () => void {
    this.#watchers.add(callback);
    return () => this.#watchers.delete(callback);
  }

  /** Throws NOT_INITIALIZED before the first assignments. */
  requireInitialized(): ShardAssignments {
    if (this.#assignments !== undefined) return this.#assignments;
    throw new Refusal("NOT_INITIALIZED", "oxia: server not initialized yet");
  }

  /** The public address of the shard's leader by the assignments; undefined when they do not know the shard, "" when nobody leads it. */
  assignedLeader(shard: ShardId): string | undefined {
    return this.#assignmentOf(shard)?.leader;
  }

  #assignmentOf(shard: ShardId): ShardAssignment | undefined {
    for (const assignments of this.#assignments?.namespaces.values() ?? []) {
      const found = assignments.find((assignment) => assignment.shard === shard);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
