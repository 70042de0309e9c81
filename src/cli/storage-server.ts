/**
 * A data server of a cluster: it holds the replicas that a coordinator gives it. Clients connect to the public port,
 * coordinators and other data servers to the internal one.
 *
 *     start    directories → log → replicas found → internal port → public port → HTTP port
 *     stop     not ready → others lead what it leads, if a coordinator is there → client streams end → calls drain → replicas stop, states flushed → internal port → log
 *
 * It is ready once a coordinator has told it who leads what. The internal port has connections of its own, one for calls
 * and one for entries, so that a heartbeat never waits behind data.
 */

import type { ReadinessCheck } from "../../web/inspect.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { OxiaCoordination, OxiaLogReplication } from "../gen/replication/replication_pb.ts";
import { NodeService } from "../gen/varia/internal/v1/node_pb.ts";
import {
  FLUSH_INTERVAL_MS,
  INTERNAL_MESSAGE_EXTRA_BYTES,
  LEADERS_LEFT_HEARD_MS,
  LEADERS_LEFT_LOOK_MS,
  LEADERS_LEFT_MS_MAX,
  PEER_CONNECTION_TIMES,
} from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { Access } from "../ops/access.ts";
import { History } from "../ops/history.ts";
import type { ServerLogger } from "../ops/logger.ts";
import { systemRandom } from "../ops/random.ts";
import type { GivenSetting } from "../ops/settings.ts";
import type { Clock } from "../ports.ts";
import { DataServer } from "../replication/data-server.ts";
import { Audit, audited } from "../rpc/audit.ts";
import { GrpcFollowers } from "../rpc/followers.ts";
import { guarded } from "../rpc/guard.ts";
import { HEALTH_PROCESS, HEALTH_READINESS, Health } from "../rpc/health-api.ts";
import { internalMethods } from "../rpc/internal-methods.ts";
import { type Listener, startListener } from "../rpc/listener.ts";
import { loadMethods } from "../rpc/load-api.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { nodeMethods } from "../rpc/node-api.ts";
import { askedMethods } from "../rpc/node-relay.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
import { statusMethods } from "../rpc/status-batches.ts";
import { countedSnapshots, Timings } from "../rpc/timings.ts";
import { dataMetrics } from "./data-metrics.ts";
import { type DataStorage, openDataStorage } from "./data-storage.ts";
import { NamespaceClients } from "./namespace-clients.ts";
import { dataSeries } from "./process-history.ts";
import { PublicSide } from "./public-side.ts";
import type { StorageSettings } from "./storage-settings.ts";
import { WebSide } from "./web-side.ts";

export interface StorageOptions {
  readonly settings: StorageSettings;
  /** The same, with where they come from, for whoever asks; default: nothing is told. */
  readonly given?: readonly GivenSetting[];
  readonly version: string;
  readonly clock: Clock;
  readonly logger: ServerLogger;
  /** Told once when a device failed: the process must end at once, without a further answer. */
  readonly onFault: (error: Error) => void;
}

interface Parts {
  readonly storage: DataStorage;
  readonly server: DataServer;
  readonly internal: Listener;
  /** What the coordinator hears: it ends before clients do. */
  readonly internalHealth: Health;
  readonly side: PublicSide;
  readonly coordinators: Coordinators;
  readonly transport: Http2Transport;
  readonly methods: readonly ServedMethod[];
  readonly access: Access;
  readonly audit: Audit;
  readonly publicAddress: () => string;
  readonly history: History;
}

/** Coordinators that send assignments now: who leaves has nobody to hand over to without one. */
class Coordinators {
  connected = 0;

  count(change: 1 | -1): void {
    this.connected += change;
  }
}

/** A running server. */
export class StorageServer {
  readonly #options: StorageOptions;
  readonly #parts: Parts;
  readonly #web: WebSide;
  readonly #clients: NamespaceClients;
  #cancelFlush: () => void;
  #stopping = false;

  /** Opens everything and serves. Rejects with an ExitError or SettingError in words for the operator. */
  static async start(options: StorageOptions): Promise<StorageServer> {
    const closing: (() => Promise<unknown>)[] = [];
    try {
      return await StorageServer.#open(options, closing);
    } catch (error) {
      for (const close of closing.reverse()) await close();
      throw error;
    }
  }

  static async #open(options: StorageOptions, closing: (() => Promise<unknown>)[]): Promise<StorageServer> {
    const { settings, version, clock, logger } = options;
    const access = Access.open(settings.adminTokenFile);
    const storage = await openDataStorage({ ...options, fixed: { mode: "storage" }, acceptLoss: [] });
    closing.push(() => storage.close());
    const { log, keyValues, documents } = storage;
    const transport = new Http2Transport({ times: PEER_CONNECTION_TIMES });
    const { host, port } = settings.internalAddr;
    const timings = new Timings();
    const server: DataServer = await DataServer.open(
      {
        ...{ log, keyValues, documents, clock, logger, random: systemRandom },
        followers: countedSnapshots(
          new GrpcFollowers({ transport, clock, instanceId: () => server.instance }),
          timings,
        ),
      },
      { self: `${host}:${port}`, notificationsRetentionMs: settings.notificationsRetentionTime },
    );
    closing.push(() => server.close());
    let publicSide: PublicSide | undefined;
    const publicPort = () => publicSide?.listener.port ?? settings.publicAddr.port;
    const publicAddress = () => `${settings.publicAddr.host}:${publicPort()}`;
    const { given = [] } = options;
    const { replicas } = server;
    const history = new History(dataSeries({ shards: replicas, log, keyValues: storage.node, timings }), clock.now());
    const node = { mode: "storage", version, publicAddress, startedAtMs: Date.now() } as const;
    const methods = nodeMethods({ ...node, given, logger, history }, replicas);
    const audit = new Audit(logger);
    const adminMethods = audited(guarded(methods, access), audit);
    const side = await PublicSide.start({ settings, shards: server.replicas, timings, adminMethods, clock, logger });
    publicSide = side;
    closing.push(() => side.listener.close({ graceMs: 0 }));
    const internalHealth = new Health();
    const coordinators = new Coordinators();
    let started: StorageServer | undefined;
    const internal = await startListener({
      host,
      port,
      methods: [
        ...internalMethods(server, { ...settings, timings, onCoordinator: (change) => coordinators.count(change) }),
        ...loadMethods(server, {
          ...{ version, startedAtMs: node.startedAtMs, shards: replicas, log, directory: settings.dataDir },
          stateBytes: () => storage.node.stats.fileBytes,
          stateBytesOf: ({ namespace, id }) => storage.stateBytesOf({ namespace, shard: id }),
          httpPort: () => started?.httpPort ?? 0,
        }),
        ...askedMethods(server, methods),
        ...statusMethods(server),
        ...internalHealth.methods(),
        ...reflectionMethods([OxiaCoordination, OxiaLogReplication, NodeService, HealthService]),
      ],
      limits: { messageBytesMax: settings.maxMessageSize + INTERNAL_MESSAGE_EXTRA_BYTES },
      clock,
      logger,
    });
    closing.push(() => internal.close({ graceMs: 0 }));
    const ports = { internal, internalHealth, side, transport };
    started = new StorageServer(options, {
      storage,
      server,
      ...ports,
      coordinators,
      ...{ methods, access, audit },
      publicAddress,
      history,
    });
    return started;
  }

  private constructor(options: StorageOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    this.#clients = new NamespaceClients(parts.publicAddress);
    this.#web = this.#serveWeb();
    parts.history.start(options.clock);
    const { side, internalHealth } = parts;
    for (const health of [side.health, internalHealth]) health.set(HEALTH_PROCESS, true);
    const stopWatching = parts.server.replicas.onAssignments(() => {
      stopWatching();
      for (const health of [side.health, internalHealth]) health.set(HEALTH_READINESS, true);
    });
    this.#cancelFlush = options.clock.after(FLUSH_INTERVAL_MS, () => this.#flushAll());
  }

  get publicPort(): number {
    return this.#parts.side.listener.port;
  }

  get internalPort(): number {
    return this.#parts.internal.port;
  }

  get httpPort(): number {
    return this.#web.port;
  }

  /** Drains and closes everything; resolves when all that was acknowledged is stored and nothing runs any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#parts.history.stop();
    this.#cancelFlush();
    const { storage, server, internal, internalHealth, side, transport } = this.#parts;
    const reason = new Refusal("RESOURCE_UNAVAILABLE", "oxia: resource unavailable: the server is shutting down");
    internalHealth.shutDown();
    await this.#leadNoMore();
    await side.close(reason);
    await Promise.all(server.replicas.leaders().map((leader) => leader.drain(reason)));
    await server.close();
    await internal.close({ graceMs: 0 });
    transport.close();
    await storage.close();
    await this.#web.stop();
    await this.#clients.close();
  }

  /**
   * Waits until the coordinator has others lead what this server leads, and until those clients have heard of it that
   * watch assignments here: they would go on to call a server that is gone.
   */
  async #leadNoMore(): Promise<void> {
    const { clock } = this.#options;
    const { server, coordinators } = this.#parts;
    const { replicas } = server;
    const pause = (ms: number) => new Promise<void>((resolve) => clock.after(ms, resolve));
    const led = replicas.leaders().map(({ id }) => ({ id, leader: replicas.assignedLeader(id) }));
    if (led.length === 0) return;
    const isElsewhere = ({ id, leader }: (typeof led)[number]) => {
      const now = replicas.assignedLeader(id);
      return now !== undefined && now !== "" && now !== leader;
    };
    const untilMs = clock.monotonicMs() + LEADERS_LEFT_MS_MAX;
    while (replicas.leaders().length > 0 || !led.every(isElsewhere)) {
      if (coordinators.connected === 0 || clock.monotonicMs() >= untilMs) return;
      await pause(LEADERS_LEFT_LOOK_MS);
    }
    await pause(LEADERS_LEFT_HEARD_MS);
  }

  /** Pushes the states along, so that no log segment is kept for one alone. */
  #flushAll(): void {
    for (const replica of this.#parts.server.replicas.all()) void replica.kv?.flush();
    this.#cancelFlush = this.#options.clock.after(FLUSH_INTERVAL_MS, () => this.#flushAll());
  }

  #serveWeb(): WebSide {
    const { storage, server, side, methods, access, audit, publicAddress } = this.#parts;
    const { settings } = this.#options;
    const sources = { shards: server.replicas, assignments: side.api.assignments, listener: side.listener };
    return WebSide.start({
      ...{
        address: settings.metricsAddr,
        ui: settings.ui,
        masked: settings.uiMask,
        logger: this.#options.logger,
        mode: "storage",
        ...{ methods, access, audit, clients: this.#clients },
      },
      metrics: dataMetrics({ ...sources, log: storage.log, keyValues: storage.node, timings: side.timings }),
      readiness: () => this.#readiness(),
      clientAddress: publicAddress,
      adminAddress: publicAddress,
    });
  }

  #readiness(): ReadinessCheck[] {
    const isInitialized = this.#parts.server.assignments !== undefined;
    return [
      { name: "serving", ok: !this.#stopping, detail: this.#stopping ? "shutting down" : "" },
      {
        name: "assignments",
        ok: isInitialized,
        detail: isInitialized ? "" : "no coordinator has said yet who leads what",
      },
    ];
  }
}
