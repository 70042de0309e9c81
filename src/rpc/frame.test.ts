import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Bytes, concatBytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { Code, StatusError } from "./code.ts";
import { FRAME_PREFIX_BYTES, FrameDecoder, prefixOf, type Reserve, writePrefix } from "./frame.ts";

const unlimited: Reserve = { reserve: () => true };
const framed = (message: Bytes) => concatBytes(prefixOf(message.length), message);

function decodeAll(chunks: Bytes[], decoder = new FrameDecoder(1 << 30, unlimited)): Bytes[] {
  const messages: Bytes[] = [];
  for (const chunk of chunks) {
    decoder.push(chunk);
    for (let message = decoder.next(); message !== undefined; message = decoder.next()) messages.push(message);
  }
  return messages;
}

/** Cuts `whole` at the given places, which may repeat. */
function cut(whole: Bytes, places: readonly number[]): Bytes[] {
  const ends = [...places.map((place) => place % (whole.length + 1)), whole.length].sort((a, b) => a - b);
  return ends.map((end, i) => whole.subarray(i === 0 ? 0 : ends[i - 1], end));
}

function codeOf(act: () => unknown): number | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    return (error as StatusError).code;
  }
}

describe("the decoder", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });

  test("finds the same messages however they are cut into chunks", () => {
    fc.assert(
      fc.property(messages, fc.array(fc.nat()), (sent, places) => {
        const decoder = new FrameDecoder(300, unlimited);
        const got = decodeAll(cut(concatBytes(...sent.map(framed)), places), decoder);
        expect(got.map((each) => [...each])).toEqual(sent.map((each) => [...each]));
        expect(decoder.partial).toBe(false);
      }),
    );
  });

  test("says that a message is under way exactly when the bytes end within one", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 50 }), fc.nat({ max: 54 }), (message, end) => {
        const whole = framed(message);
        const decoder = new FrameDecoder(50, unlimited);
        decodeAll([whole.subarray(0, end)], decoder);
        expect(decoder.partial).toBe(end > 0 && end < whole.length);
      }),
    );
  });

  test("finds large messages in chunks of DATA frames", () => {
    for (const length of [65_536, 65_537, 200_000, 1_000_000]) {
      const message = Uint8Array.from({ length }, (_, i) => i * 7);
      const whole = framed(message);
      const chunks: Bytes[] = [];
      for (let at = 0; at < whole.length; at += 16_384) chunks.push(whole.subarray(at, at + 16_384));
      expect(Buffer.compare(decodeAll(chunks)[0]!, message)).toBe(0);
    }
  });

  test("hands out views of a chunk, not copies", () => {
    const chunk = concatBytes(framed(new Uint8Array([1, 2])), framed(new Uint8Array([3])));
    for (const message of decodeAll([chunk])) expect(message.buffer).toBe(chunk.buffer);
  });

  test("does not touch the chunks that it is given", () => {
    const chunks = [
      framed(new Uint8Array(40).fill(9)).subarray(0, 20),
      framed(new Uint8Array(40).fill(9)).subarray(20),
    ];
    const before = chunks.map((chunk) => [...chunk]);
    decodeAll(chunks);
    expect(chunks.map((chunk) => [...chunk])).toEqual(before);
  });

  test("refuses a message past the limit as soon as its prefix is there, and takes one at the limit", () => {
    expect(decodeAll([framed(new Uint8Array(10))], new FrameDecoder(10, unlimited))).toHaveLength(1);
    const prefix = prefixOf(11);
    for (const chunks of [[prefix], [prefix.subarray(0, 2), prefix.subarray(2)]]) {
      expect(codeOf(() => decodeAll(chunks, new FrameDecoder(10, unlimited)))).toBe(Code.RESOURCE_EXHAUSTED);
    }
  });

  test("refuses every flag but 0", () => {
    for (const flag of [1, 2, 128, 255]) {
      expect(codeOf(() => decodeAll([Uint8Array.of(flag, 0, 0, 0, 0)]))).toBe(Code.INTERNAL);
    }
  });

  test("never fails but with a StatusError, whatever comes", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => {
        try {
          decodeAll(chunks, new FrameDecoder(1000, unlimited));
        } catch (error) {
          expect(error).toBeInstanceOf(StatusError);
        }
      }),
    );
  });

  test("drops all on `clear`", () => {
    const decoder = new FrameDecoder(100, unlimited);
    decodeAll([framed(new Uint8Array(50)).subarray(0, 30)], decoder);
    decoder.clear();
    expect(decoder.partial).toBe(false);
    expect(decodeAll([framed(new Uint8Array([5]))], decoder)).toHaveLength(1);
  });
});

describe("memory for messages", () => {
  test("is asked for as bytes arrive, not as they are declared", () => {
    let reserved = 0;
    const counting: Reserve = {
      reserve(bytes) {
        reserved += bytes;
        return true;
      },
    };
    const decoder = new FrameDecoder(1 << 30, counting);
    decodeAll([concatBytes(prefixOf(1 << 30), new Uint8Array(10))], decoder);
    expect(reserved).toBeLessThanOrEqual(64 * 1024);
    decodeAll([new Uint8Array(100_000)], decoder);
    expect(reserved).toBeLessThanOrEqual(2 * 100_010);
    expect(decoder.partialLength).toBe(1 << 30);
  });

  test("asked for in all is exactly the length of each message", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 300_000 }), { maxLength: 4 }),
        fc.array(fc.nat()),
        (lengths, places) => {
          let reserved = 0;
          const counting: Reserve = {
            reserve(bytes) {
              reserved += bytes;
              return true;
            },
          };
          const whole = concatBytes(...lengths.map((length) => framed(new Uint8Array(length))));
          decodeAll(cut(whole, places), new FrameDecoder(1 << 30, counting));
          expect(reserved).toBe(lengths.reduce((sum, length) => sum + length, 0));
        },
      ),
      { numRuns: 30 },
    );
  });

  test("that is not to be had now delays a message, and loses nothing", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }),
        fc.array(fc.nat()),
        fc.array(fc.boolean(), { minLength: 1 }),
        (sent, places, answers) => {
          let asked = 0;
          const moody: Reserve = { reserve: () => asked++ > 1000 || answers[asked % answers.length]! };
          const decoder = new FrameDecoder(1000, moody);
          const got: Bytes[] = [];
          for (const chunk of cut(concatBytes(...sent.map(framed)), places)) {
            decoder.push(chunk);
            for (let tries = 0; tries < 3; tries++) {
              const message = decoder.next();
              if (message !== undefined) got.push(message);
            }
          }
          asked = 2000;
          for (let message = decoder.next(); message !== undefined; message = decoder.next()) got.push(message);
          expect(got.map((each) => [...each])).toEqual(sent.map((each) => [...each]));
        },
      ),
    );
  });
});

test("a prefix holds the length, up to four bytes of it", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (length) => {
      const target = new Uint8Array(FRAME_PREFIX_BYTES + 2).fill(7);
      writePrefix(target, 1, length);
      expect(new DataView(target.buffer).getUint32(2)).toBe(length);
      expect([target[0], target[1], target[6]]).toEqual([7, 0, 7]);
      expect([...prefixOf(length)]).toEqual([...target.subarray(1, 6)]);
    }),
  );
  expect(prefixOf(0)).toEqual(new Uint8Array([0, 0, 0, 0, 0]));
  expect(EMPTY_BYTES).toHaveLength(0);
});
