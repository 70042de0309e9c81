/**
 * CreateSession, KeepAlive and CloseSession. A node that is not the serving leader answers ABORTED with the reason
 * UNKNOWN: clients take SESSION_NOT_FOUND for the end of their session, and a retryable reason pins a heartbeat of the
 * Go client to this node.
 *
 * Source: semantics.md §4; errors.md §2.
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Shard } from "../replication/shard.ts";
import { decodeSessionRequest } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { requireAuthority } from "./assignments-api.ts";
import type { ClientApi } from "./client-api.ts";
import type { Call } from "./method.ts";

export async function createSession(api: ClientApi, message: Bytes, call: Call): Promise<Bytes> {
  const { shard, timeoutMsOrId, clientIdentity } = decodeSessionRequest(message);
  const leader = sessionLeader(api, shard, call);
  const timeoutMs = Number(BigInt.asUintN(32, BigInt(timeoutMsOrId)));
  if (timeoutMs < SESSION_TIMEOUT_MS_MIN || timeoutMs > SESSION_TIMEOUT_MS_MAX) {
    throw new Refusal("INVALID_SESSION_TIMEOUT", `timeoutMs=${timeoutMs}`);
  }
  const id = await leader.createSession(timeoutMs, clientIdentity);
  const response = new Writer(16);
  if (id !== 0) {
    response.byte(0x08);
    response.int64(id);
  }
  return response.finish();
}

export function keepAlive(api: ClientApi, message: Bytes, call: Call): Bytes {
  const { shard, timeoutMsOrId } = decodeSessionRequest(message);
  sessionLeader(api, shard, call).keepAlive(Number(timeoutMsOrId));
  return EMPTY_BYTES;
}

export async function closeSession(api: ClientApi, message: Bytes, call: Call): Promise<Bytes> {
  const { shard, timeoutMsOrId } = decodeSessionRequest(message);
  await sessionLeader(api, shard, call).closeSession(Number(timeoutMsOrId));
  return EMPTY_BYTES;
}

function sessionLeader(api: ClientApi, shard: number | bigint, call: Call): Shard {
  requireAuthority(call);
  try {
    api.requireOpen();
    return api.shards.leader(shard);
  } catch (error) {
    if (!(error instanceof Refusal) || error.reason === "DATA_LOSS") throw error;
    throw new Refusal("UNKNOWN", error.message, error.hint === undefined ? {} : { hint: error.hint });
  }
}
