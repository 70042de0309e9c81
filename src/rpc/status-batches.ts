/**
 * Where replicas stand, asked together: what is asked of one server in one turn goes in one call. A look at a thousand
 * shards is three calls then, and not three thousand.
 *
 *     getStatus, getStatus, … of one server in one turn ──GetStatuses──> server ──> each its answer
 *
 * A server that does not know the call, and a replica that it has no answer for, are asked one by one.
 */
import { create } from "@bufbuild/protobuf";
import { isRefusal } from "../coordination/replica-calls.ts";
import { Permits } from "../coordination/wait.ts";
import { GetStatusRequestSchema, OxiaCoordination } from "../gen/replication/replication_pb.ts";
import { GetStatusesRequestSchema, NodeService } from "../gen/varia/internal/v1/node_pb.ts";
import type { ShardId } from "../model/ids.ts";
import { STATUS_CALLS_AT_ONCE_MAX } from "../model/limits.ts";
import type { GetStatusResponse } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { CallLimits } from "../ports.ts";
import { getStatusResponse, protoGetStatusResponse } from "./coordination-codec.ts";
import { type InternalServer, requireInstance } from "./internal-methods.ts";
import type { ServedMethod } from "./method.ts";
import { callPeer, type PeerPorts } from "./peer-call.ts";
import { servedUnary } from "./served.ts";

/** The side of a data server. */
export function statusMethods(server: Pick<InternalServer, "instance" | "getStatus">): ServedMethod[] {
  return [
    servedUnary(NodeService.method.getStatuses, async ({ shards }, call) => {
      requireInstance(server, call);
      const statuses = [];
      for (const shard of shards) {
        try {
          const status = await server.getStatus({ shard: Number(shard) });
          statuses.push({ shard, status: protoGetStatusResponse(status) });
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
        }
      }
      return { statuses };
    }),
  ];
}

interface Waiting {
  readonly shard: ShardId;
  readonly limits: CallLimits;
  readonly resolve: (status: GetStatusResponse | Promise<GetStatusResponse>) => void;
  readonly reject: (error: unknown) => void;
}

/** The side of a coordinator. */
export class StatusBatches {
  readonly #ports: PeerPorts;
  /** By server, what is asked in this turn. */
  readonly #waiting = new Map<string, Waiting[]>();
  /** Servers that have to be asked one by one. */
  readonly #singly = new Set<string>();
  readonly #permits = new Permits(STATUS_CALLS_AT_ONCE_MAX);

  constructor(ports: PeerPorts) {
    this.#ports = ports;
  }

  /** Rejects as GetStatus does. */
  get(server: string, shard: ShardId, limits: CallLimits): Promise<GetStatusResponse> {
    if (this.#singly.has(server) || limits.signal !== undefined) return this.#getOne(server, shard, limits);
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(server) ?? [];
      if (waiting.length === 0) this.#ports.clock.soon(() => void this.#ask(server));
      waiting.push({ shard, limits, resolve, reject });
      this.#waiting.set(server, waiting);
    });
  }

  async #ask(server: string): Promise<void> {
    const batch = this.#waiting.get(server) ?? [];
    this.#waiting.delete(server);
    const one = ({ shard, limits }: Waiting) => this.#getOne(server, shard, limits);
    const [first] = batch;
    if (batch.length === 1) return first!.resolve(one(first!));
    try {
      const found = await this.#getAll(server, batch);
      for (const waiting of batch) waiting.resolve(found.get(waiting.shard) ?? one(waiting));
    } catch (error) {
      const isUnknown = isRefusal(error, "UNIMPLEMENTED");
      if (isUnknown) this.#singly.add(server);
      for (const waiting of batch) isUnknown ? waiting.resolve(one(waiting)) : waiting.reject(error);
    }
  }

  async #getAll(server: string, batch: readonly Waiting[]): Promise<Map<ShardId, GetStatusResponse>> {
    const timeoutsMs = batch.flatMap(({ limits }) => limits.timeoutMs ?? []);
    const limits = timeoutsMs.length === 0 ? {} : { timeoutMs: Math.max(...timeoutsMs) };
    const request = create(GetStatusesRequestSchema, { shards: batch.map(({ shard }) => BigInt(shard)) });
    const { statuses } = await callPeer(this.#ports, NodeService.method.getStatuses, { server, limits }, request);
    return new Map(
      statuses.flatMap(({ shard, status }) =>
        status === undefined ? [] : [[Number(shard), getStatusResponse(status)] as const],
      ),
    );
  }

  #getOne(server: string, shard: ShardId, limits: CallLimits): Promise<GetStatusResponse> {
    const message = create(GetStatusRequestSchema, { shard: BigInt(shard) });
    const { getStatus } = OxiaCoordination.method;
    return this.#permits.hold(async () =>
      getStatusResponse(await callPeer(this.#ports, getStatus, { server, limits }, message)),
    );
  }
}
