/** Followers as a leader calls them over HTTP/2: the port Followers. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  GetStatusRequestSchema,
  OxiaCoordination,
  OxiaLogReplication,
  SnapshotChunkSchema,
  SnapshotResponseSchema,
} from "../gen/replication/replication_pb.ts";
import type {
  GetStatusRequest,
  GetStatusResponse,
  NewTermRequest,
  NewTermResponse,
  ShardTerm,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "../model/peer-messages.ts";
import { Unreachable } from "../model/refusal.ts";
import type { AppendStream, CallLimits, Followers, SnapshotStream } from "../ports.ts";
import { decodeAck, encodeAppend } from "../wire/append.ts";
import { getStatusResponse, newTermResponse, protoNewTermRequest } from "./coordination-codec.ts";
import { callPeer, type PeerPorts, PeerStream } from "./peer-call.ts";
import { toNumber } from "./peer-fields.ts";
import { protoSnapshotChunk, protoTruncateRequest, truncateResponse } from "./replication-codec.ts";

const { method } = OxiaLogReplication;

export class GrpcFollowers implements Followers {
  readonly #ports: PeerPorts;

  constructor(ports: PeerPorts) {
    this.#ports = ports;
  }

  async truncate(server: string, request: TruncateRequest, limits: CallLimits): Promise<TruncateResponse> {
    const message = protoTruncateRequest(request);
    return truncateResponse(await callPeer(this.#ports, method.truncate, { server, limits }, message));
  }

  async newTerm(server: string, request: NewTermRequest, limits: CallLimits): Promise<NewTermResponse> {
    const message = protoNewTermRequest(request);
    return newTermResponse(await callPeer(this.#ports, OxiaCoordination.method.newTerm, { server, limits }, message));
  }

  async getStatus(server: string, { shard }: GetStatusRequest, limits: CallLimits): Promise<GetStatusResponse> {
    const message = create(GetStatusRequestSchema, { shard: BigInt(shard) });
    const call = { server, limits };
    return getStatusResponse(await callPeer(this.#ports, OxiaCoordination.method.getStatus, call, message));
  }

  replicate(server: string, shard: ShardTerm): AppendStream {
    const target = { server, method: method.replicate, headers: headersOf(shard), decode: decodeAck };
    const stream = new PeerStream(this.#ports, target);
    return {
      send: (append) => stream.send(encodeAppend(append)),
      drained: () => stream.drained(),
      next: () => stream.next(),
      cancel: () => stream.cancel(),
    };
  }

  sendSnapshot(server: string, shard: ShardTerm): SnapshotStream {
    const decode = (bytes: Uint8Array): SnapshotResponse => {
      const { ackOffset } = fromBinary(SnapshotResponseSchema, bytes);
      return { ackOffset: toNumber(ackOffset, "ack_offset") };
    };
    const stream = new PeerStream(this.#ports, {
      server,
      method: method.sendSnapshot,
      headers: headersOf(shard),
      decode,
    });
    return {
      send: (chunk) => stream.send(toBinary(SnapshotChunkSchema, protoSnapshotChunk(chunk))),
      drained: () => stream.drained(),
      async finish() {
        stream.finish();
        const response = await stream.next();
        if (response === undefined) throw new Unreachable(`${server}: the stream ended without an answer`);
        return response;
      },
      ended: stream.ended.then(() => {}),
      cancel: () => stream.cancel(),
    };
  }
}

function headersOf({ namespace, shard, term }: ShardTerm): Record<string, string> {
  return { namespace, "shard-id": String(shard), term: String(term) };
}
