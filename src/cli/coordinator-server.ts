/**
 * A coordinator: it finds failures, elects leaders and changes ensembles of the data servers that the cluster's
 * configuration names, and keeps the status in the metadata store, which it alone holds.
 *
 *     start    configuration → metadata store → internal port (health) → admin port → HTTP port → work
 *     stop     not ready → flows end → ports close → store closed
 *
 * When it cannot tell what the store holds it ends its work, opens the store again and begins anew: nothing that is read
 * back licenses what was begun before (safety.md §3).
 */

import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import type { ReadinessCheck } from "../../web/inspect.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { Coordinator } from "../coordination/coordinator.ts";
import { OperationList } from "../coordination/operation-list.ts";
import { Operations } from "../coordination/operations.ts";
import { CoordinatorStats, timedStore } from "../coordination/stats.ts";
import { StoreLost } from "../coordination/status-store.ts";
import { Interrupted } from "../coordination/wait.ts";
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { METADATA_REOPEN_MS, PEER_CONNECTION_TIMES, SHUTDOWN_GRACE_MS } from "../model/limits.ts";
import { Access } from "../ops/access.ts";
import { EVENTS_SAVE_MS, Events, recordingLogger } from "../ops/events.ts";
import { History } from "../ops/history.ts";
import type { ServerLogger } from "../ops/logger.ts";
import { systemRandom } from "../ops/random.ts";
import type { GivenSetting } from "../ops/settings.ts";
import type { Clock, Logger, MetadataStore } from "../ports.ts";
import { adminMethods } from "../rpc/admin-api.ts";
import { Audit, audited } from "../rpc/audit.ts";
import { clusterMethods } from "../rpc/cluster-api.ts";
import { GrpcDataServers } from "../rpc/data-servers.ts";
import { eventMethods } from "../rpc/events-api.ts";
import { guarded } from "../rpc/guard.ts";
import { HEALTH_PROCESS, Health } from "../rpc/health-api.ts";
import { type Listener, startListener } from "../rpc/listener.ts";
import { askLoad, LoadWatch } from "../rpc/load-watch.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { nodeMethods } from "../rpc/node-api.ts";
import { askServers } from "../rpc/node-relay.ts";
import { operationMethods } from "../rpc/operations-api.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
import { ClusterFile } from "./cluster-file.ts";
import { coordinatorMetrics } from "./coordinator-metrics.ts";
import { type CoordinatorFiles, type CoordinatorSettings, coordinatorFiles } from "./coordinator-settings.ts";
import { type CoordinatorStores, openStores, storesDirectory } from "./coordinator-stores.ts";
import { diagnosisMethods } from "./diagnosis-methods.ts";
import { LeaderFile } from "./leader-file.ts";
import { NamespaceClients } from "./namespace-clients.ts";
import { coordinatorSeries } from "./process-history.ts";
import { sessionMethods } from "./session-methods.ts";
import { WebSide } from "./web-side.ts";

export interface CoordinatorOptions {
  readonly settings: CoordinatorSettings;
  /** The same, with where they come from, for whoever asks; default: nothing is told. */
  readonly given?: readonly GivenSetting[];
  readonly version: string;
  readonly clock: Clock;
  readonly logger: ServerLogger;
  /** Opened before, and closed by `stop`; default: it opens its own. */
  readonly stores?: CoordinatorStores;
  /** Told once when it can work no more: the process must end. */
  readonly onFault: (error: Error) => void;
}

interface Parts {
  readonly file: ClusterFile;
  readonly stores: CoordinatorStores;
  /** Undefined: nobody can stand by. */
  readonly leaderFile: LeaderFile | undefined;
  readonly health: Health;
  readonly internal: Listener;
  readonly admin: Listener;
  readonly transport: Http2Transport;
  readonly access: Access;
  /** What the admin port serves, and the pages call. */
  readonly methods: readonly ServedMethod[];
  /** The log of what happens to the cluster, which is kept beside it. */
  readonly recorded: Logger;
  readonly events: Events;
  readonly operations: Operations;
  readonly loads: LoadWatch;
  readonly audit: Audit;
  readonly clients: NamespaceClients;
  readonly stats: CoordinatorStats;
  readonly history: History;
}

/** A running coordinator. */
export class CoordinatorServer {
  readonly #options: CoordinatorOptions;
  readonly #parts: Parts;
  readonly #web: WebSide;
  readonly #stopWatching: () => void;
  readonly #working: Promise<void>;
  #coordinator: Coordinator | undefined;
  #stopping = false;
  #cancelSave = () => {};
  #isJournalFull = false;

  /**
   * Opens everything and works. Rejects with an ExitError, SettingError, DirectoryRefused or ConfigInvalid in words for
   * the operator.
   */
  static async start(options: CoordinatorOptions): Promise<CoordinatorServer> {
    const { settings, clock, logger } = options;
    const startedAtMs = Date.now();
    const files = coordinatorFiles({ values: settings });
    const { access, file } = openConfiguration(settings, logger);
    const closing: (() => Promise<unknown>)[] = [];
    try {
      const stores = options.stores ?? openStores(files);
      const { journal } = stores;
      closing.push(async () => journal.close());
      closing.push(() => stores.store.close());
      const health = new Health();
      const listen = (
        address: CoordinatorSettings["internalAddr"],
        own: readonly ServedMethod[],
        services: readonly DescService[],
      ) => {
        const methods = [...own, ...health.methods(), ...reflectionMethods([...services, HealthService])];
        return startListener({ ...address, methods, clock, logger });
      };
      const internal = await listen(settings.internalAddr, [], []);
      closing.push(() => internal.close({ graceMs: 0 }));
      let server: CoordinatorServer | undefined;
      if (journal.damage !== undefined)
        logger.error({ component: "coordinator", why: journal.damage }, "journal damaged");
      const nowMs = () => clock.now();
      const events = new Events(nowMs, journal.room("event"));
      const recorded = recordingLogger(logger, events);
      const list = new OperationList(nowMs, journal.room("operation"));
      const operations = new Operations({ list, file, clock, logger: recorded });
      const transport = new Http2Transport({ times: PEER_CONNECTION_TIMES });
      const peers = { transport, clock, instanceId: () => server?.coordinator?.instanceId };
      const loads = new LoadWatch({
        ask: (address) => askLoad(peers, address),
        servers: () => availableServers(server?.coordinator),
        clock,
      });
      const ports = { file, coordinator: () => server?.coordinator, operations, loads, nowMs };
      const publicAddress = () => `${settings.publicAddr.host}:${server?.adminPort ?? settings.publicAddr.port}`;
      const { version, given = [] } = options;
      const stats = new CoordinatorStats();
      const history = new History(coordinatorSeries(stats, loads), clock.now());
      const node = { mode: "coordinator", version, publicAddress, startedAtMs } as const;
      const about = { ...node, given, logger, history, cluster: () => file.settings };
      const audit = new Audit(recorded);
      const oxia = adminMethods(ports);
      const clients = new NamespaceClients(() => serverForClients(file, server?.coordinator));
      closing.push(() => clients.close());
      const cluster = clusterMethods(ports);
      const happened = eventMethods(events);
      const varia = [
        ...[...cluster, ...operationMethods(ports), ...sessionMethods(cluster, clients)],
        ...[
          ...happened,
          ...diagnosisMethods([...cluster, ...happened]),
          ...nodeMethods(
            about,
            undefined,
            askServers(peers, (name) => internalAddress(name, file, server?.coordinator)),
          ),
        ],
      ];
      const admin = await listen(settings.publicAddr, audited([...oxia, ...guarded(varia, access)], audit), [
        OxiaAdmin,
        VariaAdmin,
      ]);
      closing.push(() => admin.close({ graceMs: 0 }));
      const methods = [...oxia, ...varia];
      const kept = { events, operations, loads, audit, clients };
      const listeners = { health, internal, admin, transport, methods, access, recorded, stats, history, ...kept };
      const directory = storesDirectory(files);
      const leaderFile = directory === undefined ? undefined : new LeaderFile(directory);
      server = new CoordinatorServer(options, { file, stores, leaderFile, ...listeners });
      return server;
    } catch (error) {
      for (const close of closing.reverse()) await close();
      throw error;
    }
  }

  private constructor(options: CoordinatorOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    this.#web = this.#serveWeb();
    parts.history.start(options.clock);
    this.#saveEvents();
    parts.loads.start();
    this.#sayWhere();
    this.#working = this.#work(parts.stores.store);
    this.#stopWatching = parts.file.watch(options.clock, (config) => {
      parts.recorded.info({ component: "config", file: parts.file.path }, "configuration changed");
      this.#coordinator?.reconfigure(config).catch((error) => this.#failed(error));
    });
    parts.health.set(HEALTH_PROCESS, true);
  }

  get internalPort(): number {
    return this.#parts.internal.port;
  }

  get adminPort(): number {
    return this.#parts.admin.port;
  }

  get httpPort(): number {
    return this.#web.port;
  }

  /** The one that works now; undefined between two openings of the store, and while it stops. */
  get coordinator(): Coordinator | undefined {
    return this.#stopping ? undefined : this.#coordinator;
  }

  /** Ends the work and closes everything. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#parts.leaderFile?.remove();
    this.#parts.history.stop();
    this.#parts.loads.stop();
    this.#stopWatching();
    const { health, internal, admin, transport } = this.#parts;
    health.shutDown();
    this.#parts.operations.release(); // what runs waits for the next process, and does not fail by the end of this one
    this.#coordinator?.stop();
    await this.#working;
    await admin.close({ graceMs: SHUTDOWN_GRACE_MS });
    await internal.close({ graceMs: 0 });
    transport.close();
    await this.#web.stop();
    await this.#parts.clients.close();
    this.#cancelSave();
    this.#saveEvents();
    this.#cancelSave();
    this.#parts.stores.journal.close(); // the last that is let go: another one may work from here on
  }

  /** To those that stand by; they can do without. */
  #sayWhere(): void {
    const { publicAddr, metricsAddr } = this.#options.settings;
    try {
      this.#parts.leaderFile?.write({
        admin: { host: publicAddr.host, port: this.adminPort },
        http: { host: metricsAddr.host, port: this.httpPort },
      });
    } catch (error) {
      this.#options.logger.warn({ component: "coordinator", err: error }, "others cannot be told where this one is");
    }
  }

  /** Now and then. What cannot be saved now is with the next ones. */
  #saveEvents(): void {
    const { clock, logger } = this.#options;
    const { events, stores } = this.#parts;
    try {
      events.save();
      this.#isJournalFull = false;
    } catch (error) {
      if (!this.#isJournalFull)
        logger.warn({ component: "coordinator", journal: stores.journal.path, err: error }, "events not saved");
      this.#isJournalFull = true;
    }
    this.#cancelSave = clock.after(EVENTS_SAVE_MS, () => this.#saveEvents());
  }

  /** One coordinator after the other, each on a store that was newly opened; closes the store. */
  async #work(first: MetadataStore): Promise<void> {
    const { clock } = this.#options;
    const { recorded: logger } = this.#parts;
    let store = first;
    while (!this.#stopping) {
      try {
        await this.#workOn(store);
      } catch (error) {
        const why = whyAnew(error);
        if (why === undefined) return this.#failed(error);
        logger.error({ component: "coordinator", err: error }, why);
      } finally {
        this.#coordinator = undefined;
        await store.close().catch(() => {}); // it may have failed; what it holds is seen when it is opened again
      }
      if (this.#stopping) return;
      await new Promise<void>((resolve) => clock.after(METADATA_REOPEN_MS, resolve));
      try {
        store = this.#parts.stores.reopen();
      } catch (error) {
        return this.#failed(error);
      }
    }
  }

  async #workOn(store: MetadataStore): Promise<void> {
    const { clock } = this.#options;
    const { transport, file, recorded: logger } = this.#parts;
    const instanceId = () => this.#coordinator?.instanceId;
    const dataServers = new GrpcDataServers({ transport, clock, instanceId });
    const coordinator = await Coordinator.open(
      {
        store: timedStore(store, clock, this.#parts.stats),
        dataServers,
        clock,
        random: systemRandom,
        logger,
        stats: this.#parts.stats,
      },
      file.config,
    );
    this.#coordinator = coordinator;
    if (this.#stopping) coordinator.stop();
    this.#parts.operations.adopt(coordinator);
    try {
      await coordinator.run();
    } finally {
      this.#parts.operations.release();
    }
  }

  #failed(error: unknown): void {
    this.#options.onFault(error instanceof Error ? error : new Error(String(error)));
  }

  #serveWeb(): WebSide {
    const { settings } = this.#options;
    const { admin: listener, methods } = this.#parts;
    return WebSide.start({
      ...{ access: this.#parts.access, audit: this.#parts.audit },
      ...{ address: settings.metricsAddr, mode: "coordinator", methods, ui: settings.ui, masked: settings.uiMask },
      logger: this.#options.logger,
      metrics: coordinatorMetrics({ stats: this.#parts.stats, listener, coordinator: () => this.coordinator }),
      readiness: () => this.#readiness(),
      clients: this.#parts.clients,
      clientAddress: () => serverForClients(this.#parts.file, this.coordinator),
      adminAddress: () => `${settings.publicAddr.host}:${this.adminPort}`,
    });
  }

  #readiness(): ReadinessCheck[] {
    const works = this.coordinator !== undefined;
    const why = this.#stopping ? "shutting down" : "the metadata store is not open";
    return [{ name: "working", ok: works, detail: works ? "" : why }];
  }
}

/** What it is told before it works. Throws ConfigInvalid, SettingError. */
export function openConfiguration(settings: CoordinatorSettings, logger: Logger) {
  const access = Access.open(settings.adminTokenFile);
  const files = coordinatorFiles({ values: settings });
  const file = ClusterFile.open(configPath(files, settings), logger, { create: files.clusterConfig === undefined });
  return { access, file };
}

/** Public address of a server that is there. */
function serverForClients({ config }: ClusterFile, coordinator: Coordinator | undefined): string | undefined {
  const available = availableServers(coordinator);
  return config.servers.find(({ internal }) => available.includes(internal))?.public;
}

/** Of a data server that is called by its name, or by this very address. */
function internalAddress(
  called: string,
  { config }: ClusterFile,
  coordinator: Coordinator | undefined,
): string | undefined {
  const named = config.servers.find(({ name }) => name === called);
  if (named !== undefined) return named.internal;
  // one that leaves has no name any more
  return coordinator?.status().servers.find(({ server }) => server === called)?.server;
}

/** Why the next coordinator may go on behind what ended the one before; undefined: it is a fault. */
function whyAnew(error: unknown): string | undefined {
  if (error instanceof StoreLost) return "the metadata store does not answer: it is opened again";
  // a flow whose work was cut off while somebody waited for it; what is stored says what is due
  return error instanceof Interrupted ? "the coordinator was cut off: it begins anew" : undefined;
}

/** By internal address. */
function availableServers(coordinator: Coordinator | undefined): readonly string[] {
  const servers = coordinator?.status().servers ?? [];
  return servers.filter(({ state }) => state === "available").map(({ server }) => server);
}

/** Where no file is named, one beside the SQLite store. */
function configPath({ clusterConfig }: CoordinatorFiles, { metadataDir }: CoordinatorSettings): string {
  return clusterConfig ?? join(metadataDir, "cluster.yaml");
}
