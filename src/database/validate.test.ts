import { expect, test } from "bun:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { index, put, range } from "../../test/harness/applied-state.ts";
import { bytesOf } from "../../test/harness/client.ts";
import { WriteRequestSchema } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { WRITE_DERIVED_BYTES_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { decodeWrite } from "../wire/requests.ts";
import { validateWrite } from "./validate.ts";

function refusal(init: MessageInitShape<typeof WriteRequestSchema>): Refusal | undefined {
  try {
    validateWrite(decodeWrite(toBinary(WriteRequestSchema, create(WriteRequestSchema, init))));
    return undefined;
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
}

const sequence = (key: string, ...sequenceKeyDelta: bigint[]) =>
  put(key, { sequenceKeyDelta, partitionKey: bytesOf("p") });

test.each([
  ["no partition key", put("a", { sequenceKeyDelta: [1n] }), "requires partition key"],
  ["a first delta of zero", sequence("a", 0n), "requires first delta do be > 0"],
  ["a first delta of zero among others", sequence("a", 0n, 1n), "requires first delta do be > 0"],
])("a sequence put with %s is refused", (_, refused, message) => {
  expect(refusal({ puts: [put("fine"), refused] })).toMatchObject({ reason: "INVALID_ARGUMENT" });
  expect(refusal({ puts: [refused] })!.message).toContain(message);
});

test("a sequence put with zeros behind the first delta, an empty partition key, or the largest delta is taken", () => {
  expect(refusal({ puts: [sequence("a", 1n, 0n, 0n)] })).toBeUndefined();
  expect(refusal({ puts: [sequence("a", 2n ** 64n - 1n)] })).toBeUndefined();
  expect(refusal({ puts: [put("a", { sequenceKeyDelta: [1n], partitionKey: bytesOf("") })] })).toBeUndefined();
});

test("internal keys are refused wherever a write names them", () => {
  for (const key of ["__oxia/", "__oxia/session/0000000000000001", "__oxia/idx/i/s\x01p"]) {
    expect(refusal({ puts: [put(key)] })?.reason).toBe("INVALID_ARGUMENT");
    expect(refusal({ puts: [sequence(key, 1n)] })?.reason).toBe("INVALID_ARGUMENT");
    expect(refusal({ deletes: [{ key: bytesOf(key) }] })?.reason).toBe("INVALID_ARGUMENT");
    expect(refusal({ deleteRanges: [range(key, "")] })?.reason).toBe("INVALID_ARGUMENT");
  }
  for (const key of ["__oxia", "__oxib/", "_", "/__oxia/"]) expect(refusal({ puts: [put(key)] })).toBeUndefined();
});

// what a small message could otherwise make of itself: each index entry holds the primary key, each delta makes 21 bytes
test("a write whose internal keys would be far larger than itself is refused", () => {
  const many = Array.from({ length: 2_000 }, () => index("i", "s"));
  const large = put("x".repeat(64 * 1024), { secondaryIndexes: many });
  expect(toBinary(WriteRequestSchema, create(WriteRequestSchema, { puts: [large] })).length).toBeLessThan(100_000);
  expect(refusal({ puts: [large] })).toMatchObject({ reason: "INVALID_ARGUMENT" });
  const deltas = new Array(Math.ceil(WRITE_DERIVED_BYTES_MAX / 21) + 1).fill(1n);
  expect(refusal({ puts: [sequence("a", ...deltas.slice(0, 60_000))] })).toBeUndefined();
  const long = put("a", { sequenceKeyDelta: deltas, partitionKey: bytesOf("p") });
  expect(refusal({ puts: [long] })).toMatchObject({ reason: "INVALID_ARGUMENT" });
});

test("it counts over all puts of a write", () => {
  const each = put("x".repeat(WRITE_DERIVED_BYTES_MAX / 8), { sessionId: 1n });
  expect(refusal({ puts: [each, each] })).toBeUndefined();
  expect(refusal({ puts: [each, each, each] })).toMatchObject({ reason: "INVALID_ARGUMENT" });
  const plain = put("x".repeat(WRITE_DERIVED_BYTES_MAX / 8));
  expect(refusal({ puts: [plain, plain, plain, plain] })).toBeUndefined();
});

test("large names and keys of indexes within that are taken", () => {
  const large = "\xff".repeat(64 * 1024);
  expect(refusal({ puts: [put(large, { secondaryIndexes: [index(large, large), index("", "")] })] })).toBeUndefined();
});
