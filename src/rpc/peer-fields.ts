/**
 * What the messages of the internal services have in common, generated <-> plain. Numbers past 2^53 and below -1 are
 * refused here, never rounded.
 *
 * Source: protocol.md §5.3, §5.5.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Feature as ProtoFeature } from "../gen/replication/feature_pb.ts";
import type {
  EntryIdSchema,
  EntryId as ProtoEntryId,
  Member as ProtoMember,
} from "../gen/replication/replication_pb.ts";
import { type EntryId, NO_OFFSET, NO_TERM } from "../model/ids.ts";
import type { Feature, PeerReplica, ShardTerm } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";

/** Throws INVALID_ARGUMENT for what is no term, offset, id or count. */
export function toNumber(value: bigint, name: string): number {
  if (value < -1n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Refusal("INVALID_ARGUMENT", `${name}: ${value} is out of range`);
  }
  return Number(value);
}

export function ifNumber(value: bigint | undefined, name: string): number | undefined {
  return value === undefined ? undefined : toNumber(value, name);
}

export function ifBigint(value: number | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(value);
}

/** Leaves out what is undefined: absence in a generated message is the absence of the property. */
export function present<T extends object>(fields: { [Name in keyof T]: T[Name] | undefined }): T {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as T;
}

export function entryId(id: ProtoEntryId | undefined): EntryId {
  if (id === undefined) return { term: NO_TERM, offset: NO_OFFSET };
  return { term: toNumber(id.term, "term"), offset: toNumber(id.offset, "offset") };
}

export function protoEntryId({ term, offset }: EntryId): MessageInitShape<typeof EntryIdSchema> {
  return { term: BigInt(term), offset: BigInt(offset) };
}

/** Namespace, shard and term. An empty namespace ends a reference server's process; here it is refused. */
export function shardTerm(message: {
  readonly namespace: string;
  readonly shard: bigint;
  readonly term: bigint;
}): ShardTerm {
  if (message.namespace === "") throw new Refusal("INVALID_ARGUMENT", "namespace must not be empty");
  if (message.shard < 0n) throw new Refusal("INVALID_ARGUMENT", "shard must not be negative");
  const shard = toNumber(message.shard, "shard");
  return { namespace: message.namespace, shard, term: toNumber(message.term, "term") };
}

export function protoShardTerm({ namespace, shard, term }: ShardTerm) {
  return { namespace, shard: BigInt(shard), term: BigInt(term) };
}

const FEATURE_NUMBERS: Readonly<Record<Feature, ProtoFeature>> = {
  DB_CHECKSUM: ProtoFeature.DB_CHECKSUM,
  VARIA_SAFETY: ProtoFeature.VARIA_SAFETY,
};

/** Features that we do not know are left out: nothing of ours depends on them. */
export function features(numbers: readonly ProtoFeature[]): Feature[] {
  const names = Object.entries(FEATURE_NUMBERS) as [Feature, ProtoFeature][];
  return names.filter(([, number]) => numbers.includes(number)).map(([name]) => name);
}

export function protoFeatures(names: readonly Feature[]): ProtoFeature[] {
  return names.map((name) => FEATURE_NUMBERS[name]);
}

export function member({ internal, replicaId }: ProtoMember): PeerReplica {
  return { server: internal, replicaId };
}

export function protoMember({ server, replicaId }: PeerReplica) {
  return { internal: server, replicaId };
}

/** The name of a number of an enum. Throws INVALID_ARGUMENT for one that we do not know. */
export function nameOf<Name extends string>(
  numbers: Readonly<Record<Name, number>>,
  number: number,
  field: string,
): Name {
  const found = (Object.keys(numbers) as Name[]).find((name) => numbers[name] === number);
  if (found === undefined) throw new Refusal("INVALID_ARGUMENT", `${field}: ${number} is not known`);
  return found;
}
