/** The cluster as pages show it: the answers of the admin API, with what follows from them. */
import type { MessageShape } from "@bufbuild/protobuf";
import type {
  Event,
  GetClusterStatusResponseSchema,
  GetNodeStatusResponseSchema,
  Operation,
  ReplicaStatus,
  ServerStatus,
  ShardStatus,
} from "../src/gen/varia/admin/v1/admin_pb.ts";
import { GetClusterStatus, GetNodeStatus, ListEvents, ListOperations } from "./admin.ts";
import type { Asked } from "./page.ts";
import type { Mood } from "./parts/pieces.tsx";

export type { Event, Operation, ReplicaStatus, ServerStatus, ShardStatus };
export type ClusterStatus = MessageShape<typeof GetClusterStatusResponseSchema>;
export type NodeStatus = MessageShape<typeof GetNodeStatusResponseSchema>;

export function clusterStatus({
  inspect,
  maxAgeMs,
  refreshAgeMs = 0,
}: Pick<Asked, "inspect" | "maxAgeMs" | "refreshAgeMs">): Promise<ClusterStatus> {
  return inspect.calls.call(GetClusterStatus, { maxAgeMs, refreshAgeMs });
}

/** Which process a page of one is about: a coordinator asks a data server that is named; empty: this one. */
export function processOf({ query }: Asked): { readonly server?: string } {
  const server = query.get("server") ?? "";
  return server === "" ? {} : { server };
}

export function nodeStatus(asked: Asked): Promise<NodeStatus> {
  return asked.inspect.calls.call(GetNodeStatus, processOf(asked));
}

/** The newest, where events are served. */
export async function lastEvents(
  { inspect }: Asked,
  filter: { limit: number; shard?: bigint; namespace?: string; server?: string },
) {
  if (!inspect.calls.serves(ListEvents)) return [];
  return (await inspect.calls.call(ListEvents, filter)).events;
}

/** What runs, the newest first, where operations are served. */
export async function runningOperations({ inspect }: Asked, limit: number): Promise<readonly Operation[]> {
  if (!inspect.calls.serves(ListOperations)) return [];
  return (await inspect.calls.call(ListOperations, { state: "running", limit })).operations;
}

/** How the cluster is, in one word. */
export function verdictOf({ healthy, faultTolerance, shards }: ClusterStatus): {
  readonly word: string;
  readonly mood: Mood;
} {
  if (healthy) return { word: "Healthy", mood: "good" };
  const without = shards.filter((shard) => shardState(shard) === "no leader").length;
  if (faultTolerance < 0 || without > 0) return { word: "Unavailable", mood: "bad" };
  return { word: "Degraded", mood: "warn" };
}

export type ShardState = "serving" | "changing" | "degraded" | "no leader" | "deleting";
export const SHARD_STATES: readonly ShardState[] = ["serving", "changing", "degraded", "no leader", "deleting"];

export function shardState({ leader, problems, change }: ShardStatus): ShardState {
  if (isBeingDeleted(change)) return "deleting";
  if (leader === "") return "no leader";
  if (change !== "") return "changing";
  return problems.length > 0 ? "degraded" : "serving";
}

/** Of a shard's `change`, as the admin API words it. */
export function isBeingDeleted(change: string): boolean {
  return change.startsWith("it is being deleted");
}

export const MOOD_OF_SHARD: Record<ShardState, Mood> = {
  serving: "good",
  changing: "quiet",
  degraded: "warn",
  "no leader": "bad",
  deleting: "quiet",
};

export function serverState({ available, draining }: ServerStatus): { readonly word: string; readonly mood: Mood } {
  if (!available) return { word: "unavailable", mood: "bad" };
  return draining ? { word: "draining", mood: "quiet" } : { word: "available", mood: "good" };
}

/** By internal address. */
export function serverNames({ servers }: ClusterStatus): ReadonlyMap<string, string> {
  return new Map(servers.map(({ internalAddress, name }) => [internalAddress, name]));
}

/** What the leaders of some shards bear; undefined where none has said so. */
export function loadOf(shards: readonly ShardStatus[]) {
  const loads = shards.flatMap(({ load }) => (load === undefined ? [] : [load]));
  if (loads.length === 0) return undefined;
  return {
    records: loads.reduce((sum, { records }) => sum + records, 0n),
    stateBytes: loads.reduce((sum, { stateBytes }) => sum + stateBytes, 0n),
    writesPerS: loads.reduce((sum, { writesPerS }) => sum + writesPerS, 0),
    readsPerS: loads.reduce((sum, { readsPerS }) => sum + readsPerS, 0),
  };
}

/** The most that any replica is behind; undefined where none is known. */
export function worstLag(shards: readonly ShardStatus[]): bigint | undefined {
  let worst: bigint | undefined;
  for (const { replicas } of shards) {
    for (const { lagEntries } of replicas) {
      if (lagEntries >= 0n && (worst === undefined || lagEntries > worst)) worst = lagEntries;
    }
  }
  return worst;
}

/** Of one namespace, in order of hashes: the places that no shard covers, and those that two do. */
export function coverage(shards: readonly ShardStatus[]): string[] {
  const found: string[] = [];
  let next = 0;
  for (const { shard, minHashInclusive, maxHashInclusive } of [...shards].sort(byHash)) {
    if (minHashInclusive > next) found.push(`no shard has the hashes before shard ${shard}`);
    if (minHashInclusive < next) found.push(`shard ${shard} has hashes that another one has too`);
    next = maxHashInclusive + 1;
  }
  if (next !== 2 ** 32) found.push("no shard has the highest hashes");
  return found;
}

export function byHash(a: ShardStatus, b: ShardStatus): number {
  return a.minHashInclusive - b.minHashInclusive;
}
