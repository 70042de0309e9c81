/**
 * The directories of a node: whose they are, in which format, and that one process alone uses them.
 *
 *     varia.json    format, kind (data or log), the instance that both belong to, what was fixed when it was created (manifest.ts)
 *     varia.lock    an SQLite file held exclusively: the lock goes with the process, however it ends
 *
 * A directory without varia.json is taken only when it is empty: nothing of anybody else's is ever overwritten.
 */
import type { Database } from "bun:sqlite";
import { randomUUID } from "node:crypto";
import { accessSync, constants, mkdirSync, readdirSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";
import { DirectoryRefused } from "./directory-refused.ts";
import { removeSqlite } from "./files.ts";
import {
  DATA_FORMAT,
  type FixedSettings,
  isOwnFile,
  type Manifest,
  readManifest,
  withoutDamage,
  writeManifest,
} from "./manifest.ts";
import { explainError, openSqlite, sqliteErrorKind } from "./sqlite.ts";

const LOCK = "varia.lock";

/** Both directories, held until `release` or the end of the process. */
export class DataDirectories {
  readonly instance: string;
  /** What was damaged and has been written anew, in words for the log; undefined: nothing was. */
  readonly mended: string | undefined;
  readonly #locks: readonly Database[];

  /** Takes both directories, creating them when they are not there. Throws DirectoryRefused with nothing changed. */
  constructor(paths: { readonly dataDir: string; readonly walDir: string }, fixed: FixedSettings) {
    const { dataDir, walDir } = paths;
    for (const directory of [dataDir, walDir]) makeDirectory(directory);
    if (realpathSync(dataDir) === realpathSync(walDir)) {
      throw new DirectoryRefused(`--data-dir and --wal-dir are the same directory, ${dataDir}: give each its own`);
    }
    const found = { data: readManifest(dataDir, "data"), log: readManifest(walDir, "log") };
    const { data, log, damage } = withoutDamage(found);
    this.#locks = lockAll([dataDir, walDir]);
    try {
      compare(paths, { data, log, fixed });
    } catch (error) {
      this.release();
      throw error;
    }
    this.instance = data?.instance ?? log?.instance ?? randomUUID();
    this.mended = damage?.words;
    const manifest = { format: DATA_FORMAT, instance: this.instance, ...fixed };
    if (found.data !== data || data === undefined) writeManifest(dataDir, { ...manifest, kind: "data" });
    if (found.log !== log || log === undefined) writeManifest(walDir, { ...manifest, kind: "log" });
  }

  release(): void {
    for (const held of this.#locks) held.close();
  }
}

function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true });
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
    if (!statSync(directory).isDirectory()) throw new Error("it is not a directory");
  } catch (cause) {
    throw new DirectoryRefused(`${directory} cannot be used as a directory: ${(cause as Error).message}`, { cause });
  }
}

function compare(
  { dataDir, walDir }: { readonly dataDir: string; readonly walDir: string },
  found: { readonly data: Manifest | undefined; readonly log: Manifest | undefined; readonly fixed: FixedSettings },
): void {
  const { data, log, fixed } = found;
  if (data !== undefined && log !== undefined && data.instance !== log.instance) {
    throw new DirectoryRefused(
      `${dataDir} and ${walDir} belong to different instances, ${data.instance} and ${log.instance}`,
    );
  }
  // Each manifest is written before anything else: what one of two directories holds was never there without the other.
  for (const [present, directory, absent] of [
    [data, dataDir, walDir],
    [log, walDir, dataDir],
  ] as const) {
    const other = present === data ? log : data;
    const holds = readdirSync(directory).some((name) => !isOwnFile(name));
    if (present !== undefined && other === undefined && holds) {
      throw new DirectoryRefused(
        `the ${present.kind} directory ${directory} holds data and the ${present.kind === "data" ? "log" : "data"} directory ${absent} is empty: they belong together`,
      );
    }
  }
  const stored = data ?? log;
  if (stored === undefined) return;
  if (stored.mode !== fixed.mode) {
    throw new DirectoryRefused(
      `${dataDir} was created by \`varia ${stored.mode}\`: \`varia ${fixed.mode}\` cannot use it, move the data through a client`,
    );
  }
  if (stored.mode === "storage" || fixed.mode === "storage") return;
  if (stored.shards !== fixed.shards) {
    throw new DirectoryRefused(
      `${dataDir} was created with ${stored.shards} shards: start with -s ${stored.shards}, the number cannot be changed to ${fixed.shards}`,
    );
  }
  if (stored.keySorting !== fixed.keySorting) {
    throw new DirectoryRefused(
      `${dataDir} was created with --key-sorting ${stored.keySorting}: it cannot be changed to ${fixed.keySorting}`,
    );
  }
}

function lockAll(directories: readonly string[]): Database[] {
  const locks: Database[] = [];
  try {
    for (const directory of directories) locks.push(lock(directory));
  } catch (error) {
    for (const held of locks) held.close();
    throw error;
  }
  return locks;
}

function lock(directory: string): Database {
  const path = join(directory, LOCK);
  try {
    return hold(path);
  } catch (cause) {
    if (sqliteErrorKind(cause) === "busy")
      throw new DirectoryRefused(`${directory} is in use by another process`, { cause });
    if (sqliteErrorKind(cause) !== "corrupt") throw new Error(`${path}: ${explainError(cause)}`, { cause });
  }
  // It holds nothing and is never synced, so a power cut may garble it; whoever held it is gone, else it were busy.
  removeSqlite(path);
  return hold(path);
}

function hold(path: string): Database {
  const held = openSqlite(path, { mode: "create", synchronous: "OFF", exclusive: true });
  try {
    held.run("CREATE TABLE IF NOT EXISTS lock (holder INTEGER)");
    held.run("BEGIN EXCLUSIVE");
    return held;
  } catch (error) {
    held.close();
    throw error;
  }
}
