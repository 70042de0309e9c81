/**
 * Reads the cluster's configuration, Oxia's document: YAML or JSON parsed to plain values. What cannot be meant is refused
 * with the path of what is wrong; fields that nobody knows are passed over, as Oxia does, and told.
 *
 * Source: semantics.md §9.1; protocol.md §3 (ClusterConfiguration).
 */
import { parseDurationMs } from "../lib/units.ts";
import { SHARDS_PER_NAMESPACE_MAX } from "../model/limits.ts";
import { type Json, StatusInvalid } from "../model/status-entries.ts";
import {
  type AntiAffinity,
  type ClusterConfig,
  DEFAULT_LOAD_BALANCER,
  type LoadBalancerConfig,
  type NamespaceConfig,
  type ServerConfig,
} from "./cluster-config.ts";
import { Fields } from "./json-fields.ts";

export interface ParsedConfig {
  readonly config: ClusterConfig;
  /** Paths of fields that nobody knows: likely misspelt. */
  readonly unknown: readonly string[];
}

/** The configuration cannot be meant. The message names the place. */
export class ConfigInvalid extends Error {
  override readonly name = "ConfigInvalid";
}

const NAMESPACE_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const ADDRESS = /^(\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:[\]]+):(\d{1,5})$/;

/** Why a namespace cannot be called so, in words that go on from its name; undefined: it can. */
export function namespaceNameProblem(name: string): string | undefined {
  if (NAMESPACE_NAME.test(name) && !name.includes("..")) return undefined;
  return `"${name}" is not made of letters, digits, "_", "." and "-", beginning with a letter or a digit, without ".."`;
}

/** Throws ConfigInvalid. An absent document (an empty file) is an empty configuration. */
export function parseConfig(document: unknown): ParsedConfig {
  const unknown: string[] = [];
  try {
    const fields = new Fields("", (document ?? {}) as Json);
    const config = clusterConfig(fields, unknown);
    rest(fields, unknown);
    return { config, unknown };
  } catch (error) {
    if (!(error instanceof StatusInvalid)) throw error;
    throw new ConfigInvalid(`cluster configuration: ${error.path} ${error.what}`.replace(/ {2,}/g, " "), {
      cause: error,
    });
  }
}

function clusterConfig(fields: Fields, unknown: string[]): ClusterConfig {
  const labels = fields.map("serverMetadata", (path, value, name): [string, ReadonlyMap<string, string>] => {
    const metadata = new Fields(path, value);
    const read = metadata.map("labels", (at, label, key): [string, string] => [key, scalar(at, label)]);
    rest(metadata, unknown);
    return [name, read];
  });
  const servers = fields.list("servers", (path, value) => serverConfig(new Fields(path, value), labels, unknown));
  const namespaces = fields.list("namespaces", (path, value) => namespaceConfig(new Fields(path, value), unknown));
  const allowExtraAuthorities = fields.list("allowExtraAuthorities", (path, value) => authority(path, value));
  coordinators(fields, unknown);
  const balancer = loadBalancer(fields, unknown);
  autoSplit(fields);
  const config = {
    ...{ namespaces, servers, allowExtraAuthorities },
    ...(balancer === undefined ? {} : { loadBalancer: balancer }),
  };
  checkServers(fields, config, labels);
  checkNamespaces(fields, config);
  return config;
}

function serverConfig(
  fields: Fields,
  labels: ReadonlyMap<string, ReadonlyMap<string, string>>,
  unknown: string[],
): ServerConfig {
  const name = fields.optionalText("name");
  const internal = address(fields, "internal");
  const server = {
    name,
    public: address(fields, "public"),
    internal,
    labels: labels.get(name ?? internal) ?? new Map(),
  };
  rest(fields, unknown);
  return server;
}

function namespaceConfig(fields: Fields, unknown: string[]): NamespaceConfig {
  const name = fields.text("name");
  if (name === "") return fields.fail("name", "is missing");
  const problem = namespaceNameProblem(name);
  if (problem !== undefined) return fields.fail("name", problem);
  const sorting = fields.optionalText("keySorting") ?? "";
  if (sorting !== "" && sorting !== "natural" && sorting !== "hierarchical") {
    return fields.fail("keySorting", `"${sorting}" is neither natural nor hierarchical`);
  }
  const consistency = fields.optionalText("readConsistency") ?? "linearizable";
  if (consistency !== "linearizable" && consistency !== "leader") {
    return fields.fail("readConsistency", `"${consistency}" is neither linearizable nor leader`);
  }
  const namespace = {
    name,
    shards: fields.number("initialShardCount", 1, SHARDS_PER_NAMESPACE_MAX),
    replicationFactor: fields.number("replicationFactor", 1, 1000),
    notificationsEnabled: boolean(fields, "notificationsEnabled", true),
    keySorting: sorting === "" ? ("hierarchical" as const) : sorting,
    readConsistency: consistency,
    antiAffinities: fields.list("antiAffinities", (path, value) => antiAffinity(new Fields(path, value), unknown)),
  } satisfies NamespaceConfig;
  rest(fields, unknown);
  return namespace;
}

function antiAffinity(fields: Fields, unknown: string[]): AntiAffinity {
  const labels = fields.list("labels", scalar);
  if (labels.length === 0) return fields.fail("labels", "is empty");
  const mode = fields.optionalText("mode") ?? "strict";
  if (mode === "relaxed") return fields.fail("mode", "relaxed is not supported: leave the rule out, or make it strict");
  if (mode !== "strict") return fields.fail("mode", `"${mode}" is neither strict nor relaxed`);
  rest(fields, unknown);
  return { labels };
}

/** Known, and of no consequence: which coordinators there are is for admin clients. */
function coordinators(fields: Fields, unknown: string[]): void {
  const names = new Set<string>();
  fields.list("coordinators", (path, value) => {
    const coordinator = new Fields(path, value);
    const name = coordinator.text("name");
    if (name === "" || names.has(name))
      coordinator.fail("name", name === "" ? "is missing" : `"${name}" is given twice`);
    names.add(name);
    address(coordinator, "publicAddress");
    rest(coordinator, unknown);
  });
}

function loadBalancer(fields: Fields, unknown: string[]): LoadBalancerConfig | undefined {
  return fields.optional("loadBalancer", (path, value) => {
    const balancer = new Fields(path, value);
    const duration = (name: string, absentMs: number) => {
      const text = balancer.optionalText(name) ?? "";
      if (text === "") return absentMs;
      const ms = parseDurationMs(text) ?? 0;
      return ms > 0 ? ms : balancer.fail(name, `"${text}" is no duration such as 30s`);
    };
    const read = {
      scheduleIntervalMs: duration("scheduleInterval", DEFAULT_LOAD_BALANCER.scheduleIntervalMs),
      quarantineTimeMs: duration("quarantineTime", DEFAULT_LOAD_BALANCER.quarantineTimeMs),
    };
    rest(balancer, unknown);
    return read;
  });
}

function autoSplit(fields: Fields): void {
  fields.optional("autoSplit", (path, value) => {
    const split = new Fields(path, value);
    if (boolean(split, "enabled", false)) split.fail("enabled", "is on: Varia does not split shards by itself yet");
  });
}

/** Two servers with one address or one name would be taken for one: each would be sent what is the other's. */
function checkServers(fields: Fields, { servers }: ClusterConfig, labels: ReadonlyMap<string, unknown>): void {
  const taken = new Map<string, number>();
  const take = (index: number, field: string, value: string) => {
    const other = taken.get(value);
    if (other !== undefined && other !== index) {
      fields.fail(`servers.${index}.${field}`, `"${value}" is that of servers.${other} too`);
    }
    taken.set(value, index);
  };
  for (const [index, server] of servers.entries()) {
    take(index, "internal", server.internal);
    if (server.public === server.internal) fields.fail(`servers.${index}.public`, "is the internal address too");
    take(index, "public", server.public);
    if (server.name !== undefined) take(index, "name", server.name);
  }
  const names = new Set(servers.map(({ name, internal }) => name ?? internal));
  for (const name of labels.keys()) if (!names.has(name)) fields.fail(`serverMetadata.${name}`, "is no server's name");
}

function checkNamespaces(fields: Fields, { namespaces, servers }: ClusterConfig): void {
  for (const [index, { name, replicationFactor, antiAffinities }] of namespaces.entries()) {
    const at = `namespaces.${index}`;
    if (namespaces.findIndex((other) => other.name === name) !== index)
      fields.fail(`${at}.name`, `"${name}" is given twice`);
    if (replicationFactor > servers.length) {
      fields.fail(
        `${at}.replicationFactor`,
        `${replicationFactor} is more than the ${servers.length} servers there are`,
      );
    }
    for (const label of (antiAffinities ?? []).flatMap(({ labels }) => labels)) {
      const values = new Set(servers.flatMap((server) => server.labels?.get(label) ?? []));
      if (values.size < replicationFactor) {
        const text = `label ${label} has ${values.size} values, fewer than ${replicationFactor} replicas to keep apart`;
        fields.fail(`${at}.antiAffinities`, text);
      }
    }
  }
}

function address(fields: Fields, name: string): string {
  const text = fields.text(name);
  const port = Number(ADDRESS.exec(text)?.[2] ?? 0);
  if (text === "") return fields.fail(name, "is missing");
  if (port < 1 || port > 65_535) return fields.fail(name, `"${text}" is not host:port`);
  return text;
}

/** A scheme before it is dropped, as Oxia does. */
function authority(path: string, value: Json): string {
  const text = scalar(path, value).replace(/^[a-z]+:\/\//, "");
  if (!ADDRESS.test(text)) throw new StatusInvalid(path, `"${text}" is not host:port`);
  return text;
}

function boolean(fields: Fields, name: string, absent: boolean): boolean {
  const value = fields.take(name) ?? absent;
  return typeof value === "boolean" ? value : fields.fail(name, "is neither true nor false");
}

function scalar(path: string, value: Json): string {
  if (typeof value === "string" || typeof value === "number") return String(value);
  throw new StatusInvalid(path, "is not text");
}

function rest(fields: Fields, unknown: string[]): void {
  unknown.push(...Object.keys(fields.rest()).map((name) => fields.at(name)));
}
