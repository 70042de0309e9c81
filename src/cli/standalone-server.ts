/**
 * A standalone server: one process that leads every shard of one namespace with replication factor 1. Its adapters are
 * built here, and handed to the flows.
 *
 *     start    directories → log → replicas found → lead each shard → public port → HTTP port
 *     stop     not ready → streams end → calls drain → writes are answered → state flushed → log closed
 */

import { webApp } from "../../web/app.tsx";
import styleSheet from "../../web/assets/style.css" with { type: "text" };
import type { Inspect, Overview } from "../../web/inspect.ts";
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { OxiaClient as LegacyOxiaClient } from "../gen/io/streamnative/oxia/proto/client_pb.ts";
import { FLUSH_INTERVAL_MS, REQUEST_BYTES_IN_FLIGHT_DEFAULT, SHUTDOWN_GRACE_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { systemRandom } from "../ops/random.ts";
import type { Damage } from "../ports.ts";
import { initialRanges } from "../protocol/assignment.ts";
import { DataServer } from "../replication/data-server.ts";
import { leadAlone, NO_FOLLOWERS } from "../replication/lead-alone.ts";
import type { Replica } from "../replication/replica.ts";
import { Assignments } from "../rpc/assignments-api.ts";
import { ClientApi } from "../rpc/client-api.ts";
import { clientMethods } from "../rpc/client-methods.ts";
import { HEALTH_PROCESS, HEALTH_READINESS, Health } from "../rpc/health-api.ts";
import { type Listener, requestBudget, startListener } from "../rpc/listener.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
import { standaloneMetrics } from "./standalone-metrics.ts";
import { NAMESPACE, type StandaloneOptions } from "./standalone-options.ts";
import { openStandaloneStorage, type StandaloneStorage, scaled } from "./standalone-storage.ts";

/** Its address among servers of its kind, of which there are none. */
const SELF = "standalone";

/** A running server. */
export class StandaloneServer {
  readonly #options: StandaloneOptions;
  readonly #storage: StandaloneStorage;
  readonly #server: DataServer;
  readonly #api: ClientApi;
  readonly #health: Health;
  readonly #listener: Listener;
  readonly #http: Bun.Server<undefined>;
  readonly #startedAt = new Date();
  #cancelFlush: () => void;
  #stopping = false;

  /** Opens everything and serves. Rejects with an ExitError or SettingError in words for the operator. */
  static async start(options: StandaloneOptions): Promise<StandaloneServer> {
    const storage = await openStandaloneStorage(options);
    try {
      return await StandaloneServer.#startOn(storage, options);
    } catch (error) {
      await storage.close();
      throw error;
    }
  }

  static async #startOn(storage: StandaloneStorage, options: StandaloneOptions): Promise<StandaloneServer> {
    const { settings, clock, logger } = options;
    const server = await leadShards(options, storage);
    // no leader is ever named, so there is none to wait for
    const assignments = new Assignments(server.replicas, { clock, heldMsMax: 0 });
    const api = new ClientApi(server.replicas, assignments);
    const health = new Health();
    const services = [OxiaClient, LegacyOxiaClient, HealthService];
    const listener = await startListener({
      host: settings.publicAddr.host,
      port: settings.publicAddr.port,
      methods: [...clientMethods(api), ...health.methods(), ...reflectionMethods(services)],
      limits: { messageBytesMax: settings.maxMessageSize },
      budget: requestBudget(scaled(settings, REQUEST_BYTES_IN_FLIGHT_DEFAULT), settings.maxMessageSize),
      clock,
      logger,
    });
    try {
      return new StandaloneServer(options, { storage, server, api, health, listener });
    } catch (error) {
      await listener.close({ graceMs: 0 });
      throw error;
    }
  }

  private constructor(
    options: StandaloneOptions,
    parts: {
      readonly storage: StandaloneStorage;
      readonly server: DataServer;
      readonly api: ClientApi;
      readonly health: Health;
      readonly listener: Listener;
    },
  ) {
    this.#options = options;
    this.#storage = parts.storage;
    this.#server = parts.server;
    this.#api = parts.api;
    this.#health = parts.health;
    this.#listener = parts.listener;
    const { host, port } = options.settings.metricsAddr;
    this.#http = Bun.serve({ hostname: host, port, fetch: webApp(this.#inspect()).fetch });
    this.#health.set(HEALTH_PROCESS, true);
    this.#health.set(HEALTH_READINESS, true);
    this.#cancelFlush = options.clock.after(FLUSH_INTERVAL_MS, () => this.#flushAll());
  }

  get publicPort(): number {
    return this.#listener.port;
  }

  get httpPort(): number {
    return this.#http.port ?? 0;
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
    this.#cancelFlush();
    this.#health.shutDown();
    const reason = new Refusal("RESOURCE_UNAVAILABLE", "oxia: resource unavailable: the server is shutting down");
    this.#api.close(reason);
    await this.#listener.close({ graceMs: SHUTDOWN_GRACE_MS });
    await Promise.all(this.#server.replicas.leaders().map((leader) => leader.drain(reason)));
    await this.#server.close();
    await this.#storage.close();
    await this.#http.stop(true);
  }

  /** Pushes the state along, so that no log segment is kept for it alone. */
  #flushAll(): void {
    for (const shard of this.#server.replicas.leaders()) void shard.kv.flush();
    this.#cancelFlush = this.#options.clock.after(FLUSH_INTERVAL_MS, () => this.#flushAll());
  }

  #inspect(): Inspect {
    const sources = { shards: this.#server.replicas, assignments: this.#api.assignments, listener: this.#listener };
    const metrics = standaloneMetrics({ ...sources, log: this.#storage.log, keyValues: this.#storage.node });
    return {
      styleSheet,
      metricsContentType: metrics.contentType,
      metricsText: () => metrics.text(),
      overview: () => this.#overview(),
      readiness: () => [
        { name: "serving", ok: !this.#stopping, detail: this.#stopping ? "shutting down" : "" },
        ...this.#server.replicas.all().map(({ shard, damage }) => {
          return { name: `shard ${shard}`, ok: damage === undefined, detail: damage?.what ?? "" };
        }),
      ],
    };
  }

  #overview(): Overview {
    const { settings, version } = this.#options;
    return {
      version,
      mode: "standalone",
      publicAddress: `${settings.publicAddr.host}:${this.publicPort}`,
      keySorting: settings.keySorting,
      startedAt: this.#startedAt,
      shards: this.#server.replicas.all().map((replica) => shardOverview(replica, settings.shards)),
    };
  }
}

async function leadShards(options: StandaloneOptions, storage: StandaloneStorage): Promise<DataServer> {
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

function shardOverview(replica: Replica, shards: number): Overview["shards"][number] {
  const { shard, damage, serving } = replica;
  const { minInclusive, maxInclusive } = initialRanges(shards)[shard]!;
  const place = { namespace: NAMESPACE, shard, hashRange: [minInclusive, maxInclusive] as const };
  if (damage !== undefined || serving === undefined) {
    const none = { term: -1, head: -1, committed: -1, applied: -1, records: 0 };
    const reason = damage === undefined ? "" : `${damage.file}: ${damage.where}: ${damage.what}`;
    return { ...place, status: "damaged", reason: reason || (replica.stopped?.message ?? ""), ...none };
  }
  return {
    ...place,
    status: "leader",
    reason: "",
    term: serving.term,
    head: serving.head.offset,
    committed: serving.committed,
    applied: serving.applied,
    records: serving.kv.rowCount,
  };
}
