/**
 * The files of a shard's state, and the steps in which a received one takes the place of the one that stands:
 *
 *     shard-3.sqlite             what stands
 *     shard-3.incoming.sqlite    a state on its way in: of no use after a crash
 *     shard-3.received.sqlite    one that is whole, synced, and named so only then
 *
 *     old -wal removed · directory synced · received renamed over what stands · directory synced
 *
 * The log decides which of the two counts: once it begins behind the received state, that is taken up at the next start,
 * whatever of these steps was done. A -wal must never lie beside a file that it was not written for.
 */
import { existsSync, readdirSync, renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { EntryId } from "../../model/ids.ts";
import { removeFile, removeSqlite, SQLITE_SUFFIXES, syncDirectory } from "../files.ts";
import { openSqlite, sqliteErrorKind } from "../sqlite.ts";
import { readState } from "./stored-state.ts";

export function incomingPath(path: string): string {
  return path.replace(/\.sqlite$/, ".incoming.sqlite");
}

export function receivedPath(path: string): string {
  return path.replace(/\.sqlite$/, ".received.sqlite");
}

/** Whether a received state lies there that ends with `base`. */
export function receivedEndsWith(path: string, base: EntryId): boolean {
  const received = receivedPath(path);
  if (!existsSync(received)) return false;
  try {
    const database = openSqlite(received, { mode: "read", synchronous: "NORMAL" });
    try {
      const applied = readState(database)?.applied;
      return applied !== undefined && applied.offset === base.offset && applied.term === base.term;
    } finally {
      database.close();
    }
  } catch (error) {
    const kind = sqliteErrorKind(error);
    if (kind === "io" || kind === "full") throw error;
    return false; // what it holds cannot be told: it is no state
  }
}

/** Puts the received state in the place of what stands. Both are closed. */
export function replaceByReceived(path: string): void {
  const received = receivedPath(path);
  for (const suffix of besides()) {
    removeFile(path + suffix);
    removeFile(received + suffix);
  }
  syncDirectory(dirname(path));
  renameSync(received, path);
  syncDirectory(dirname(path));
}

/** Removes what a transfer left behind, and what lies beside a file that is not there. */
export function removeLeftovers(path: string): void {
  const left = [incomingPath(path), receivedPath(path)].filter((file) => existsSync(file));
  for (const file of left) removeSqlite(file);
  const orphans = existsSync(path) ? [] : besides().filter((suffix) => existsSync(path + suffix));
  for (const suffix of orphans) removeFile(path + suffix);
  if (left.length > 0 || orphans.length > 0) syncDirectory(dirname(path));
}

/** Removes all files of a shard's state, those set aside for damage too. What stands goes in one step, and last but for what lies beside it. */
export function removeState(path: string): void {
  const directory = dirname(path);
  if (!existsSync(directory)) return;
  const stem = basename(path).replace(/sqlite$/, "");
  const own = new Set(["", ...besides()].map((suffix) => basename(path) + suffix));
  const all = readdirSync(directory).filter((name) => name.startsWith(stem));
  if (all.length === 0) return;
  for (const name of all.filter((each) => !own.has(each))) removeFile(join(directory, name));
  syncDirectory(directory);
  removeFile(path);
  syncDirectory(directory);
  for (const suffix of besides()) removeFile(path + suffix);
  syncDirectory(directory);
}

function besides(): string[] {
  return SQLITE_SUFFIXES.filter((suffix) => suffix !== "");
}
