/** The methods of the Oxia client service, under both of its names. */
import { OxiaClient as Binary } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { OxiaClient as LegacyBinary } from "../gen/bytes/io/streamnative/oxia/proto/client_pb.ts";
import { OxiaClient as Json } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { type ClientApi, list, openWriteStream, rangeScan, read, write } from "./client-api.ts";
import { getNotifications, getSequenceUpdates } from "./feeds-api.ts";
import type { Method, ServedMethod } from "./method.ts";
import { closeSession, createSession, keepAlive } from "./sessions-api.ts";

/** All methods of `OxiaClient` that are served, under both service names. */
export function clientMethods(api: ClientApi): ServedMethod[] {
  const served = (name: keyof typeof Binary.method, method: Method): ServedMethod => ({
    paths: [`/${Binary.typeName}/${Binary.method[name].name}`, `/${LegacyBinary.typeName}/${Binary.method[name].name}`],
    binary: Binary.method[name],
    json: Json.method[name],
    method,
  });
  return [
    served("getShardAssignments", {
      kind: "server-stream",
      handle: (request, call, sink) => api.assignments.serve(request, call, sink),
    }),
    served("write", { kind: "unary", handle: (request, call) => write(api, request, call) }),
    served("writeStream", { kind: "bidi", open: (call, controls) => openWriteStream(api, call, controls) }),
    served("read", { kind: "server-stream", handle: (request, call, sink) => read(api, request, call, sink) }),
    served("list", { kind: "server-stream", handle: (request, call, sink) => list(api, request, call, sink) }),
    served("rangeScan", {
      kind: "server-stream",
      handle: (request, call, sink) => rangeScan(api, request, call, sink),
    }),
    served("getNotifications", {
      kind: "server-stream",
      handle: (request, call, sink) => getNotifications(api, request, call, sink),
    }),
    served("getSequenceUpdates", {
      kind: "server-stream",
      handle: (request, call, sink) => getSequenceUpdates(api, request, call, sink),
    }),
    served("createSession", { kind: "unary", handle: (request, call) => createSession(api, request, call) }),
    served("keepAlive", { kind: "unary", handle: (request, call) => keepAlive(api, request, call) }),
    served("closeSession", { kind: "unary", handle: (request, call) => closeSession(api, request, call) }),
  ];
}
