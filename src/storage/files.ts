/**
 * Small steps on files that a promise hangs on. A name is durable only when its directory is synced; a file's content
 * only when the file is. Synchronous: they run when a process starts, in a Worker, or for a file of a few kilobytes.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { Bytes } from "../lib/bytes.ts";

/** Makes names created, renamed or removed in `directory` durable. */
export function syncDirectory(directory: string): void {
  const handle = openSync(directory, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Syncs a file's content; a missing file is none of this function's business. */
export function syncFile(path: string): void {
  if (!existsSync(path)) return;
  const handle = openSync(path, "r+");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Writes all of `bytes` at `position`: a single write may take less than it was given. */
export function writeAll(file: number, bytes: Bytes, position: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at, position + at);
}

/** Replaces a file, or creates it: after a crash it holds either the old bytes or the new ones, whole. */
export function replaceFile(path: string, bytes: Bytes): void {
  const fresh = `${path}.new`;
  const handle = openSync(fresh, "w", 0o600);
  try {
    writeAll(handle, bytes, 0);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  renameSync(fresh, path);
  syncDirectory(dirname(path));
}

/** Removes a file if it is there, durably once the directory is synced. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
  }
}

/** Files that SQLite keeps beside a database. */
export const SQLITE_SUFFIXES: readonly string[] = ["", "-wal", "-shm", "-journal"];

/** Renames an SQLite database and the files beside it, which must be closed. Sync the directory afterwards. */
export function renameSqlite(from: string, to: string): void {
  for (const suffix of SQLITE_SUFFIXES) if (existsSync(from + suffix)) renameSync(from + suffix, to + suffix);
}

/** Removes an SQLite database and the files beside it, which must be closed. */
export function removeSqlite(path: string): void {
  for (const suffix of SQLITE_SUFFIXES) removeFile(path + suffix);
}

/** `removeSqlite` on another thread, durably: giving back the space of a large file takes tens of milliseconds. */
export async function removeSqliteBehind(path: string): Promise<void> {
  for (const suffix of SQLITE_SUFFIXES) await rm(path + suffix, { force: true });
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Moves a damaged file out of the way, never over another; answers its new path. Missing files are left alone. */
export function setAside(path: string): string | undefined {
  if (!SQLITE_SUFFIXES.some((suffix) => existsSync(path + suffix))) return undefined;
  const names = new Set(readdirSync(dirname(path)));
  const name = (count: number) => `${path}.damaged${count === 1 ? "" : `-${count}`}`;
  let count = 1;
  while ([...names].some((other) => other.startsWith(name(count).slice(dirname(path).length + 1)))) count++;
  renameSqlite(path, name(count));
  return name(count);
}

/** Makes a directory whose name is durable. */
export function makeDirectory(directory: string): void {
  const first = mkdirSync(directory, { recursive: true });
  if (first !== undefined) syncDirectory(dirname(first));
}
