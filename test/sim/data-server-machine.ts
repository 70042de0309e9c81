/**
 * A data server's machine: its disk, and the process that opens log and state there and serves on the simulated network.
 * Everything in the process is the code of src/, but for log, state and network, which are the simulator's.
 */
import { assert } from "../../src/lib/assert.ts";
import { Refusal } from "../../src/model/refusal.ts";
import type { Log, Logger } from "../../src/ports.ts";
import type { Replica as State } from "../../src/protocol/replica-state.ts";
import { DataServer } from "../../src/replication/data-server.ts";
import { Assignments } from "../../src/rpc/assignments-api.ts";
import { ClientApi } from "../../src/rpc/client-api.ts";
import { clientMethods } from "../../src/rpc/client-methods.ts";
import { serveMethods } from "./client/serve-methods.ts";
import type { Cluster } from "./cluster.ts";
import { DiskFull, type SimDisk } from "./disk.ts";
import { Machine } from "./machine.ts";
import { ModelStorage } from "./model-storage.ts";
import type { Life, SimNode } from "./node.ts";
import { simFollowers } from "./peer-calls.ts";
import { type PeerServer, peerService } from "./peer-service.ts";
import { randomPort, type SimRandom } from "./random.ts";
import { RecentCalls } from "./recent-calls.ts";
import type { NewStorage, ServerStorage } from "./server-storage.ts";
import { traceLogger } from "./trace-logger.ts";
import { watchKeyValues } from "./watched-key-values.ts";
import { type WatchedServer, watchLog } from "./watched-log.ts";
import { watchPeer } from "./watched-peer.ts";

export interface DataServerMachineParts {
  readonly cluster: Cluster;
  readonly node: SimNode;
  readonly storage: ServerStorage;
}

export class DataServerMachine extends Machine {
  readonly storage: ServerStorage;
  /** Address for coordinators and other data servers. */
  readonly internal: string;
  /** Address for clients. */
  readonly publicAddress: string;
  readonly logger: Logger;
  readonly #cluster: Cluster;
  #log: Log | undefined;
  #server: DataServer | undefined;
  #peer: PeerServer | undefined;
  readonly #calls = new RecentCalls();
  /** By shard: what was looked at last. */
  readonly #seen = new Map<number, State>();

  constructor({ cluster, node, storage }: DataServerMachineParts) {
    super({ node, random: cluster.random.split(`machine ${node.name}`), main: (life) => this.#serve(life) });
    this.#cluster = cluster;
    this.storage = storage;
    this.internal = `${node.name}:6649`;
    this.publicAddress = `${node.name}:6648`;
    this.logger = traceLogger(node);
    node.watchers.push({
      ended: () => {
        this.#log = undefined;
        this.#server = undefined;
        this.#peer = undefined;
        this.#seen.clear();
      },
    });
  }

  /** Its disk, which is a simulated one. */
  get disk(): SimDisk {
    assert(this.storage instanceof ModelStorage, "a machine with a simulated disk");
    return this.storage.disk;
  }

  /** What serves there now. */
  get server(): DataServer | undefined {
    return this.#server;
  }

  /** The stamp that the process holds; undefined while none runs. */
  get stamp(): number | undefined {
    return this.#log?.stamp();
  }

  /** The server as its peers reach it; undefined while none runs. */
  get peer(): PeerServer | undefined {
    return this.#peer;
  }

  /** What has been asked of it. */
  get calls(): RecentCalls {
    return this.#calls;
  }

  /** One of the last calls that came here comes once more. */
  repeatCall(random: SimRandom): void {
    const peer = this.#peer;
    const { life } = this.node;
    if (peer !== undefined && life !== undefined) life.spawn("repeated", () => this.#calls.repeat(peer, random));
  }

  /** Tells the checkers of replicas that have another state than before. */
  watchStatus(): void {
    if (this.#server === undefined) return;
    const { of } = this.#cluster.invariants;
    for (const replica of this.#server.replicas.all()) {
      const { state, shard } = replica;
      if (this.#seen.get(shard) === state) continue;
      if (state.status === "leader" && this.#seen.get(shard)?.status !== "leader") {
        this.#cluster.ledSince.set(shard, this.#cluster.scheduler.nowMs);
      }
      this.#seen.set(shard, state);
      of(shard).statusSeen(this.internal, state);
    }
  }

  async #serve(life: Life): Promise<void> {
    try {
      await this.#open(life);
    } catch (error) {
      // without space for what a start has to write there is no start: it is tried again
      const isFull = error instanceof DiskFull || (error instanceof Refusal && error.reason === "RESOURCE_EXHAUSTED");
      if (!isFull) throw error;
      this.node.end("killed");
    }
  }

  async #open(life: Life): Promise<void> {
    const { network, random, invariants, scheduler } = this.#cluster;
    const own = random.split(life.name);
    const { of, changes } = invariants;
    const watched: WatchedServer = { server: this.internal, life: life.number, of, changes };
    const adapters = await this.storage.open(life, own.split("log"));
    const log = watchLog(adapters.log, watched);
    this.#log = log;
    const keyValues = watchKeyValues(adapters.keyValues, watched);
    const channel = network.channel(life);
    const server = await DataServer.open(
      {
        log,
        keyValues,
        followers: simFollowers(channel),
        documents: adapters.documents,
        clock: life.clock,
        random: randomPort(own.split("chance")),
        logger: this.logger,
      },
      { self: this.internal },
    );
    this.#server = server;
    this.#peer = watchPeer(server, watched, this.#calls);
    channel.listen(
      this.internal,
      peerService(this.#peer, (error) => scheduler.fail(error)),
    );
    const { replicas } = server;
    const api = new ClientApi(replicas, new Assignments(replicas, { clock: life.clock }));
    channel.listen(this.publicAddress, serveMethods(life, this.publicAddress, clientMethods(api)));
  }
}

export function newDataServerMachine(cluster: Cluster, node: SimNode, newStorage: NewStorage): DataServerMachine {
  const { plan, scheduler } = cluster;
  const random = cluster.random.split(`disk ${node.name}`);
  const storage = newStorage({ node, random, plan, fail: (error) => scheduler.fail(error) });
  return new DataServerMachine({ cluster, node, storage });
}
