/**
 * A data server as the reference is one, as far as peers see it: plain messages in, plain messages out, all our fields
 * left out. Written from semantics.md §8 and §9.2, to be mixed with our own on the simulated network.
 *
 * A controller of a shard is opened by the first call that touches it; until then, also after a start, the shard is
 * unknown here.
 */
import type { Bytes } from "../../../src/lib/bytes.ts";
import type { ShardId } from "../../../src/model/ids.ts";
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
  ShardTerm,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "../../../src/model/peer-messages.ts";
import { Refusal } from "../../../src/model/refusal.ts";
import type { AppendReceiver, SnapshotReceiver } from "../../../src/ports.ts";
import type { MountedDisk } from "../disk.ts";
import type { PeerServer } from "../peer-service.ts";
import type { ReferenceLeading, ReferencePorts } from "./leading.ts";
import { ReferenceReplica } from "./replica.ts";

const INSTANCE = "reference/instance";

export class ReferenceDataServer implements PeerServer {
  readonly #ports: ReferencePorts;
  readonly #disk: MountedDisk;
  readonly #replicas = new Map<ShardId, Promise<ReferenceReplica>>();
  /** The same, once they are open. */
  readonly #opened = new Map<ShardId, ReferenceReplica>();
  #instance: string | undefined;

  private constructor(ports: ReferencePorts, disk: MountedDisk) {
    this.#ports = ports;
    this.#disk = disk;
  }

  static async open(ports: ReferencePorts & { readonly disk: MountedDisk }): Promise<ReferenceDataServer> {
    const server = new ReferenceDataServer(ports, ports.disk);
    server.#instance = (await ports.disk.read<string>(INSTANCE))?.[0]?.record;
    return server;
  }

  async handshake({ instanceId }: HandshakeRequest): Promise<HandshakeResponse> {
    const answer = { features: ["DB_CHECKSUM"], stamp: undefined } as const;
    if (this.#instance !== undefined) {
      return { ...answer, status: this.#instance === instanceId ? "ALREADY_BOUND" : "MISMATCH" };
    }
    this.#instance = instanceId;
    await this.#disk.replace(INSTANCE, [{ record: instanceId, bytes: instanceId.length }]);
    return { ...answer, status: "BOUND" };
  }

  async newTerm(request: NewTermRequest): Promise<NewTermResponse> {
    return (await this.#open(request.shard)).newTerm(request);
  }

  async becomeLeader(request: BecomeLeaderRequest): Promise<void> {
    await this.#known(request.shard, "INVALID_STATUS").becomeLeader(request);
  }

  async addFollower(request: AddFollowerRequest): Promise<void> {
    await this.#known(request.shard, "NODE_IS_NOT_LEADER").addFollower(request);
  }

  async getStatus({ shard }: GetStatusRequest): Promise<GetStatusResponse> {
    return this.#known(shard, "NODE_IS_NOT_MEMBER").getStatus();
  }

  async freezeShard(request: FreezeShardRequest): Promise<FreezeShardResponse> {
    return { headOffset: await this.#known(request.shard, "NODE_IS_NOT_LEADER").freeze(request) };
  }

  async removeObserver(request: RemoveObserverRequest): Promise<void> {
    await this.#known(request.shard, "NODE_IS_NOT_LEADER").removeObserver(request);
  }

  async deleteShard(request: DeleteShardRequest): Promise<void> {
    await (await this.#open(request.shard)).delete(request);
    this.#replicas.delete(request.shard);
    this.#opened.delete(request.shard);
  }

  async truncate(request: TruncateRequest): Promise<TruncateResponse> {
    return (await this.#open(request.shard)).truncate(request);
  }

  async replicate(shard: ShardTerm, stream: AppendReceiver): Promise<void> {
    await (await this.#open(shard.shard)).replicate(shard, stream);
  }

  async sendSnapshot(shard: ShardTerm, chunks: SnapshotReceiver): Promise<SnapshotResponse> {
    return (await this.#open(shard.shard)).sendSnapshot(shard, chunks);
  }

  takeAssignments(): void {}

  // --- clients ------------------------------------------------------------------------------------------------------

  /** A serialised WriteRequest; its WriteResponse. */
  async write(shard: ShardId, request: Bytes): Promise<Bytes> {
    return this.#leading(shard).write(request);
  }

  /** The stored row of a key, as this server believes it to be. */
  async read(shard: ShardId, key: Bytes): Promise<Bytes | undefined> {
    return this.#leading(shard).read(key);
  }

  /** The leadership that serves here, for the simulator's checks. */
  leadingOf(shard: ShardId): ReferenceLeading | undefined {
    return this.#opened.get(shard)?.leading;
  }

  #leading(shard: ShardId): ReferenceLeading {
    const leading = this.leadingOf(shard);
    if (leading === undefined) throw new Refusal("NODE_IS_NOT_LEADER", `shard ${shard} is not led here`);
    return leading;
  }

  #known(shard: ShardId, reason: "INVALID_STATUS" | "NODE_IS_NOT_LEADER" | "NODE_IS_NOT_MEMBER"): ReferenceReplica {
    this.#requireBound();
    const replica = this.#opened.get(shard);
    if (replica === undefined) throw new Refusal(reason, `shard ${shard} is not known here`);
    return replica;
  }

  #requireBound(): void {
    if (this.#instance === undefined) throw new Refusal("NOT_INITIALIZED", "oxia: server not initialized yet");
  }

  async #open(shard: ShardId): Promise<ReferenceReplica> {
    this.#requireBound();
    let opening = this.#replicas.get(shard);
    if (opening === undefined) {
      opening = ReferenceReplica.open(this.#ports, this.#disk, `reference/${shard}`);
      this.#replicas.set(shard, opening);
    }
    const replica = await opening;
    if (this.#replicas.get(shard) === opening) this.#opened.set(shard, replica);
    return replica;
  }
}
