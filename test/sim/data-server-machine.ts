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
import type { Adapters, NewStorage, ServerStorage } from "./server-storage.ts";
import { traceLogger } from "./trace-logger.ts";
import { Violation } from "./violation.ts";
import { watchFollowers } from "./watched-followers.ts";
import { watchKeyValues } from "./watched-key-values.ts";
import { type WatchedServer, watchLog } from "./watched-log.ts";
import { watchPeer } from "./watched-peer.ts";

export interface DataServerMachineParts {
  readonly cluster: Cluster;
  readonly node: SimNode;
  readonly storage: ServerStorage;
  /** Another disk, an empty one. */
  readonly newStorage: () => ServerStorage;
}

/** How often it is looked at whether a node of another cluster was given anything. */
const FOREIGN_LOOK_MS = 500;
/** What the disk of a node of another cluster says. */
const FOREIGN = new Map([["instance", "another cluster"]]);

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
  readonly #newStorage: () => ServerStorage;
  /** The disk of a node of another cluster, which runs here for a while. */
  #foreign: ServerStorage | undefined;
  /** By shard: what was looked at last. */
  readonly #seen = new Map<number, State>();

  constructor({ cluster, node, storage, newStorage }: DataServerMachineParts) {
    super({ node, random: cluster.random.split(`machine ${node.name}`), main: (life) => this.#serve(life) });
    this.#cluster = cluster;
    this.storage = storage;
    this.#newStorage = newStorage;
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

  /** A node of another cluster comes up at its address, with a disk of its own. */
  runForeign(): void {
    if (this.#foreign !== undefined) return;
    this.#foreign = this.#newStorage();
    this.end("power", 0);
  }

  /** It is its own node again, with the disk as it was left. */
  runOwn(): void {
    if (this.#foreign === undefined) return;
    this.#foreign = undefined;
    this.end("power", 0);
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
    const { network, random, invariants, scheduler, plan } = this.#cluster;
    const own = random.split(life.name);
    const { of, changes } = invariants;
    const confirmedStamp = () => invariants.confirmedStamp(this.internal);
    const watched: WatchedServer = { server: this.internal, life: life.number, of, changes, confirmedStamp };
    if (this.#foreign !== undefined) {
      await this.#openForeign(life, await this.#foreign.open(life, own.split("log")), own);
      return;
    }
    const adapters = await this.storage.open(life, own.split("log"));
    const log = watchLog(adapters.log, watched);
    this.#log = log;
    const keyValues = watchKeyValues(adapters.keyValues, watched);
    const channel = network.channel(life);
    const server = await DataServer.open(
      {
        log,
        keyValues,
        followers: watchFollowers(simFollowers(channel), (violation) => scheduler.fail(violation)),
        documents: adapters.documents,
        clock: life.clock,
        random: randomPort(own.split("chance")),
        logger: this.logger,
      },
      { self: this.internal, notificationsRetentionMs: plan.knobs.notificationsRetentionMs },
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

  /** A node of another cluster: nobody here may have it hold anything. */
  async #openForeign(life: Life, { log, keyValues, documents }: Adapters, random: SimRandom): Promise<void> {
    const { network, scheduler } = this.#cluster;
    const channel = network.channel(life);
    const server = await DataServer.open(
      {
        log,
        keyValues,
        followers: simFollowers(channel),
        documents: { ...documents, all: async () => FOREIGN },
        clock: life.clock,
        random: randomPort(random.split("chance")),
        logger: this.logger,
      },
      { self: this.internal },
    );
    scheduler.after(FOREIGN_LOOK_MS, "look at the foreign node", function look() {
      if (!life.alive) return;
      const [held] = server.replicas.all();
      if (held !== undefined) {
        scheduler.fail(new Violation("ForeignHoldsNothing", `a node of another cluster holds shard ${held.shard}`));
      }
      scheduler.after(FOREIGN_LOOK_MS, "look at the foreign node", look);
    });
    channel.listen(
      this.internal,
      peerService(toStrangers(server), (error) => scheduler.fail(error)),
    );
  }
}

export function newDataServerMachine(cluster: Cluster, node: SimNode, newStorage: NewStorage): DataServerMachine {
  const { plan, scheduler } = cluster;
  const random = cluster.random.split(`disk ${node.name}`);
  const parts = { node, random, plan, fail: (error: unknown) => scheduler.fail(error) };
  const other = () => new ModelStorage({ ...parts, random: random.split("foreign") });
  return new DataServerMachine({ cluster, node, storage: newStorage(parts), newStorage: other });
}

/** A server as those reach it who are of another cluster: each call names the caller's (rpc/internal-methods.ts). */
function toStrangers(server: DataServer): PeerServer {
  const refused = () => {
    throw new Refusal("PERMISSION_DENIED", "unexpected instance id");
  };
  return new Proxy(server, {
    get: (target, name) => (name === "handshake" ? target.handshake.bind(target) : refused),
  });
}
