import { afterEach, describe, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { part, put, sequencePut } from "../../test/harness/applied-state.ts";
import { bytesOf, keyOf, list } from "../../test/harness/client.ts";
import { Code, type Connection } from "../../test/harness/grpc.ts";
import { pathOf, until } from "../../test/harness/rpc-server.ts";
import {
  newSession,
  type ShardServer,
  type ShardServerOptions,
  sequenceUpdates,
  startShards,
  write,
  written,
} from "../../test/harness/shard-server.ts";
import { Status, WriteRequestSchema, WriteResponseSchema } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";

import { Refusal } from "../model/refusal.ts";

type Put = ReturnType<typeof put>;

let server: ShardServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function start(options: ShardServerOptions = {}): Promise<Connection> {
  server = await startShards(options);
  return server.connect();
}

async function next(connection: Connection, prefix: string, delta: number | bigint, shard = 0n): Promise<string> {
  const { puts } = await written(connection, { shard, puts: [sequencePut(prefix, delta)] });
  return keyOf(puts[0]!.key!);
}

describe("a sequence put", () => {
  const withPartition = (...deltas: bigint[]) => put("a", { sequenceKeyDelta: deltas, partitionKey: bytesOf("p") });

  test.each([
    ["without a partition key", put("a", { sequenceKeyDelta: [1n] }), "requires partition key"],
    ["with a first delta of 0", withPartition(0n), "requires first delta do be > 0"],
    ["with a first delta of 0 and others", withPartition(0n, 5n), "requires first delta do be > 0"],
  ])("%s is refused, with all of its request, and before it is logged", async (_, refused, message) => {
    const connection = await start();
    const before = server!.shards[0]!.head;
    const outcome = await write(connection, { puts: [put("other"), refused] });
    expect(outcome).toMatchObject({ code: Code.INVALID_ARGUMENT, reason: undefined });
    expect(outcome.message).toContain(message);
    expect(server!.shards[0]!.head).toBe(before);
    expect(await list(connection, 0)).toEqual([]);
  });

  test("that fails amid a stream gets no other request's answer: those before it are answered, and then the stream ends", async () => {
    const connection = await start();
    const answers: unknown[] = [];
    const headers = { namespace: "default", "shard-id": "0" };
    const stream = connection.open(
      pathOf("writeStream"),
      (message) => answers.push(fromBinary(WriteResponseSchema, message).puts.map((each) => each.version?.versionId)),
      { headers, timeoutMs: 10_000 },
    );
    const send = (...puts: Put[]) => stream.send(toBinary(WriteRequestSchema, create(WriteRequestSchema, { puts })));
    send(withPartition(6n, 9n));
    send(withPartition(1n));
    send(put("x"));
    send(put("y"));
    expect(await stream.ended).toMatchObject({ code: Code.INVALID_ARGUMENT });
    expect(answers).toEqual([[0n]]);
  });

  test("with too few deltas is refused with all of its request; the shard serves on, and so it does after a restart", async () => {
    let connection = await start();
    await written(connection, { puts: [withPartition(6n, 9n)] });
    const outcome = await write(connection, { puts: [put("other"), withPartition(1n)] });
    expect(outcome).toMatchObject({ code: Code.INVALID_ARGUMENT });
    expect(outcome.message).toContain("missing some sequence deltas");
    const keys = [`a${part(6)}${part(9)}`];
    expect(await list(connection, 0)).toEqual(keys);
    server = await server!.restart();
    connection = await server.connect();
    expect(await list(connection, 0)).toEqual(keys);
    const { puts } = await written(connection, { puts: [withPartition(1n, 0n, 3n)] });
    expect(keyOf(puts[0]!.key!)).toBe(`a${part(7)}${part(9)}${part(3)}`);
  });

  test.each(["-1", "0", "5"])("with expected version %s fails by itself", async (text) => {
    const expectedVersionId = BigInt(text);
    const connection = await start();
    const failing = { ...withPartition(1n), expectedVersionId };
    const { puts } = await written(connection, { puts: [put("other"), failing] });
    expect(puts.map(({ status }) => status)).toEqual([Status.OK, Status.UNEXPECTED_VERSION_ID]);
    expect(puts[1]!.key).toBeUndefined();
    expect(await list(connection, 0)).toEqual(["other"]);
  });

  test("many at once each get a key of their own, without a hole", async () => {
    const connection = await start();
    const keys = await Promise.all(Array.from({ length: 200 }, () => next(connection, "a", 1)));
    expect(keys.toSorted()).toEqual(Array.from({ length: 200 }, (_, at) => `a${part(at + 1)}`));
  });
});

describe("GetSequenceUpdates", () => {
  test("the current highest key comes first, then each new one", async () => {
    const connection = await start();
    await next(connection, "a", 5);
    await next(connection, "a", 5);
    const updates = sequenceUpdates(connection, "a");
    await until(() => updates.received.length === 1, "the current one");
    expect(updates.received).toEqual([`a${part(10)}`]);
    await next(connection, "a", 1);
    await until(() => updates.received.length === 2, "the next one");
    expect(updates.received).toEqual([`a${part(10)}`, `a${part(11)}`]);
  });

  test("there is silence until the first, and other prefixes are not told", async () => {
    const connection = await start();
    const updates = sequenceUpdates(connection, "a");
    const others = ["ab", "a-", ""].map((prefix) => sequenceUpdates(connection, prefix));
    await written(connection, { puts: [put("a"), put("a-5"), put("a+x-5")] });
    for (const prefix of ["ab", "a-", ""]) await next(connection, prefix, 7);
    await until(() => others.every(({ received }) => received.length === 1), "the others");
    expect(updates.received).toEqual([]);
    await next(connection, "a", 2);
    await until(() => updates.received.length === 1, "the first");
    expect(updates.received).toEqual([`a${part(2)}`]);
    expect(others.map(({ received }) => received)).toEqual([[`ab${part(7)}`], [`a-${part(7)}`], [part(7)]]);
  });

  test("puts that fail tell nothing", async () => {
    const connection = await start();
    await written(connection, { puts: [sequencePut("a", 1, 1)] });
    const updates = sequenceUpdates(connection, "a");
    await until(() => updates.received.length === 1, "the current one");
    await written(connection, { puts: [{ ...sequencePut("a", 1, 1), sessionId: 77n }] });
    await write(connection, { puts: [sequencePut("a", 1)] });
    await written(connection, { puts: [sequencePut("a", 1, 1)] });
    await until(() => updates.received.length === 2, "the one that succeeded");
    expect(updates.received).toEqual([`a${part(1)}${part(1)}`, `a${part(2)}${part(2)}`]);
  });

  test("several in one entry are told as the highest", async () => {
    const connection = await start();
    const updates = sequenceUpdates(connection, "a");
    await next(connection, "a", 1);
    await until(() => updates.received.length === 1, "the first");
    await written(connection, { puts: [sequencePut("a", 1), sequencePut("a", 1), sequencePut("a", 1)] });
    await until(() => updates.received.length === 2, "the highest");
    expect(updates.received).toEqual([`a${part(1)}`, `a${part(4)}`]);
  });

  test("under load each watcher sees ascending keys, and the last", async () => {
    const connection = await start();
    const watchers = Array.from({ length: 20 }, () => sequenceUpdates(connection, "a"));
    await Promise.all(Array.from({ length: 500 }, () => next(connection, "a", 1)));
    await until(() => watchers.every(({ received }) => received.at(-1) === `a${part(500)}`), "the last");
    for (const { received } of watchers) {
      expect(received).toEqual([...new Set(received)].toSorted());
      expect(received).not.toContain("");
    }
  });

  test("watchers that come and go while keys are made take nothing from those that stay", async () => {
    const connection = await start();
    const stays = sequenceUpdates(connection, "a");
    for (let round = 1; round <= 30; round++) {
      const goes = Array.from({ length: 5 }, () => sequenceUpdates(connection, "a"));
      await next(connection, "a", 1);
      for (const { call } of goes) call.cancel();
      await next(connection, "a", 1);
      await until(() => stays.received.at(-1) === `a${part(2 * round)}`, `key ${2 * round}`);
    }
  });

  test("when the highest key is deleted, the one below is told no worse than by a new watcher", async () => {
    const connection = await start();
    const id = await newSession(connection);
    await next(connection, "a", 1);
    await written(connection, { puts: [{ ...sequencePut("a", 1), sessionId: id }] });
    await written(connection, { deletes: [{ key: bytesOf(`a${part(2)}`) }] });
    const updates = sequenceUpdates(connection, "a");
    await until(() => updates.received.length === 1, "the current one");
    expect(updates.received).toEqual([`a${part(1)}`]);
  });

  test("a watcher at shard 0 is told of a sequence on whichever shard it is, also from before", async () => {
    const connection = await start({ shards: 3 });
    const updates = sequenceUpdates(connection, "a", 0n);
    await next(connection, "a", 5, 2n);
    await until(() => updates.received.length === 1, "the first");
    await next(connection, "a", 5, 2n);
    await until(() => updates.received.length === 2, "the second");
    expect(updates.received).toEqual([`a${part(5)}`, `a${part(10)}`]);
    const late = sequenceUpdates(connection, "a", 0n);
    await until(() => late.received.length === 1, "the current one");
    expect(late.received).toEqual([`a${part(10)}`]);
    const elsewhere = sequenceUpdates(connection, "a", 1n);
    await next(connection, "a", 1, 1n);
    await until(() => elsewhere.received.length === 1, "shard 1's own");
    expect(elsewhere.received).toEqual([`a${part(1)}`]);
  });

  test("a prefix that two other shards hold is told of each once, not without end", async () => {
    const connection = await start({ shards: 3 });
    await next(connection, "a", 5, 1n);
    await next(connection, "a", 3, 2n);
    const updates = sequenceUpdates(connection, "a", 0n);
    await until(() => updates.received.length >= 2, "both");
    await next(connection, "a", 1, 2n);
    await until(() => updates.received.includes(`a${part(4)}`), "the next of shard 2");
    await next(connection, "a", 1, 1n);
    await until(() => updates.received.includes(`a${part(6)}`), "the next of shard 1");
    expect(updates.received).toEqual([`a${part(5)}`, `a${part(3)}`, `a${part(4)}`, `a${part(6)}`]);
  });

  test("at shutdown the streams end without an error, and so does one that comes then", async () => {
    const connection = await start({ shards: 2 });
    await next(connection, "a", 1);
    const streams = [
      sequenceUpdates(connection, "a"),
      sequenceUpdates(connection, "b"),
      sequenceUpdates(connection, "b", 1n),
    ];
    await until(() => streams[0]!.received.length === 1, "the current one");
    server!.api.close(new Refusal("RESOURCE_UNAVAILABLE", "the server is shutting down"));
    for (const { ended } of streams) expect(await ended).toMatchObject({ code: Code.OK, lost: false });
    expect((await sequenceUpdates(connection, "c").ended).code).toBe(Code.OK);
  });

  test("for a shard that is not here it is refused", async () => {
    const connection = await start();
    for (const shard of [1n, -1n]) {
      const outcome = await sequenceUpdates(connection, "a", shard).ended;
      expect(outcome).toMatchObject({ code: Code.ABORTED, reason: "NODE_IS_NOT_LEADER" });
    }
  });
});
