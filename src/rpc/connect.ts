/**
 * gRPC-Web and Connect, over HTTP/1.1 and HTTP/2, from the same table of methods as native gRPC.
 *
 *     request -> Connect's handler -> message -> bytes -> method -> bytes -> message -> response
 *
 * Two sets of handlers: binary formats go through the descriptors whose keys are bytes, JSON through the published
 * ones whose keys are strings. A key that is not UTF-8 cannot be carried by JSON: INVALID_ARGUMENT says so.
 *
 * Connect's compression is left out: official clients use none, and a bomb would get past the budget of request bytes.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { createConnectRouter } from "@connectrpc/connect";
import {
  type UniversalHandler,
  type UniversalServerRequest,
  type UniversalServerResponse,
  universalServerResponseToFetch,
  uResponseNotFound,
} from "@connectrpc/connect/protocol";
import { type ConnectPorts, implement } from "./connect-method.ts";
import type { Connection } from "./connection.ts";
import type { Route } from "./http2.ts";
import { BodyMeter, fromFetch, fromHttp1, fromHttp2, respondHttp1, respondHttp2 } from "./universal.ts";

export class ConnectRoutes {
  readonly #ports: ConnectPorts;
  readonly #binary: ReadonlyMap<string, UniversalHandler>;
  readonly #json: ReadonlyMap<string, UniversalHandler>;

  constructor(ports: ConnectPorts & { readonly routes: ReadonlyMap<string, Route> }) {
    this.#ports = ports;
    this.#binary = handlers(ports, ports.routes, (route) => route.served.binary);
    this.#json = handlers(ports, ports.routes, (route) => route.served.json);
  }

  /** Serves a request over HTTP/1.1. */
  http1(request: IncomingMessage, response: ServerResponse): void {
    if (/^application\/grpc(\+|;|$)/i.test(request.headers["content-type"] ?? "")) {
      response.writeHead(505, { "content-type": "text/plain", connection: "close" });
      response.end("gRPC needs HTTP/2\n");
      return;
    }
    const body = new BodyMeter(this.#ports.budget);
    const serve = async () => respondHttp1(await this.#serve(fromHttp1(request, response, body)), request, response);
    serve()
      .catch((error) => this.#failed(error, request.url, () => response.destroy()))
      .finally(() => body.done());
  }

  /** Serves a stream of HTTP/2 that is not native gRPC. */
  http2(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: readonly string[], connection: Connection): void {
    const body = new BodyMeter(this.#ports.budget);
    stream.on("error", ignore); // every failure of a stream also closes it
    const serve = async () => {
      const answer = await this.#serve(fromHttp2(stream, headers, raw, connection.peer, body));
      connection.pings.sent();
      await respondHttp2(answer, stream);
    };
    serve()
      .catch((error) => this.#failed(error, headers[":path"] as string | undefined, () => stream.destroy()))
      .finally(() => body.done());
  }

  /** Serves a request of the HTTP port; undefined: it is for none of the methods. */
  fetch(request: Request, peer: string): Promise<Response> | undefined {
    if (!this.#json.has(new URL(request.url).pathname)) return undefined;
    const body = new BodyMeter(this.#ports.budget);
    const serve = async () => universalServerResponseToFetch(await this.#serve(fromFetch(request, peer, body)));
    return serve().finally(() => body.done());
  }

  async #serve(request: UniversalServerRequest): Promise<UniversalServerResponse> {
    const path = new URL(request.url).pathname;
    const json = /json/i.test(request.header.get("content-type") ?? "json");
    const handler = (json ? this.#json : this.#binary).get(path);
    return handler === undefined ? uResponseNotFound : handler(request);
  }

  /** A request that cannot be told to Connect, or a response that could not be written to its end. */
  #failed(error: unknown, path: string | undefined, destroy: () => void): void {
    this.#ports.logger.debug({ component: "rpc", method: path, err: error }, "a response broke off");
    destroy();
  }
}

function handlers(
  ports: ConnectPorts,
  routes: ReadonlyMap<string, Route>,
  descriptor: (route: Route) => DescMethod,
): Map<string, UniversalHandler> {
  const byPath = new Map<string, UniversalHandler>();
  for (const route of routes.values()) {
    const router = createConnectRouter({ grpc: false, acceptCompression: [], readMaxBytes: ports.messageBytesMax });
    const method = descriptor(route);
    router.rpc(method, implement(ports, route, method) as never);
    byPath.set(route.path, router.handlers[0]!);
  }
  return byPath;
}

function ignore(): void {}
