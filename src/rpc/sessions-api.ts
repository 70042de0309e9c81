/**
 * CreateSession, KeepAlive and CloseSession. A node that is not the serving leader answers ABORTED with the reason
 * UNKNOWN: clients take SESSION_NOT_FOUND for the end of their session, and a retryable reason pins a heartbeat of the
 * Go client to this node.
 *
 * Source: semantics.md §4; errors.md §2.
 */
import { type Bytes, EMPTY_BYTES } from "../lib/bytes.ts";
import { SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN } from "../model/limits.ts";
import { type Reason, Refusal } from "../model/refusal.ts";
import type { Leader } from "../replication/leader.ts";
import { decodeSessionRequest } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { requireAuthority } from "./assignments-api.ts";
import type { ClientApi } from "./client-api.ts";
import type { Call } from "./method.ts";

/** Why a node does not serve a shard: said of sessions, these have another form. */
const NOT_SERVING: ReadonlySet<Reason> = new Set([
  "NODE_IS_NOT_LEADER",
  "NODE_IS_NOT_MEMBER",
  "NOT_INITIALIZED",
  "RESOURCE_UNAVAILABLE",
]);

export function createSession(api: ClientApi, message: Bytes, call: Call): Promise<Bytes> {
  const { shard, timeoutMsOrId, clientIdentity } = decodeSessionRequest(message);
  return onLeader(api, shard, call, async (leader) => {
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
  });
}

export function keepAlive(api: ClientApi, message: Bytes, call: Call): Promise<Bytes> {
  const { shard, timeoutMsOrId } = decodeSessionRequest(message);
  return onLeader(api, shard, call, async (leader) => {
    await leader.keepAlive(Number(timeoutMsOrId));
    return EMPTY_BYTES;
  });
}

export function closeSession(api: ClientApi, message: Bytes, call: Call): Promise<Bytes> {
  const { shard, timeoutMsOrId } = decodeSessionRequest(message);
  return onLeader(api, shard, call, async (leader) => {
    await leader.closeSession(Number(timeoutMsOrId));
    return EMPTY_BYTES;
  });
}

/** Lets the shard's leader answer, if it serves here, from the start to the end of the answer. */
async function onLeader(
  api: ClientApi,
  shard: number | bigint,
  call: Call,
  answer: (leader: Leader) => Bytes | Promise<Bytes>,
): Promise<Bytes> {
  requireAuthority(call, api.shards);
  try {
    api.requireOpen();
    return await answer(api.shards.leader(shard));
  } catch (error) {
    if (!(error instanceof Refusal) || !NOT_SERVING.has(error.reason)) throw error;
    throw new Refusal("UNKNOWN", error.message, error.hint === undefined ? {} : { hint: error.hint });
  }
}
