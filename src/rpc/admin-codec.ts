/**
 * The cluster's configuration and status as admin clients see them: plain <-> generated messages.
 *
 * Source: protocol.md §3, §4.
 */
import { create, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { type DataServerRequest, type NamespaceRequest, serverName } from "../coordination/administer.ts";
import type { NamespaceConfig, ServerConfig } from "../coordination/cluster-config.ts";
import type { ServerState } from "../coordination/server-link.ts";
import type { NamespaceStatus, ShardMetadata, SplitMetadata } from "../coordination/status-document.ts";
import {
  type DataServer,
  type DataServerIdentitySchema,
  DataServerSchema,
  DataServerState,
  DataServerStatusSchema,
  type Namespace,
  NamespaceSchema,
  NamespaceStatusSchema,
  type ShardMetadataSchema,
  ShardStatus,
  SplitPhase,
} from "../gen/io/oxia/proto/v1/metadata_pb.ts";
import type { Feature } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import { present, protoFeatures } from "./peer-fields.ts";

/** Throws INVALID_ARGUMENT for a message that is not there. */
export function namespaceRequest(message: Namespace | undefined): NamespaceRequest {
  if (message === undefined) throw new Refusal("INVALID_ARGUMENT", "namespace must not be nil");
  const { name, initialShardCount, replicationFactor, notificationsEnabled, keySorting, antiAffinities } = message;
  const fields = { name, initialShardCount, replicationFactor, notificationsEnabled, keySorting };
  return { ...fields, hasAntiAffinities: antiAffinities.length > 0 };
}

/** Throws INVALID_ARGUMENT for a message that is not there, or says not which server. */
export function dataServerRequest(message: DataServer | undefined): DataServerRequest {
  if (message === undefined) throw new Refusal("INVALID_ARGUMENT", "data server must not be nil");
  const { identity, metadata } = message;
  if (identity === undefined) throw new Refusal("INVALID_ARGUMENT", "data server identity must not be nil");
  const { name = "", public: address, internal } = identity;
  const labels = metadata === undefined ? undefined : new Map(Object.entries(metadata.labels));
  return { name, public: address, internal, labels };
}

export function protoNamespace(namespace: NamespaceConfig): MessageShape<typeof NamespaceSchema> {
  const { name, shards, replicationFactor, notificationsEnabled, keySorting, antiAffinities = [] } = namespace;
  return create(NamespaceSchema, {
    ...{ name, initialShardCount: shards, replicationFactor, notificationsEnabled, keySorting },
    antiAffinities: antiAffinities.map(({ labels }) => ({ labels: [...labels], mode: "strict" })),
  });
}

export function protoNamespaceStatus({
  replicationFactor,
  shards,
}: NamespaceStatus): MessageShape<typeof NamespaceStatusSchema> {
  const entries = [...shards].map(([id, shard]) => [String(id), protoShard(shard)]);
  return create(NamespaceStatusSchema, { replicationFactor, shards: Object.fromEntries(entries) });
}

function protoShard(shard: ShardMetadata): MessageInitShape<typeof ShardMetadataSchema> {
  const { leader, split, int32HashRange } = shard;
  return present<MessageInitShape<typeof ShardMetadataSchema> & object>({
    status: ShardStatus[shard.status],
    term: BigInt(shard.term),
    leader: leader && identity(leader),
    ensemble: shard.ensemble.map(identity),
    removedNodes: shard.removedNodes.map(identity),
    pendingDeleteShardNodes: shard.pendingDeleteShardNodes.map(identity),
    int32HashRange: { min: int32HashRange.minInclusive, max: int32HashRange.maxInclusive },
    split: split && protoSplit(split),
  });
}

function protoSplit(split: SplitMetadata) {
  const leaders = [...split.childLeadersAtBootstrap].map(([id, address]) => [String(id), address]);
  return {
    phase: SplitPhase[split.phase],
    parentShardId: BigInt(split.parentShardId),
    childShardIds: split.childShardIds.map(BigInt),
    splitPoint: split.splitPoint,
    snapshotOffset: BigInt(split.snapshotOffset),
    parentTermAtBootstrap: BigInt(split.parentTermAtBootstrap),
    childLeadersAtBootstrap: Object.fromEntries(leaders),
  };
}

type Named = Pick<ServerConfig, "name" | "public" | "internal">;

function identity(server: Named): MessageInitShape<typeof DataServerIdentitySchema> {
  return { name: serverName(server), public: server.public, internal: server.internal };
}

export function protoDataServer(server: Named & Pick<ServerConfig, "labels">): MessageShape<typeof DataServerSchema> {
  const labels = Object.fromEntries(server.labels ?? []);
  return create(DataServerSchema, { identity: identity(server), metadata: { labels } });
}

/** `draining`: it is not configured any more. */
export function protoDataServerStatus({
  state,
  draining,
  features,
}: {
  readonly state: ServerState;
  readonly draining: boolean;
  readonly features: readonly Feature[];
}): MessageShape<typeof DataServerStatusSchema> {
  const running = state === "unavailable" ? DataServerState.UNAVAILABLE : DataServerState.RUNNING;
  return create(DataServerStatusSchema, {
    state: draining ? DataServerState.DRAINING : running,
    supportedFeatures: protoFeatures(features),
  });
}
