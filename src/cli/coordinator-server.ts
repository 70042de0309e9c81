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
import { webApp } from "../../web/app.tsx";
import styleSheet from "../../web/assets/style.css" with { type: "text" };
import type { Inspect, Overview, ReadinessCheck } from "../../web/inspect.ts";
import { Http2Transport } from "../client/http2-transport.ts";
import { Coordinator } from "../coordination/coordinator.ts";
import type { ShardReport } from "../coordination/report.ts";
import { CoordinatorStats, timedStore } from "../coordination/stats.ts";
import { StoreLost } from "../coordination/status-store.ts";
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { METADATA_REOPEN_MS, PEER_CONNECTION_TIMES, SHUTDOWN_GRACE_MS } from "../model/limits.ts";
import { systemRandom } from "../ops/random.ts";
import type { Clock, Logger, MetadataStore } from "../ports.ts";
import { adminMethods } from "../rpc/admin-api.ts";
import { clusterMethods } from "../rpc/cluster-api.ts";
import { GrpcDataServers } from "../rpc/data-servers.ts";
import { HEALTH_PROCESS, Health } from "../rpc/health-api.ts";
import { type Listener, startListener } from "../rpc/listener.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
import { openFileMetadata } from "../storage/metadata/file-directory.ts";
import { MemoryMetadata, openMemoryMetadata } from "../storage/metadata/memory.ts";
import { openSqliteMetadata } from "../storage/metadata/sqlite.ts";
import { ClusterFile } from "./cluster-file.ts";
import { coordinatorMetrics } from "./coordinator-metrics.ts";
import { type CoordinatorFiles, type CoordinatorSettings, coordinatorFiles } from "./coordinator-settings.ts";

export interface CoordinatorOptions {
  readonly settings: CoordinatorSettings;
  readonly version: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told once when it can work no more: the process must end. */
  readonly onFault: (error: Error) => void;
}

interface Parts {
  readonly file: ClusterFile;
  readonly openStore: () => MetadataStore;
  readonly store: MetadataStore;
  readonly health: Health;
  readonly internal: Listener;
  readonly admin: Listener;
  readonly transport: Http2Transport;
}

/** A running coordinator. */
export class CoordinatorServer {
  readonly #options: CoordinatorOptions;
  readonly #parts: Parts;
  readonly #http: Bun.Server<undefined>;
  readonly #startedAt = new Date();
  readonly #stats = new CoordinatorStats();
  readonly #stopWatching: () => void;
  readonly #working: Promise<void>;
  #coordinator: Coordinator | undefined;
  #stopping = false;

  /** Opens everything and works. Rejects with an ExitError, SettingError or ConfigInvalid in words for the operator. */
  static async start(options: CoordinatorOptions): Promise<CoordinatorServer> {
    const { settings, clock, logger } = options;
    const files = coordinatorFiles({ values: settings });
    const file = ClusterFile.open(configPath(files, settings), logger, { create: files.clusterConfig === undefined });
    const openStore = storeOf(files);
    const closing: (() => Promise<unknown>)[] = [];
    try {
      const store = openStore();
      closing.push(() => store.close());
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
      const ports = { file, coordinator: () => server?.coordinator };
      const methods = [...adminMethods(ports), ...clusterMethods(ports)];
      const admin = await listen(settings.publicAddr, methods, [OxiaAdmin, VariaAdmin]);
      closing.push(() => admin.close({ graceMs: 0 }));
      const transport = new Http2Transport({ times: PEER_CONNECTION_TIMES });
      server = new CoordinatorServer(options, { file, openStore, store, health, internal, admin, transport });
      return server;
    } catch (error) {
      for (const close of closing.reverse()) await close();
      throw error;
    }
  }

  private constructor(options: CoordinatorOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    const { host, port } = options.settings.metricsAddr;
    this.#http = Bun.serve({ hostname: host, port, fetch: webApp(this.#inspect()).fetch });
    this.#working = this.#work(parts.store);
    this.#stopWatching = parts.file.watch(options.clock, (config) => {
      options.logger.info({ component: "config", file: parts.file.path }, "configuration changed");
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
    return this.#http.port ?? 0;
  }

  /** The one that works now; undefined between two openings of the store, and while it stops. */
  get coordinator(): Coordinator | undefined {
    return this.#stopping ? undefined : this.#coordinator;
  }

  /** Ends the work and closes everything. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#stopWatching();
    const { health, internal, admin, transport } = this.#parts;
    health.shutDown();
    this.#coordinator?.stop();
    await this.#working;
    await admin.close({ graceMs: SHUTDOWN_GRACE_MS });
    await internal.close({ graceMs: 0 });
    transport.close();
    await this.#http.stop(true);
  }

  /** One coordinator after the other, each on a store that was newly opened; closes the store. */
  async #work(first: MetadataStore): Promise<void> {
    const { clock, logger } = this.#options;
    let store = first;
    while (!this.#stopping) {
      try {
        await this.#workOn(store);
      } catch (error) {
        if (!(error instanceof StoreLost)) return this.#failed(error);
        logger.error(
          { component: "coordinator", err: error },
          "the metadata store does not answer: it is opened again",
        );
      } finally {
        this.#coordinator = undefined;
        await store.close().catch(() => {}); // it may have failed; what it holds is seen when it is opened again
      }
      if (this.#stopping) return;
      await new Promise<void>((resolve) => clock.after(METADATA_REOPEN_MS, resolve));
      try {
        store = this.#parts.openStore();
      } catch (error) {
        return this.#failed(error);
      }
    }
  }

  async #workOn(store: MetadataStore): Promise<void> {
    const { clock, logger } = this.#options;
    const { transport, file } = this.#parts;
    const instanceId = () => this.#coordinator?.instanceId;
    const dataServers = new GrpcDataServers({ transport, clock, instanceId });
    const coordinator = await Coordinator.open(
      {
        store: timedStore(store, clock, this.#stats),
        dataServers,
        clock,
        random: systemRandom,
        logger,
        stats: this.#stats,
      },
      file.config,
    );
    this.#coordinator = coordinator;
    if (this.#stopping) coordinator.stop();
    await coordinator.run();
  }

  #failed(error: unknown): void {
    this.#options.onFault(error instanceof Error ? error : new Error(String(error)));
  }

  #inspect(): Inspect {
    const { admin: listener } = this.#parts;
    const metrics = coordinatorMetrics({ stats: this.#stats, listener, coordinator: () => this.coordinator });
    return {
      styleSheet,
      metricsContentType: metrics.contentType,
      metricsText: () => metrics.text(),
      overview: () => this.#overview(),
      readiness: () => this.#readiness(),
    };
  }

  #readiness(): ReadinessCheck[] {
    const works = this.coordinator !== undefined;
    const why = this.#stopping ? "shutting down" : "the metadata store is not open";
    return [{ name: "working", ok: works, detail: works ? "" : why }];
  }

  #overview(): Overview {
    const { settings, version } = this.#options;
    return {
      version,
      mode: "coordinator",
      publicAddress: `${settings.publicAddr.host}:${this.adminPort}`,
      startedAt: this.#startedAt,
      shards: (this.coordinator?.status().shards ?? []).map(shardOverview),
    };
  }
}

function shardOverview({ namespace, shard, leader, term, range, problems }: ShardReport): Overview["shards"][number] {
  return {
    namespace,
    shard,
    hashRange: [range.minInclusive, range.maxInclusive],
    status: leader === undefined ? "electing" : `led by ${leader}`,
    reason: problems.join("; "),
    term,
    head: -1,
    committed: -1,
    applied: -1,
    records: 0,
  };
}

/** Where no file is named, one beside the SQLite store. */
function configPath({ clusterConfig }: CoordinatorFiles, { metadataDir }: CoordinatorSettings): string {
  return clusterConfig ?? join(metadataDir, "cluster.yaml");
}

function storeOf({ store }: CoordinatorFiles): () => MetadataStore {
  switch (store.kind) {
    case "sqlite":
      return () => openSqliteMetadata(join(store.directory, "metadata.sqlite"));
    case "file":
      return () => openFileMetadata(store.statusPath);
    case "memory": {
      const memory = new MemoryMetadata();
      return () => openMemoryMetadata(memory);
    }
  }
}
