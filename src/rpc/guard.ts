/**
 * Methods that not everybody is answered: with a token, those who hold it, by role; without one, callers on this machine.
 * What changes nothing takes a viewer, everything else an admin.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { Access, Role } from "../ops/access.ts";
import { bearerToken, isLoopback, isOwnName } from "../ops/access.ts";
import { Code, StatusError } from "./code.ts";
import type { Call, Method, ServedMethod } from "./method.ts";

const LOOKS: ReadonlySet<string> = new Set([
  "GetClusterStatus",
  "GetDiagnosis",
  "GetNodeStatus",
  "GetConfiguration",
  "GetHistory",
  "ListEvents",
  "WatchEvents",
  "ListOperations",
  "GetOperation",
  "ListSessions",
  "GetSession",
  "PlanRecovery",
  // of OxiaAdmin, which needs no role on a port of its own
  "ListNamespaces",
  "GetNamespace",
  "ListDataServers",
  "GetDataServer",
]);

/** The role that a method of an admin service takes. */
export function roleFor(method: string): Role {
  return LOOKS.has(method) ? "viewer" : "admin";
}

export function changesSomething(method: string): boolean {
  return !LOOKS.has(method);
}

/** The same methods, refused with UNAUTHENTICATED or PERMISSION_DENIED to those who may not call them. */
export function guarded(methods: readonly ServedMethod[], access: Access): ServedMethod[] {
  return methods.map((served) => ({
    ...served,
    method: guardedMethod(served.method, access, roleFor(served.json.name)),
  }));
}

function guardedMethod(method: Method, access: Access, needs: Role): Method {
  switch (method.kind) {
    case "unary":
      return {
        ...method,
        handle: (request: Bytes, call: Call) => {
          check(call, access, needs);
          return method.handle(request, call);
        },
      };
    case "server-stream":
      return {
        ...method,
        handle: (request, call, sink) => {
          check(call, access, needs);
          return method.handle(request, call, sink);
        },
      };
    case "bidi":
      return {
        ...method,
        open: (call, controls) => {
          check(call, access, needs);
          return method.open(call, controls);
        },
      };
  }
}

function check(call: Call, access: Access, needs: Role): void {
  if (!access.needsToken) {
    if (!isLoopback(call.peer)) {
      const message = "without --admin-token-file only callers on the server's own machine are answered";
      throw new StatusError(Code.PERMISSION_DENIED, message);
    }
    if (mayBeBrowser(call) && !isOwnName(call.authority ?? "")) {
      throw new StatusError(Code.PERMISSION_DENIED, "call this server by localhost or by an address");
    }
    return;
  }
  const token = bearerToken(call.header("authorization")[0]);
  if (token === undefined) throw new StatusError(Code.UNAUTHENTICATED, "empty token");
  const role = access.roleOf(token);
  if (role === undefined) throw new StatusError(Code.UNAUTHENTICATED, "the token is not known");
  if (needs === "admin" && role !== "admin") {
    throw new StatusError(Code.PERMISSION_DENIED, `the token is a ${role}'s, and this takes an admin's`);
  }
}

/** Native gRPC is what no page can speak. */
function mayBeBrowser(call: Call): boolean {
  return !/^application\/grpc(\+|;|$)/i.test(call.header("content-type")[0] ?? "");
}
