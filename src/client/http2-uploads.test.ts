import { expect, test } from "bun:test";
import fc from "fast-check";
import { FRAME_BYTES_DEFAULT, WINDOW_BYTES_DEFAULT, WINDOW_BYTES_MAX } from "./http2-frames.ts";
import { Http2Stream, type StreamListener } from "./http2-stream.ts";
import { type FrameOutput, Http2Uploads } from "./http2-uploads.ts";

class NotedOutput implements FrameOutput {
  full = false;
  readonly frames: { stream: number; bytes: Uint8Array; last: boolean }[] = [];

  frame(_type: number, flags: number, stream: number, payload: Uint8Array): void {
    this.frames.push({ stream, bytes: payload.slice(), last: flags !== 0 });
  }

  of(stream: number): Uint8Array {
    return Buffer.concat(this.frames.filter((frame) => frame.stream === stream).map(({ bytes }) => bytes));
  }
}

function setUp() {
  const output = new NotedOutput();
  const uploads = new Http2Uploads(output);
  const drained: number[] = [];
  const open = (id: number) => {
    const listener: StreamListener = {
      headers: () => {},
      data: () => {},
      drained: () => drained.push(id),
      reset: () => {},
      lost: () => {},
    };
    const owner = { pump: (it: Http2Stream) => uploads.pump(it), giveBack: () => {}, cancel: () => {} };
    const stream = new Http2Stream(owner, new Uint8Array(0), listener);
    stream.id = id;
    uploads.begin(stream);
    return stream;
  };
  return { output, uploads, drained, open };
}

test("a message leaves in frames, the last one ends the stream", () => {
  const { output, open } = setUp();
  expect(open(1).send(new Uint8Array(40_000), true)).toBe(true);
  expect(output.frames.map(({ bytes, last }) => [bytes.length, last])).toEqual([
    [FRAME_BYTES_DEFAULT, false],
    [FRAME_BYTES_DEFAULT, false],
    [40_000 - 2 * FRAME_BYTES_DEFAULT, true],
  ]);
});

test("an empty message leaves too", () => {
  const { output, open } = setUp();
  open(1).send(new Uint8Array(0), true);
  expect(output.frames).toEqual([{ stream: 1, bytes: new Uint8Array(0), last: true }]);
});

test("a stream waits for its own window, others go on", () => {
  const { output, uploads, drained, open } = setUp();
  const first = open(1);
  const second = open(3);
  expect(first.send(new Uint8Array(WINDOW_BYTES_DEFAULT + 10), false)).toBe(false);
  uploads.grow(undefined, 1000);
  expect(second.send(new Uint8Array(500), false)).toBe(true);
  uploads.grow(first, 10);
  expect(output.of(1)).toHaveLength(WINDOW_BYTES_DEFAULT + 10);
  expect(drained).toEqual([1]);
});

test("a connection's window is shared by turns", () => {
  const { output, uploads, open } = setUp();
  const streams = [1, 3, 5].map(open);
  streams[0]!.send(new Uint8Array(WINDOW_BYTES_DEFAULT), false);
  for (const stream of streams) uploads.grow(stream, 1_000_000);
  for (const stream of streams) stream.send(new Uint8Array(100_000), false);
  output.frames.length = 0;
  uploads.grow(undefined, 6 * FRAME_BYTES_DEFAULT);
  expect(output.frames.map(({ stream }) => stream)).toEqual([1, 3, 5, 1, 3, 5]);
});

test("while the system takes no more nothing leaves, and afterwards all does", () => {
  const { output, uploads, drained, open } = setUp();
  output.full = true;
  expect(open(1).send(new Uint8Array(10), false)).toBe(false);
  expect(output.frames).toEqual([]);
  output.full = false;
  uploads.pumpBlocked();
  expect([output.of(1).length, drained]).toEqual([10, [1]]);
});

test("a stream that is forgotten sends nothing more", () => {
  const { output, uploads, open } = setUp();
  const stream = open(1);
  stream.send(new Uint8Array(100_000), false);
  uploads.forget(stream);
  uploads.grow(undefined, 100_000);
  expect(output.of(1)).toHaveLength(WINDOW_BYTES_DEFAULT);
});

test("windows past their bound are a fault of the peer", () => {
  const { uploads, open } = setUp();
  uploads.grow(undefined, WINDOW_BYTES_MAX - WINDOW_BYTES_DEFAULT);
  expect(() => uploads.grow(undefined, 1)).toThrow("bound");
  expect(() => uploads.grow(open(1), WINDOW_BYTES_MAX)).toThrow("bound");
  expect(() => uploads.setInitialWindow(WINDOW_BYTES_MAX + 1, [])).toThrow("bound");
});

test("whatever the peer grants and when, no window is overdrawn and every byte leaves in order", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("send" as const), stream: fc.nat(2), bytes: fc.nat(100_000) }),
    fc.record({ kind: fc.constant("grow" as const), stream: fc.nat(3), bytes: fc.integer({ min: 1, max: 100_000 }) }),
    fc.record({ kind: fc.constant("initial" as const), stream: fc.constant(0), bytes: fc.nat(200_000) }),
    fc.record({ kind: fc.constant("full" as const), stream: fc.nat(1), bytes: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { output, uploads, open } = setUp();
      const streams = [1, 3, 5].map(open);
      const credit = [0, 1, 2].map(() => WINDOW_BYTES_DEFAULT);
      const sent = [0, 1, 2].map((): number[] => []);
      let connection = WINDOW_BYTES_DEFAULT;
      let initial = WINDOW_BYTES_DEFAULT;
      let mark = 0;
      const grow = (stream: number, bytes: number) => {
        if (stream === 3) connection += bytes;
        else credit[stream]! += bytes;
        uploads.grow(streams[stream], bytes);
      };
      const check = () => {
        const left = streams.map(({ id }, i) => credit[i]! - output.of(id).length);
        const total = output.frames.reduce((sum, { bytes }) => sum + bytes.length, 0);
        expect(total).toBeLessThanOrEqual(connection);
        for (const [i, stream] of streams.entries()) {
          // what may leave has left
          if (stream.outbox.length > 0 && !output.full)
            expect(Math.min(left[i]!, connection - total)).toBeLessThanOrEqual(0);
        }
      };
      for (const { kind, stream, bytes } of steps) {
        if (kind === "send") {
          mark = (mark + 1) % 256;
          for (let i = 0; i < bytes; i++) sent[stream]!.push(mark);
          streams[stream]!.send(new Uint8Array(bytes).fill(mark), false);
        } else if (kind === "grow") grow(stream, bytes);
        else if (kind === "initial") {
          for (let i = 0; i < 3; i++) credit[i]! += bytes - initial;
          initial = bytes;
          uploads.setInitialWindow(bytes, streams);
          uploads.pumpBlocked();
        } else {
          output.full = stream === 1;
          if (!output.full) uploads.pumpBlocked();
        }
        check();
      }
      output.full = false;
      grow(3, 10_000_000);
      for (let i = 0; i < 3; i++) grow(i, 10_000_000);
      for (const [i, { id }] of streams.entries())
        expect(Buffer.from(output.of(id)).equals(Buffer.from(sent[i]!))).toBe(true);
    }),
    { numRuns: 60 },
  );
});
