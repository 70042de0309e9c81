/** What a deed is about, as the cluster has it now: what would be refused is said before it is asked for. */
import type { ClusterConfig, NamespaceConfig } from "../src/coordination/cluster-config.ts";
import type { Namespace } from "../src/gen/io/oxia/proto/v1/metadata_pb.ts";
import { GetClusterStatus, ListNamespaces } from "./admin.ts";
import type { Inspect } from "./inspect.ts";
import { PageError } from "./page.ts";

/** Throws a PageError when there is no such shard. Servers by their names. */
export async function shardOf(
  { calls }: Inspect,
  { namespace, shard }: { readonly namespace: string; readonly shard: string },
) {
  const { shards, servers } = await calls.call(GetClusterStatus, {});
  const found = shards.find((one) => one.namespace === namespace && String(one.shard) === shard);
  if (found === undefined) throw new PageError(404, `There is no shard ${namespace}/${shard}.`);
  const nameOf = (address: string) => servers.find((one) => one.internalAddress === address)?.name ?? address;
  return {
    leader: found.leader === "" ? "nobody" : nameOf(found.leader),
    members: found.replicas.flatMap(({ part, server }) => (part === "member" ? [nameOf(server)] : [])),
    servers: servers.map(({ name }) => name),
  };
}

/** The cluster's configuration as far as the admin API tells of it: what would be refused can be said before. */
export async function configured({ calls }: Inspect): Promise<ClusterConfig> {
  const [{ servers }, { namespaces }] = await Promise.all([
    calls.call(GetClusterStatus, {}),
    calls.call(ListNamespaces, {}),
  ]);
  return {
    servers: servers
      .filter(({ draining }) => !draining)
      .map(({ name, publicAddress, internalAddress }) => ({ name, public: publicAddress, internal: internalAddress })),
    namespaces: namespaces.flatMap(({ namespace }) => (namespace === undefined ? [] : configOf(namespace))),
    allowExtraAuthorities: [],
  };
}

function configOf({ name, initialShardCount: shards, replicationFactor }: Namespace): NamespaceConfig {
  const byDefault = {
    notificationsEnabled: true,
    keySorting: "hierarchical",
    readConsistency: "linearizable",
  } as const;
  return { name, shards, replicationFactor, ...byDefault };
}
