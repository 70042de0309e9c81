import { expect, test } from "bun:test";
import fc from "fast-check";
import { packAppends, unpackAppends } from "./append-batch.ts";

test("appends come out as they went in, whatever their lengths", () => {
  const number = fc.nat({ max: Number.MAX_SAFE_INTEGER });
  const append = fc.record({
    shard: number,
    acceptedUnder: number,
    entry: fc.record({ term: number, offset: number, timestamp: number, value: fc.uint8Array({ maxLength: 40 }) }),
  });
  fc.assert(
    fc.property(fc.array(append), (appends) => {
      expect(unpackAppends(packAppends(appends))).toEqual(appends);
    }),
  );
});
