/**
 * What a process knows of itself, asked by way of the coordinator: callers know one address, and need not reach each
 * data server, nor be on its machine.
 *
 *     caller ─GetNodeStatus(server)─> coordinator, which checks who asks ─AskNode─> internal port of that server
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AskNodeRequestSchema, NodeService } from "../gen/varia/internal/v1/node_pb.ts";
import { Refusal } from "../model/refusal.ts";
import { type InternalServer, requireInstance } from "./internal-methods.ts";
import type { ServedMethod } from "./method.ts";
import type { AskElsewhere } from "./node-api.ts";
import { callPeer, type PeerPorts } from "./peer-call.ts";
import { servedUnary } from "./served.ts";

/** A server that does not answer by then is not waited for. */
const ASK_MS_MAX = 5_000;

/** The side of a data server. `methods`: those that it answers for itself. */
export function askedMethods(
  server: Pick<InternalServer, "instance">,
  methods: readonly ServedMethod[],
): ServedMethod[] {
  return [
    servedUnary(NodeService.method.askNode, async ({ method: name, request }, call) => {
      requireInstance(server, call);
      const method = methods.find(({ json }) => json.name === name)?.method;
      if (method?.kind !== "unary") throw new Refusal("UNIMPLEMENTED", `"${name}" is not asked of a data server`);
      return { response: await method.handle(request, call) };
    }),
  ];
}

/** The side of a coordinator. `addressOf`: the internal address of a server that has this name, or is at this address. */
export function askServers(ports: PeerPorts, addressOf: (server: string) => string | undefined): AskElsewhere {
  return async (method, request) => {
    const { server } = request;
    const address = addressOf(server);
    if (address === undefined) throw new Refusal("NOT_FOUND", `data server "${server}" not found`);
    const asked = create(AskNodeRequestSchema, {
      method: method.name,
      request: toBinary(method.input, { ...request, server: "" }),
    });
    const call = { server: address, limits: { timeoutMs: ASK_MS_MAX } };
    const { response } = await callPeer(ports, NodeService.method.askNode, call, asked);
    return fromBinary(method.output, response);
  };
}
