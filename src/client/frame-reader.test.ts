import { expect, test } from "bun:test";
import fc from "fast-check";
import { FrameError, FrameReader } from "./frame-reader.ts";

function frame(message: Uint8Array, flag = 0): Uint8Array {
  const bytes = new Uint8Array(5 + message.length);
  new DataView(bytes.buffer).setUint32(1, message.length);
  bytes[0] = flag;
  bytes.set(message, 5);
  return bytes;
}

test("messages come out as they went in, however they are cut", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 30 })), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map((message) => frame(message)));
      const reader = new FrameReader(1000);
      const received: Uint8Array[] = [];
      let pos = 0;
      for (const cut of [...cuts, bytes.length]) {
        reader.push(new Uint8Array(bytes.subarray(pos, pos + cut)), (message) => received.push(message.slice()));
        pos += cut;
      }
      expect(received).toEqual(sent);
      expect(reader.partial).toBe(false);
    }),
  );
});

test("a message past the bound is refused by its prefix, one at the bound is not", () => {
  const received: number[] = [];
  new FrameReader(10).push(frame(new Uint8Array(10)), ({ length }) => received.push(length));
  expect(received).toEqual([10]);
  expect(() => new FrameReader(10).push(frame(new Uint8Array(11)).subarray(0, 5), () => {})).toThrow(FrameError);
});

test("a compressed message is refused: it was not asked for", () => {
  expect(() => new FrameReader(10).push(frame(new Uint8Array(1), 1), () => {})).toThrow(FrameError);
});
