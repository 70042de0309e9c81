/**
 * Sessions as the client API shows them: the keys that servers keep for themselves, `__oxia/session/ID` for each and
 * `__oxia/session/ID/KEY` for each record that ends with it, in every shard.
 *
 * Source: protocol.md §6.1; semantics.md §3.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { sessionId } from "../../web/parts/format.ts";
import type { VariaClient } from "../client/client.ts";
import { SessionMetadataSchema } from "../gen/proto/storage_pb.ts";
import { concatBytes, utf8 } from "../lib/bytes.ts";

/** Sessions of one shard that are read; and keys of one session. */
export const SESSIONS_READ_MAX = 1_000;
export const EPHEMERALS_READ_MAX = 1_000;
/** Keys of sessions that are read of one shard; where there are more, those that end with each are not counted. */
export const SESSION_KEYS_READ_MAX = 100_000;
/** Records that were not counted. */
export const NOT_COUNTED = -1;
const PREFIX = "__oxia/session/";
const HIGHEST = Uint8Array.of(0xff);

export interface SessionLine {
  readonly shard: bigint;
  readonly id: bigint;
  readonly identity: string;
  readonly timeoutMs: number;
  /** Milliseconds since the epoch. */
  readonly createdMs: number;
  /** Records that end with it, or NOT_COUNTED. */
  ephemerals: number;
}

/** A shard, and a partition key that leads to it. */
export interface Route {
  readonly shard: bigint;
  readonly partitionKey: string;
}

/** Those of one shard, in order of their ids; and whether there are more. */
export async function readSessions(
  client: Pick<VariaClient, "rangeScan" | "list">,
  { shard, partitionKey }: Route,
): Promise<{ readonly sessions: readonly SessionLine[]; readonly more: boolean }> {
  const sessions = new Map<bigint, SessionLine>();
  const range = { startInclusive: PREFIX, endExclusive: concatBytes(utf8(PREFIX), HIGHEST) };
  let more = false;
  for await (const { key, value, version } of client.rangeScan({ ...range, partitionKey, includeInternalKeys: true })) {
    const digits = key.slice(PREFIX.length);
    if (!/^[0-9a-f]{16}$/.test(digits)) continue;
    more = sessions.size === SESSIONS_READ_MAX;
    if (more) break;
    const { timeoutMs, identity } = fromBinary(SessionMetadataSchema, value);
    const id = BigInt(`0x${digits}`);
    sessions.set(id, { shard, id, identity, timeoutMs, createdMs: version.createdTimestamp, ephemerals: 0 });
  }
  await countEphemerals(client, partitionKey, sessions);
  return { sessions: [...sessions.values()], more };
}

/** In both orders of keys the records of all sessions lie in this range; in one of them, the sessions too. */
async function countEphemerals(
  client: Pick<VariaClient, "list">,
  partitionKey: string,
  sessions: ReadonlyMap<bigint, SessionLine>,
): Promise<void> {
  const [first, last] = [0n, -1n].map((id) => `${PREFIX}${sessionId(id)}/`) as [string, string];
  const endExclusive = concatBytes(utf8(last), HIGHEST);
  const range = { startInclusive: first, endExclusive, partitionKey, includeInternalKeys: true };
  let read = 0;
  for await (const key of client.list(range)) {
    if (read++ === SESSION_KEYS_READ_MAX) {
      for (const session of sessions.values()) session.ephemerals = NOT_COUNTED;
      return;
    }
    const [, digits] = /^([0-9a-f]{16})\//.exec(key.slice(PREFIX.length)) ?? [];
    const session = digits === undefined ? undefined : sessions.get(BigInt(`0x${digits}`));
    if (session !== undefined) session.ephemerals += 1;
  }
}

/** Keys of the records that end with a session, as text; and whether there are more. */
export async function readEphemerals(client: VariaClient, { partitionKey }: Route, id: bigint) {
  const place = `${PREFIX}${sessionId(id)}/`;
  const range = { startInclusive: place, endExclusive: concatBytes(utf8(place), HIGHEST) };
  const keys: string[] = [];
  for await (const key of client.list({ ...range, partitionKey, includeInternalKeys: true })) {
    if (keys.length === EPHEMERALS_READ_MAX) return { keys, more: true };
    keys.push(unescaped(key.slice(place.length)));
  }
  return { keys, more: false };
}

/** What is no text stays as it was escaped. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
