/** What the operator wants of the cluster, as plain data: read from a file or a config map elsewhere. */
import type { KeySorting } from "../model/keys.ts";
import type { ReadConsistency, TermOptions } from "../model/peer-messages.ts";

export interface ClusterConfig {
  readonly namespaces: readonly NamespaceConfig[];
  readonly servers: readonly ServerConfig[];
  /** Authorities by which clients may call servers, beside the servers' own addresses. */
  readonly allowExtraAuthorities: readonly string[];
  /** Default: DEFAULT_LOAD_BALANCER. */
  readonly loadBalancer?: LoadBalancerConfig;
}

export interface LoadBalancerConfig {
  /** Time between two rounds in which leaders and replicas are spread evenly. */
  readonly scheduleIntervalMs: number;
  /** What could not be moved, or has failed, is left alone for so long. */
  readonly quarantineTimeMs: number;
}

/** Oxia's. */
export const DEFAULT_LOAD_BALANCER: LoadBalancerConfig = { scheduleIntervalMs: 30_000, quarantineTimeMs: 300_000 };

export interface NamespaceConfig {
  readonly name: string;
  /** Shards that it begins with. */
  readonly shards: number;
  /** Of shards that are made from now on. */
  readonly replicationFactor: number;
  readonly notificationsEnabled: boolean;
  readonly keySorting: KeySorting;
  readonly readConsistency: ReadConsistency;
  /** Default: none. */
  readonly antiAffinities?: readonly AntiAffinity[];
}

/** No two replicas of a shard are placed on servers that have one value of a label named here, or lack it. */
export interface AntiAffinity {
  readonly labels: readonly string[];
}

export interface ServerConfig {
  /** Undefined: the internal address serves as name. */
  readonly name: string | undefined;
  /** Address for clients. */
  readonly public: string;
  /** Address for coordinators and other data servers: it identifies the server. */
  readonly internal: string;
  /** Default: none. */
  readonly labels?: ReadonlyMap<string, string>;
}

const DEFAULT_OPTIONS: TermOptions = {
  notificationsEnabled: true,
  keySorting: "hierarchical",
  readConsistency: "linearizable",
};

/** What a leader of the namespace has to know. The defaults are for one that is being deleted: nobody leads it. */
export function optionsOf(config: ClusterConfig, namespace: string): TermOptions {
  const found = config.namespaces.find(({ name }) => name === namespace);
  if (found === undefined) return DEFAULT_OPTIONS;
  const { notificationsEnabled, keySorting, readConsistency } = found;
  return { notificationsEnabled, keySorting, readConsistency };
}
