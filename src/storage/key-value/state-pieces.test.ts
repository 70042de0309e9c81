import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Bytes, concatBytes } from "../../lib/bytes.ts";
import { STATE_ITEM_BYTES_MAX } from "../../model/limits.ts";
import { ItemReader, itemParts, type StateItem } from "./state-items.ts";
import { PIECE_HEADER_BYTES, PieceReader, PieceWriter } from "./state-pieces.ts";

const number = fc.maxSafeInteger();
const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const bytes = fc.uint8Array({ maxLength: 40 });
const item: fc.Arbitrary<StateItem> = fc.oneof(
  fc
    .tuple(
      fc.constantFrom("natural" as const, "hierarchical" as const),
      fc.array(number, { minLength: 6, maxLength: 6 }),
      word,
      word,
    )
    .map(([sorting, [offset, term, versionId, told, trimmed, rowCount], low, high]): StateItem => {
      const applied = { offset: offset!, term: term!, versionId: versionId! };
      const state = { applied, told: told!, rowCount: rowCount!, hash: { low, high } };
      return { kind: "head", head: { sorting, trimmed: trimmed!, state } };
    }),
  fc.record({ okey: bytes, tie: bytes, records: bytes }).map((block): StateItem => ({ kind: "block", block })),
  fc
    .record({ offset: number, timestamp: number, entries: bytes })
    .map((told): StateItem => ({ kind: "notification", told })),
  fc.constant<StateItem>({ kind: "end" }),
);

function* parts(items: readonly StateItem[]): Generator<Bytes> {
  for (const each of items) yield* itemParts(each);
}

function read(pieces: readonly Bytes[]): StateItem[] {
  const reader = new PieceReader();
  const items = new ItemReader();
  return pieces.flatMap((piece) => [...items.add(reader.add(piece))].map((each) => structuredClone(each)));
}

test("items come out of pieces of any size as they went in", () => {
  fc.assert(
    fc.property(
      fc.array(item, { maxLength: 20 }),
      fc.integer({ min: PIECE_HEADER_BYTES + 1, max: 300 }),
      (items, max) => {
        const writer = new PieceWriter(parts(items), max);
        const pieces: Bytes[] = [];
        for (let piece = writer.next(); piece !== undefined; piece = writer.next()) pieces.push(piece);
        for (const piece of pieces.slice(0, -1)) expect(piece.length).toBe(max);
        expect(read(pieces)).toEqual(items);
      },
    ),
    { numRuns: 300 },
  );
});

test("any flipped bit of a piece is seen", () => {
  const piece = new PieceWriter(parts([{ kind: "end" }]), 100).next()!;
  for (let bit = 0; bit < 8 * piece.length; bit++) {
    const flipped = piece.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    expect(() => new PieceReader().add(flipped)).toThrow(expect.objectContaining({ reason: "INVALID_ARGUMENT" }));
  }
});

/** An item as it lies in a run of bytes. */
function raw(kind: number, length: number, body: readonly number[]): Bytes {
  const header = new Uint8Array(5);
  const view = new DataView(header.buffer);
  view.setUint8(0, kind);
  view.setUint32(1, length, true);
  return concatBytes(header, Uint8Array.from(body));
}

test("what is no item is refused, and one above the bound before memory is taken for it", () => {
  const bad = [
    raw(0, 0, []),
    raw(9, 1, [1]),
    raw(1, 3, [1, 2, 3]),
    raw(1, 57, [7, ...new Array<number>(56).fill(0)]),
    raw(1, 57, [0, ...new Array<number>(56).fill(0xff)]),
    raw(2, 7, [0, 0, 0, 0, 0, 0, 0]),
    raw(2, 8, [1, 0, 0, 0, 0, 0, 0, 0]),
    raw(3, 15, new Array<number>(15).fill(0)),
    raw(3, 16, new Array<number>(16).fill(0xff)),
    raw(2, STATE_ITEM_BYTES_MAX + 1, [1]),
  ];
  for (const part of bad) {
    expect(() => [...new ItemReader().add(part)]).toThrow(expect.objectContaining({ reason: "INVALID_ARGUMENT" }));
  }
});
