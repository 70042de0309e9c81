/** The cluster's configuration as it is in force, field by field, with the line that gives each value. */
import { type ClusterConfig, DEFAULT_LOAD_BALANCER } from "../coordination/cluster-config.ts";
import type { GivenSetting } from "../ops/settings.ts";
import type { YamlText } from "./yaml-text.ts";

/** `file`: what the text was read from, as its source is called. */
export function clusterSettings(
  { servers, namespaces, allowExtraAuthorities, loadBalancer = DEFAULT_LOAD_BALANCER }: ClusterConfig,
  { yaml, file }: { readonly yaml: YamlText; readonly file: string },
): GivenSetting[] {
  const setting = (name: string, path: string, value: string, description: string, byDefault = ""): GivenSetting => {
    const isGiven = hasAt(yaml.value, path.split("."));
    const source = isGiven ? `${file}: ${yaml.placeOf(path).replace(/: $/, "")}` : "";
    return { name, value, description, byDefault, origin: isGiven ? "file" : "default", source };
  };
  return [
    ...servers.flatMap((server, nth) => {
      const { name = server.internal, labels = new Map() } = server;
      const field = (what: string, value: string, description: string) =>
        setting(`servers.${name}.${what}`, `servers.${nth}.${what}`, value, description);
      const words = [...labels].map(([label, value]) => `${label}=${value}`).join(", ");
      return [
        field("public", server.public, "where clients connect"),
        field("internal", server.internal, "where coordinators and other data servers connect"),
        ...(words === "" ? [] : [setting(`serverMetadata.${name}`, `serverMetadata.${name}`, words, "its labels")]),
      ];
    }),
    ...namespaces.flatMap((namespace, nth) => {
      const field = (what: string, value: string | number | boolean, description: string, byDefault = "") =>
        setting(
          `namespaces.${namespace.name}.${what}`,
          `namespaces.${nth}.${what}`,
          `${value}`,
          description,
          byDefault,
        );
      const { antiAffinities = [] } = namespace;
      const apart = antiAffinities.map(({ labels }) => labels.join(", ")).join("; ");
      return [
        field("initialShardCount", namespace.shards, "shards that it begins with"),
        field("replicationFactor", namespace.replicationFactor, "replicas of shards that are made from now on"),
        field("notificationsEnabled", namespace.notificationsEnabled, "whether changes can be followed", "true"),
        field("keySorting", namespace.keySorting, "the order of its keys", "hierarchical"),
        field("readConsistency", namespace.readConsistency, "what a read may miss", "linearizable"),
        ...(apart === "" ? [] : [field("antiAffinities", apart, "labels in which the servers of a shard differ")]),
      ];
    }),
    setting("allowExtraAuthorities", "allowExtraAuthorities", allowExtraAuthorities.join(", "), AUTHORITIES),
    balancing("scheduleInterval", loadBalancer.scheduleIntervalMs, DEFAULT_LOAD_BALANCER.scheduleIntervalMs, SCHEDULE),
    balancing("quarantineTime", loadBalancer.quarantineTimeMs, DEFAULT_LOAD_BALANCER.quarantineTimeMs, QUARANTINE),
  ];

  function balancing(what: string, ms: number, byDefaultMs: number, description: string): GivenSetting {
    const path = `loadBalancer.${what}`;
    return setting(path, path, `${ms / 1_000}s`, description, `${byDefaultMs / 1_000}s`);
  }
}

const AUTHORITIES = "names by which clients may call servers, beside the servers' own addresses";
const SCHEDULE = "time between two rounds in which leaders and replicas are spread evenly";
const QUARANTINE = "how long what could not be moved is left alone";

/** Names may have dots: as many of the last ones as it takes are one. */
function hasAt(value: unknown, names: readonly string[]): boolean {
  if (names.length === 0) return value !== undefined && value !== null;
  if (typeof value !== "object" || value === null) return false;
  const inner = value as Record<string, unknown>;
  return names.some((_, nth) => {
    const name = names.slice(0, nth + 1).join(".");
    return Object.hasOwn(inner, name) && hasAt(inner[name], names.slice(nth + 1));
  });
}
