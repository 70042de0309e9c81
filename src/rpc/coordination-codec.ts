/**
 * What a coordinator says to data servers: generated messages <-> the plain ones of model/peer-messages.ts. A field of
 * ours that is absent stays `undefined`: a reference peer has sent it.
 *
 * Source: protocol.md §5.3, §5.5.
 */
import { create } from "@bufbuild/protobuf";
import {
  type ShardAssignments as ProtoAssignments,
  ShardAssignmentsSchema,
  ShardKeyRouter,
} from "../gen/io/oxia/proto/v1/client_pb.ts";
import {
  AddFollowerRequestSchema,
  BecomeLeaderRequestSchema,
  DeleteShardRequestSchema,
  FreezeShardRequestSchema,
  GetStatusResponseSchema,
  HandshakeRequestSchema,
  HandshakeResponseSchema,
  HandshakeStatus,
  KeySortingType,
  NewTermRequestSchema,
  NewTermResponseSchema,
  type AddFollowerRequest as ProtoAddFollower,
  type BecomeLeaderRequest as ProtoBecomeLeader,
  type DeleteShardRequest as ProtoDeleteShard,
  type FreezeShardRequest as ProtoFreezeShard,
  type GetStatusResponse as ProtoGetStatusResponse,
  type HandshakeRequest as ProtoHandshakeRequest,
  type HandshakeResponse as ProtoHandshakeResponse,
  type NewTermRequest as ProtoNewTermRequest,
  type NewTermResponse as ProtoNewTermResponse,
  ReadConsistency as ProtoReadConsistency,
  type RemoveObserverRequest as ProtoRemoveObserver,
  RemoveObserverRequestSchema,
  ServingStatus,
} from "../gen/replication/replication_pb.ts";
import type {
  AddFollowerRequest,
  BecomeLeaderRequest,
  DeleteShardRequest,
  FreezeShardRequest,
  GetStatusResponse,
  HandshakeRequest,
  HandshakeResponse,
  NewTermRequest,
  NewTermResponse,
  RemoveObserverRequest,
  ShardAssignments,
  TermOptions,
} from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import {
  entryId,
  features,
  ifBigint,
  ifNumber,
  member,
  nameOf,
  present,
  protoEntryId,
  protoFeatures,
  protoMember,
  protoShardTerm,
  shardTerm,
  toNumber,
} from "./peer-fields.ts";

export function handshakeRequest(message: ProtoHandshakeRequest): HandshakeRequest {
  const { instanceId, stamp, confirmedStamp } = message;
  if (instanceId === "") throw new Refusal("INVALID_ARGUMENT", "instance id must not be empty");
  return {
    instanceId,
    stamp: ifNumber(stamp, "stamp"),
    confirmedStamp: ifNumber(confirmedStamp, "confirmed_stamp"),
  };
}

export function protoHandshakeRequest({ instanceId, stamp, confirmedStamp }: HandshakeRequest) {
  return create(
    HandshakeRequestSchema,
    present({ instanceId, stamp: ifBigint(stamp), confirmedStamp: ifBigint(confirmedStamp) }),
  );
}

const HANDSHAKE: Readonly<Record<HandshakeResponse["status"], HandshakeStatus>> = {
  BOUND: HandshakeStatus.BOUND,
  ALREADY_BOUND: HandshakeStatus.ALREADY_BOUND,
  MISMATCH: HandshakeStatus.MISMATCH,
};

export function handshakeResponse(message: ProtoHandshakeResponse): HandshakeResponse {
  return {
    status: nameOf(HANDSHAKE, message.status, "status"),
    features: features(message.featuresSupported),
    stamp: ifNumber(message.stamp, "stamp"),
  };
}

export function protoHandshakeResponse({ status, features: names, stamp }: HandshakeResponse) {
  return create(
    HandshakeResponseSchema,
    present({ status: HANDSHAKE[status], featuresSupported: protoFeatures(names), stamp: ifBigint(stamp) }),
  );
}

function termOptions(options: ProtoNewTermRequest["options"]): TermOptions {
  return {
    notificationsEnabled: options?.enableNotifications ?? true,
    keySorting: options?.keySorting === KeySortingType.NATURAL ? "natural" : "hierarchical",
    readConsistency: options?.readConsistency === ProtoReadConsistency.LEADER_CONSISTENT ? "leader" : "linearizable",
  };
}

function protoTermOptions({ notificationsEnabled, keySorting, readConsistency }: TermOptions) {
  return {
    enableNotifications: notificationsEnabled,
    keySorting: keySorting === "natural" ? KeySortingType.NATURAL : KeySortingType.HIERARCHICAL,
    readConsistency:
      readConsistency === "leader" ? ProtoReadConsistency.LEADER_CONSISTENT : ProtoReadConsistency.LINEARIZABLE,
  };
}

export function newTermRequest(message: ProtoNewTermRequest): NewTermRequest {
  return {
    ...shardTerm(message),
    options: termOptions(message.options),
    replicaId: message.replicaId,
    countedTerm: ifNumber(message.countedTerm, "counted_term"),
    confirmedStamp: ifNumber(message.confirmedStamp, "confirmed_stamp"),
    adopt: message.adopt,
  };
}

export function protoNewTermRequest(request: NewTermRequest) {
  return create(
    NewTermRequestSchema,
    present({
      ...protoShardTerm(request),
      options: protoTermOptions(request.options),
      replicaId: request.replicaId,
      countedTerm: ifBigint(request.countedTerm),
      confirmedStamp: ifBigint(request.confirmedStamp),
      adopt: request.adopt,
    }),
  );
}

export function newTermResponse(message: ProtoNewTermResponse): NewTermResponse {
  return {
    head: { ...entryId(message.headEntryId), crc: message.headCrc },
    replicaId: message.replicaId,
    ended: message.ended,
    mintedTerm: ifNumber(message.mintedTerm, "minted_term"),
  };
}

export function protoNewTermResponse({ head, replicaId, ended, mintedTerm }: NewTermResponse) {
  return create(
    NewTermResponseSchema,
    present({
      headEntryId: protoEntryId(head),
      headCrc: head.crc,
      replicaId,
      ended,
      mintedTerm: ifBigint(mintedTerm),
    }),
  );
}

export function becomeLeaderRequest(message: ProtoBecomeLeader): BecomeLeaderRequest {
  const ours = message.replicaId !== undefined;
  return {
    ...shardTerm(message),
    replicationFactor: message.replicationFactor,
    followers: Object.entries(message.followerMaps).map(([server, head]) => ({ server, head: entryId(head) })),
    features: features(message.featuresSupported),
    replicaId: message.replicaId,
    expectedHead: message.expectedHead === undefined ? undefined : entryId(message.expectedHead),
    members: ours ? message.members.map(member) : undefined,
    formerMembers: ours ? message.formerMembers.map(member) : undefined,
  };
}

export function protoBecomeLeaderRequest(request: BecomeLeaderRequest) {
  return create(
    BecomeLeaderRequestSchema,
    present({
      ...protoShardTerm(request),
      replicationFactor: request.replicationFactor,
      followerMaps: Object.fromEntries(request.followers.map(({ server, head }) => [server, protoEntryId(head)])),
      featuresSupported: protoFeatures(request.features),
      replicaId: request.replicaId,
      expectedHead: request.expectedHead && protoEntryId(request.expectedHead),
      members: (request.members ?? []).map(protoMember),
      formerMembers: (request.formerMembers ?? []).map(protoMember),
    }),
  );
}

/** Throws UNIMPLEMENTED for an observer of another shard: the destination of a split. */
export function addFollowerRequest(message: ProtoAddFollower): AddFollowerRequest {
  if (message.targetShard !== undefined || message.splitHashRange !== undefined) {
    throw new Refusal("UNIMPLEMENTED", "replicating to another shard is not supported");
  }
  return {
    ...shardTerm(message),
    server: message.followerName,
    head: { ...entryId(message.followerHeadEntryId), crc: message.headCrc },
    observer: message.observer,
    replicaId: message.replicaId,
  };
}

export function protoAddFollowerRequest(request: AddFollowerRequest) {
  return create(
    AddFollowerRequestSchema,
    present({
      ...protoShardTerm(request),
      followerName: request.server,
      followerHeadEntryId: protoEntryId(request.head),
      headCrc: request.head.crc,
      observer: request.observer,
      replicaId: request.replicaId,
    }),
  );
}

const STATUSES: Readonly<Record<GetStatusResponse["status"], ServingStatus>> = {
  NOT_MEMBER: ServingStatus.NOT_MEMBER,
  FENCED: ServingStatus.FENCED,
  FOLLOWER: ServingStatus.FOLLOWER,
  LEADER: ServingStatus.LEADER,
};

export function getStatusResponse(message: ProtoGetStatusResponse): GetStatusResponse {
  return {
    term: toNumber(message.term, "term"),
    status: nameOf(STATUSES, message.status, "status"),
    headOffset: toNumber(message.headOffset, "head_offset"),
    commitOffset: toNumber(message.commitOffset, "commit_offset"),
    replicaId: message.replicaId,
    ended: message.ended,
    promise: ifNumber(message.promise, "promise"),
    appliedOffset: ifNumber(message.appliedOffset, "applied_offset"),
    verifiedOffset: ifNumber(message.verifiedOffset, "verified_offset"),
    headTerm: ifNumber(message.headTerm, "head_term"),
    headCrc: message.headCrc,
    scanned: message.scanned,
    frozen: message.frozen,
  };
}

export function protoGetStatusResponse(response: GetStatusResponse) {
  return create(
    GetStatusResponseSchema,
    present({
      term: BigInt(response.term),
      status: STATUSES[response.status],
      headOffset: BigInt(response.headOffset),
      commitOffset: BigInt(response.commitOffset),
      replicaId: response.replicaId,
      ended: response.ended,
      promise: ifBigint(response.promise),
      appliedOffset: ifBigint(response.appliedOffset),
      verifiedOffset: ifBigint(response.verifiedOffset),
      headTerm: ifBigint(response.headTerm),
      headCrc: response.headCrc,
      scanned: response.scanned,
      frozen: response.frozen,
    }),
  );
}

export function freezeShardRequest(message: ProtoFreezeShard): FreezeShardRequest {
  return { ...shardTerm(message), frozen: message.frozen };
}

export function protoFreezeShardRequest(request: FreezeShardRequest) {
  return create(FreezeShardRequestSchema, { ...protoShardTerm(request), frozen: request.frozen });
}

export function removeObserverRequest(message: ProtoRemoveObserver): RemoveObserverRequest {
  const targetShard = toNumber(message.targetShard, "target_shard");
  return { ...shardTerm(message), server: message.followerName, targetShard };
}

export function protoRemoveObserverRequest(request: RemoveObserverRequest) {
  return create(RemoveObserverRequestSchema, {
    ...protoShardTerm(request),
    followerName: request.server,
    targetShard: BigInt(request.targetShard),
  });
}

export function deleteShardRequest(message: ProtoDeleteShard): DeleteShardRequest {
  return { ...shardTerm(message), replicaId: message.replicaId };
}

export function protoDeleteShardRequest(request: DeleteShardRequest) {
  return create(DeleteShardRequestSchema, present({ ...protoShardTerm(request), replicaId: request.replicaId }));
}

/** Shards with boundaries that we do not know are refused: clients would find nobody for their keys. */
export function assignments(message: ProtoAssignments): ShardAssignments {
  const namespaces = Object.entries(message.namespaces).map(([namespace, { assignments: shards }]) => {
    const known = shards.map(({ shard, leader, shardBoundaries }) => {
      if (shardBoundaries.case !== "int32HashRange") {
        throw new Refusal("INVALID_ARGUMENT", `shard ${shard} of ${namespace} has no hash range`);
      }
      const { minHashInclusive, maxHashInclusive } = shardBoundaries.value;
      return { shard: toNumber(shard, "shard"), leader, minHashInclusive, maxHashInclusive };
    });
    return [namespace, known] as const;
  });
  return { namespaces: new Map(namespaces), allowedAuthorities: message.allowedAuthorities };
}

export function protoAssignments({ namespaces, allowedAuthorities }: ShardAssignments) {
  const known = [...namespaces].map(([namespace, shards]) => {
    const assigned = shards.map(({ shard, leader, minHashInclusive, maxHashInclusive }) => ({
      shard: BigInt(shard),
      leader,
      shardBoundaries: { case: "int32HashRange" as const, value: { minHashInclusive, maxHashInclusive } },
    }));
    return [namespace, { assignments: assigned, shardKeyRouter: ShardKeyRouter.XXHASH3 }] as const;
  });
  return create(ShardAssignmentsSchema, {
    namespaces: Object.fromEntries(known),
    allowedAuthorities: [...allowedAuthorities],
  });
}
