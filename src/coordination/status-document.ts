/**
 * The cluster's status, typed: what the coordinator knows of each shard and must not forget. In JSON it is Oxia's
 * ClusterStatus with fields of our own, which Oxia discards when it reads it: a document that Oxia has written since
 * has no replica ids, and must be adopted (adopt-status.ts).
 *
 *     cluster   replica stamps: stampsReserved (below this number they may be in use), confirmedStamps {server: stamp}
 *     shard     formerEnsemble (present: a change of the ensemble is in doubt), observers, adoptedTerm
 *     server    in an ensemble: replicaId ("0": an empty slot), mintedTerm, countedTerm
 *
 * 64-bit numbers are decimal text. Fields that neither knows are kept where they were, in `unknown`.
 *
 * Invariants: all members of a shard have a replica id or an empty slot, or none has either (Oxia's document). A shard
 * in SteadyState has a leader, and no formerEnsemble.
 *
 * Source: protocol.md §3 and §5.5; safety.md §1 and §2.
 */
import type { ReplicaId, ShardId, Term } from "../model/ids.ts";
import { NO_TERM } from "../model/ids.ts";
import {
  CLUSTER_KEY,
  type Json,
  type JsonObject,
  parseEntry,
  parseShardKey,
  type StatusEntries,
  StatusInvalid,
  shardKey,
} from "../model/status-entries.ts";
import type { MetadataChanges } from "../ports.ts";
import type { HashRange } from "../protocol/assignment.ts";
import { Fields, jsonObject, wholeNumber } from "./json-fields.ts";

export const SHARD_STATUSES = ["ShardStatusUnknown", "SteadyState", "Election", "Deleting"] as const;
export type ShardStatus = (typeof SHARD_STATUSES)[number];

export const SPLIT_PHASES = ["Bootstrap", "CatchUp", "Cutover"] as const;
export type SplitPhase = (typeof SPLIT_PHASES)[number];

/** No replica yet: counted by the id that it answers (safety.md §1, "First ids"). */
export const EMPTY_SLOT: ReplicaId = 0n;

export interface ClusterStatus {
  readonly namespaces: ReadonlyMap<string, NamespaceStatus>;
  /** Id that the next new shard gets. */
  readonly shardIdGenerator: ShardId;
  /** Data server at which the next placement starts counting. */
  readonly serverIdx: number;
  /** UUID of the cluster; empty before it has one. */
  readonly instanceId: string;
  /** Stamps below this number may have been given out: a coordinator raises it before it uses more. */
  readonly stampsReserved: number;
  /** By a server's internal address: the last stamp that it confirmed. */
  readonly confirmedStamps: ReadonlyMap<string, number>;
  readonly unknown: JsonObject;
}

export interface NamespaceStatus {
  readonly replicationFactor: number;
  readonly shards: ReadonlyMap<ShardId, ShardMetadata>;
  readonly unknown: JsonObject;
}

export interface ShardMetadata {
  readonly status: ShardStatus;
  /** -1 before the first election. */
  readonly term: Term;
  readonly leader: DataServerIdentity | undefined;
  /** Who holds the shard; while a change is in doubt, who is to hold it. */
  readonly ensemble: readonly Member[];
  /** Present while a change is in doubt: elections need a majority of both ensembles (safety.md §2). */
  readonly formerEnsemble: readonly Member[] | undefined;
  /** Replicas that are being filled and do not count. */
  readonly observers: readonly Member[];
  /** Oxia's form of a change: who leaves. Ours is formerEnsemble; both are written. */
  readonly removedNodes: readonly DataServerIdentity[];
  /** Copies that must still be deleted, by server and replica id. */
  readonly pendingDeleteShardNodes: readonly Member[];
  readonly int32HashRange: HashRange;
  readonly split: SplitMetadata | undefined;
  /** The term in which the shard was taken over from Oxia: ids minted after it are no vote. */
  readonly adoptedTerm: Term | undefined;
  readonly unknown: JsonObject;
}

export interface DataServerIdentity {
  /** Absent: the internal address serves as name. */
  readonly name: string | undefined;
  readonly public: string;
  readonly internal: string;
  readonly unknown: JsonObject;
}

/** A data server as holder of one replica. */
export interface Member extends DataServerIdentity {
  /** Undefined: not known, since Oxia wrote it; EMPTY_SLOT: none yet. */
  readonly replicaId: ReplicaId | undefined;
  /** The term in which the id was minted; -1 = not known. */
  readonly mintedTerm: Term;
  /** The last term in which the id was part of a majority, or added; -1 = never. */
  readonly countedTerm: Term;
}

export interface SplitMetadata {
  readonly phase: SplitPhase;
  /** On children. */
  readonly parentShardId: ShardId;
  /** On the parent: left and right. */
  readonly childShardIds: readonly ShardId[];
  /** Last hash of the left child. */
  readonly splitPoint: number;
  readonly snapshotOffset: number;
  readonly parentTermAtBootstrap: Term;
  readonly childLeadersAtBootstrap: ReadonlyMap<ShardId, string>;
  readonly unknown: JsonObject;
}

const UINT32_MAX = 0xffff_ffff;

/** Reads a store's entries; none at all are a cluster without namespaces. Throws StatusInvalid, naming the path. */
export function decodeStatus(entries: StatusEntries): ClusterStatus {
  const fields = new Fields("", parseEntry(CLUSTER_KEY, entries.get(CLUSTER_KEY) ?? "{}"));
  const shards = new Map<string, Map<ShardId, ShardMetadata>>();
  const namespaces = fields.map("namespaces", (path, value, name) => {
    const own = new Fields(path, value);
    shards.set(name, new Map());
    const replicationFactor = own.number("replicationFactor", 0, UINT32_MAX);
    return [name, { replicationFactor, shards: shards.get(name)!, unknown: own.rest() } satisfies NamespaceStatus];
  });
  const idsBelow = fields.number("shardIdGenerator", 0);
  const seen = new Set<ShardId>();
  for (const [key, text] of entries) {
    if (key === CLUSTER_KEY) continue;
    const parsed = parseShardKey(key);
    const siblings = parsed === undefined ? undefined : shards.get(parsed.namespace);
    if (parsed === undefined || siblings === undefined) throw new StatusInvalid(key, "belongs to no namespace");
    const path = `namespaces.${parsed.namespace}.shards.${parsed.shard}`;
    if (seen.has(parsed.shard)) throw new StatusInvalid(path, "is a shard of another namespace too");
    if (parsed.shard >= idsBelow) throw new StatusInvalid(path, `is not below shardIdGenerator, ${idsBelow}`);
    seen.add(parsed.shard);
    siblings.set(parsed.shard, decodeShard(path, parseEntry(path, text)));
  }
  return {
    namespaces,
    shardIdGenerator: idsBelow,
    serverIdx: fields.number("serverIdx", 0, UINT32_MAX),
    instanceId: fields.text("instanceId"),
    stampsReserved: fields.number("stampsReserved", 0),
    confirmedStamps: fields.map("confirmedStamps", (path, value, server) => [server, wholeNumber(path, value, 0)]),
    unknown: fields.rest(),
  };
}

/** What must be stored to get from `before` to `after`: objects that are the same are not looked at. */
export function statusChanges(before: ClusterStatus | undefined, after: ClusterStatus): MetadataChanges {
  const changes = new Map<string, string | undefined>();
  if (before === undefined) changes.set(CLUSTER_KEY, encodeCluster(after));
  else if (before !== after && encodeCluster(before) !== encodeCluster(after)) {
    changes.set(CLUSTER_KEY, encodeCluster(after));
  }
  for (const [name, { shards }] of after.namespaces) {
    const old = before?.namespaces.get(name)?.shards;
    if (old === shards) continue;
    for (const [id, shard] of shards) if (old?.get(id) !== shard) changes.set(shardKey(name, id), encodeShard(shard));
  }
  for (const [name, { shards }] of before?.namespaces ?? []) {
    const kept = after.namespaces.get(name)?.shards;
    for (const id of shards.keys()) if (kept?.has(id) !== true) changes.set(shardKey(name, id), undefined);
  }
  return changes;
}

function encodeCluster(status: ClusterStatus): string {
  const namespaces = [...status.namespaces].map(([name, { replicationFactor, unknown }]): [string, Json] => [
    name,
    jsonObject({ replicationFactor }, unknown),
  ]);
  const stamps = [...status.confirmedStamps].map(([server, stamp]): [string, Json] => [server, String(stamp)]);
  const fields = {
    namespaces: Object.fromEntries(namespaces),
    shardIdGenerator: String(status.shardIdGenerator),
    serverIdx: status.serverIdx,
    instanceId: status.instanceId,
    stampsReserved: String(status.stampsReserved),
    confirmedStamps: Object.fromEntries(stamps),
  };
  return JSON.stringify(jsonObject(fields, status.unknown));
}

function decodeShard(path: string, value: Json): ShardMetadata {
  const fields = new Fields(path, value);
  const shard: ShardMetadata = {
    status: fields.name("status", SHARD_STATUSES),
    term: fields.number("term", NO_TERM),
    leader: fields.optional("leader", decodeServer),
    ensemble: fields.list("ensemble", decodeMember),
    formerEnsemble: fields.optionalList("formerEnsemble", decodeMember),
    observers: fields.list("observers", decodeMember),
    removedNodes: fields.list("removedNodes", decodeServer),
    pendingDeleteShardNodes: fields.list("pendingDeleteShardNodes", decodeMember),
    int32HashRange: decodeRange(fields.at("int32HashRange"), fields.take("int32HashRange") ?? {}),
    split: fields.optional("split", decodeSplit),
    adoptedTerm: fields.optionalNumber("adoptedTerm", NO_TERM),
    unknown: fields.rest(),
  };
  checkShard(fields, shard);
  return shard;
}

/** The relations that hold between a shard's fields. */
function checkShard(fields: Fields, shard: ShardMetadata): void {
  const { ensemble, formerEnsemble, observers, leader, status } = shard;
  for (const [name, members] of Object.entries({ ensemble, formerEnsemble: formerEnsemble ?? [], observers })) {
    if (new Set(members.map(({ internal }) => internal)).size !== members.length) fields.fail(name, "names one twice");
  }
  const members = [...ensemble, ...(formerEnsemble ?? []), ...observers];
  if (new Set(members.map(({ replicaId }) => replicaId === undefined)).size > 1) {
    fields.fail("ensemble", "has members with a replicaId and members without one");
  }
  const steady = status === "SteadyState";
  if (steady && leader === undefined) fields.fail("leader", "is missing from a shard in SteadyState");
  if (steady && formerEnsemble !== undefined) fields.fail("formerEnsemble", "stands on a shard in SteadyState");
  if (steady && !ensemble.some(({ internal }) => internal === leader?.internal)) {
    fields.fail("leader", "is not in the ensemble");
  }
}

function encodeShard(shard: ShardMetadata): string {
  const members = (list: readonly Member[]) => list.map(encodeMember);
  const fields = {
    status: shard.status,
    term: String(shard.term),
    leader: shard.leader && encodeServer(shard.leader),
    ensemble: members(shard.ensemble),
    formerEnsemble: shard.formerEnsemble && members(shard.formerEnsemble),
    observers: shard.observers.length > 0 ? members(shard.observers) : undefined,
    removedNodes: shard.removedNodes.length > 0 ? shard.removedNodes.map(encodeServer) : undefined,
    pendingDeleteShardNodes:
      shard.pendingDeleteShardNodes.length > 0 ? members(shard.pendingDeleteShardNodes) : undefined,
    int32HashRange: { min: shard.int32HashRange.minInclusive, max: shard.int32HashRange.maxInclusive },
    split: shard.split && encodeSplit(shard.split),
    adoptedTerm: shard.adoptedTerm === undefined ? undefined : String(shard.adoptedTerm),
  };
  return JSON.stringify(jsonObject(fields, shard.unknown));
}

function decodeServer(path: string, value: Json): DataServerIdentity {
  const fields = new Fields(path, value);
  return { ...serverOf(fields), unknown: fields.rest() };
}

function serverOf(fields: Fields): Omit<DataServerIdentity, "unknown"> {
  const internal = fields.text("internal");
  if (internal === "") fields.fail("internal", "is missing");
  return { name: fields.optionalText("name"), public: fields.text("public"), internal };
}

function encodeServer({ name, public: address, internal, unknown }: DataServerIdentity): JsonObject {
  return jsonObject({ name, public: address, internal }, unknown);
}

function decodeMember(path: string, value: Json): Member {
  const fields = new Fields(path, value);
  const server = serverOf(fields);
  const replicaId = fields.has("replicaId") ? fields.bigint("replicaId") : undefined;
  const mintedTerm = fields.optionalNumber("mintedTerm", NO_TERM) ?? NO_TERM;
  const countedTerm = fields.optionalNumber("countedTerm", NO_TERM) ?? NO_TERM;
  return { ...server, replicaId, mintedTerm, countedTerm, unknown: fields.rest() };
}

function encodeMember(member: Member): JsonObject {
  const { replicaId, mintedTerm, countedTerm, unknown, ...server } = member;
  const ours =
    replicaId === undefined
      ? { replicaId, mintedTerm: undefined, countedTerm: undefined }
      : { replicaId: String(replicaId), mintedTerm: String(mintedTerm), countedTerm: String(countedTerm) };
  return jsonObject({ ...server, ...ours }, unknown);
}

function decodeRange(path: string, value: Json): HashRange {
  const fields = new Fields(path, value);
  const minInclusive = fields.number("min", 0, UINT32_MAX);
  return { minInclusive, maxInclusive: fields.number("max", minInclusive, UINT32_MAX) };
}

function decodeSplit(path: string, value: Json): SplitMetadata {
  const fields = new Fields(path, value);
  return {
    phase: fields.name("phase", SPLIT_PHASES),
    parentShardId: fields.number("parentShardId", 0),
    childShardIds: fields.list("childShardIds", (at, id) => wholeNumber(at, id, 0)),
    splitPoint: fields.number("splitPoint", 0, UINT32_MAX),
    snapshotOffset: fields.number("snapshotOffset", -1),
    parentTermAtBootstrap: fields.number("parentTermAtBootstrap", NO_TERM),
    childLeadersAtBootstrap: fields.map("childLeadersAtBootstrap", (at, address, id) => {
      if (typeof address !== "string") throw new StatusInvalid(at, "is not text");
      return [wholeNumber(at, id, 0), address];
    }),
    unknown: fields.rest(),
  };
}

function encodeSplit(split: SplitMetadata): JsonObject {
  const fields = {
    phase: split.phase,
    parentShardId: String(split.parentShardId),
    childShardIds: split.childShardIds.map(String),
    splitPoint: split.splitPoint,
    snapshotOffset: String(split.snapshotOffset),
    parentTermAtBootstrap: String(split.parentTermAtBootstrap),
    childLeadersAtBootstrap: Object.fromEntries([...split.childLeadersAtBootstrap].map(([id, at]) => [String(id), at])),
  };
  return jsonObject(fields, split.unknown);
}
