/** Settings that all servers which store data have: Oxia's flags and file fields, and Varia's own. */
import {
  CACHE_BYTES_DEFAULT,
  MESSAGE_BYTES_DEFAULT,
  MESSAGE_BYTES_MAX,
  NOTIFICATION_RETENTION_MS_DEFAULT,
} from "../model/limits.ts";
import { LOG_LEVELS } from "../ops/logger.ts";
import {
  address,
  boolean,
  bytes,
  durationMs,
  integer,
  kind,
  oneOf,
  path,
  type Setting,
  SettingError,
  type Settings,
} from "../ops/settings.ts";

const MiB = 1024 * 1024;
const HOUR_MS = 3_600_000;
/** Below this the tables and caches are too small to work with. */
const MEMORY_BYTES_MIN = 32 * MiB;
/** Below this requests of every day would be refused. */
const MESSAGE_BYTES_MAX_MIN = 1024;

/** Keeps the type of a setting's value. */
export function setting<T>(it: Setting<T>): Setting<T> {
  return it;
}

/** Who may see and change the cluster, over HTTP and by `varia.admin.v1`. */
export const ACCESS_SETTINGS = {
  adminTokenFile: setting<string | undefined>({
    flags: "--admin-token-file <file>",
    description: "tokens of those who may see and change the cluster; without it, callers on this machine may",
    path: "observability.admin.tokenFile",
    default: undefined,
    shown: "none",
    parse: path,
  }),
  ui: setting({
    flags: "--ui <on|read-only|off>",
    description: "the dashboard; read-only: nobody changes anything with it",
    path: "observability.ui",
    default: "on" as const,
    parse: oneOf("on", "read-only", "off"),
  }),
  uiMask: setting<readonly string[]>({
    flags: "--ui-mask <prefixes>",
    description: "keys whose values the dashboard shows to an admin alone, and only when asked: prefixes, with commas",
    path: "observability.uiMask",
    default: [],
    shown: "",
    parse: kind({ type: ["string", "number", "boolean"], pattern: "^$|^[^,]+(,[^,]+)*$" }, keyPrefixes),
  }),
};

function keyPrefixes(text: string): readonly string[] {
  const prefixes = text === "" ? [] : text.split(",");
  if (prefixes.includes("")) throw new SettingError("a prefix is empty: it would hide every value");
  return prefixes;
}

export const DATA_SETTINGS = {
  publicAddr: setting({
    flags: "-p, --public-addr <host:port>",
    description: "where clients connect",
    path: "server.public.bindAddress",
    default: { host: "0.0.0.0", port: 6648 },
    shown: "0.0.0.0:6648",
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
  dataDir: setting({
    flags: "--data-dir <dir>",
    description: "where the key-value state is stored",
    path: "storage.database.dir",
    default: "./data/db",
    parse: path,
  }),
  walDir: setting({
    flags: "--wal-dir <dir>",
    description: "where the write-ahead log is stored",
    path: "storage.wal.dir",
    default: "./data/wal",
    parse: path,
  }),
  walSyncData: setting({
    flags: "--wal-sync-data <bool>",
    description: "sync the log before a write is acknowledged; without it a power cut loses acknowledged writes",
    path: "storage.wal.sync",
    default: true,
    parse: boolean,
  }),
  walRetentionTime: setting({
    flags: "--wal-retention-time <duration>",
    description: "how long log entries are kept at least",
    path: "storage.wal.retention",
    default: HOUR_MS,
    shown: "1h",
    parse: durationMs,
  }),
  notificationsRetentionTime: setting({
    flags: "--notifications-retention-time <duration>",
    description: "how long that is kept",
    path: "storage.notification.retention",
    default: NOTIFICATION_RETENTION_MS_DEFAULT,
    shown: "1h",
    parse: durationMs,
  }),
  memory: setting({
    flags: "--memory <size>",
    description: "budget of tables, caches and requests in flight",
    path: "storage.memory",
    default: 512 * MiB,
    shown: "512MiB",
    parse: bytes(MEMORY_BYTES_MIN, Number.MAX_SAFE_INTEGER, (value, text) => {
      if (value < MEMORY_BYTES_MIN)
        throw new SettingError(`"${text}" is below the least, ${MEMORY_BYTES_MIN / MiB}MiB`);
      if (value > Number.MAX_SAFE_INTEGER) throw new SettingError(`"${text}" is more than there can be`);
    }),
  }),
  dbCacheSizeMb: setting<number | undefined>({
    flags: "--db-cache-size-mb <n>",
    description: "record cache, in MiB",
    path: "storage.database.readCacheSizeMB",
    default: undefined,
    shown: `${CACHE_BYTES_DEFAULT / MiB}, scaled with --memory`,
    parse: integer(1, 1024 * 1024),
  }),
  maxMessageSize: setting({
    flags: "--max-message-size <size>",
    description: "largest request message",
    path: "server.public.maxMessageSize",
    default: MESSAGE_BYTES_DEFAULT,
    shown: "64MiB",
    parse: bytes(MESSAGE_BYTES_MAX_MIN, MESSAGE_BYTES_MAX, (value, text) => {
      if (value >= MESSAGE_BYTES_MAX_MIN && value <= MESSAGE_BYTES_MAX) return;
      throw new SettingError(`"${text}" is not between 1KiB and ${MESSAGE_BYTES_MAX / MiB}MiB`);
    }),
  }),
  verifyOnOpen: setting({
    flags: "--verify-on-open <bool>",
    description: "scan stored data when it is opened, before it is served",
    path: "storage.verifyOnOpen",
    default: true,
    parse: boolean,
  }),
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

export type DataSettings = Settings<typeof DATA_SETTINGS>;
