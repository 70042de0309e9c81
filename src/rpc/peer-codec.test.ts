/** Messages of the internal services go to bytes and come back as they were, with our fields and without. */
import { expect, test } from "bun:test";
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ShardAssignmentsSchema } from "../gen/io/oxia/proto/v1/client_pb.ts";
import * as gen from "../gen/replication/replication_pb.ts";
import { FEATURES } from "../model/peer-messages.ts";
import * as coordination from "./coordination-codec.ts";
import * as replication from "./replication-codec.ts";

const number = fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER });
const natural = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const crc = fc.integer({ min: 0, max: 0xffff_ffff });
const id = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const name = fc.string({ minLength: 1, maxLength: 12 }).filter((text) => text !== "__proto__");
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const entryId = fc.record({ term: number, offset: number });
const head = fc.record({ term: number, offset: number, crc });
const peerHead = fc.record({ term: number, offset: number, crc: maybe(crc) });
const shardTerm = { namespace: name, shard: natural, term: number };
const features = fc.subarray([...FEATURES]);
const members = fc.array(fc.record({ server: name, replicaId: id }), { maxLength: 4 });

/** Encodes, sends as bytes, decodes. */
function roundTrip<T, D extends DescMessage>(
  schema: D,
  encode: (plain: T) => MessageShape<D>,
  decode: (message: MessageShape<D>) => T,
): (plain: T) => void {
  return (plain) => expect(decode(fromBinary(schema, toBinary(schema, encode(plain))))).toEqual(plain);
}

function check<T>(name: string, values: fc.Arbitrary<T>, property: (plain: T) => void): void {
  test(`${name}: what is sent is what arrives`, () => fc.assert(fc.property(values, property)));
}

const c = coordination;
const r = replication;
check(
  "HandshakeRequest",
  fc.record({ instanceId: name, stamp: maybe(natural), confirmedStamp: maybe(natural) }),
  roundTrip(gen.HandshakeRequestSchema, c.protoHandshakeRequest, c.handshakeRequest),
);
check(
  "HandshakeResponse",
  fc.record({
    status: fc.constantFrom("BOUND" as const, "ALREADY_BOUND" as const, "MISMATCH" as const),
    features,
    stamp: maybe(natural),
  }),
  roundTrip(gen.HandshakeResponseSchema, c.protoHandshakeResponse, c.handshakeResponse),
);
check(
  "NewTermRequest",
  fc.record({
    ...shardTerm,
    options: fc.record({
      notificationsEnabled: fc.boolean(),
      keySorting: fc.constantFrom("natural" as const, "hierarchical" as const),
      readConsistency: fc.constantFrom("linearizable" as const, "leader" as const),
    }),
    replicaId: maybe(id),
    countedTerm: maybe(number),
    confirmedStamp: maybe(natural),
    adopt: maybe(fc.boolean()),
  }),
  roundTrip(gen.NewTermRequestSchema, c.protoNewTermRequest, c.newTermRequest),
);
check(
  "NewTermResponse",
  fc.record({ head: peerHead, replicaId: maybe(id), ended: maybe(fc.string()), mintedTerm: maybe(number) }),
  roundTrip(gen.NewTermResponseSchema, c.protoNewTermResponse, c.newTermResponse),
);
const followers = fc.uniqueArray(fc.record({ server: name, head: entryId }), {
  maxLength: 4,
  selector: ({ server }) => server,
});
const becomeLeader = { ...shardTerm, replicationFactor: fc.integer({ min: 1, max: 9 }), followers, features };
check(
  "BecomeLeaderRequest",
  fc.oneof(
    fc.record({ ...becomeLeader, replicaId: id, expectedHead: maybe(entryId), members, formerMembers: members }),
    fc.record({
      ...becomeLeader,
      replicaId: fc.constant(undefined),
      expectedHead: fc.constant(undefined),
      members: fc.constant(undefined),
      formerMembers: fc.constant(undefined),
    }),
  ),
  (plain) => {
    const { followers: sent, ...rest } = plain;
    const bytes = toBinary(gen.BecomeLeaderRequestSchema, c.protoBecomeLeaderRequest(plain));
    const { followers: got, ...others } = c.becomeLeaderRequest(fromBinary(gen.BecomeLeaderRequestSchema, bytes));
    expect(others).toEqual(rest);
    // a map has no order
    expect(new Map(got.map((one) => [one.server, one.head]))).toEqual(
      new Map(sent.map((one) => [one.server, one.head])),
    );
  },
);
check(
  "AddFollowerRequest",
  fc.record({ ...shardTerm, server: name, head: peerHead, observer: fc.boolean(), replicaId: maybe(id) }),
  roundTrip(gen.AddFollowerRequestSchema, c.protoAddFollowerRequest, c.addFollowerRequest),
);
check(
  "GetStatusResponse",
  fc.record({
    term: number,
    status: fc.constantFrom("NOT_MEMBER" as const, "FENCED" as const, "FOLLOWER" as const, "LEADER" as const),
    headOffset: number,
    commitOffset: number,
    replicaId: maybe(id),
    ended: maybe(fc.string()),
    promise: maybe(number),
    appliedOffset: maybe(number),
    verifiedOffset: maybe(number),
    headTerm: maybe(number),
    headCrc: maybe(crc),
    scanned: maybe(fc.boolean()),
    frozen: maybe(fc.boolean()),
  }),
  roundTrip(gen.GetStatusResponseSchema, c.protoGetStatusResponse, c.getStatusResponse),
);
check(
  "FreezeShardRequest",
  fc.record({ ...shardTerm, frozen: fc.boolean() }),
  roundTrip(gen.FreezeShardRequestSchema, c.protoFreezeShardRequest, c.freezeShardRequest),
);
check(
  "RemoveObserverRequest",
  fc.record({ ...shardTerm, server: name, targetShard: natural }),
  roundTrip(gen.RemoveObserverRequestSchema, c.protoRemoveObserverRequest, c.removeObserverRequest),
);
check(
  "DeleteShardRequest",
  fc.record({ ...shardTerm, replicaId: maybe(id) }),
  roundTrip(gen.DeleteShardRequestSchema, c.protoDeleteShardRequest, c.deleteShardRequest),
);
check(
  "ShardAssignments",
  fc.record({
    namespaces: fc
      .uniqueArray(
        fc.tuple(
          name,
          fc.array(fc.record({ shard: natural, leader: fc.string(), minHashInclusive: crc, maxHashInclusive: crc })),
        ),
        { maxLength: 3, selector: ([namespace]) => namespace },
      )
      .map((entries) => new Map(entries)),
    allowedAuthorities: fc.array(name, { maxLength: 3 }),
  }),
  (plain) => {
    const bytes = toBinary(ShardAssignmentsSchema, c.protoAssignments(plain));
    const got = c.assignments(fromBinary(ShardAssignmentsSchema, bytes));
    expect(got.allowedAuthorities).toEqual(plain.allowedAuthorities);
    expect(got.namespaces).toEqual(plain.namespaces);
  },
);
check(
  "TruncateRequest",
  fc.record({ ...shardTerm, keep: entryId, expectedHead: maybe(head), replicaId: maybe(id) }),
  roundTrip(gen.TruncateRequestSchema, r.protoTruncateRequest, r.truncateRequest),
);
check(
  "TruncateResponse",
  fc.record({ head: entryId, entryTerm: maybe(number), headCrc: maybe(crc) }),
  roundTrip(gen.TruncateResponseSchema, r.protoTruncateResponse, r.truncateResponse),
);
check(
  "SnapshotChunk",
  fc.record({
    term: number,
    name,
    content: fc.uint8Array({ maxLength: 100 }),
    chunkIndex: fc.integer({ min: 0, max: 1000 }),
    chunkCount: fc.integer({ min: 0, max: 1000 }),
    last: maybe(head),
    replicaId: maybe(id),
    rowCount: maybe(natural),
    stateHash: maybe(id),
  }),
  roundTrip(gen.SnapshotChunkSchema, r.protoSnapshotChunk, r.snapshotChunk),
);

test("an empty namespace, a negative shard, a number out of range and an unknown status are refused", () => {
  const newTerm = (fields: object) => c.newTermRequest(create(gen.NewTermRequestSchema, fields));
  const good = { namespace: "default", shard: 1n, term: 2n };
  expect(newTerm(good).term).toBe(2);
  expect(() => newTerm({ ...good, namespace: "" })).toThrow("namespace must not be empty");
  expect(() => newTerm({ ...good, shard: -1n })).toThrow("shard must not be negative");
  expect(() => newTerm({ ...good, term: 2n ** 53n })).toThrow("term: 9007199254740992 is out of range");
  expect(() => newTerm({ ...good, term: -2n })).toThrow("term: -2 is out of range");
  expect(() => c.handshakeRequest(create(gen.HandshakeRequestSchema, {}))).toThrow("instance id must not be empty");
  expect(() => c.getStatusResponse(create(gen.GetStatusResponseSchema, { status: 9 as gen.ServingStatus }))).toThrow(
    "status: 9 is not known",
  );
});

test("a shard without a hash range, and the destination of a split, are refused in words", () => {
  const set = create(ShardAssignmentsSchema, { namespaces: { default: { assignments: [{ shard: 3n }] } } });
  expect(() => c.assignments(set)).toThrow("shard 3 of default has no hash range");
  const split = create(gen.AddFollowerRequestSchema, { namespace: "default", followerName: "s1:1", targetShard: 7n });
  expect(() => c.addFollowerRequest(split)).toThrow("replicating to another shard is not supported");
});

test("options that are absent mean notifications", () => {
  const request = c.newTermRequest(create(gen.NewTermRequestSchema, { namespace: "default" }));
  expect(request.options).toEqual({
    notificationsEnabled: true,
    keySorting: "hierarchical",
    readConsistency: "linearizable",
  });
});
