/** What every server answers of VariaAdmin, over the wire and within its own process: events, the node, a cluster of one. */
import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { listenForTest, type TestListener, until } from "../../test/harness/rpc-server.ts";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin, type WatchEventsResponse } from "../gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../model/refusal.ts";
import { EVENTS_MAX, Events } from "../ops/events.ts";
import { History, type SeriesSource } from "../ops/history.ts";
import { initialRanges } from "../protocol/assignment.ts";
import { Shards } from "../replication/shards.ts";
import { eventMethods } from "./events-api.ts";
import { ownLoad } from "./load-api.ts";
import { LoadWatch } from "./load-watch.ts";
import { LocalCalls } from "./local-calls.ts";
import type { ServedMethod } from "./method.ts";
import { type AboutNode, nodeMethods } from "./node-api.ts";
import { SELF, standaloneMethods } from "./standalone-api.ts";

const listeners: TestListener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close({ graceMs: 0 });
});

async function clientOf(methods: readonly ServedMethod[]) {
  const listener = await listenForTest(methods);
  listeners.push(listener);
  return createClient(VariaAdmin, createGrpcTransport({ baseUrl: `http://${listener.address}` }));
}

async function refused(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return Code[ConnectError.from(error).code]!;
  }
  return "answered";
}

test("events are listed by page and filter; what is no filter is refused", async () => {
  const events = new Events(() => 1_000);
  const client = await clientOf(eventMethods(events));
  for (let shard = 0; shard < 5; shard++) events.record("info", { namespace: "n", shard, term: 2 }, "election needed");
  events.record("warn", { server: "s1:6649", why: "refused" }, "data server unavailable");
  const page = await client.listEvents({ limit: 2 });
  expect(page.events.map(({ id }) => id)).toEqual([6n, 5n]);
  expect([page.hasMore, page.events[0]!.shard, page.events[1]!.shard]).toEqual([true, undefined, 4n]);
  expect((await client.listEvents({ beforeId: 2n })).events.map(({ id }) => id)).toEqual([1n]);
  expect((await client.listEvents({ server: "s1:6649" })).events[0]).toMatchObject({ kind: "server", why: "refused" });
  expect((await client.listEvents({ shard: 3n, kind: "election" })).events.length).toBe(1);
  expect(await refused(client.listEvents({ kind: "odd" }))).toBe("InvalidArgument");
  expect(await refused(client.listEvents({ limit: EVENTS_MAX + 1 }))).toBe("InvalidArgument");
  expect(await refused(client.listEvents({ beforeId: -1n << 62n }))).toBe("InvalidArgument");
});

test("who watches is told what has happened since, and then each event once, in order", async () => {
  const events = new Events(() => 1_000);
  const client = await clientOf(eventMethods(events));
  for (let nth = 1; nth <= 3; nth++) events.record("info", {}, `event ${nth}`);
  const abort = new AbortController();
  const heard: string[] = [];
  const watch = (async () => {
    for await (const { event } of client.watchEvents({ afterId: 1n }, { signal: abort.signal }))
      heard.push(event!.message);
  })();
  await until(() => heard.length === 2, "what was missed");
  for (let nth = 4; nth <= 50; nth++) events.record("info", {}, `event ${nth}`);
  await until(() => heard.length === 49, "what happens");
  expect(heard).toEqual(Array.from({ length: 49 }, (_, nth) => `event ${nth + 2}`));
  abort.abort();
  expect(await refused(watch)).toBe("Canceled");
});

test("a program in the same process calls what is served, and nothing else", async () => {
  const events = new Events(() => 1_000);
  const calls = new LocalCalls(eventMethods(events));
  const { listEvents, watchEvents, getNodeStatus } = VariaAdmin.method;
  expect([calls.serves(listEvents), calls.serves(getNodeStatus)]).toEqual([true, false]);
  events.record("info", {}, "before");
  expect((await calls.call(listEvents, {})).events[0]!.message).toBe("before");
  await expect(calls.call(listEvents, { kind: "odd" })).rejects.toBeInstanceOf(Refusal);
  await expect(calls.call(getNodeStatus, {})).rejects.toMatchObject({ reason: "UNIMPLEMENTED" });
  const abort = new AbortController();
  const heard: string[] = [];
  const each = ({ event }: WatchEventsResponse) => void heard.push(event!.message);
  const stream = calls.stream(watchEvents, {}, { each, signal: abort.signal });
  events.record("info", {}, "during");
  await until(() => heard.length === 1, "the event");
  abort.abort();
  await stream;
  events.record("info", {}, "after");
  expect(heard).toEqual(["during"]);
  // what was seen last was of a process that is gone: all that this one knows is new
  const next = new AbortController();
  const told: string[] = [];
  const take = ({ event }: WatchEventsResponse) => void told.push(event!.message);
  const anew = calls.stream(watchEvents, { afterId: 99n }, { each: take, signal: next.signal });
  await until(() => told.length === 3, "all events");
  next.abort();
  await anew;
});

test("a process tells what it is; a standalone server whose shards are not there does not serve", async () => {
  const said: unknown[] = [];
  const logger: AboutNode["logger"] = {
    level: "info",
    info({ level }) {
      if (this.level === "info" || this.level === "debug") said.push(level);
    },
  };
  const setting = {
    name: "wal-dir",
    description: "the log",
    origin: "flag",
    source: "--wal-dir",
    byDefault: ".",
  } as const;
  const given = [{ ...setting, value: "/srv/wal" }];
  const node0 = { mode: "standalone", version: "1.2.3", publicAddress: () => "h:6648", startedAtMs: 5_000 } as const;
  const series: SeriesSource = { name: "n", chart: "c", unit: "ms", kind: "gauge", read: () => [7] };
  const history = new History([series], 0);
  history.sample(10_000);
  const about: AboutNode = { ...node0, name: SELF, given, logger, history };
  const shards = new Shards();
  const sources = { version: "1.2.3", startedAtMs: 5_000, shards, log: { stats: () => ({ bytes: 4_096 }) as never } };
  const load = ownLoad({
    ...sources,
    directory: ".",
    stateBytes: () => 8_192,
    stateBytesOf: () => 0,
    httpPort: () => 8_081,
  });
  const loads = new LoadWatch({ ask: async () => load(), servers: () => [SELF], clock: new ManualClock() });
  await loads.look();
  const alone = {
    loads,
    ...{ namespace: "default", instanceId: "i", publicAddress: () => "h:6648", ranges: initialRanges(2) },
    ...({ keySorting: "natural", notificationsEnabled: true } as const),
  };
  const methods = [...nodeMethods(about, shards), ...standaloneMethods(shards, alone)];
  const client = await clientOf(methods);
  const oxia = new LocalCalls(methods);
  const { getNamespace, getDataServer, listDataServers } = OxiaAdmin.method;
  const { namespace: view } = await oxia.call(getNamespace, { namespace: "default" });
  expect(view?.namespace).toMatchObject({ initialShardCount: 2, replicationFactor: 1, keySorting: "natural" });
  const identity = { name: SELF, public: "h:6648", internal: SELF };
  expect((await oxia.call(listDataServers, {})).dataServers).toMatchObject([{ dataServer: { identity } }]);
  expect((await oxia.call(getDataServer, { dataServer: SELF })).dataServer).toMatchObject({ dataServer: { identity } });
  expect(oxia.call(getNamespace, { namespace: "other" })).rejects.toThrow('namespace "other" not found');
  expect(oxia.call(getDataServer, { dataServer: "s1" })).rejects.toThrow('data server "s1" not found');
  const node = await client.getNodeStatus({});
  expect((await client.getNodeStatus({ server: SELF })).mode).toBe("standalone");
  expect(await refused(client.getNodeStatus({ server: "s1" }))).toBe("NotFound");
  expect(node).toMatchObject({ mode: "standalone", version: "1.2.3", publicAddress: "h:6648", startedAtMs: 5_000n });
  expect([node.replicas, node.residentBytes > 1_000_000n, node.cpuMs > 0n]).toEqual([[], true, true]);
  expect((await client.getConfiguration({})).settings[0]).toMatchObject({
    name: "wal-dir",
    value: "/srv/wal",
    defaultValue: ".",
  });
  expect(await client.getHistory({})).toMatchObject({
    lastMs: 10_000n,
    series: [{ name: "n", unit: "ms", points: [7] }],
  });
  expect(node.logLevel).toBe("info");
  expect((await client.setLogLevel({ level: "debug" })).before).toBe("info");
  expect([logger.level, (await client.getNodeStatus({})).logLevel]).toEqual(["debug", "debug"]);
  for (const level of ["error", "warn"]) await client.setLogLevel({ level });
  expect([logger.level, said]).toEqual(["warn", ["debug", "error", "warn"]]);
  expect(await refused(client.setLogLevel({ level: "loud" }))).toBe("InvalidArgument");
  const cluster = await client.getClusterStatus({});
  expect(cluster).toMatchObject({ healthy: false, faultTolerance: -1, instanceId: "i" });
  expect(cluster.servers[0]).toMatchObject({
    httpAddress: "h:8081",
    version: "1.2.3",
    load: { logBytes: 4_096n, stateBytes: 8_192n },
  });
  expect(cluster.problems).toEqual(["shard default/0: it is not there", "shard default/1: it is not there"]);
});
