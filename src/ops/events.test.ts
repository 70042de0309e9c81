/** Events: what is kept of what a coordinator logs, and who hears of it. */
import { expect, spyOn, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { JournalRoom } from "../model/journal.ts";
import type { Logger } from "../ports.ts";
import { EVENT_TEXT_MAX, EVENTS_MAX, Events, KIND_OF_MESSAGE, recordingLogger } from "./events.ts";

const ALL = { beforeId: 0, limit: 10 };

function recorded() {
  const logged: string[] = [];
  const line = (level: string) => (_: unknown, message: string) => void logged.push(`${level} ${message}`);
  const base: Logger = { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") };
  let nowMs = 1_000;
  const events = new Events(() => nowMs++);
  return { logged, events, logger: recordingLogger(base, events) };
}

test("what is logged is an event, with what it is about; debug lines are not", () => {
  const { logged, events, logger } = recorded();
  logger.debug({}, "nothing");
  logger.info({ namespace: "default", shard: 3, term: 7, leader: "s1:6649" }, "leader elected");
  logger.warn({ component: "coordinator", server: "s2:6649", why: "connection refused" }, "data server unavailable");
  logger.error({ component: "coordinator", err: new Error("disk on fire") }, "the metadata store does not answer");
  expect(logged.length).toBe(4);
  const { events: found, hasMore } = events.list({}, ALL);
  expect(hasMore).toBe(false);
  expect(found.map(({ id, kind, level, message, why }) => ({ id, kind, level, message, why }))).toEqual([
    { id: 3, kind: "coordinator", level: "error", message: "the metadata store does not answer", why: "disk on fire" },
    { id: 2, kind: "server", level: "warn", message: "data server unavailable", why: "connection refused" },
    { id: 1, kind: "election", level: "info", message: "leader elected", why: "" },
  ]);
  expect(found[2]).toMatchObject({ namespace: "default", shard: 3, term: 7, server: "s1:6649", timeMs: 1_000 });
});

test("a bounded number is kept, the newest; pages go back to the oldest of them", () => {
  const { events, logger } = recorded();
  for (let shard = 1; shard <= 2 * EVENTS_MAX; shard++) logger.info({ shard }, "election needed");
  const seen: number[] = [];
  for (let beforeId = 0; ; ) {
    const { events: page, hasMore } = events.list({}, { beforeId, limit: 300 });
    seen.push(...page.map(({ id }) => id));
    if (!hasMore) break;
    beforeId = seen.at(-1)!;
  }
  expect(seen).toEqual(Array.from({ length: EVENTS_MAX }, (_, nth) => 2 * EVENTS_MAX - nth));
  expect(events.list({}, { beforeId: 1, limit: 5 })).toEqual({ events: [], hasMore: false });
});

test("a filter takes those of a kind, a namespace, a shard and a server", () => {
  const { events, logger } = recorded();
  logger.info({ namespace: "a", shard: 1 }, "election needed");
  logger.info({ namespace: "a", shard: 2 }, "replica moved");
  logger.info({ namespace: "b", shard: 3, server: "s1" }, "replica has ended");
  const found = (filter: object) => events.list(filter, ALL).events.map(({ shard }) => shard);
  expect(found({ kind: "replica" })).toEqual([3, 2]);
  expect(found({ namespace: "a" })).toEqual([2, 1]);
  expect(found({ shard: 2 })).toEqual([2]);
  expect(found({ server: "s1", kind: "election" })).toEqual([]);
});

test("those who watch hear of each event until they stop, and can ask for what they missed", () => {
  const { events, logger } = recorded();
  logger.info({}, "before");
  const heard: string[] = [];
  const stop = events.watch(({ message }) => void heard.push(message));
  logger.info({}, "during");
  stop();
  logger.info({}, "after");
  expect(heard).toEqual(["during"]);
  expect(events.since(1).map(({ message }) => message)).toEqual(["during", "after"]);
});

test("a long text is cut", () => {
  const { events, logger } = recorded();
  logger.error({ why: "x".repeat(2 * EVENT_TEXT_MAX) }, "y".repeat(2 * EVENT_TEXT_MAX));
  const [event] = events.list({}, ALL).events;
  expect([event!.why.length, event!.message.length]).toEqual([EVENT_TEXT_MAX, EVENT_TEXT_MAX]);
});

test("every text that has a kind is one that a coordinator logs", () => {
  const folders = ["coordination", "rpc", "cli"].map((room) => join(import.meta.dir, "..", room));
  const sources = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
      .map((name) => readFileSync(join(folder, name), "utf8")),
  );
  const unknown = [...KIND_OF_MESSAGE.keys()].filter((text) => !sources.some((source) => source.includes(`"${text}"`)));
  expect(unknown).toEqual([]);
});

test("what was saved is there in the next process, whose events have numbers that nobody was ever told", () => {
  const rows = new Map<number, string>();
  const journal: JournalRoom = {
    read: () => [...rows].sort(([a], [b]) => a - b).map(([id, text]) => ({ id, text })),
    write: ({ put, drop }) => {
      for (const { id, text } of put) rows.set(id, text);
      for (const id of drop) rows.delete(id);
    },
  };
  const events = new Events(() => 5, journal);
  for (let shard = 1; shard <= 3; shard++)
    events.record("info", { namespace: "a", shard, term: shard }, "leader elected");
  events.save();
  const saved = events.list({}, ALL).events;
  events.record("warn", { server: "s1" }, "data server unavailable");
  const next = new Events(() => 6, journal);
  expect(next.list({}, ALL).events).toEqual(saved);
  next.record("info", {}, "again");
  expect(next.lastId).toBeGreaterThan(events.lastId);
  // no more are stored than are kept, and what cannot be stored now is stored later
  let isFull = true;
  const write = spyOn(journal, "write").mockImplementation((changes) => {
    if (isFull) throw new Error("no space");
    write.mockRestore();
    journal.write(changes);
  });
  for (let nth = 0; nth < 3 * EVENTS_MAX; nth++) {
    next.record("info", { shard: nth }, "election needed");
    if (nth === 10) expect(() => next.save()).toThrow("no space");
    if (nth === 20) isFull = false;
    if (nth % 100 === 99) next.save();
  }
  next.save();
  expect(rows.size).toBeLessThanOrEqual(1.5 * EVENTS_MAX);
  expect(new Events(() => 7, journal).list({}, ALL).events).toEqual(next.list({}, ALL).events);
});
