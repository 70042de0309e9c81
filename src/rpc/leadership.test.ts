/** What clients see of a leadership: reads that wait to be confirmed, streams that end with it. */
import { afterEach, expect, test } from "bun:test";
import { put } from "../../test/harness/applied-state.ts";
import { bytesOf, encodeWrite, list, read, SERVICE, scan } from "../../test/harness/client.ts";
import { Code, type Connection } from "../../test/harness/grpc.ts";
import { until } from "../../test/harness/rpc-server.ts";
import {
  keepAlive,
  newSession,
  notifications,
  type ShardServer,
  sequenceUpdates,
  startShards,
  written,
} from "../../test/harness/shard-server.ts";
import { Refusal } from "../model/refusal.ts";

let server: ShardServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function start(): Promise<Connection> {
  server = await startShards();
  const connection = await server.connect();
  await written(connection, { puts: [put("a"), put("b")] });
  return connection;
}

const leader = () => server!.shards[0]!;
const aPut = (key: string) =>
  encodeWrite({
    puts: [{ kind: "put", key, value: bytesOf("v"), expected: undefined }],
    deletes: [],
    deleteRanges: [],
  });
const refusal = (asked: Promise<unknown>) => asked.then(String, (error: Error) => error.message);
const aWhile = () => new Promise((resolve) => setTimeout(resolve, 50));

/** Has reads wait until the gate is opened. */
function gateReads(): { readonly asked: number; open(): void; refuse(reason: Refusal): void } {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const gate = { asked: 0, open: resolve, refuse: reject };
  leader().confirmRead = () => {
    gate.asked++;
    return promise;
  };
  return gate;
}

test.each([
  ["Read", async (connection: Connection) => (await read(connection, 0, ["a"])).length],
  ["List", async (connection: Connection) => (await list(connection, 0)).length],
  ["RangeScan", async (connection: Connection) => (await scan(connection, 0)).size],
] as const)("%s waits until the leader is confirmed, and is refused when it is not", async (_, ask) => {
  const connection = await start();
  const gate = gateReads();
  const answers: number[] = [];
  const asked = ask(connection).then((count) => answers.push(count));
  await until(() => gate.asked === 1, "the question");
  await aWhile();
  expect(answers).toEqual([]);
  gate.open();
  await asked;
  expect(answers[0]).toBeGreaterThan(0);
  const refusing = gateReads();
  const refused = refusal(ask(connection));
  await until(() => refusing.asked === 1, "the question");
  refusing.refuse(new Refusal("RESOURCE_UNAVAILABLE", "no majority"));
  expect(await refused).toContain("no majority");
});

test("a subscription and the updates of a sequence begin once the leader is confirmed", async () => {
  const connection = await start();
  await written(connection, { puts: [{ ...put("s"), partitionKey: bytesOf("p"), sequenceKeyDelta: [1n] }] });
  const gate = gateReads();
  const feed = notifications(connection);
  const updates = sequenceUpdates(connection, "s");
  await until(() => gate.asked === 2, "both questions");
  await aWhile();
  expect([feed.received.length, updates.received.length]).toEqual([0, 0]);
  gate.open();
  await until(() => feed.received.length === 1 && updates.received.length === 1, "their beginnings");
  feed.call.cancel();
  updates.call.cancel();
});

test("a heartbeat is answered as the leader says", async () => {
  const connection = await start();
  const id = await newSession(connection);
  expect((await keepAlive(connection, id)).code).toBe(Code.OK);
  leader().keepAlive = () => Promise.reject(new Refusal("RESOURCE_UNAVAILABLE", "no majority"));
  // not SESSION_NOT_FOUND, which clients take for the end of their session
  expect((await keepAlive(connection, id)).code).toBe(Code.ABORTED);
});

test("when a leadership ends, so does all that clients hold open, and later calls go elsewhere", async () => {
  const connection = await start();
  const answers: Uint8Array[] = [];
  const headers = { namespace: "default", "shard-id": "0" };
  const openStream = () =>
    connection.open(`${SERVICE}/WriteStream`, (message) => void answers.push(message), { headers });
  const [idle, busy] = [openStream(), openStream()];
  busy.send(aPut("c"));
  await until(() => answers.length === 1, "the first answer");
  const feed = notifications(connection);
  const updates = sequenceUpdates(connection, "s");
  await until(() => feed.received.length === 1, "the subscription");
  busy.send(aPut("d"));
  leader().stop(new Refusal("RESOURCE_UNAVAILABLE", "a later term"));
  const ended = await Promise.all([idle.ended, busy.ended, feed.ended, updates.ended]);
  expect(ended.map(({ code }) => code)).toEqual(Array(4).fill(Code.UNAVAILABLE));
  expect(server!.api.writeStreams.size).toBe(0);
  expect(await refusal(read(connection, 0, ["a"]))).toContain("node is not leader");
});
