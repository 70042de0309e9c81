/** Methods on a server's HTTP port, beside its pages: as Connect and gRPC-Web, with JSON or binary messages. */
import { MESSAGE_BYTES_DEFAULT, REQUEST_BYTES_IN_FLIGHT_DEFAULT } from "../model/limits.ts";
import type { Logger } from "../ports.ts";
import { ConnectRoutes } from "./connect.ts";
import { routesOf } from "./http2.ts";
import { requestBudget } from "./listener.ts";
import type { ServedMethod } from "./method.ts";

/** Answers requests for these methods; undefined: a request is for none of them. `peer`: where it came from. */
export function methodsOverHttp(methods: readonly ServedMethod[], logger: Logger) {
  const budget = requestBudget(REQUEST_BYTES_IN_FLIGHT_DEFAULT, MESSAGE_BYTES_DEFAULT);
  const ports = { logger, budget, messageBytesMax: MESSAGE_BYTES_DEFAULT };
  const routes = new ConnectRoutes({ ...ports, routes: routesOf(methods) });
  return (request: Request, peer: string): Promise<Response> | undefined => routes.fetch(request, peer);
}
