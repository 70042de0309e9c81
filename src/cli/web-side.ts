/** What every server serves over HTTP: the pages, over the methods and the client that everybody may use. */
import http from "node:http";
import { webApp } from "../../web/app.ts";
import type { Inspect } from "../../web/inspect.ts";
import type { Access } from "../ops/access.ts";
import type { Metrics } from "../ops/metrics.ts";
import type { Address } from "../ops/settings.ts";
import type { Logger } from "../ports.ts";
import { type Audit, audited } from "../rpc/audit.ts";
import { guarded } from "../rpc/guard.ts";
import { methodsOverHttp } from "../rpc/http-methods.ts";
import { LocalCalls } from "../rpc/local-calls.ts";
import type { ServedMethod } from "../rpc/method.ts";
import type { NamespaceClients } from "./namespace-clients.ts";

export interface WebSideOptions {
  readonly address: Address;
  readonly mode: Inspect["mode"];
  readonly methods: readonly ServedMethod[];
  readonly metrics: Pick<Metrics, "contentType" | "text">;
  readonly readiness: Inspect["readiness"];
  /** `host:port` of a server that takes clients; undefined: none does now. */
  readonly clientAddress: () => string | undefined;
  readonly adminAddress: () => string;
  /** For keys; closed by their owner. */
  readonly clients: NamespaceClients;
  readonly access: Access;
  readonly ui: Inspect["ui"];
  readonly masked: Inspect["masked"];
  readonly logger: Logger;
  readonly audit: Audit;
}

/**
 * Bytes of a request's line and headers; past them the answer is a bare 431. More than Bun's 16 KiB, so that an address
 * which is too long for a page is answered by one. Bun takes the bound of its own server from here alone; servers of
 * node:http in this process have theirs.
 */
const HEADER_BYTES_MAX = 128 * 1024;

/** Connections without a byte for so long are closed; live pages say something more often. */
const IDLE_S_MAX = 60;

export class WebSide {
  readonly #server: Bun.Server<undefined>;
  readonly #close: () => void;

  static start(options: WebSideOptions): WebSide {
    return new WebSide(options);
  }

  private constructor({ address, methods, metrics, logger, clients, ...rest }: WebSideOptions) {
    const app = webApp({
      ...rest,
      calls: new LocalCalls(methods),
      answer: methodsOverHttp(audited(guarded(methods, rest.access), rest.audit), logger),
      client: (namespace) => clients.of(namespace),
      metricsContentType: metrics.contentType,
      metricsText: () => metrics.text(),
    });
    this.#close = app.close;
    (http as { maxHeaderSize: number }).maxHeaderSize = HEADER_BYTES_MAX;
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
  }
}
