/**
 * Other data servers over the simulated network: the ports DataServers and Followers as a coordinator and a leader have
 * them. Messages cross as plain data; a shard's namespace, id and term go in a stream's headers, as on the wire.
 */
import type {
  BecomeLeaderRequest,
  FreezeShardResponse,
  GetStatusResponse,
  HandshakeResponse,
  NewTermResponse,
  ShardTerm,
  SnapshotResponse,
  TruncateResponse,
} from "../../src/model/peer-messages.ts";
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import type { AppendStream, CallLimits, DataServers, Followers, SnapshotStream } from "../../src/ports.ts";
import { CallError } from "./call-error.ts";
import type { CallOptions, Channel } from "./network.ts";
import type { DuplexStream } from "./stream-call.ts";

/** What a data server answers, by its name on the simulated network. */
export type PeerMethod =
  | "Handshake"
  | "NewTerm"
  | "BecomeLeader"
  | "AddFollower"
  | "GetStatus"
  | "FreezeShard"
  | "RemoveObserver"
  | "DeleteShard"
  | "CheckHealth"
  | "Truncate"
  | "PushShardAssignments"
  | "Replicate"
  | "SendSnapshot";

/** Data servers as a coordinator on this process's network calls them. */
export function simDataServers(channel: Channel): DataServers {
  const call = <T>(server: string, method: PeerMethod, request: unknown, limits: CallLimits): Promise<T> =>
    callPeer<T>(channel, { server, method, limits }, request);
  return {
    handshake: (server, request, limits) => call<HandshakeResponse>(server, "Handshake", request, limits),
    newTerm: (server, request, limits) => call<NewTermResponse>(server, "NewTerm", request, limits),
    becomeLeader: (server, request: BecomeLeaderRequest, limits) => call(server, "BecomeLeader", request, limits),
    addFollower: (server, request, limits) => call(server, "AddFollower", request, limits),
    getStatus: (server, request, limits) => call<GetStatusResponse>(server, "GetStatus", request, limits),
    freezeShard: (server, request, limits) => call<FreezeShardResponse>(server, "FreezeShard", request, limits),
    removeObserver: (server, request, limits) => call(server, "RemoveObserver", request, limits),
    deleteShard: (server, request, limits) => call(server, "DeleteShard", request, limits),
    checkHealth: (server, limits) => call<boolean>(server, "CheckHealth", {}, limits),
    pushAssignments: (server) => {
      const stream = channel.stream(server, "PushShardAssignments" satisfies PeerMethod);
      return {
        send: (assignments) => void stream.send(assignments),
        ended: stream.ended.then(() => undefined),
        cancel: () => stream.cancel(),
      };
    },
  };
}

/** Followers as a leader on this process's network calls them. */
export function simFollowers(channel: Channel): Followers {
  return {
    newTerm: (server, request, limits) =>
      callPeer<NewTermResponse>(channel, { server, method: "NewTerm", limits }, request),
    truncate: (server, request, limits) =>
      callPeer<TruncateResponse>(channel, { server, method: "Truncate", limits }, request),
    getStatus: (server, request, limits) =>
      callPeer<GetStatusResponse>(channel, { server, method: "GetStatus", limits }, request),
    replicate: (server, shard) => appendStream(openShardStream(channel, server, "Replicate", shard)),
    sendSnapshot: (server, shard) => snapshotStream(openShardStream(channel, server, "SendSnapshot", shard)),
  };
}

/** Headers of a stream that is about one shard in one term. */
export function shardHeaders({ namespace, shard, term }: ShardTerm): Record<string, string> {
  return { namespace, "shard-id": String(shard), term: String(term) };
}

export function shardOfHeaders(headers: Readonly<Record<string, string>>): ShardTerm {
  return { namespace: headers.namespace!, shard: Number(headers["shard-id"]), term: Number(headers.term) };
}

function openShardStream(channel: Channel, server: string, method: PeerMethod, shard: ShardTerm): DuplexStream {
  return channel.stream(server, method, { headers: shardHeaders(shard) });
}

async function callPeer<T>(
  channel: Channel,
  { server, method, limits }: { readonly server: string; readonly method: PeerMethod; readonly limits: CallLimits },
  request: unknown,
): Promise<T> {
  const options: CallOptions = { ...limits };
  try {
    return (await channel.unary(server, method, request, options)) as T;
  } catch (error) {
    throw portError(error);
  }
}

function appendStream(stream: DuplexStream): AppendStream {
  return {
    send: (append) => stream.send(append),
    drained: () => stream.drained(),
    next: () => nextMessage(stream),
    cancel: () => stream.cancel(),
  };
}

function snapshotStream(stream: DuplexStream): SnapshotStream {
  let finishing = false;
  const ended = new Promise<void>((resolve) => {
    void stream.ended.then(() => {
      if (!finishing) resolve();
    });
  });
  return {
    send: (chunk) => stream.send(chunk),
    drained: () => stream.drained(),
    async finish() {
      finishing = true;
      stream.closeSend();
      const answer = await nextMessage<SnapshotResponse>(stream);
      if (answer === undefined) throw new Unreachable("the stream ended without an answer");
      return answer;
    },
    ended,
    cancel: () => stream.cancel(),
  };
}

async function nextMessage<T>(stream: DuplexStream): Promise<T | undefined> {
  try {
    return (await stream.next()) as T | undefined;
  } catch (error) {
    throw portError(error);
  }
}

/** A call's failure as the ports tell it: what was answered, or that nothing was. */
export function portError(error: unknown): unknown {
  if (!(error instanceof CallError)) return error;
  if (error.refusal instanceof Refusal) return error.refusal;
  return new Unreachable(`${error.code}: ${error.words}`, error);
}
