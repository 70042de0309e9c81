/** Data servers as a coordinator calls them over HTTP/2: the port DataServers. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus,
  Health as HealthService,
} from "../gen/grpc/health/v1/health_pb.ts";
import { ShardAssignmentsSchema } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { OxiaCoordination } from "../gen/replication/replication_pb.ts";
import type {
  AddFollowerRequest,
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
} from "../model/peer-messages.ts";
import type { AssignmentStream, CallLimits, DataServers } from "../ports.ts";
import {
  handshakeResponse,
  newTermResponse,
  protoAddFollowerRequest,
  protoAssignments,
  protoBecomeLeaderRequest,
  protoDeleteShardRequest,
  protoFreezeShardRequest,
  protoHandshakeRequest,
  protoNewTermRequest,
  protoRemoveObserverRequest,
} from "./coordination-codec.ts";
import { callPeer, type PeerPorts, PeerStream } from "./peer-call.ts";
import { toNumber } from "./peer-fields.ts";
import { StatusBatches } from "./status-batches.ts";

const { method } = OxiaCoordination;

export class GrpcDataServers implements DataServers {
  readonly #ports: PeerPorts;
  readonly #statuses: StatusBatches;

  constructor(ports: PeerPorts) {
    this.#ports = ports;
    this.#statuses = new StatusBatches(ports);
  }

  async handshake(server: string, request: HandshakeRequest, limits: CallLimits): Promise<HandshakeResponse> {
    const call = { server, limits, withoutInstance: true };
    return handshakeResponse(await callPeer(this.#ports, method.handshake, call, protoHandshakeRequest(request)));
  }

  async newTerm(server: string, request: NewTermRequest, limits: CallLimits): Promise<NewTermResponse> {
    const message = protoNewTermRequest(request);
    return newTermResponse(await callPeer(this.#ports, method.newTerm, { server, limits }, message));
  }

  async becomeLeader(server: string, request: BecomeLeaderRequest, limits: CallLimits): Promise<void> {
    await callPeer(this.#ports, method.becomeLeader, { server, limits }, protoBecomeLeaderRequest(request));
  }

  async addFollower(server: string, request: AddFollowerRequest, limits: CallLimits): Promise<void> {
    await callPeer(this.#ports, method.addFollower, { server, limits }, protoAddFollowerRequest(request));
  }

  getStatus(server: string, { shard }: GetStatusRequest, limits: CallLimits): Promise<GetStatusResponse> {
    return this.#statuses.get(server, shard, limits);
  }

  async freezeShard(server: string, request: FreezeShardRequest, limits: CallLimits): Promise<FreezeShardResponse> {
    const message = protoFreezeShardRequest(request);
    const { headOffset } = await callPeer(this.#ports, method.freezeShard, { server, limits }, message);
    return { headOffset: toNumber(headOffset, "head_offset") };
  }

  async removeObserver(server: string, request: RemoveObserverRequest, limits: CallLimits): Promise<void> {
    await callPeer(this.#ports, method.removeObserver, { server, limits }, protoRemoveObserverRequest(request));
  }

  async deleteShard(server: string, request: DeleteShardRequest, limits: CallLimits): Promise<void> {
    await callPeer(this.#ports, method.deleteShard, { server, limits }, protoDeleteShardRequest(request));
  }

  async checkHealth(server: string, limits: CallLimits): Promise<boolean> {
    const call = { server, limits, withoutInstance: true };
    const message = create(HealthCheckRequestSchema, { service: "" });
    const { status } = await callPeer(this.#ports, HealthService.method.check, call, message);
    return status === HealthCheckResponse_ServingStatus.SERVING;
  }

  pushAssignments(server: string): AssignmentStream {
    const stream = new PeerStream(this.#ports, {
      server,
      method: method.pushShardAssignments,
      decode: () => undefined,
    });
    return {
      send: (assignments) => void stream.send(toBinary(ShardAssignmentsSchema, protoAssignments(assignments))),
      ended: stream.ended.then(() => {}),
      cancel: () => stream.cancel(),
    };
  }
}
