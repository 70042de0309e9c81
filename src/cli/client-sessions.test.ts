/** Sessions as the keys that servers keep of them: however many there are. */
import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { sessionId } from "../../web/parts/format.ts";
import type { VariaClient } from "../client/client.ts";
import { SessionMetadataSchema } from "../gen/proto/storage_pb.ts";
import { NOT_COUNTED, readSessions, SESSION_KEYS_READ_MAX, SESSIONS_READ_MAX } from "./client-sessions.ts";

const ROUTE = { shard: 0n, partitionKey: "p" };
const METADATA = toBinary(SessionMetadataSchema, create(SessionMetadataSchema, { timeoutMs: 5_000, identity: "w" }));

/** A client whose shard has these keys behind `__oxia/session/`, in order. */
function clientOf(keys: readonly string[]): Pick<VariaClient, "rangeScan" | "list"> {
  const scan = async function* () {
    for (const key of keys) yield { key: `__oxia/session/${key}`, value: METADATA, version: { createdTimestamp: 7 } };
  };
  const list = async function* () {
    for (const key of keys) yield `__oxia/session/${key}`;
  };
  return { rangeScan: scan as never, list: list as never };
}

test("records are counted with their session, wherever they stand behind it; other keys are no sessions", async () => {
  const [a, b] = [sessionId(1n), sessionId(-1n)];
  const client = clientOf([a, `${a}/x`, b, `${b}/y`, `${b}/z%2Fz`, `${sessionId(9n)}/gone`, "odd", `${a}0`]);
  const { sessions, more } = await readSessions(client, ROUTE);
  expect(more).toBe(false);
  expect(sessions.map(({ id, ephemerals }) => [sessionId(id), ephemerals])).toEqual([
    [a, 1],
    [b, 2],
  ]);
  expect(sessions[0]).toMatchObject({ shard: 0n, identity: "w", timeoutMs: 5_000, createdMs: 7 });
});

test("past the bounds there are more sessions than are told, and records that are not counted", async () => {
  const ids = Array.from({ length: SESSIONS_READ_MAX + 1 }, (_, nth) => sessionId(BigInt(nth)));
  const many = await readSessions(clientOf([...ids, `${ids[0]}/x`, `${ids.at(-1)}/y`]), ROUTE);
  expect([many.sessions.length, many.more, many.sessions[0]!.ephemerals]).toEqual([SESSIONS_READ_MAX, true, 1]);
  const one = sessionId(1n);
  const records = (length: number) => Array.from({ length }, (_, nth) => (nth === 0 ? one : `${one}/${nth}`));
  const atBound = await readSessions(clientOf(records(SESSION_KEYS_READ_MAX)), ROUTE);
  expect(atBound.sessions[0]!.ephemerals).toBe(SESSION_KEYS_READ_MAX - 1);
  const past = await readSessions(clientOf(records(SESSION_KEYS_READ_MAX + 1)), ROUTE);
  expect(past.sessions[0]!.ephemerals).toBe(NOT_COUNTED);
});
