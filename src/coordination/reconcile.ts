/**
 * From the configuration to the stored status: namespaces that are new get their shards, those that are gone are marked
 * for deletion. What is there stays as it is. Ids and places in the list of servers go on where they were.
 *
 * Source: semantics.md §9.2, §9.6.
 */
import { NO_TERM, type ShardId } from "../model/ids.ts";
import { SHARDS_PER_NAMESPACE_MAX } from "../model/limits.ts";
import { initialRanges } from "../protocol/assignment.ts";
import { type Apart, placeShard } from "../protocol/placement.ts";
import type { ClusterConfig, NamespaceConfig } from "./cluster-config.ts";
import type { ClusterStatus, NamespaceStatus, ShardMetadata } from "./status-document.ts";
import { emptySlot } from "./stored-shard.ts";

export interface Reconciled {
  /** The same object when there is nothing to do. */
  readonly status: ClusterStatus;
  /** What cannot be done, in words for the operator. */
  readonly problems: readonly string[];
}

export function reconcile(before: ClusterStatus, config: ClusterConfig): Reconciled {
  const problems: string[] = [];
  let status = withoutDeleted(before, config);
  for (const namespace of config.namespaces) {
    if (status.namespaces.has(namespace.name)) continue;
    const why = whyNotCreatable(namespace, config);
    const created = why === undefined ? withNamespace(status, namespace, config) : undefined;
    status = created ?? status;
    if (created === undefined) {
      const text = why ?? "its anti-affinity rules leave too few data servers that may hold one shard together";
      problems.push(`namespace ${namespace.name}: ${text}`);
    }
  }
  return { status, problems };
}

/** A namespace whose shards are all being deleted; one of that name can be made once they are gone. */
export function isBeingDeleted({ shards }: NamespaceStatus): boolean {
  return shards.size > 0 && [...shards.values()].every(({ status }) => status === "Deleting");
}

function withoutDeleted(status: ClusterStatus, config: ClusterConfig): ClusterStatus {
  const wanted = new Set(config.namespaces.map(({ name }) => name));
  const leaving = [...status.namespaces].filter(
    ([name, namespace]) => namespace.shards.size === 0 || (!wanted.has(name) && !isBeingDeleted(namespace)),
  );
  if (leaving.length === 0) return status;
  const namespaces = new Map(status.namespaces);
  for (const [name, namespace] of leaving) {
    if (namespace.shards.size === 0) namespaces.delete(name);
    else namespaces.set(name, { ...namespace, shards: new Map([...namespace.shards].map(deleting)) });
  }
  return { ...status, namespaces };
}

/** In a term of its own, so that also its leader takes the deletion, and no late election goes on. */
function deleting([id, shard]: [ShardId, ShardMetadata]): [ShardId, ShardMetadata] {
  return [id, { ...shard, status: "Deleting", term: shard.term + 1, leader: undefined }];
}

function whyNotCreatable(
  { shards, replicationFactor }: NamespaceConfig,
  { servers }: ClusterConfig,
): string | undefined {
  if (!Number.isInteger(shards) || shards < 1 || shards > SHARDS_PER_NAMESPACE_MAX) {
    return `${shards} shards are not from 1 to ${SHARDS_PER_NAMESPACE_MAX}`;
  }
  if (!Number.isInteger(replicationFactor) || replicationFactor < 1 || replicationFactor > servers.length) {
    return `replication factor ${replicationFactor} is not from 1 to ${servers.length}, the number of data servers`;
  }
  return undefined;
}

/** Undefined when its shards cannot be placed by its rules. */
function withNamespace(
  status: ClusterStatus,
  namespace: NamespaceConfig,
  { servers }: ClusterConfig,
): ClusterStatus | undefined {
  const { name, replicationFactor } = namespace;
  const replicas = replicaCounts(
    status,
    servers.map(({ internal }) => internal),
  );
  const apart = apartBy(namespace, servers);
  const shards = new Map<ShardId, ShardMetadata>();
  let id = status.shardIdGenerator;
  for (const int32HashRange of initialRanges(namespace.shards)) {
    const ensemble = placeShard(replicas, { namespace: name, shard: id }, replicationFactor, apart);
    if (ensemble === undefined) return undefined;
    const members = ensemble.map((address) => emptySlot(servers.find(({ internal }) => internal === address)!));
    shards.set(id, { ...NEW_SHARD, ensemble: members, int32HashRange });
    id += 1;
  }
  const serverIdx = (status.serverIdx + namespace.shards * replicationFactor) % servers.length;
  const namespaces = new Map(status.namespaces).set(name, { replicationFactor, shards, unknown: {} });
  return { ...status, namespaces, shardIdGenerator: id, serverIdx };
}

/** Strict rules: two servers go together when their values of each label named differ, and both have one. */
export function apartBy({ antiAffinities = [] }: NamespaceConfig, servers: ClusterConfig["servers"]): Apart {
  const names = antiAffinities.flatMap(({ labels }) => labels);
  const labels = new Map(servers.map((server) => [server.internal, server.labels]));
  return (server, other) =>
    names.every((name) => {
      const [one, two] = [labels.get(server)?.get(name), labels.get(other)?.get(name)];
      return one !== undefined && two !== undefined && one !== two;
    });
}

function replicaCounts(status: ClusterStatus, servers: readonly string[]): Map<string, number> {
  const counts = new Map(servers.map((server) => [server, 0]));
  for (const { shards } of status.namespaces.values()) {
    for (const { ensemble } of shards.values()) {
      for (const { internal } of ensemble) if (counts.has(internal)) counts.set(internal, counts.get(internal)! + 1);
    }
  }
  return counts;
}

const NEW_SHARD: Omit<ShardMetadata, "ensemble" | "int32HashRange"> = {
  status: "ShardStatusUnknown",
  term: NO_TERM,
  leader: undefined,
  formerEnsemble: undefined,
  observers: [],
  removedNodes: [],
  pendingDeleteShardNodes: [],
  split: undefined,
  adoptedTerm: undefined,
  unknown: {},
};
