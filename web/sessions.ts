/**
 * Sessions as the client API shows them: the keys that servers keep for themselves, `__oxia/session/ID` for each and
 * `__oxia/session/ID/KEY` for each record that ends with it, in every shard.
 *
 * Source: protocol.md §6.1; semantics.md §3.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { VariaClient } from "../src/client/client.ts";
import { SessionMetadataSchema } from "../src/gen/proto/storage_pb.ts";
import { concatBytes, utf8 } from "../src/lib/bytes.ts";

/** Sessions of one shard that are read; and records of one session. */
export const SESSIONS_READ_MAX = 1_000;
export const EPHEMERALS_READ_MAX = 1_000;
const PREFIX = "__oxia/session/";
const HIGHEST = Uint8Array.of(0xff);

export interface SessionLine {
  readonly shard: bigint;
  readonly id: bigint;
  readonly identity: string;
  readonly timeoutMs: number;
  /** Milliseconds since the epoch. */
  readonly createdMs: number;
}

/** A shard, and a partition key that leads to it. */
export interface Route {
  readonly shard: bigint;
  readonly partitionKey: string;
}

/** Those of one shard, in order of their ids; and whether there are more. */
export async function readSessions(client: VariaClient, { shard, partitionKey }: Route) {
  const sessions: SessionLine[] = [];
  const range = { startInclusive: PREFIX, endExclusive: concatBytes(utf8(PREFIX), HIGHEST) };
  for await (const { key, value, version } of client.rangeScan({ ...range, partitionKey, includeInternalKeys: true })) {
    const digits = key.slice(PREFIX.length);
    if (!/^[0-9a-f]{16}$/.test(digits)) continue;
    if (sessions.length === SESSIONS_READ_MAX) return { sessions, more: true };
    const { timeoutMs, identity } = fromBinary(SessionMetadataSchema, value);
    const id = BigInt(`0x${digits}`);
    sessions.push({ shard, id, identity, timeoutMs, createdMs: version.createdTimestamp });
  }
  return { sessions, more: false };
}

/** Keys of the records that end with a session, as text; and whether there are more. */
export async function readEphemerals(client: VariaClient, { partitionKey }: Route, id: bigint) {
  const place = `${PREFIX}${hexOf(id)}/`;
  const range = { startInclusive: place, endExclusive: concatBytes(utf8(place), HIGHEST) };
  const keys: string[] = [];
  for await (const key of client.list({ ...range, partitionKey, includeInternalKeys: true })) {
    if (keys.length === EPHEMERALS_READ_MAX) return { keys, more: true };
    keys.push(unescaped(key.slice(place.length)));
  }
  return { keys, more: false };
}

export function hexOf(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16).padStart(16, "0");
}

/** What is no text stays as it was escaped. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
