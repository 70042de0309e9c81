/**
 * A data server's internal address on the simulated network: calls and streams become calls of its methods. What it
 * throws beside a Refusal, or that a stream has broken, is a bug and ends the run.
 */
import type {
  Ack,
  AddFollowerRequest,
  Append,
  BecomeLeaderRequest,
  DeleteShardRequest,
  FreezeShardRequest,
  FreezeShardResponse,
  GetStatusRequest,
  GetStatusResponse,
  HandshakeRequest,
  HandshakeResponse,
  NewTermRequest,
  NewTermResponse,
  RemoveObserverRequest,
  ShardAssignments,
  ShardTerm,
  SnapshotChunk,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "../../src/model/peer-messages.ts";
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import type { AppendReceiver, SnapshotReceiver } from "../../src/ports.ts";
import { CallError } from "./call-error.ts";
import type { IncomingCall, Service } from "./network.ts";
import { type PeerMethod, portError, shardOfHeaders } from "./peer-calls.ts";
import type { DuplexStream } from "./stream-call.ts";

/** A data server as coordinators and leaders see it: ours, or one made up for a test. */
export interface PeerServer {
  handshake(request: HandshakeRequest): Promise<HandshakeResponse>;
  newTerm(request: NewTermRequest): Promise<NewTermResponse>;
  becomeLeader(request: BecomeLeaderRequest): Promise<void>;
  addFollower(request: AddFollowerRequest): Promise<void>;
  getStatus(request: GetStatusRequest): Promise<GetStatusResponse>;
  freezeShard(request: FreezeShardRequest): Promise<FreezeShardResponse>;
  removeObserver(request: RemoveObserverRequest): Promise<void>;
  deleteShard(request: DeleteShardRequest): Promise<void>;
  truncate(request: TruncateRequest): Promise<TruncateResponse>;
  replicate(shard: ShardTerm, stream: AppendReceiver): Promise<void>;
  sendSnapshot(shard: ShardTerm, chunks: SnapshotReceiver): Promise<SnapshotResponse>;
  takeAssignments(assignments: ShardAssignments): void;
}

/** Told of an error that no data server may throw. */
export type BugListener = (error: unknown) => void;

export function peerService(server: PeerServer, onBug: BugListener): Service {
  return {
    unary: ({ method }, request) => answered(onBug, () => callMethod(server, method as PeerMethod, request)),
    stream: (call, stream) => answered(onBug, () => serveStream(server, call, stream)),
  };
}

async function answered<T>(onBug: BugListener, answer: () => Promise<T>): Promise<T> {
  try {
    return await answer();
  } catch (error) {
    if (error instanceof Unreachable) throw new CallError("UNAVAILABLE", error.message);
    if (!(error instanceof Refusal) && !(error instanceof CallError)) onBug(error);
    throw error;
  }
}

async function callMethod(server: PeerServer, method: PeerMethod, request: unknown): Promise<unknown> {
  switch (method) {
    case "Handshake":
      return server.handshake(request as HandshakeRequest);
    case "NewTerm":
      return server.newTerm(request as NewTermRequest);
    case "BecomeLeader":
      return server.becomeLeader(request as BecomeLeaderRequest);
    case "AddFollower":
      return server.addFollower(request as AddFollowerRequest);
    case "GetStatus":
      return server.getStatus(request as GetStatusRequest);
    case "FreezeShard":
      return server.freezeShard(request as FreezeShardRequest);
    case "RemoveObserver":
      return server.removeObserver(request as RemoveObserverRequest);
    case "DeleteShard":
      return server.deleteShard(request as DeleteShardRequest);
    case "Truncate":
      return server.truncate(request as TruncateRequest);
    case "CheckHealth":
      return true;
    default:
      throw new CallError("UNIMPLEMENTED", method);
  }
}

async function serveStream(server: PeerServer, { method, headers }: IncomingCall, stream: DuplexStream): Promise<void> {
  switch (method as PeerMethod) {
    case "Replicate":
      return server.replicate(shardOfHeaders(headers), appendReceiver(stream));
    case "SendSnapshot": {
      const chunks: SnapshotReceiver = { next: () => received<SnapshotChunk>(stream) };
      stream.send(await server.sendSnapshot(shardOfHeaders(headers), chunks));
      return;
    }
    case "PushShardAssignments":
      return takeAssignments(server, stream);
    default:
      throw new CallError("UNIMPLEMENTED", method);
  }
}

async function takeAssignments(server: PeerServer, stream: DuplexStream): Promise<void> {
  for (;;) {
    const assignments = await received<ShardAssignments>(stream);
    if (assignments === undefined) return;
    server.takeAssignments(assignments);
  }
}

function appendReceiver(stream: DuplexStream): AppendReceiver {
  return {
    next: () => received<Append>(stream),
    send: (ack: Ack) => void stream.send(ack),
  };
}

async function received<T>(stream: DuplexStream): Promise<T | undefined> {
  try {
    return (await stream.next()) as T | undefined;
  } catch (error) {
    throw portError(error);
  }
}
