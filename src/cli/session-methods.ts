/**
 * `VariaAdmin.ListSessions`, `GetSession` and `CloseSession`: what the client API tells of sessions, of a whole namespace. Whoever
 * serves them is a client of the cluster for it, and can do no more than any other.
 */
import { create } from "@bufbuild/protobuf";
import { sessionId } from "../../web/parts/format.ts";
import { type HashRange, partitionKeys } from "../../web/shard-routes.ts";
import { isBeingDeleted } from "../../web/view.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { isRefusal } from "../coordination/replica-calls.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../model/refusal.ts";
import { systemClock } from "../ops/clock.ts";
import { LocalCalls } from "../rpc/local-calls.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { callPeer } from "../rpc/peer-call.ts";
import { servedUnary } from "../rpc/served.ts";
import { type Route, readEphemerals, readSessions, type SessionLine } from "./client-sessions.ts";
import { CLIENT_TIMEOUT_MS, type NamespaceClients } from "./namespace-clients.ts";

/** Shards that are asked at a time. */
const SHARDS_AT_ONCE = 16;
/** Which shards there are may be known from before; a leader that was known is asked, and answers who leads. */
const STATUS_AGE_MS_MAX = 2_000;

/** `methods`: those that tell how the cluster stands. */
export function sessionMethods(methods: readonly ServedMethod[], clients: NamespaceClients): ServedMethod[] {
  const calls = new LocalCalls(methods);
  const { method } = VariaAdmin;
  /** Throws INVALID_ARGUMENT, NOT_FOUND. */
  const shardsOf = async (namespace: string, maxAgeMs = STATUS_AGE_MS_MAX) => {
    if (namespace === "") throw new Refusal("INVALID_ARGUMENT", "namespace must not be empty");
    const { shards, servers } = await calls.call(method.getClusterStatus, { maxAgeMs });
    const own = shards.filter((shard) => shard.namespace === namespace && !isBeingDeleted(shard.change));
    if (own.length === 0) throw new Refusal("NOT_FOUND", `namespace "${namespace}" not found`);
    return { own, servers };
  };
  const wanted = <T extends { readonly shard: bigint }>(all: readonly T[], shard: bigint): T => {
    const found = all.find((one) => one.shard === shard);
    if (found === undefined) throw new Refusal("NOT_FOUND", `shard ${shard} not found`);
    return found;
  };
  return [
    servedUnary(method.listSessions, async ({ namespace, shard }) => {
      const all = routesOf((await shardsOf(namespace)).own);
      const routes = shard === undefined ? all : [wanted(all, shard)];
      const client = await clients.of(namespace);
      const sessions = [];
      let hasMore = false;
      for (let at = 0; at < routes.length; at += SHARDS_AT_ONCE) {
        const found = routes.slice(at, at + SHARDS_AT_ONCE).map((route) => readSessions(client, route));
        for (const { sessions: some, more } of await Promise.all(found)) {
          hasMore ||= more;
          sessions.push(...some);
        }
      }
      return { hasMore, sessions: sessions.map(protoSession) };
    }),
    servedUnary(method.getSession, async ({ namespace, shard, session }) => {
      const route = wanted(routesOf((await shardsOf(namespace)).own), shard);
      const client = await clients.of(namespace);
      const [{ sessions }, { keys, more }] = await Promise.all([
        readSessions(client, route),
        readEphemerals(client, route, session),
      ]);
      const found = sessions.find(({ id }) => id === session);
      if (found === undefined)
        throw new Refusal("NOT_FOUND", `there is no session ${sessionId(session)} in shard ${namespace}/${shard}`);
      return { session: protoSession(found), keys, hasMore: more };
    }),
    servedUnary(method.closeSession, async ({ namespace, shard, session }) => {
      const close = async (maxAgeMs: number) => {
        const { own, servers } = await shardsOf(namespace, maxAgeMs);
        const { leader } = wanted(own, shard);
        const address = servers.find(({ internalAddress }) => internalAddress === leader)?.publicAddress;
        if (address === undefined) throw new Refusal("RESOURCE_UNAVAILABLE", `shard ${shard} has no leader now`);
        await closeAt(address, { shard, sessionId: session });
      };
      try {
        await close(STATUS_AGE_MS_MAX);
      } catch (error) {
        // another one may lead by now than was seen last
        if (!isRefusal(error, "NODE_IS_NOT_LEADER")) throw error;
        await close(0);
      }
      return {};
    }),
  ];
}

/** At the leader of its shard. Rejects with what that answers. */
async function closeAt(
  address: string,
  session: { readonly shard: bigint; readonly sessionId: bigint },
): Promise<void> {
  const { closeSession } = OxiaClient.method;
  const transport = new Http2Transport();
  const ports = { transport, clock: systemClock, instanceId: () => undefined };
  const call = { server: address, limits: { timeoutMs: CLIENT_TIMEOUT_MS }, withoutInstance: true };
  try {
    await callPeer(ports, closeSession, call, create(closeSession.input, session));
  } finally {
    transport.close();
  }
}

function routesOf(shards: readonly (HashRange & { readonly shard: bigint })[]): Route[] {
  const keys = partitionKeys(shards);
  return shards.map(({ shard }, nth) => ({ shard, partitionKey: keys[nth]! }));
}

function protoSession({ shard, id, identity, timeoutMs, createdMs, ephemerals }: SessionLine) {
  return {
    ...{ shard, session: id, clientIdentity: identity, timeoutMs },
    ...{ createdAtMs: BigInt(createdMs), ephemerals: BigInt(ephemerals) },
  };
}
