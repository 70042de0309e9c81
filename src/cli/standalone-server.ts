/**
 * A standalone server: one process that leads every shard of one namespace with replication factor 1. Its adapters are
 * built here, and handed to the flows.
 *
 *     start    directories → log → replicas found → lead each shard → public port → HTTP port
 *     stop     not ready → streams end → calls drain → writes are answered → state flushed → log closed
 */

import { FLUSH_INTERVAL_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { Access } from "../ops/access.ts";
import { History } from "../ops/history.ts";
import { systemRandom } from "../ops/random.ts";
import type { Damage } from "../ports.ts";
import { initialRanges } from "../protocol/assignment.ts";
import { DataServer } from "../replication/data-server.ts";
import { leadAlone, NO_FOLLOWERS } from "../replication/lead-alone.ts";
import type { Shards } from "../replication/shards.ts";
import { Audit, audited } from "../rpc/audit.ts";
import { guarded } from "../rpc/guard.ts";
import { HEALTH_PROCESS, HEALTH_READINESS } from "../rpc/health-api.ts";
import { ownLoad } from "../rpc/load-api.ts";
import { LoadWatch } from "../rpc/load-watch.ts";
import { nodeMethods } from "../rpc/node-api.ts";
import { SELF as ALONE, standaloneMethods } from "../rpc/standalone-api.ts";
import { Timings } from "../rpc/timings.ts";
import { dataMetrics } from "./data-metrics.ts";
import { type DataStorage, type DataStorageOptions, openDataStorage } from "./data-storage.ts";
import { diagnosisMethods } from "./diagnosis-methods.ts";
import { NamespaceClients } from "./namespace-clients.ts";
import { dataSeries } from "./process-history.ts";
import { PublicSide } from "./public-side.ts";
import { sessionMethods } from "./session-methods.ts";
import { NAMESPACE, type StandaloneOptions } from "./standalone-options.ts";
import { WebSide, type WebSideOptions } from "./web-side.ts";

/** Its address among servers of its kind, of which there are none. */
const SELF = "standalone";

/** A running server. */
export class StandaloneServer {
  readonly #options: StandaloneOptions;
  readonly #storage: DataStorage;
  readonly #server: DataServer;
  readonly #side: PublicSide;
  readonly #web: WebSide;
  readonly #history: History;
  readonly #clients: NamespaceClients;
  readonly #loads: LoadWatch;
  #cancelFlush: () => void;
  #stopping = false;

  /** Opens everything and serves. Rejects with an ExitError or SettingError in words for the operator. */
  static async start(options: StandaloneOptions): Promise<StandaloneServer> {
    const storage = await openDataStorage(storageOptions(options));
    try {
      return await StandaloneServer.#startOn(storage, options);
    } catch (error) {
      await storage.close();
      throw error;
    }
  }

  static async #startOn(storage: DataStorage, options: StandaloneOptions): Promise<StandaloneServer> {
    const { settings, version, clock, logger } = options;
    const access = Access.open(settings.adminTokenFile);
    const server = await leadShards(options, storage);
    const { replicas } = server;
    let side: PublicSide | undefined;
    const publicAddress = () => `${settings.publicAddr.host}:${side?.listener.port ?? settings.publicAddr.port}`;
    const { given = [] } = options;
    const timings = new Timings();
    const history = new History(
      dataSeries({ shards: replicas, log: storage.log, keyValues: storage.node, timings }),
      clock.now(),
    );
    const node = { mode: "standalone", name: ALONE, version, publicAddress, startedAtMs: Date.now() } as const;
    const about = { ...node, given, logger, history };
    const { keySorting, notificationsEnabled } = settings;
    const alone = {
      ...{ namespace: NAMESPACE, instanceId: storage.instance, publicAddress, keySorting, notificationsEnabled },
      ranges: initialRanges(settings.shards),
      loads: ownLoads(replicas, storage, { ...options, startedAtMs: node.startedAtMs }),
    };
    const own = standaloneMethods(replicas, alone);
    const clients = new NamespaceClients(publicAddress);
    const methods = [
      ...[...own, ...nodeMethods(about, replicas), ...sessionMethods(own, clients)],
      ...diagnosisMethods(own),
    ];
    // no leader is ever named, so there is none to wait for
    const publicSide = { settings, shards: replicas, timings, heldMsMax: 0, clock, logger };
    const audit = new Audit(logger);
    side = await PublicSide.start({ ...publicSide, adminMethods: audited(guarded(methods, access), audit) });
    try {
      return new StandaloneServer(options, {
        ...{ storage, server, side, methods, access, audit, clients, publicAddress, history },
        loads: alone.loads,
      });
    } catch (error) {
      await side.listener.close({ graceMs: 0 });
      throw error;
    }
  }

  private constructor(
    options: StandaloneOptions,
    parts: Pick<WebSideOptions, "methods" | "access" | "audit" | "clients"> & {
      readonly storage: DataStorage;
      readonly server: DataServer;
      readonly side: PublicSide;
      readonly publicAddress: () => string;
      readonly history: History;
      readonly loads: LoadWatch;
    },
  ) {
    this.#options = options;
    this.#storage = parts.storage;
    this.#server = parts.server;
    this.#side = parts.side;
    this.#web = this.#serveWeb(parts);
    this.#history = parts.history;
    this.#clients = parts.clients;
    this.#loads = parts.loads;
    this.#loads.start();
    this.#history.start(options.clock);
    this.#side.health.set(HEALTH_PROCESS, true);
    this.#side.health.set(HEALTH_READINESS, true);
    this.#cancelFlush = options.clock.after(FLUSH_INTERVAL_MS, () => this.#flushAll());
  }

  get publicPort(): number {
    return this.#side.listener.port;
  }

  get httpPort(): number {
    return this.#web.port;
  }

  /** Shards that refuse to serve, with their damage. */
  damaged(): { readonly shard: number; readonly damage: Damage }[] {
    return this.#server.replicas
      .all()
      .flatMap(({ shard, damage }) => (damage === undefined ? [] : [{ shard, damage }]));
  }

  /** Drains and closes everything; resolves when all that was acknowledged is stored and nothing runs any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#history.stop();
    this.#loads.stop();
    this.#cancelFlush();
    const reason = new Refusal("RESOURCE_UNAVAILABLE", "oxia: resource unavailable: the server is shutting down");
    await this.#side.close(reason);
    await Promise.all(this.#server.replicas.leaders().map((leader) => leader.drain(reason)));
    await this.#server.close();
    await this.#storage.close();
    await this.#web.stop();
    await this.#clients.close();
  }

  /** Pushes the state along, so that no log segment is kept for it alone. */
  #flushAll(): void {
    for (const shard of this.#server.replicas.leaders()) void shard.kv.flush();
    this.#cancelFlush = this.#options.clock.after(FLUSH_INTERVAL_MS, () => this.#flushAll());
  }

  #serveWeb({
    methods,
    access,
    audit,
    clients,
    publicAddress,
  }: Pick<WebSideOptions, "methods" | "access" | "audit" | "clients"> & {
    readonly publicAddress: () => string;
  }): WebSide {
    const { api, timings, listener } = this.#side;
    const { replicas } = this.#server;
    const { settings } = this.#options;
    const sources = { shards: replicas, assignments: api.assignments, listener };
    return WebSide.start({
      ...{
        address: settings.metricsAddr,
        ui: settings.ui,
        masked: settings.uiMask,
        logger: this.#options.logger,
        mode: "standalone",
        ...{ methods, access, audit, clients },
      },
      metrics: dataMetrics({ ...sources, log: this.#storage.log, keyValues: this.#storage.node, timings }),
      readiness: () => [
        { name: "serving", ok: !this.#stopping, detail: this.#stopping ? "shutting down" : "" },
        ...replicas.all().map(({ shard, damage }) => {
          return { name: `shard ${shard}`, ok: damage === undefined, detail: damage?.what ?? "" };
        }),
      ],
      clientAddress: publicAddress,
      adminAddress: publicAddress,
    });
  }
}

/** What this process bears, as a coordinator would ask for it. */
function ownLoads(
  shards: Shards,
  { log, node, stateBytesOf }: DataStorage,
  { settings, version, startedAtMs, clock }: StandaloneOptions & { readonly startedAtMs: number },
): LoadWatch {
  const load = ownLoad({
    ...{ version, startedAtMs, shards, log, directory: settings.dataDir, stateBytes: () => node.stats.fileBytes },
    stateBytesOf: ({ namespace, id }) => stateBytesOf({ namespace, shard: id }),
    httpPort: () => 0, // these are its pages
  });
  return new LoadWatch({ ask: async () => load(), servers: () => [ALONE], clock });
}

function storageOptions(options: StandaloneOptions): DataStorageOptions {
  const { keySorting, shards } = options.settings;
  const acceptLoss = [...options.acceptLoss].map((shard) => ({ namespace: NAMESPACE, shard, sorting: keySorting }));
  return { ...options, fixed: { mode: "standalone", shards, keySorting }, acceptLoss };
}

async function leadShards(options: StandaloneOptions, storage: DataStorage): Promise<DataServer> {
  const { settings, clock, logger } = options;
  const { log, keyValues, documents, instance } = storage;
  const server = await DataServer.open(
    { log, keyValues, documents, followers: NO_FOLLOWERS, clock, random: systemRandom, logger },
    { self: SELF, onDamage: "keep", notificationsRetentionMs: settings.notificationsRetentionTime },
  );
  const { notificationsEnabled, keySorting } = settings;
  await leadAlone(server, {
    instanceId: instance,
    namespace: NAMESPACE,
    options: { notificationsEnabled, keySorting, readConsistency: "linearizable" },
    ranges: initialRanges(settings.shards),
  });
  return server;
}
