/** What a standalone server stores and where: its directories, its log, a key-value file a shard. */
import { join } from "node:path";
import { type EntryId, NO_OFFSET, NO_TERM } from "../model/ids.ts";
import { keyOrder } from "../model/keys.ts";
import {
  CACHE_BYTES_DEFAULT,
  MEMORY_BYTES_DEFAULT,
  SQLITE_CACHE_BYTES_DEFAULT,
  TABLE_BYTES_DEFAULT,
} from "../model/limits.ts";
import { systemRandom } from "../ops/random.ts";
import type { Damage, KeyValue, Log } from "../ports.ts";
import { DataDirectories, DirectoryRefused } from "../storage/data-directory.ts";
import { KeyValueNode } from "../storage/key-value/node.ts";
import { openSqliteLog } from "../storage/log.ts";
import { EXIT, ExitError } from "./exit.ts";
import { NAMESPACE, type StandaloneOptions } from "./standalone-options.ts";
import type { StandaloneSettings } from "./standalone-settings.ts";

export type OpenedShard = { readonly keyValue: KeyValue } | { readonly damage: Damage };

export interface StandaloneStorage {
  readonly log: Log;
  readonly keyValues: KeyValueNode;
  /** The shard's state, or why it cannot be trusted. */
  shard(shard: number): OpenedShard;
  /** Flushes and closes everything. */
  close(): Promise<void>;
}

/** A budget's share of `--memory`: defaults are those of the default memory. */
export function scaled(settings: StandaloneSettings, bytesByDefault: number): number {
  return Math.floor((bytesByDefault * settings.memory) / MEMORY_BYTES_DEFAULT);
}

/** Opens directories, log and key-value files. Rejects with an ExitError when a directory is refused. */
export async function openStandaloneStorage(options: StandaloneOptions): Promise<StandaloneStorage> {
  const { settings, clock, logger, onFault } = options;
  const directories = takeDirectories(settings);
  const node = new KeyValueNode({
    tableBytesMax: scaled(settings, TABLE_BYTES_DEFAULT),
    cacheBytesMax: cacheBytes(settings),
    sqliteCacheBytesMax: scaled(settings, SQLITE_CACHE_BYTES_DEFAULT),
    clock,
    logger,
    onFault,
  });
  const ids = Array.from({ length: settings.shards }, (_, shard) => shard);
  const opened = await Promise.all(ids.map((shard) => openKeyValue(options, node, shard)));
  const log = await openSqliteLog({
    directory: settings.walDir,
    retentionMs: settings.walRetentionTime,
    syncData: settings.walSyncData,
    acceptLoss: new Map(
      [...options.acceptLoss].map((shard) => [
        shard,
        { applied: appliedOf(opened[shard]!), replicaId: systemRandom.replicaId() },
      ]),
    ),
    onFault,
  });
  node.onDurable = (path, offset) => log.release(shardOf(path), offset);
  return {
    log,
    keyValues: node,
    shard: (shard) => opened[shard]!,
    async close() {
      await node.close();
      await log.close();
      directories.release();
    },
  };
}

function takeDirectories(settings: StandaloneSettings): DataDirectories {
  try {
    return new DataDirectories(settings, { shards: settings.shards, keySorting: settings.keySorting });
  } catch (error) {
    if (error instanceof DirectoryRefused) throw new ExitError(EXIT.failure, error.message, { cause: error });
    throw error;
  }
}

function openKeyValue(
  { settings, acceptLoss }: StandaloneOptions,
  node: KeyValueNode,
  shard: number,
): Promise<OpenedShard> {
  return node.open({
    path: join(settings.dataDir, NAMESPACE, `shard-${shard}.sqlite`),
    order: keyOrder(settings.keySorting),
    verify: settings.verifyOnOpen,
    onDamage: acceptLoss.has(shard) ? "salvage" : "refuse",
  });
}

/** The shard that a key-value file is of. */
function shardOf(path: string): number {
  return Number(/shard-(\d+)\.sqlite$/.exec(path)?.[1]);
}

function appliedOf(opened: OpenedShard): EntryId {
  return "keyValue" in opened ? opened.keyValue.applied : { term: NO_TERM, offset: NO_OFFSET };
}

function cacheBytes(settings: StandaloneSettings): number {
  if (settings.dbCacheSizeMb !== undefined) return settings.dbCacheSizeMb * 1024 * 1024;
  return scaled(settings, CACHE_BYTES_DEFAULT);
}
