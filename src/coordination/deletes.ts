/**
 * Deletes copies: those that an ensemble change has removed, once every member holds what the new leader began with,
 * and all of a namespace that goes. A copy leaves the store only when its server has said that it is gone, or that
 * another one lives there.
 *
 * Source: safety.md §1 (DeleteShard names its id), §2, §9; semantics.md §9.4, §9.6.
 */
import { NO_TERM, type ReplicaId, type Term } from "../model/ids.ts";
import { DELETE_CALL_MS_MAX } from "../model/limits.ts";
import { deletable, deletedDocument } from "../protocol/ensemble-change.ts";
import { type Member as Copy, NO_REPLICA } from "../protocol/replica-state.ts";
import { type Cluster, shardFields } from "./cluster.ts";
import { askStatuses, isRefusal, newTerm, observedOf, requireServer } from "./replica-calls.ts";
import { wordsOf } from "./server-link.ts";
import type { Member, ShardMetadata } from "./status-document.ts";
import { type ShardRef, withShard } from "./status-store.ts";
import { serversOf, shardDocument, storedShard } from "./stored-shard.ts";
import { unlessInterrupted } from "./wait.ts";

/** "waits": not yet, or a server is not there. */
export type Deleted = { readonly kind: "deleted" } | { readonly kind: "waits"; readonly why: string };

/** Deletes one removed copy that may go, and strikes it off. */
export async function deleteRemoved(
  cluster: Cluster,
  ref: ShardRef,
  shard: ShardMetadata,
  signal: AbortSignal,
): Promise<Deleted> {
  const stored = storedShard(shard);
  const answers = await askStatuses(cluster, ref, serversOf(shard), signal);
  const ready = deletable(stored, { replicas: observedOf(answers), observing: false, freeze: undefined });
  if (ready.length === 0) return { kind: "waits", why: "not every member holds what the leader began with" };
  let why = "";
  for (const copy of ready) {
    // An id that nobody knows must not turn out to be a member's: where one lives, the copy is gone.
    const replaced = copy.replicaId === NO_REPLICA && stored.members.some(({ server }) => server === copy.server);
    const trouble = replaced ? undefined : await deleteCopy(cluster, ref, { copy, term: shard.term }, signal);
    if (trouble === undefined) {
      const next = shardDocument(shard, deletedDocument(stored, copy), { servers: cluster.config.servers });
      await cluster.store.updateShard(ref, shard, next);
      return { kind: "deleted" };
    }
    why = trouble;
  }
  return { kind: "waits", why };
}

/** Deletes all copies of a shard in Deleting, then the shard itself. */
export async function deleteShard(
  cluster: Cluster,
  ref: ShardRef,
  shard: ShardMetadata,
  signal: AbortSignal,
): Promise<Deleted> {
  const copies = new Map(copiesOf(shard).map((copy) => [`${copy.server} ${copy.replicaId}`, copy]));
  const gone = [...copies.values()].map((copy) => deleteCopy(cluster, ref, { copy, term: shard.term }, signal));
  const troubles = (await Promise.all(gone)).filter((trouble) => trouble !== undefined);
  if (troubles.length > 0) return { kind: "waits", why: troubles.join("; ") };
  await cluster.store.update((status) => {
    const stands = status.namespaces.get(ref.namespace)?.shards.get(ref.shard) === shard;
    return stands ? withShard(status, ref, undefined) : undefined;
  });
  cluster.logger.info(shardFields(ref), "shard deleted");
  return { kind: "deleted" };
}

function copiesOf({ ensemble, formerEnsemble, observers, pendingDeleteShardNodes }: ShardMetadata): Copy[] {
  const all: Member[] = [...ensemble, ...(formerEnsemble ?? []), ...observers, ...pendingDeleteShardNodes];
  return all.map(({ internal, replicaId }) => ({ server: internal, replicaId: replicaId ?? NO_REPLICA }));
}

/** Undefined: it is gone. */
async function deleteCopy(
  cluster: Cluster,
  ref: ShardRef,
  { copy, term }: { readonly copy: Copy; readonly term: Term },
  signal: AbortSignal,
): Promise<string | undefined> {
  const { server } = copy;
  try {
    const replicaId = copy.replicaId === NO_REPLICA ? await idAt(cluster, ref, server, term) : copy.replicaId;
    requireServer(cluster, server);
    const call = cluster.dataServers.deleteShard(
      server,
      { ...ref, term, replicaId },
      { timeoutMs: DELETE_CALL_MS_MAX },
    );
    await unlessInterrupted(call, signal);
    return undefined;
  } catch (error) {
    return isRefusal(error, "NODE_IS_NOT_MEMBER") ? undefined : `${server}: ${wordsOf(error)}`;
  }
}

/** Whatever lives at a server whose id no election has counted: NewTerm tells, and fences it. */
async function idAt(cluster: Cluster, ref: ShardRef, server: string, term: Term): Promise<ReplicaId | undefined> {
  const slot = { server, replicaId: NO_REPLICA, countedTerm: NO_TERM };
  return (await newTerm(cluster, ref, { term, slot })).replicaId;
}
