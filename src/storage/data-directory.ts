/**
 * The directories of a node: whose they are, in which format, and that one process alone uses them.
 *
 *     varia.json    format, kind (data or log), the instance that both belong to, what was fixed when it was created
 *     varia.lock    an SQLite file held exclusively: the lock goes with the process, however it ends
 *
 * A directory without varia.json is taken only when it is empty: nothing of anybody else's is ever overwritten.
 */
import type { Database } from "bun:sqlite";
import { randomUUID } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { utf8 } from "../lib/bytes.ts";
import { removeSqlite, replaceFile, syncDirectory } from "./files.ts";
import { explainError, openSqlite, sqliteErrorKind } from "./sqlite.ts";

/** The format that this build writes. It reads no other one: 1 knew neither the terms of ids nor where terms end. */
export const DATA_FORMAT = 2;

const MANIFEST = "varia.json";
const LOCK = "varia.lock";

/** What was fixed when the directories were created. */
export type FixedSettings =
  | { readonly mode: "standalone"; readonly shards: number; readonly keySorting: string }
  /** A data server of a cluster: its coordinator says what it holds. */
  | { readonly mode: "storage" };

type Manifest = FixedSettings & {
  readonly format: number;
  readonly kind: "data" | "log";
  readonly instance: string;
};

/** Why a directory is not used, in words for the operator. */
export class DirectoryRefused extends Error {
  override readonly name: string = "DirectoryRefused";
}

/** Another process has it, and may give it up. */
export class DirectoryInUse extends DirectoryRefused {
  override readonly name = "DirectoryInUse";
}

/** Both directories, held until `release` or the end of the process. */
export class DataDirectories {
  readonly instance: string;
  readonly #locks: readonly Database[];

  /** Takes both directories, creating them when they are not there. Throws DirectoryRefused with nothing changed. */
  constructor(paths: { readonly dataDir: string; readonly walDir: string }, fixed: FixedSettings) {
    const { dataDir, walDir } = paths;
    for (const directory of [dataDir, walDir]) makeDirectory(directory);
    if (realpathSync(dataDir) === realpathSync(walDir)) {
      throw new DirectoryRefused(`--data-dir and --wal-dir are the same directory, ${dataDir}: give each its own`);
    }
    const data = readManifest(dataDir, "data");
    const log = readManifest(walDir, "log");
    this.#locks = lockAll([dataDir, walDir]);
    try {
      compare(paths, { data, log, fixed });
    } catch (error) {
      this.release();
      throw error;
    }
    this.instance = data?.instance ?? log?.instance ?? randomUUID();
    const manifest = { format: DATA_FORMAT, instance: this.instance, ...fixed };
    if (data === undefined) writeManifest(dataDir, { ...manifest, kind: "data" });
    if (log === undefined) writeManifest(walDir, { ...manifest, kind: "log" });
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

/** Undefined for an empty directory. */
function readManifest(directory: string, kind: Manifest["kind"]): Manifest | undefined {
  const path = join(directory, MANIFEST);
  if (!existsSync(path)) {
    const others = readdirSync(directory).filter((name) => !name.startsWith(LOCK) && !name.startsWith(MANIFEST));
    if (others.length === 0) return undefined;
    throw new DirectoryRefused(
      isOxia(directory)
        ? `${directory} was written by Oxia: its files cannot be opened, import its data through a client`
        : `${directory} is not empty and holds no ${MANIFEST}: it is not a Varia directory`,
    );
  }
  let manifest: Manifest;
  try {
    manifest = JSON.parse(readFileSync(path, "utf8")) as Manifest;
  } catch (cause) {
    throw new DirectoryRefused(`${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (
    typeof manifest?.format !== "number" ||
    typeof manifest.instance !== "string" ||
    !["standalone", "storage"].includes(manifest.mode)
  ) {
    throw new DirectoryRefused(`${path} is not what Varia writes`);
  }
  if (manifest.format > DATA_FORMAT) {
    throw new DirectoryRefused(
      `${directory} has format ${manifest.format}, newer than ${DATA_FORMAT}: use the newer Varia that wrote it`,
    );
  }
  if (manifest.format < DATA_FORMAT) {
    throw new DirectoryRefused(
      `${directory} has format ${manifest.format}, older than ${DATA_FORMAT}: this Varia cannot read it, move the data through a client`,
    );
  }
  if (manifest.kind !== kind)
    throw new DirectoryRefused(`${directory} is a ${manifest.kind} directory, not a ${kind} directory`);
  return manifest;
}

/** Oxia keeps `<namespace>/shard-<id>/` in both, with .txnx files in the log and Pebble's in the database. */
function isOxia(directory: string): boolean {
  return readdirSync(directory, { recursive: true, encoding: "utf8" }).some(
    (name) =>
      /\.(txnx|idxx)$/.test(name) || /(^|\/)shard-\d+(\/|$)/.test(name) || name.endsWith("oxia-key-encoding-format"),
  );
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
    const holds = readdirSync(directory).some((name) => !name.startsWith(LOCK) && !name.startsWith(MANIFEST));
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

function writeManifest(directory: string, manifest: Manifest): void {
  replaceFile(join(directory, MANIFEST), utf8(`${JSON.stringify(manifest, undefined, 2)}\n`));
  syncDirectory(directory);
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
