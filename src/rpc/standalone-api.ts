/**
 * `VariaAdmin.GetClusterStatus` of a standalone server, and what `OxiaAdmin` tells of namespaces and data servers: a
 * cluster of one, whose only replica of each shard leads. What it says is what a coordinator would say of it.
 */
import type { ClusterReport, ReplicaLine, ShardLine } from "../coordination/cluster-report.ts";
import { STOPPED } from "../coordination/cluster-report.ts";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { DataServerState } from "../gen/io/oxia/proto/v1/metadata_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../model/refusal.ts";
import type { HashRange } from "../protocol/assignment.ts";
import type { Replica } from "../replication/replica.ts";
import type { Shards } from "../replication/shards.ts";
import { loadsBeyond, protoReport } from "./cluster-api.ts";
import type { LoadWatch } from "./load-watch.ts";
import type { ServedMethod } from "./method.ts";
import { statusOf } from "./node-api.ts";
import { servedUnary } from "./served.ts";

export interface AloneOptions {
  readonly namespace: string;
  readonly instanceId: string;
  readonly publicAddress: () => string;
  /** By shard. */
  readonly ranges: readonly HashRange[];
  readonly keySorting: "hierarchical" | "natural";
  readonly notificationsEnabled: boolean;
  readonly loads: LoadWatch;
}

/** The name of the one server that there is, and its internal address. */
export const SELF = "standalone";

export function standaloneMethods(replicas: Shards, options: AloneOptions): ServedMethod[] {
  const known = loadsBeyond(options.loads);
  const { namespace: name, keySorting, notificationsEnabled, ranges } = options;
  const namespace = { name, initialShardCount: ranges.length, replicationFactor: 1, keySorting, notificationsEnabled };
  const { method } = OxiaAdmin;
  const view = () => {
    const identity = { name: SELF, public: options.publicAddress(), internal: SELF };
    return { dataServer: { identity }, dataServerStatus: { state: DataServerState.RUNNING } };
  };
  return [
    servedUnary(method.listNamespaces, () => ({ namespaces: [{ namespace }] })),
    servedUnary(method.getNamespace, (request) => {
      if (request.namespace !== name) throw new Refusal("NOT_FOUND", `namespace "${request.namespace}" not found`);
      return { namespace: { namespace } };
    }),
    servedUnary(method.listDataServers, () => ({ dataServers: [view()] })),
    servedUnary(method.getDataServer, ({ dataServer }) => {
      if (dataServer !== SELF) throw new Refusal("NOT_FOUND", `data server "${dataServer}" not found`);
      return { dataServer: view() };
    }),
    servedUnary(VariaAdmin.method.getClusterStatus, () =>
      protoReport({ report: standaloneReport(replicas, options), observedAtMs: Date.now() }, known),
    ),
  ];
}

function standaloneReport(replicas: Shards, options: AloneOptions): ClusterReport {
  const shards = options.ranges.map((range, shard) => shardLine(replicas.replica(shard), { shard, range }, options));
  const problems = shards.flatMap(({ namespace, shard, problems: found }) =>
    found.map((text) => `shard ${namespace}/${shard}: ${text}`),
  );
  const leaders = shards.filter(({ leader }) => leader !== undefined).length;
  const server = { name: SELF, public: options.publicAddress(), internal: SELF, available: true, why: "" };
  return {
    instanceId: options.instanceId,
    healthy: problems.length === 0,
    problems,
    faultTolerance: Math.min(0, ...shards.map(({ faultTolerance }) => faultTolerance)),
    servers: [{ ...server, replicas: shards.length, leaders, draining: false }],
    shards,
  };
}

function shardLine(
  replica: Replica | undefined,
  { shard, range }: { readonly shard: number; readonly range: HashRange },
  { namespace }: AloneOptions,
): ShardLine {
  const serving = replica?.serving;
  const { status, reason } =
    replica === undefined ? { status: "damaged", reason: "it is not there" } : statusOf(replica);
  const serves = status === "leader" && serving !== undefined;
  const line: ReplicaLine = {
    ...{ server: SELF, replicaId: replica?.state.id ?? 0n, part: "member", why: reason },
    status: serves ? "leader" : "",
    promise: replica?.state.promise ?? -1,
    head: serving?.head.offset ?? -1,
    acked: serving?.committed ?? -1,
    committed: serving?.committed ?? -1,
    applied: serving?.applied ?? -1,
    lag: serves ? 0 : undefined,
    scanned: true,
  };
  return {
    ...{ namespace, shard, range, replicas: [line], change: "" },
    term: serving?.term ?? -1,
    leader: serves ? SELF : undefined,
    problems: serves ? [] : [reason === "" ? "it does not serve" : reason],
    faultTolerance: serves ? 0 : STOPPED,
  };
}
