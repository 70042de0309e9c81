import { afterEach, describe, expect, test } from "bun:test";
import { put } from "../../test/harness/applied-state.ts";
import { bytesOf, list } from "../../test/harness/client.ts";
import { Code, type Connection } from "../../test/harness/grpc.ts";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import { until } from "../../test/harness/rpc-server.ts";
import {
  closeSession,
  createSession,
  keepAlive,
  newSession,
  type ShardServer,
  type ShardServerOptions,
  startShards,
  write,
  written,
} from "../../test/harness/shard-server.ts";
import { Status } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { SESSION_TICK_MS, SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";

let server: ShardServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function start(options: ShardServerOptions = {}): Promise<Connection> {
  server = await startShards(options);
  return server.connect();
}

const notFound = { code: Code.NOT_FOUND, reason: "SESSION_NOT_FOUND" };
const ephemeral = (key: string, sessionId: bigint) => put(key, { sessionId });

describe("CreateSession", () => {
  test.each([0, 1, SESSION_TIMEOUT_MS_MIN - 1, SESSION_TIMEOUT_MS_MAX + 1, 2 ** 31, 2 ** 32 - 1])(
    "a timeout of %d ms is refused",
    async (timeoutMs) => {
      const refused = await createSession(await start(), timeoutMs);
      expect(refused).toMatchObject({ code: Code.INVALID_ARGUMENT, reason: "INVALID_SESSION_TIMEOUT" });
      expect(refused.message).toBe(`timeoutMs=${timeoutMs}: oxia: invalid session timeout`);
      expect(server!.shards[0]!.sessionCount).toBe(0);
    },
  );

  test("timeouts at both bounds are taken, and each session has an id of its own", async () => {
    const connection = await start();
    const ids = [
      await newSession(connection, SESSION_TIMEOUT_MS_MIN),
      await newSession(connection, SESSION_TIMEOUT_MS_MAX),
    ];
    expect(ids[1]).toBeGreaterThan(ids[0]!);
    expect(server!.shards[0]!.sessionCount).toBe(2);
    for (const id of ids) expect((await keepAlive(connection, id)).code).toBe(Code.OK);
  });

  test("past the allowed sessions it is refused, until one has gone", async () => {
    const connection = await start({ sessionsMax: 2 });
    const id = await newSession(connection);
    await newSession(connection);
    expect(await createSession(connection, 10_000)).toMatchObject({ code: Code.RESOURCE_EXHAUSTED });
    expect((await keepAlive(connection, id)).code).toBe(Code.OK);
    await closeSession(connection, id);
    expect((await createSession(connection, 10_000)).code).toBe(Code.OK);
  });

  test("many at once do not pass the limit together", async () => {
    const connection = await start({ sessionsMax: 3 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => createSession(connection, 10_000)));
    expect(answers.filter(({ code }) => code === Code.OK).length).toBe(3);
    expect(answers.filter(({ code }) => code === Code.RESOURCE_EXHAUSTED).length).toBe(17);
    expect(server!.shards[0]!.sessionCount).toBe(3);
  });
});

describe("KeepAlive and CloseSession", () => {
  test.each(["0", "999", "-1", `${2n ** 53n + 1n}`, `${2n ** 63n - 1n}`, `${-(2n ** 63n)}`])(
    "session %s is unknown",
    async (text) => {
      const id = BigInt(text);
      const connection = await start();
      // offset 0 is the leader's own entry, so that no session has that id
      expect(await keepAlive(connection, id)).toMatchObject(notFound);
      expect(await closeSession(connection, id)).toMatchObject(notFound);
    },
  );

  test("a close ends the session with its records in one entry; a second close finds nothing", async () => {
    const connection = await start();
    const id = await newSession(connection);
    await written(connection, { puts: [ephemeral("a", id), ephemeral("b", id), put("c")] });
    const before = server!.shards[0]!.kv.applied.offset;
    expect((await closeSession(connection, id)).code).toBe(Code.OK);
    expect(server!.shards[0]!.kv.applied.offset).toBe(before + 1);
    expect(await list(connection, 0)).toEqual(["c"]);
    expect(await closeSession(connection, id)).toMatchObject(notFound);
    expect(await keepAlive(connection, id)).toMatchObject(notFound);
    const { puts } = await written(connection, { puts: [ephemeral("d", id)] });
    expect(puts[0]!.status).toBe(Status.SESSION_DOES_NOT_EXIST);
    const { sessionsCreated, sessionsClosed, sessionsExpired } = server!.shards[0]!.counters;
    expect({ sessionsCreated, sessionsClosed, sessionsExpired }).toEqual({
      sessionsCreated: 1,
      sessionsClosed: 1,
      sessionsExpired: 0,
    });
  });

  test("of many closes at once exactly one finds the session", async () => {
    const connection = await start();
    const id = await newSession(connection);
    const answers = await Promise.all(Array.from({ length: 10 }, () => closeSession(connection, id)));
    expect(answers.filter(({ code }) => code === Code.OK).length).toBe(1);
    expect(answers.filter(({ reason }) => reason === "SESSION_NOT_FOUND").length).toBe(9);
  });
});

describe("a node that is not the serving leader", () => {
  const elsewhere = { code: Code.ABORTED, reason: "UNKNOWN" };

  test.each(["7", "-1", `${2n ** 62n}`])("answers ABORTED with reason UNKNOWN for shard %s", async (text) => {
    const shard = BigInt(text);
    const connection = await start();
    const id = await newSession(connection);
    expect(await createSession(connection, 10_000, shard)).toMatchObject(elsewhere);
    expect(await keepAlive(connection, id, shard)).toMatchObject(elsewhere);
    expect(await closeSession(connection, id, shard)).toMatchObject(elsewhere);
    // not even before it looks at the timeout
    expect(await createSession(connection, 0, shard)).toMatchObject(elsewhere);
    expect((await keepAlive(connection, id)).code).toBe(Code.OK);
  });

  test("answers so too once it shuts down", async () => {
    const connection = await start();
    const id = await newSession(connection);
    server!.api.close(new Refusal("RESOURCE_UNAVAILABLE", "the server is shutting down"));
    expect(await createSession(connection, 10_000)).toMatchObject(elsewhere);
    expect(await keepAlive(connection, id)).toMatchObject(elsewhere);
    expect(await closeSession(connection, id)).toMatchObject(elsewhere);
  });

  test("answers so too once its shard has stopped, and never that the session is gone", async () => {
    const connection = await start();
    const id = await newSession(connection);
    await server!.shards[0]!.stop(new Refusal("RESOURCE_UNAVAILABLE", "the shard is closing"));
    expect(await createSession(connection, 10_000)).toMatchObject(elsewhere);
    expect(await closeSession(connection, id)).toMatchObject(elsewhere);
    const { code, reason } = await keepAlive(connection, id);
    // the session is still there: a heartbeat may be taken, or sent elsewhere
    expect([Code.OK, Code.ABORTED]).toContain(code as never);
    expect(["UNKNOWN", undefined]).toContain(reason);
  });
});

describe("time", () => {
  test("a session without heartbeats ends with its records; one with them lives on", async () => {
    const clock = new ManualClock();
    const connection = await start({ clock });
    const [silent, beating] = [await newSession(connection, 5_000), await newSession(connection, 5_000)];
    await written(connection, { puts: [ephemeral("silent", silent), ephemeral("beating", beating)] });
    for (let beat = 0; beat < 10; beat++) {
      expect((await keepAlive(connection, beating)).code).toBe(Code.OK);
      expect((await list(connection, 0)).includes("silent")).toBe(beat * 1_000 <= 5_000);
      clock.advance(1_000);
      if (beat === 5) await until(() => server!.shards[0]!.sessionCount === 1, "the end of the silent session");
    }
    expect(await list(connection, 0)).toEqual(["beating"]);
    expect(await keepAlive(connection, silent)).toMatchObject(notFound);
    expect(server!.shards[0]!.counters.sessionsExpired).toBe(1);
  });

  test("a restart gives every session its full timeout again, in both key orders", async () => {
    for (const keySorting of ["hierarchical", "natural"] as const) {
      const clock = new ManualClock();
      let connection = await start({ clock, keySorting });
      const ids = await Promise.all(Array.from({ length: 50 }, () => newSession(connection, 4_000)));
      const longer = await newSession(connection, 60_000);
      await written(connection, { puts: [...ids, longer].map((id) => ephemeral(`a/${id}`, id)) });
      clock.advance(3_999);
      server = await server!.restart();
      connection = await server.connect();
      const [shard] = server.shards;
      expect(shard!.sessionCount).toBe(51);
      clock.advance(3_999);
      expect((await keepAlive(connection, ids[0]!)).code).toBe(Code.OK);
      clock.advance(1 + SESSION_TICK_MS);
      await until(() => shard!.sessionCount === 2, "the ends of the silent ones");
      expect((await list(connection, 0)).toSorted()).toEqual([`a/${ids[0]}`, `a/${longer}`].toSorted());
      await server.stop();
    }
  });

  test("a session that was closed stays closed after a restart", async () => {
    let connection = await start();
    const id = await newSession(connection);
    await written(connection, { puts: [ephemeral("a", id)] });
    await closeSession(connection, id);
    server = await server!.restart();
    connection = await server.connect();
    expect(server.shards[0]!.sessionCount).toBe(0);
    expect(await list(connection, 0)).toEqual([]);
    expect(await keepAlive(connection, id)).toMatchObject(notFound);
  });

  test("a client cannot end a session by deleting its record", async () => {
    const connection = await start();
    const id = await newSession(connection);
    const key = bytesOf(`__oxia/session/${id.toString(16).padStart(16, "0")}`);
    expect(await write(connection, { deletes: [{ key }] })).toMatchObject({ code: Code.INVALID_ARGUMENT });
    await written(connection, { deleteRanges: [{ startInclusive: bytesOf(""), endExclusive: bytesOf("") }] });
    expect((await keepAlive(connection, id)).code).toBe(Code.OK);
  });
});
