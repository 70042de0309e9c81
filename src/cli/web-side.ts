/** What every server serves over HTTP: the pages, over the methods and the client that everybody may use. */
import { create } from "@bufbuild/protobuf";
import { webApp } from "../../web/app.ts";
import type { Inspect } from "../../web/inspect.ts";
import type { VariaClient } from "../client/client.ts";
import { connect } from "../client/connect.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import type { Access } from "../ops/access.ts";
import type { Metrics } from "../ops/metrics.ts";
import type { Address } from "../ops/settings.ts";
import type { Logger } from "../ports.ts";
import { type Audit, audited } from "../rpc/audit.ts";
import { guarded } from "../rpc/guard.ts";
import { methodsOverHttp } from "../rpc/http-methods.ts";
import { LocalCalls } from "../rpc/local-calls.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { callOnce } from "./admin-connection.ts";

export interface WebSideOptions {
  readonly address: Address;
  readonly mode: Inspect["mode"];
  readonly methods: readonly ServedMethod[];
  readonly metrics: Pick<Metrics, "contentType" | "text">;
  readonly readiness: Inspect["readiness"];
  /** `host:port` of a server that takes clients; undefined: none does now. */
  readonly clientAddress: () => string | undefined;
  readonly adminAddress: () => string | undefined;
  readonly access: Access;
  readonly ui: Inspect["ui"];
  readonly masked: Inspect["masked"];
  readonly logger: Logger;
  readonly audit: Audit;
}

/** Clients that pages read keys with, one a namespace. */
const CLIENT_IDENTITY = "varia-dashboard";
const CLIENTS_MAX = 20;
const CLIENT_TIMEOUT_MS = 5_000;
/** Connections without a byte for so long are closed; live pages say something more often. */
const IDLE_S_MAX = 60;

export class WebSide {
  readonly #server: Bun.Server<undefined>;
  readonly #clients: WebClients;
  readonly #close: () => void;

  static start(options: WebSideOptions): WebSide {
    return new WebSide(options);
  }

  private constructor({ address, methods, metrics, logger, ...rest }: WebSideOptions) {
    this.#clients = new WebClients(rest.clientAddress);
    const app = webApp({
      ...rest,
      calls: new LocalCalls(methods),
      answer: methodsOverHttp(audited(guarded(methods, rest.access), rest.audit), logger),
      client: (namespace) => this.#clients.of(namespace),
      closeSession: async (leader, { shard, session }) => {
        const { closeSession } = OxiaClient.method;
        const request = create(closeSession.input, { shard, sessionId: session });
        await callOnce(leader, closeSession, request, { timeoutMs: CLIENT_TIMEOUT_MS });
      },
      metricsContentType: metrics.contentType,
      metricsText: () => metrics.text(),
    });
    this.#close = app.close;
    this.#server = Bun.serve({
      ...{ hostname: address.host, port: address.port, idleTimeout: IDLE_S_MAX },
      fetch: (request, server) => app.fetch(request, server.requestIP(request)?.address ?? ""),
    });
  }

  get port(): number {
    return this.#server.port ?? 0;
  }

  async stop(): Promise<void> {
    this.#close();
    await this.#server.stop(true);
    await this.#clients.close();
  }
}

class WebClients {
  readonly #address: () => string | undefined;
  readonly #clients = new Map<string, Promise<VariaClient>>();

  constructor(address: () => string | undefined) {
    this.#address = address;
  }

  /** The one that has not been asked for longest goes when there are too many. */
  of(namespace: string): Promise<VariaClient> {
    const known = this.#clients.get(namespace);
    this.#clients.delete(namespace);
    const client = known ?? this.#connect(namespace);
    this.#clients.set(namespace, client);
    if (this.#clients.size > CLIENTS_MAX) this.#drop(this.#clients.keys().next().value!);
    return client;
  }

  async close(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.allSettled(clients.map(async (client) => (await client).close()));
  }

  #connect(namespace: string): Promise<VariaClient> {
    const serviceAddress = this.#address();
    if (serviceAddress === undefined) return Promise.reject(new Error("no data server is available"));
    const options = { serviceAddress, namespace, clientIdentity: CLIENT_IDENTITY, requestTimeoutMs: CLIENT_TIMEOUT_MS };
    const client = connect(options);
    // one that never came to be is tried anew
    client.catch(() => this.#clients.delete(namespace));
    return client;
  }

  #drop(namespace: string): void {
    const client = this.#clients.get(namespace);
    this.#clients.delete(namespace);
    client?.then((one) => one.close()).catch(() => {});
  }
}
