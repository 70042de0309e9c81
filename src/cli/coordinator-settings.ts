/**
 * Settings of `varia coordinator`: those of Oxia's, and Varia's own. The metadata store is an embedded SQLite file, unless
 * one of Oxia's flags names a file of status, which means Oxia's directory of files.
 *
 * Source: semantics.md §10, §11.
 */
import { join } from "node:path";
import { LOG_LEVELS } from "../ops/logger.ts";
import {
  address,
  boolean,
  kind,
  oneOf,
  path,
  type Resolved,
  type Setting,
  SettingError,
  type Settings,
} from "../ops/settings.ts";
import { ACCESS_SETTINGS, setting } from "./data-settings.ts";

const none = (flags: string, at: string, description: string): Setting<string | undefined> => ({
  flags,
  description,
  path: at,
  default: undefined,
  shown: "none",
  parse: path,
});

export const METADATA_STORES = ["sqlite", "file", "memory"] as const;
const METADATA_STORE = oneOf(...METADATA_STORES);

export const COORDINATOR_SETTINGS = {
  internalAddr: setting({
    flags: "-i, --internal-addr <host:port>",
    description: "where its health is asked for",
    path: "server.internal.bindAddress",
    default: { host: "0.0.0.0", port: 6649 },
    shown: "0.0.0.0:6649",
    parse: address,
  }),
  publicAddr: setting({
    flags: "-p, --public-addr <host:port>",
    description: "where admin clients connect",
    path: "server.public.bindAddress",
    default: { host: "0.0.0.0", port: 6651 },
    shown: "0.0.0.0:6651",
    parse: address,
  }),
  metricsAddr: setting({
    flags: "-m, --metrics-addr <host:port>",
    description: "HTTP port: metrics, health, status page",
    path: "observability.metric.bindAddress",
    default: { host: "0.0.0.0", port: 8080 },
    shown: "0.0.0.0:8080",
    parse: address,
  }),
  ...ACCESS_SETTINGS,
  cconfig: none("-f, --cconfig <file>", "cluster.configPath", "the cluster's configuration, YAML or JSON"),
  metadata: setting<(typeof METADATA_STORES)[number] | undefined>({
    flags: "--metadata <store>",
    description: "where the cluster's status is kept: sqlite, file (Oxia's format) or memory",
    path: "metadata.providerName",
    default: undefined,
    shown: "sqlite, or file where a status file is named",
    parse: kind(METADATA_STORE.schema, (text) => {
      if (/^(configmap|raft|etcd)$/i.test(text)) {
        throw new SettingError(`Varia does not support ${text} as metadata store yet; use sqlite, file or memory`);
      }
      return METADATA_STORE(text);
    }),
  }),
  metadataDir: setting({
    flags: "--metadata-dir <dir>",
    description: "directory of the SQLite store",
    path: "metadata.sqlite.dir",
    default: "./data/coordinator",
    parse: path,
  }),
  fileClustersStatusPath: none(
    "--file-clusters-status-path <file>",
    "metadata.file.path",
    "the status file of the file store",
  ),
  metadataFileDir: none("--metadata-file-dir <dir>", "metadata.file.dir", "directory of the file store"),
  metadataFileStatus: none(
    "--metadata-file-status <name>",
    "metadata.file.statusName",
    "name of the status file there",
  ),
  metadataFileConfig: none(
    "--metadata-file-config <name>",
    "metadata.file.configName",
    "name of the cluster's configuration there",
  ),
  logLevel: setting({
    flags: "-l, --log-level <level>",
    description: "debug, info, warn or error",
    path: "observability.log.level",
    default: "info" as const,
    parse: oneOf(...LOG_LEVELS),
  }),
  logJson: setting({
    flags: "-j, --log-json [bool]",
    description: "log JSON lines even on a terminal",
    path: "observability.log.json",
    default: false,
    parse: boolean,
  }),
};

export type CoordinatorSettings = Settings<typeof COORDINATOR_SETTINGS>;

/** Where the status is kept, and the cluster's configuration. */
export interface CoordinatorFiles {
  readonly store:
    | { readonly kind: "memory" }
    | { readonly kind: "sqlite"; readonly directory: string }
    | { readonly kind: "file"; readonly statusPath: string };
  /** Undefined: the configuration is kept in the store, and changed through the admin API alone. */
  readonly clusterConfig: string | undefined;
}

const STATUS_NAME = "cluster-status.json";
const CONFIG_NAME = "cluster.yaml";
const STATUS_PATH_DEFAULT = join("data", STATUS_NAME);

/** Throws SettingError for settings that contradict each other. */
export function coordinatorFiles({ values }: Pick<Resolved<typeof COORDINATOR_SETTINGS>, "values">): CoordinatorFiles {
  const { metadata, metadataDir, cconfig: clusterConfig, fileClustersStatusPath: statusPath } = values;
  const { metadataFileDir: fileDir, metadataFileStatus: fileStatusName, metadataFileConfig: fileConfigName } = values;
  const named = statusPath ?? fileDir ?? fileStatusName ?? fileConfigName;
  if (statusPath !== undefined && (fileDir ?? fileStatusName) !== undefined) {
    throw new SettingError("--file-clusters-status-path: the status file is named twice, by metadata.file too");
  }
  if (clusterConfig !== undefined && fileConfigName !== undefined) {
    throw new SettingError("--cconfig: the cluster's configuration is named twice, by metadata.file.configName too");
  }
  const kind = metadata ?? (named === undefined ? "sqlite" : "file");
  if (kind !== "file") {
    if (named !== undefined)
      throw new SettingError(`--metadata: ${kind} has no file of status, and ${named} names one`);
    return { store: kind === "memory" ? { kind } : { kind, directory: metadataDir }, clusterConfig };
  }
  const inDirectory = (name: string) => (fileDir === undefined ? name : join(fileDir, name));
  const status =
    statusPath ??
    (fileDir === undefined && fileStatusName === undefined
      ? STATUS_PATH_DEFAULT
      : inDirectory(fileStatusName ?? STATUS_NAME));
  const configName = fileConfigName ?? (fileDir === undefined ? undefined : CONFIG_NAME);
  return {
    store: { kind, statusPath: status },
    clusterConfig: clusterConfig ?? (configName === undefined ? undefined : inDirectory(configName)),
  };
}
