/**
 * A standalone server: one process that leads every shard of one namespace with replication factor 1. Its adapters are
 * built here, and handed to the flows.
 *
 *     start    directories → log → key-value files → lead each shard → public port → HTTP port
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
import type { Damage, Logger } from "../ports.ts";
import { initialRanges } from "../protocol/assignment.ts";
import { DamagedReplica, Shard } from "../replication/shard.ts";
import { damageOf, isDamage, type ShardSlot, Shards } from "../replication/shards.ts";
import { Turns } from "../replication/turns.ts";
import { Assignments } from "../rpc/assignments-api.ts";
import { ClientApi } from "../rpc/client-api.ts";
import { clientMethods } from "../rpc/client-methods.ts";
import { HEALTH_PROCESS, HEALTH_READINESS, Health } from "../rpc/health-api.ts";
import { type Listener, requestBudget, startListener } from "../rpc/listener.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
import { standaloneMetrics } from "./standalone-metrics.ts";
import { NAMESPACE, type StandaloneOptions } from "./standalone-options.ts";
import { openStandaloneStorage, type StandaloneStorage, scaled } from "./standalone-storage.ts";

/** A running server. */
export class StandaloneServer {
  readonly #options: StandaloneOptions;
  readonly #storage: StandaloneStorage;
  readonly #shards: Shards;
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
    const shards = await leadShards(options, storage);
    const api = new ClientApi(shards, new Assignments(shards));
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
      return new StandaloneServer(options, { storage, shards, api, health, listener });
    } catch (error) {
      await listener.close({ graceMs: 0 });
      throw error;
    }
  }

  private constructor(
    options: StandaloneOptions,
    parts: {
      readonly storage: StandaloneStorage;
      readonly shards: Shards;
      readonly api: ClientApi;
      readonly health: Health;
      readonly listener: Listener;
    },
  ) {
    this.#options = options;
    this.#storage = parts.storage;
    this.#shards = parts.shards;
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
    return this.#shards.all().flatMap(({ id, replica }) => {
      const damage = damageOf(replica);
      return damage === undefined ? [] : [{ shard: id, damage }];
    });
  }

  /** Drains and closes everything; resolves when all that was acknowledged is stored and nothing runs any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#cancelFlush();
    this.#health.shutDown();
    const reason = new Refusal("RESOURCE_UNAVAILABLE", "oxia: resource unavailable: the server is shutting down");
    this.#api.close(reason);
    await this.#listener.close({ graceMs: SHUTDOWN_GRACE_MS });
    await Promise.all(this.#shards.leaders().map((shard) => shard.stop(reason)));
    await this.#storage.close();
    await this.#http.stop(true);
  }

  /** Pushes the state along, so that no log segment is kept for it alone. */
  #flushAll(): void {
    for (const shard of this.#shards.leaders()) void shard.kv.flush();
    this.#cancelFlush = this.#options.clock.after(FLUSH_INTERVAL_MS, () => this.#flushAll());
  }

  #inspect(): Inspect {
    const sources = { shards: this.#shards, assignments: this.#api.assignments, listener: this.#listener };
    const metrics = standaloneMetrics({ ...sources, log: this.#storage.log, keyValues: this.#storage.keyValues });
    return {
      styleSheet,
      metricsContentType: metrics.contentType,
      metricsText: () => metrics.text(),
      overview: () => this.#overview(),
      readiness: () => [
        { name: "serving", ok: !this.#stopping, detail: this.#stopping ? "shutting down" : "" },
        ...this.#shards.all().map(({ id, replica }) => {
          const damage = damageOf(replica);
          return { name: `shard ${id}`, ok: damage === undefined, detail: damage?.what ?? "" };
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
      shards: this.#shards.all().map(shardOverview),
    };
  }
}

async function leadShards(options: StandaloneOptions, storage: StandaloneStorage): Promise<Shards> {
  const shards = new Shards();
  const turns = new Turns();
  const slots = initialRanges(options.settings.shards).map(async (range, id): Promise<ShardSlot> => {
    return { namespace: NAMESPACE, id, range, replica: await openReplica(options, storage, turns, id) };
  });
  for (const slot of await Promise.all(slots)) shards.add(slot);
  return shards;
}

/** The shard's leader, or why it cannot serve. */
async function openReplica(
  options: StandaloneOptions,
  storage: StandaloneStorage,
  turns: Turns,
  shard: number,
): Promise<Shard | Damage> {
  const { settings, clock, logger } = options;
  const opened = storage.shard(shard);
  if ("damage" in opened) return reportDamage(logger, shard, opened.damage);
  const config = {
    namespace: NAMESPACE,
    shard,
    options: {
      notificationsEnabled: settings.notificationsEnabled,
      notificationsRetentionMs: settings.notificationsRetentionTime,
      keySorting: settings.keySorting,
      readConsistency: "linearizable" as const,
    },
  };
  try {
    return await Shard.lead(
      { log: storage.log, kv: opened.keyValue, clock, random: systemRandom, turns, logger },
      config,
    );
  } catch (error) {
    if (error instanceof DamagedReplica) return reportDamage(logger, shard, error.damage);
    if (!(error instanceof Refusal) || error.reason !== "DATA_LOSS") throw error;
    return reportDamage(logger, shard, { file: "the shard's files", where: "on opening", what: error.message });
  }
}

function reportDamage(logger: Logger, shard: number, damage: Damage): Damage {
  const fields = { component: "storage", namespace: NAMESPACE, shard, file: damage.file, where: damage.where };
  logger.error(fields, `shard is damaged and refuses to serve: ${damage.what}`);
  return damage;
}

function shardOverview(slot: ShardSlot): Overview["shards"][number] {
  const { replica } = slot;
  if (isDamage(replica)) return damagedOverview(slot, replica);
  if (replica.kv.damage !== undefined) return damagedOverview(slot, replica.kv.damage);
  return {
    ...placeOf(slot),
    status: "leader",
    reason: "",
    term: replica.term,
    head: replica.head,
    committed: replica.committed,
    applied: replica.kv.applied.offset,
    records: replica.kv.rowCount,
  };
}

function damagedOverview(slot: ShardSlot, { file, where, what }: Damage): Overview["shards"][number] {
  const none = { term: -1, head: -1, committed: -1, applied: -1, records: 0 };
  return { ...placeOf(slot), status: "damaged", reason: `${file}: ${where}: ${what}`, ...none };
}

function placeOf({ namespace, id, range }: ShardSlot) {
  return { namespace, shard: id, hashRange: [range.minInclusive, range.maxInclusive] as const };
}
