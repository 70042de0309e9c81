/** One seed on real SQLite files: the plan, the faults and the checkers of test/sim, on storage of this folder. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runSeed, type SeedOptions, type SeedResult } from "../sim/run-seed.ts";
import { DiskShim } from "./disk-shim.ts";
import { SqliteStorage } from "./sqlite-storage.ts";

export function runSqliteSeed(options: SeedOptions): SeedResult {
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "varia-sqlite-lane-"));
  const shim = DiskShim.get();
  const storages: SqliteStorage[] = [];
  const takeNotes = () => {
    for (const { disk, note } of shim.take()) storages[disk]!.note(note);
  };
  try {
    return runSeed({
      ...options,
      newStorage(given) {
        const storage = new SqliteStorage({ ...given, shim, disk: storages.length, folder, takeNotes });
        storages.push(storage);
        return storage;
      },
    });
  } finally {
    for (const storage of storages) storage.remove();
    shim.take();
    rmSync(folder, { recursive: true, force: true });
  }
}
