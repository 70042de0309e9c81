/**
 * What administrators may change of the cluster's configuration: each request, judged by the configuration as it stands,
 * becomes one edit of the document that holds it, or is refused in Oxia's words.
 *
 *     request ─> edit ─> the document, and what the operator has written beside it ─> Coordinator.reconfigure
 *
 * Source: semantics.md §9.6; errors.md §4.
 */
import { SHARDS_PER_NAMESPACE_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { ClusterConfig, NamespaceConfig, ServerConfig } from "./cluster-config.ts";
import { namespaceNameProblem } from "./parse-config.ts";
import { isBeingDeleted } from "./reconcile.ts";
import type { ClusterStatus } from "./status-document.ts";
import { serversOf } from "./stored-shard.ts";

/** A namespace as a request names it: 0 and "" are not given. */
export interface NamespaceRequest {
  readonly name: string;
  readonly initialShardCount: number;
  readonly replicationFactor: number;
  readonly notificationsEnabled: boolean | undefined;
  readonly keySorting: string;
  readonly hasAntiAffinities: boolean;
}

/** A data server as a request names it: "" is not given. */
export interface DataServerRequest {
  readonly name: string;
  readonly public: string;
  readonly internal: string;
  /** Undefined: not given. */
  readonly labels: ReadonlyMap<string, string> | undefined;
}

/** Members that are absent or undefined stay as they are, or are left to the default. */
export type ConfigEdit =
  | {
      readonly kind: "add-namespace";
      readonly name: string;
      readonly initialShardCount: number;
      readonly replicationFactor: number;
      readonly notificationsEnabled: boolean | undefined;
      readonly keySorting: string | undefined;
    }
  | {
      readonly kind: "set-namespace";
      readonly name: string;
      readonly replicationFactor: number | undefined;
      readonly notificationsEnabled: boolean | undefined;
    }
  | { readonly kind: "remove-namespace"; readonly name: string }
  | ({ readonly kind: "add-server" } & DataServerRequest)
  | {
      readonly kind: "set-server";
      readonly name: string;
      readonly public: string | undefined;
      readonly internal: string | undefined;
      readonly labels: ReadonlyMap<string, string> | undefined;
    }
  | { readonly kind: "remove-server"; readonly name: string };

/** The document that holds the configuration, as admin calls change it. */
export interface ConfigFile {
  readonly config: ClusterConfig;
  /**
   * Makes the edit that `decide` comes to for the configuration as it stands now, and stores it. What `decide` throws
   * rises. Throws ConfigInvalid when what comes of it cannot be meant, CONCURRENT_CHANGE when somebody else has changed
   * it meanwhile: nothing is changed then.
   */
  edit(decide: (config: ClusterConfig) => ConfigEdit): ClusterConfig;
}

/** The name by which a server is asked for. */
export function serverName({ name, internal }: Pick<ServerConfig, "name" | "internal">): string {
  return name ?? internal;
}

// --- namespaces -------------------------------------------------------------------------------------------------

/** Throws INVALID_ARGUMENT, NOT_FOUND. */
export function namespaceNamed({ namespaces }: ClusterConfig, name: string): NamespaceConfig {
  requireGiven(name, "namespace");
  const found = namespaces.find((namespace) => namespace.name === name);
  if (found === undefined) throw new Refusal("NOT_FOUND", `namespace "${name}" not found`);
  return found;
}

export function createNamespace(config: ClusterConfig, request: NamespaceRequest): ConfigEdit {
  const { name, initialShardCount, replicationFactor, notificationsEnabled, keySorting } = request;
  requireGiven(name, "namespace");
  const problem = namespaceNameProblem(name);
  if (problem !== undefined) throw invalid(`namespace name ${problem}`);
  if (initialShardCount === 0) throw invalid("namespace initial shard count must be greater than 0");
  if (replicationFactor === 0) throw invalid("namespace replication factor must be greater than 0");
  requireSorting(keySorting);
  if (request.hasAntiAffinities) throw invalid("namespace anti-affinities cannot be set on create");
  if (initialShardCount > SHARDS_PER_NAMESPACE_MAX) {
    throw invalid(`namespace initial shard count must not be greater than ${SHARDS_PER_NAMESPACE_MAX}`);
  }
  if (config.namespaces.some((namespace) => namespace.name === name)) {
    throw new Refusal("ALREADY_EXISTS", `namespace "${name}" already exists`);
  }
  requireServers(config, replicationFactor, `create namespace "${name}"`);
  const sorting = keySorting === "" ? undefined : keySorting;
  return {
    ...{ kind: "add-namespace", name, initialShardCount, replicationFactor, notificationsEnabled },
    keySorting: sorting,
  };
}

/** Its replication factor, of shards that are made from now on, and whether it has notifications. */
export function patchNamespace(config: ClusterConfig, request: NamespaceRequest): ConfigEdit {
  const { name, initialShardCount, replicationFactor, notificationsEnabled, keySorting } = request;
  requireGiven(name, "namespace");
  if (initialShardCount !== 0) throw invalid("namespace initial shard count cannot be patched");
  if (keySorting !== "") throw invalid("namespace key sorting cannot be patched");
  if (request.hasAntiAffinities) throw invalid("namespace anti-affinities cannot be patched");
  namespaceNamed(config, name);
  requireServers(config, replicationFactor, `patch namespace "${name}"`);
  const factor = replicationFactor === 0 ? undefined : replicationFactor;
  return { kind: "set-namespace", name, replicationFactor: factor, notificationsEnabled };
}

export function deleteNamespace(config: ClusterConfig, name: string): ConfigEdit {
  namespaceNamed(config, name);
  return { kind: "remove-namespace", name };
}

// --- data servers -----------------------------------------------------------------------------------------------

/** Throws INVALID_ARGUMENT, NOT_FOUND. */
export function serverNamed({ servers }: ClusterConfig, name: string): ServerConfig {
  requireGiven(name, "data server");
  const found = servers.find((server) => serverName(server) === name);
  if (found === undefined) throw new Refusal("NOT_FOUND", `data server "${name}" not found`);
  return found;
}

export function createDataServer({ servers }: ClusterConfig, request: DataServerRequest): ConfigEdit {
  requireGiven(request.name, "data server identity name");
  requireGiven(request.public, "data server public address");
  requireGiven(request.internal, "data server internal address");
  if (servers.some((server) => serverName(server) === request.name)) {
    throw new Refusal("ALREADY_EXISTS", `data server "${request.name}" already exists`);
  }
  return { kind: "add-server", ...request };
}

/** A server's replicas are found by its internal address: it can be changed as long as there are none. */
export function patchDataServer(config: ClusterConfig, status: ClusterStatus, request: DataServerRequest): ConfigEdit {
  requireGiven(request.name, "data server identity name");
  const { name, labels } = request;
  const before = serverNamed(config, name);
  const given = (text: string) => (text === "" ? undefined : text);
  const internal = given(request.internal);
  if (internal !== undefined && internal !== before.internal && holdsReplicas(status, before.internal)) {
    const why = `replicas live at ${before.internal}: create another data server, and delete this one`;
    throw new Refusal("FAILED_PRECONDITION", `failed to patch data server "${name}": ${why}`);
  }
  return { kind: "set-server", name, public: given(request.public), internal, labels };
}

/** Its replicas move to the others from then on. Refused where a shard that is, or a namespace as wanted, needs it. */
export function deleteDataServer(config: ClusterConfig, status: ClusterStatus, name: string): ConfigEdit {
  const { internal } = serverNamed(config, name);
  const left = config.servers.filter((server) => server.internal !== internal).length;
  for (const { name: namespace, factor } of replicationFactors(config, status)) {
    if (factor <= left) continue;
    const why = `namespace "${namespace}" has replication factor ${factor}, and ${left} data servers would be left`;
    throw new Refusal("FAILED_PRECONDITION", `failed to delete data server "${name}": ${why}`);
  }
  return { kind: "remove-server", name };
}

function replicationFactors(config: ClusterConfig, { namespaces }: ClusterStatus) {
  const wanted = config.namespaces.map(({ name, replicationFactor: factor }) => ({ name, factor }));
  const held = [...namespaces]
    .filter(([, namespace]) => !isBeingDeleted(namespace))
    .map(([name, { shards }]) => {
      return { name, factor: Math.max(0, ...[...shards.values()].map(({ ensemble }) => ensemble.length)) };
    });
  return [...wanted, ...held];
}

function holdsReplicas({ namespaces }: ClusterStatus, server: string): boolean {
  const shards = [...namespaces.values()].flatMap((namespace) => [...namespace.shards.values()]);
  return shards.some((shard) => serversOf(shard).includes(server));
}

// --- refusals ---------------------------------------------------------------------------------------------------

function requireServers({ servers }: ClusterConfig, replicationFactor: number, what: string): void {
  if (replicationFactor <= servers.length) return;
  const why = `replication factor ${replicationFactor} is greater than the number of data servers, ${servers.length}`;
  throw new Refusal("FAILED_PRECONDITION", `failed to ${what}: ${why}`);
}

function requireSorting(text: string): void {
  if (text === "" || text === "natural" || text === "hierarchical") return;
  if (text === "unknown") throw invalid('namespace key sorting must be one of "natural" or "hierarchical"');
  throw invalid(`namespace key sorting is invalid: ${JSON.stringify(text)}`);
}

function requireGiven(text: string, what: string): void {
  if (text === "") throw invalid(`${what} must not be empty`);
}

function invalid(message: string): Refusal {
  return new Refusal("INVALID_ARGUMENT", message);
}
