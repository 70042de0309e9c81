/** Streams of pages: each page is made once for all who look, and nobody is told more than is theirs. */
import { expect, test } from "bun:test";
import { ManualClock } from "../test/harness/manual-clock.ts";
import { LIVE_STREAMS_MAX, Live } from "./live.ts";

const WELCOME = { lastId: "", isWelcome: () => true };

async function next(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string | undefined> {
  const { done, value } = await reader.read();
  return done ? undefined : new TextDecoder().decode(value);
}

test("a page is made once, however many look at it, and not at all once nobody does", async () => {
  let made = 0;
  const live = new Live({ render: async (address) => `<p>${address} ${++made}</p>` });
  const readers = Array.from({ length: 20 }, () => live.open("/a", WELCOME)!.getReader());
  const first = await Promise.all(readers.map(next));
  expect(new Set(first).size).toBe(1);
  expect(first[0]).toMatch(/^id: \w+\ndata: <p>\/a 1<\/p>\n\n$/);
  expect([made, live.streams]).toEqual([1, 20]);
  await Promise.all(readers.map((reader) => reader.cancel()));
  expect(live.streams).toBe(0);
  const other = live.open("/b", WELCOME)!.getReader();
  expect(await next(other)).toContain("/b 2");
  live.close();
  expect(await next(other)).toBeUndefined();
});

test("who is not welcome any more is told nothing more", async () => {
  let version = 1;
  let welcome = true;
  const live = new Live({ render: async () => `version ${version}` });
  const leaving = live.open("/", { lastId: "", isWelcome: () => welcome })!.getReader();
  const staying = live.open("/", WELCOME)!.getReader();
  expect(await next(leaving)).toContain("version 1");
  expect(await next(staying)).toContain("version 1");
  welcome = false;
  version = 2;
  expect(await next(leaving)).toBeUndefined();
  expect(await next(staying)).toContain("version 2");
  expect(live.streams).toBe(1);
  live.close();
});

test("a page that cannot be made now is tried again; lines of a body are lines of its message", async () => {
  let fails = true;
  const live = new Live({
    render: async () => {
      if (fails) {
        fails = false;
        throw new Error("not now");
      }
      return "one\ntwo";
    },
  });
  const reader = live.open("/", WELCOME)!.getReader();
  expect(await next(reader)).toEndWith("data: one\ndata: two\n\n");
  live.close();
});

test("streams past the bound are refused", () => {
  const live = new Live({ render: async () => "" });
  for (let nth = 0; nth < LIVE_STREAMS_MAX; nth++) expect(live.open("/", WELCOME)).toBeDefined();
  expect(live.open("/", WELCOME)).toBeUndefined();
  live.close();
  expect(live.open("/", WELCOME)).toBeDefined();
  live.close();
});

/** Pages on a clock that stands still: making one takes so much of a core, and of the time that passes. */
function measured({ coreMs, passesMs }: { readonly coreMs: number; readonly passesMs: number }) {
  const clock = new ManualClock();
  const made: number[] = [];
  let usedMs = 0;
  const began = clock.monotonicMs();
  const render = async (address: string) => {
    made.push(Math.round((clock.monotonicMs() - began) / 100) * 100);
    usedMs += coreMs;
    clock.advance(passesMs);
    return `${address} ${made.length}`;
  };
  const live = new Live({ render, clock, cpuMs: () => usedMs });
  const pass = async (ms: number) => {
    for (let step = 0; step < ms; step += 10) {
      clock.advance(10);
      await Bun.sleep(0);
    }
  };
  return { live, made, pass };
}

test("a page that takes much is made seldom, and sooner once something has happened", async () => {
  const { live, made, pass } = measured({ coreMs: 120, passesMs: 120 });
  live.open("/", WELCOME);
  await pass(6_500);
  // 120 ms are 4 % of 3 s
  expect(made).toEqual([0, 3_100, 6_300]);
  live.wake();
  await pass(1_000);
  // … and 20 % of 600 ms
  expect(made.slice(3)).toEqual([7_000]);
  live.close();
});

test("what all pages take together is bounded; what they wait for is not counted", async () => {
  const many = measured({ coreMs: 20, passesMs: 20 });
  for (let nth = 0; nth < 20; nth++) many.live.open(`/${nth}`, WELCOME);
  await many.pass(60_000);
  // at the bound they would be made 120 times; a page is made each ten seconds at least
  expect(many.made.length).toBeLessThan(145);
  many.live.close();
  const waiting = measured({ coreMs: 1, passesMs: 400 });
  waiting.live.open("/", WELCOME);
  await waiting.pass(9_000);
  expect(waiting.made.length).toBe(18);
  waiting.live.close();
});
