import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { AckSchema, AppendSchema } from "../gen/replication/replication_pb.ts";
import type { Ack, Append } from "../model/peer-messages.ts";
import { decodeAck, decodeAppend, encodeAck, encodeAppend } from "./append.ts";

const term = fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER });
const offset = term;
const natural = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const crc = fc.integer({ min: 0, max: 0xffff_ffff });
const id = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const entry = fc.record({
  term: natural,
  offset: natural,
  timestamp: natural,
  value: fc.uint8Array({ maxLength: 300 }),
});

const appends: fc.Arbitrary<Append> = fc.record({
  term,
  entry: maybe(entry),
  commitOffset: offset,
  previousEntryCrc: maybe(crc),
  cumulativeAcksSupported: fc.boolean(),
  previousTerm: maybe(term),
  previousCrc: maybe(crc),
  readRound: maybe(natural),
  ackedOffset: maybe(offset),
  replicaId: maybe(id),
});
const acks: fc.Arbitrary<Ack> = fc.record({ offset, readRound: maybe(natural), promise: maybe(term) });

const big = (value: number | undefined) => (value === undefined ? undefined : BigInt(value));
/** Without what is undefined: the generated messages tell absence by the absence of the property. */
function present<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}

function generatedAppend(append: Append) {
  const { entry, ...rest } = append;
  return create(
    AppendSchema,
    present({
      term: BigInt(rest.term),
      entry: entry && {
        term: BigInt(entry.term),
        offset: BigInt(entry.offset),
        timestamp: BigInt(entry.timestamp),
        value: entry.value,
      },
      commitOffset: BigInt(rest.commitOffset),
      previousEntryCrc: rest.previousEntryCrc,
      cumulativeAcksSupported: rest.cumulativeAcksSupported,
      previousTerm: big(rest.previousTerm),
      previousCrc: rest.previousCrc,
      readRound: big(rest.readRound),
      ackedOffset: big(rest.ackedOffset),
      replicaId: rest.replicaId,
    }) as never,
  );
}

test("an Append is written and read as the generated schema does", () => {
  fc.assert(
    fc.property(appends, (append) => {
      const bytes = toBinary(AppendSchema, generatedAppend(append));
      expect(encodeAppend(append)).toEqual(bytes);
      expect(decodeAppend(bytes)).toEqual(append);
    }),
  );
});

test("an Ack is written and read as the generated schema does", () => {
  fc.assert(
    fc.property(acks, (ack) => {
      const generated = create(
        AckSchema,
        present({ offset: BigInt(ack.offset), readRound: big(ack.readRound), promise: big(ack.promise) }) as never,
      );
      const bytes = toBinary(AckSchema, generated);
      expect(encodeAck(ack)).toEqual(bytes);
      expect(decodeAck(bytes)).toEqual(ack);
    }),
  );
});

test("numbers past 2^53 and below -1 are refused, never rounded", () => {
  for (const value of [2n ** 53n, 2n ** 63n - 1n, -2n]) {
    const append = toBinary(AppendSchema, create(AppendSchema, { term: value }));
    const ack = toBinary(AckSchema, create(AckSchema, { offset: value }));
    expect(() => decodeAppend(append)).toThrow("malformed message");
    expect(() => decodeAck(ack)).toThrow("malformed message");
  }
});

test("whatever bytes come, they are a message within its bounds or refused", () => {
  const refusedOr = (decode: () => void) => {
    try {
      decode();
    } catch (error) {
      expect((error as Error).message).toContain("malformed message");
    }
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      refusedOr(() => {
        const { term, commitOffset } = decodeAppend(bytes);
        expect(Number.isSafeInteger(term) && term >= -1 && commitOffset >= -1).toBe(true);
      });
      refusedOr(() => expect(decodeAck(bytes).offset).toBeGreaterThanOrEqual(-1));
    }),
    { numRuns: 1000 },
  );
});
