/** What every server that stores data serves to clients: the public port, with health and reflection. */
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { OxiaClient as LegacyOxiaClient } from "../gen/io/streamnative/oxia/proto/client_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { REQUEST_BYTES_IN_FLIGHT_DEFAULT, SHUTDOWN_GRACE_MS } from "../model/limits.ts";
import type { Refusal } from "../model/refusal.ts";
import type { Clock, Logger } from "../ports.ts";
import type { Shards } from "../replication/shards.ts";
import { Assignments } from "../rpc/assignments-api.ts";
import { ClientApi } from "../rpc/client-api.ts";
import { clientMethods } from "../rpc/client-methods.ts";
import { Health } from "../rpc/health-api.ts";
import { type Listener, requestBudget, startListener } from "../rpc/listener.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
import { type Timings, timedReads } from "../rpc/timings.ts";
import type { DataSettings } from "./data-settings.ts";
import { scaled } from "./data-storage.ts";

export interface PublicSideOptions {
  readonly settings: DataSettings;
  readonly shards: Shards;
  /** See AssignmentsOptions. */
  readonly heldMsMax?: number;
  /** Of reads. */
  readonly timings: Timings;
  /** Of VariaAdmin, with the checks of who may call them. */
  readonly adminMethods: readonly ServedMethod[];
  readonly clock: Clock;
  readonly logger: Logger;
}

export class PublicSide {
  readonly api: ClientApi;
  readonly timings: Timings;
  readonly health: Health;
  readonly listener: Listener;

  static async start(options: PublicSideOptions): Promise<PublicSide> {
    const { settings, shards, heldMsMax, timings, adminMethods, clock, logger } = options;
    const assignments = new Assignments(shards, { clock, ...(heldMsMax === undefined ? {} : { heldMsMax }) });
    const api = new ClientApi(shards, assignments);
    const health = new Health();
    const services = [OxiaClient, LegacyOxiaClient, VariaAdmin, HealthService];
    const listener = await startListener({
      host: settings.publicAddr.host,
      port: settings.publicAddr.port,
      methods: [
        ...timedReads(clientMethods(api), timings),
        ...adminMethods,
        ...health.methods(),
        ...reflectionMethods(services),
      ],
      limits: { messageBytesMax: settings.maxMessageSize },
      budget: requestBudget(scaled(settings, REQUEST_BYTES_IN_FLIGHT_DEFAULT), settings.maxMessageSize),
      clock,
      logger,
    });
    return new PublicSide({ api, timings, health, listener });
  }

  private constructor({ api, timings, health, listener }: Pick<PublicSide, "api" | "timings" | "health" | "listener">) {
    this.api = api;
    this.timings = timings;
    this.health = health;
    this.listener = listener;
  }

  /** Not ready any more; streams end, calls are answered, what is left after the grace is cut. */
  async close(reason: Refusal): Promise<void> {
    this.health.shutDown();
    this.api.close(reason);
    await this.listener.close({ graceMs: SHUTDOWN_GRACE_MS });
  }
}
