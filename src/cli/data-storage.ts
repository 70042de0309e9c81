/** What a server stores and where: its directories, its log, a key-value file a shard. */
import { join } from "node:path";
import { EMPTY_HEAD, type EntryId, NO_OFFSET, NO_TERM, type ShardId } from "../model/ids.ts";
import {
  CACHE_BYTES_DEFAULT,
  MEMORY_BYTES_DEFAULT,
  SQLITE_CACHE_BYTES_DEFAULT,
  TABLE_BYTES_DEFAULT,
} from "../model/limits.ts";
import { systemRandom } from "../ops/random.ts";
import type { Clock, Documents, KeyValuePlace, KeyValues, Logger } from "../ports.ts";
import { DataDirectories } from "../storage/data-directory.ts";
import { DirectoryRefused } from "../storage/directory-refused.ts";
import { FileDocuments } from "../storage/documents.ts";
import { SqliteKeyValues } from "../storage/key-value/key-values.ts";
import type { KeyValueNode } from "../storage/key-value/node.ts";
import { openSqliteLog, type SqliteLog } from "../storage/log.ts";
import type { FixedSettings } from "../storage/manifest.ts";
import type { DataSettings } from "./data-settings.ts";
import { EXIT, ExitError } from "./exit.ts";

export interface DataStorageOptions {
  readonly settings: DataSettings;
  readonly fixed: FixedSettings;
  /** Shards whose damage is accepted: what is readable is kept, the rest is lost. */
  readonly acceptLoss: readonly KeyValuePlace[];
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told once when a device failed: the process must end at once, without a further answer. */
  readonly onFault: (error: Error) => void;
}

export interface DataStorage {
  /** The one that both directories belong to. */
  readonly instance: string;
  readonly log: SqliteLog;
  readonly keyValues: KeyValues;
  /** Budgets and counters of the key-value files. */
  readonly node: KeyValueNode;
  /** What a shard's state takes on disk. */
  readonly stateBytesOf: (place: Pick<KeyValuePlace, "namespace" | "shard">) => number;
  readonly documents: Documents;
  /** Flushes and closes everything. */
  close(): Promise<void>;
}

/** A budget's share of `--memory`: defaults are those of the default memory. */
export function scaled(settings: DataSettings, bytesByDefault: number): number {
  return Math.floor((bytesByDefault * settings.memory) / MEMORY_BYTES_DEFAULT);
}

/** File in the data directory with what the server was told: see Documents in ports.ts. */
const DOCUMENTS = "documents";

/** Opens directories, log and key-value files. Rejects with an ExitError when a directory is refused. */
export async function openDataStorage(options: DataStorageOptions): Promise<DataStorage> {
  const { settings, clock, logger, onFault } = options;
  const directories = takeDirectories(options);
  if (directories.mended !== undefined) logger.warn({ component: "storage" }, directories.mended);
  const documents = new FileDocuments({
    path: join(settings.dataDir, DOCUMENTS),
    clock,
    onDamage: (what) => logger.warn({ component: "storage" }, `${what}: it is written anew`),
    onFault,
  });
  const log = Promise.withResolvers<SqliteLog>();
  const keyValues = openKeyValues(options, (shard, offset) => void log.promise.then((it) => it.release(shard, offset)));
  const accepted = await openAccepted(options, keyValues);
  const opened = await openSqliteLog({
    directory: settings.walDir,
    retentionMs: settings.walRetentionTime,
    syncData: settings.walSyncData,
    acceptLoss: new Map([...accepted].map(([shard, { applied }]) => [shard, acceptedLoss(applied)])),
    onFault,
  });
  log.resolve(opened);
  return {
    instance: directories.instance,
    log: opened,
    keyValues: openedBefore(keyValues, accepted),
    node: keyValues.node,
    stateBytesOf: (place) => keyValues.fileBytesOf(place),
    documents,
    async close() {
      await keyValues.close();
      await opened.close();
      directories.release();
    },
  };
}

function openKeyValues(
  { settings, acceptLoss, clock, logger, onFault }: DataStorageOptions,
  released: (shard: ShardId, upToInclusive: number) => void,
): SqliteKeyValues {
  return new SqliteKeyValues({
    directory: settings.dataDir,
    verify: settings.verifyOnOpen,
    onDamage: ({ shard }) => (acceptLoss.some((accepted) => accepted.shard === shard) ? "salvage" : "refuse"),
    released,
    tableBytesMax: scaled(settings, TABLE_BYTES_DEFAULT),
    cacheBytesMax: cacheBytes(settings),
    sqliteCacheBytesMax: scaled(settings, SQLITE_CACHE_BYTES_DEFAULT),
    clock,
    logger,
    onFault,
  });
}

type OpenedState = Awaited<ReturnType<KeyValues["open"]>>;

interface Accepted {
  readonly opened: OpenedState;
  readonly applied: EntryId;
}

/** States whose loss is accepted are opened before the log: it is cut to what they have applied. */
async function openAccepted({ acceptLoss }: DataStorageOptions, keyValues: KeyValues) {
  const open = async (place: KeyValuePlace): Promise<[ShardId, Accepted]> => {
    const opened = await keyValues.open(place, EMPTY_HEAD);
    const applied = "keyValue" in opened ? opened.keyValue.applied : { term: NO_TERM, offset: NO_OFFSET };
    return [place.shard, { opened, applied }];
  };
  return new Map(await Promise.all(acceptLoss.map(open)));
}

function acceptedLoss(applied: EntryId) {
  return { applied, replicaId: systemRandom.replicaId() };
}

/** The same states, with those that are open already given out when they are asked for first. */
function openedBefore(keyValues: KeyValues, accepted: Map<ShardId, Accepted>): KeyValues {
  return {
    async open(place, base) {
      const before = accepted.get(place.shard);
      accepted.delete(place.shard);
      return before?.opened ?? keyValues.open(place, base);
    },
    receive: (place) => keyValues.receive(place),
    remove: (place) => keyValues.remove(place),
  };
}

function takeDirectories({ settings, fixed }: DataStorageOptions): DataDirectories {
  try {
    return new DataDirectories(settings, fixed);
  } catch (error) {
    if (error instanceof DirectoryRefused) throw new ExitError(EXIT.failure, error.message, { cause: error });
    throw error;
  }
}

function cacheBytes(settings: DataSettings): number {
  if (settings.dbCacheSizeMb !== undefined) return settings.dbCacheSizeMb * 1024 * 1024;
  return scaled(settings, CACHE_BYTES_DEFAULT);
}
