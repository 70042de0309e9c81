/**
 * `OxiaAdmin`: administrators' changes of the cluster. A change is an edit of the configuration's document, and has
 * happened once what the coordinator makes of it is stored.
 *
 * Source: protocol.md §4; semantics.md §9.6; errors.md §4.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import {
  type ConfigEdit,
  type ConfigFile,
  createDataServer,
  createNamespace,
  deleteDataServer,
  deleteNamespace,
  namespaceNamed,
  patchDataServer,
  patchNamespace,
  serverName,
  serverNamed,
} from "../coordination/administer.ts";
import type { ClusterConfig, ServerConfig } from "../coordination/cluster-config.ts";
import type { Coordinator } from "../coordination/coordinator.ts";
import type { OperationGoal } from "../coordination/operation-list.ts";
import type { Operations } from "../coordination/operations.ts";
import { ConfigInvalid } from "../coordination/parse-config.ts";
import type { ServerState } from "../coordination/server-link.ts";
import type { ClusterStatus } from "../coordination/status-document.ts";
import { serversOf } from "../coordination/stored-shard.ts";
import { type DataServerViewSchema, type NamespaceViewSchema, OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { Refusal } from "../model/refusal.ts";
import {
  dataServerRequest,
  namespaceRequest,
  protoDataServer,
  protoDataServerStatus,
  protoNamespace,
  protoNamespaceStatus,
} from "./admin-codec.ts";
import type { LoadWatch } from "./load-watch.ts";
import type { ServedMethod } from "./method.ts";
import { type MethodOf, servedUnary } from "./served.ts";

export interface AdminPorts {
  readonly file: ConfigFile;
  /** The one that works now; undefined: none does. */
  readonly coordinator: () => Coordinator | undefined;
  /** What takes time is one of these. */
  readonly operations: Operations;
  /** What servers bear. */
  readonly loads: LoadWatch;
  /** Milliseconds since the epoch. */
  readonly nowMs: () => number;
}

/** Throws NOT_INITIALIZED. */
export function requireCoordinator({ coordinator }: Pick<AdminPorts, "coordinator">): Coordinator {
  const found = coordinator();
  if (found === undefined) throw new Refusal("NOT_INITIALIZED", "the coordinator is not ready");
  return found;
}

/** All methods of the service. */
export function adminMethods(ports: AdminPorts): ServedMethod[] {
  const { method } = OxiaAdmin;
  const unary = <I extends DescMessage, O extends DescMessage>(
    descriptor: MethodOf<I, O>,
    answer: (request: MessageShape<I>, coordinator: Coordinator) => unknown,
  ) => servedUnary(descriptor, (request) => answer(request, requireCoordinator(ports)));
  const admin = new Admin(ports);
  const change = (what: string, decide: Decision) => changeConfig(ports, what, decide);
  return [
    unary(method.listDataServers, () => ({ dataServers: admin.servers().map((server) => admin.view(server)) })),
    unary(method.getDataServer, ({ dataServer }) => ({ dataServer: admin.view(admin.server(dataServer)) })),
    unary(method.createDataServer, async ({ dataServer }) => {
      const request = dataServerRequest(dataServer);
      const what = `create data server "${request.name}"`;
      const { after } = await change(what, (config) => createDataServer(config, request));
      return { dataServer: protoDataServer(serverNamed(after, request.name)) };
    }),
    unary(method.patchDataServer, async ({ dataServer }) => {
      const request = dataServerRequest(dataServer);
      const what = `patch data server "${request.name}"`;
      const { after } = await change(what, (config, status) => patchDataServer(config, status, request));
      return { dataServer: protoDataServer(serverNamed(after, request.name)) };
    }),
    unary(method.deleteDataServer, async ({ dataServer: name }) => {
      const what = `delete data server "${name}"`;
      const { before } = await change(what, (config, status) => deleteDataServer(config, status, name));
      const server = serverNamed(before, name);
      ports.operations.follow(drainGoal(ports, server));
      return { dataServer: protoDataServer(server) };
    }),
    unary(method.createNamespace, async ({ namespace }) => {
      const request = namespaceRequest(namespace);
      const what = `create namespace "${request.name}"`;
      const { after } = await change(what, (config) => createNamespace(config, request));
      ports.operations.follow({ kind: "create-namespace", namespace: request.name, from: "", to: "" });
      return { namespace: protoNamespace(namespaceNamed(after, request.name)) };
    }),
    unary(method.patchNamespace, async ({ namespace }) => {
      const request = namespaceRequest(namespace);
      const what = `patch namespace "${request.name}"`;
      const { after } = await change(what, (config) => patchNamespace(config, request));
      return { namespace: protoNamespace(namespaceNamed(after, request.name)) };
    }),
    unary(method.deleteNamespace, async ({ namespace: name }) => {
      const what = `delete namespace "${name}"`;
      const parts = requireCoordinator(ports).stored.namespaces.get(name)?.shards.size ?? 0;
      const { before } = await change(what, (config) => deleteNamespace(config, name));
      ports.operations.follow({ kind: "delete-namespace", namespace: name, from: "", to: "", parts });
      return { namespace: protoNamespace(namespaceNamed(before, name)) };
    }),
    unary(method.getNamespace, ({ namespace }) => ({ namespace: admin.namespace(namespace) })),
    unary(method.listNamespaces, () => ({ namespaces: admin.namespaces() })),
    unary(method.splitShard, () => {
      throw new Refusal("UNIMPLEMENTED", "this version does not split shards");
    }),
  ];
}

type ServerView = Omit<Partial<MessageShape<typeof DataServerViewSchema>>, "$typeName">;
type NamespaceView = Omit<Partial<MessageShape<typeof NamespaceViewSchema>>, "$typeName">;

interface SeenServer {
  readonly server: Pick<ServerConfig, "name" | "public" | "internal" | "labels">;
  readonly state: ServerState;
  readonly draining: boolean;
}

class Admin {
  readonly #ports: AdminPorts;

  constructor(ports: AdminPorts) {
    this.#ports = ports;
  }

  /** Those that are configured, in their order, then those that are leaving. */
  servers(): SeenServer[] {
    const { servers } = this.#ports.file.config;
    const { servers: links, shards } = requireCoordinator(this.#ports).status();
    const stateOf = (internal: string) => links.find(({ server }) => server === internal)?.state ?? "unavailable";
    const identities = new Map(shards.flatMap(({ identities }) => identities.map((each) => [each.internal, each])));
    for (const { internal } of servers) identities.delete(internal);
    return [
      ...servers.map((server) => ({ server, state: stateOf(server.internal), draining: false })),
      ...[...identities.values()].map((server) => ({ server, state: stateOf(server.internal), draining: true })),
    ];
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND. */
  server(name: string): SeenServer {
    const found = this.servers().find(({ server }) => serverName(server) === name);
    if (found !== undefined) return found;
    serverNamed(this.#ports.file.config, name);
    throw new Refusal("NOT_FOUND", `data server "${name}" not found`);
  }

  view({ server, state, draining }: SeenServer): ServerView {
    const features = requireCoordinator(this.#ports).features(server.internal);
    return {
      dataServer: protoDataServer(server),
      dataServerStatus: protoDataServerStatus({ state, draining, features }),
    };
  }

  namespaces(): NamespaceView[] {
    return this.#ports.file.config.namespaces.map(({ name }) => this.namespace(name));
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND. */
  namespace(name: string): NamespaceView {
    const namespace = protoNamespace(namespaceNamed(this.#ports.file.config, name));
    const status = requireCoordinator(this.#ports).stored.namespaces.get(name);
    return status === undefined ? { namespace } : { namespace, namespaceStatus: protoNamespaceStatus(status) };
  }
}

type Decision = (config: ClusterConfig, status: ClusterStatus) => ConfigEdit;

/** Edits the document, and has the coordinator act on it. Whatever is refused is refused with `what` in it. */
export async function changeConfig(
  ports: AdminPorts,
  what: string,
  decide: Decision,
): Promise<{ readonly before: ClusterConfig; readonly after: ClusterConfig }> {
  const coordinator = requireCoordinator(ports);
  const { file } = ports;
  try {
    let before = file.config;
    const after = file.edit((config) => {
      before = config;
      return decide(config, coordinator.stored);
    });
    await coordinator.reconfigure(after);
    return { before, after };
  } catch (error) {
    throw refusalOf(error, what);
  }
}

/** What a server that was taken from the configuration has to come to. */
export function drainGoal(ports: AdminPorts, server: ServerConfig): OperationGoal {
  const { stored } = requireCoordinator(ports);
  const shards = [...stored.namespaces.values()].flatMap((namespace) => [...namespace.shards.values()]);
  const parts = shards.filter((shard) => serversOf(shard).includes(server.internal)).length;
  const { name, public: shown, internal, labels } = server;
  const before = { name: name ?? internal, public: shown, internal, labels: [...(labels ?? [])] };
  return { kind: "drain-server", namespace: "", from: internal, to: "", parts, server: before };
}

function refusalOf(error: unknown, what: string): unknown {
  if (error instanceof Refusal && error.reason === "CONCURRENT_CHANGE") {
    return new Refusal("CONCURRENT_CHANGE", `failed to ${what} due to concurrent config update`, { cause: error });
  }
  if (error instanceof Refusal && error.reason !== "RESOURCE_EXHAUSTED") return error;
  const cause = error instanceof Error ? error.message : String(error);
  const reason = error instanceof ConfigInvalid ? "FAILED_PRECONDITION" : "STORE_FAILED";
  return new Refusal(reason, `failed to ${what}: ${cause}`, { cause: error });
}
