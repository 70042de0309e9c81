/**
 * Native gRPC over HTTP/2: `stream` events of node:http2 -> calls.
 *
 *     stream -> content type -> method -> deadline -> request side (single-request.ts, request-stream.ts) -> handler
 *
 * What is not native gRPC (Connect, gRPC-Web) goes to `other`. Checks that need no message are made here, before one
 * arrives.
 *
 * Source: gRPC, doc/PROTOCOL-HTTP2.md, doc/compression.md, doc/http-grpc-status-mapping.md.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Logger } from "../ports.ts";
import { type CallPorts, NativeCall } from "./call.ts";
import { Code, StatusError } from "./code.ts";
import type { Connection } from "./connection.ts";
import type { ServedMethod } from "./method.ts";
import type { RequestPorts } from "./request.ts";
import { RequestStream } from "./request-stream.ts";
import { SingleRequest } from "./single-request.ts";
import { MethodStats, type MethodType } from "./stats.ts";
import { grpcTrailers, statusOf } from "./status.ts";
import { parseTimeout } from "./timeout.ts";

/** One path and what serves it. */
export interface Route {
  readonly path: string;
  readonly served: ServedMethod;
  readonly stats: MethodStats;
}

/** Routes by path. Throws when two methods claim one. */
export function routesOf(methods: readonly ServedMethod[]): Map<string, Route> {
  const routes = new Map<string, Route>();
  for (const served of methods) {
    for (const path of served.paths) {
      if (routes.has(path)) throw new Error(`two methods are served at ${path}`);
      routes.set(path, { path, served, stats: new MethodStats(path, TYPES[served.method.kind]) });
    }
  }
  return routes;
}

const TYPES: Readonly<Record<ServedMethod["method"]["kind"], MethodType>> = {
  unary: "unary",
  "server-stream": "server_stream",
  bidi: "bidi_stream",
};

export interface NativePorts extends CallPorts, RequestPorts {
  readonly routes: ReadonlyMap<string, Route>;
}

/** Whether a content type is that of native gRPC, whatever its message format. */
export function isNativeGrpc(contentType: string | undefined): boolean {
  if (contentType === "application/grpc") return true;
  return contentType !== undefined && /^application\/grpc(\+|;|$)/i.test(contentType);
}

/** Serves one native gRPC stream: `headers` by name as node joins them, `raw` as they came, names and values in turn. */
export function serveNative(
  ports: NativePorts,
  connection: Connection,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  raw: readonly string[],
): void {
  if (headers[":method"] !== "POST") {
    stream.on("error", ignore);
    stream.respond({ ":status": 405, allow: "POST" }, { endStream: true });
    stream.resume();
    return;
  }
  const path = String(headers[":path"]);
  const route = ports.routes.get(path);
  if (route === undefined) {
    refuse(stream, new StatusError(Code.UNIMPLEMENTED, `unknown method ${path}`), path, ports.logger);
    return;
  }
  const authority = (headers[":authority"] as string | undefined) ?? headers.host;
  const call = new NativeCall(ports, connection, stream, { path, authority, headers: raw, stats: route.stats });
  try {
    checkFormat(headers);
    const timeout = headers["grpc-timeout"] as string | undefined;
    if (timeout !== undefined) {
      const ms = parseTimeout(timeout);
      if (ms !== undefined) call.setDeadline(ms);
    }
  } catch (error) {
    call.fail(error);
  }
  if (call.ended) {
    stream.resume();
    return;
  }
  const { method } = route.served;
  if (method.kind === "bidi") new RequestStream(ports, call, method);
  else new SingleRequest(ports, call, method);
}

/** Refuses message formats and encodings other than plain protobuf. */
function checkFormat(headers: IncomingHttpHeaders): void {
  const contentType = headers["content-type"]!;
  if (contentType !== "application/grpc" && !/^application\/grpc(\+proto)? *(;|$)/i.test(contentType)) {
    throw new StatusError(Code.UNIMPLEMENTED, `message format of ${contentType} is not served`);
  }
  const encoding = headers["grpc-encoding"];
  if (encoding !== undefined && encoding !== "identity") {
    throw new StatusError(Code.UNIMPLEMENTED, `grpc-encoding ${encoding} is not served`, {
      "grpc-accept-encoding": "identity",
    });
  }
}

/** Answers a stream that is no call of a method with a status alone. */
export function refuse(stream: ServerHttp2Stream, error: unknown, path: string, logger: Logger): void {
  stream.on("error", ignore);
  const trailers = grpcTrailers(statusOf(error, path, logger));
  stream.respond({ ":status": 200, "content-type": "application/grpc", ...trailers }, { endStream: true });
  stream.resume();
}

function ignore(): void {}
