/** Where simulated servers keep their data: on simulated disks, or in real files of SQLite. */
import { runSqliteSeed } from "../sqlite-lane/run-sqlite-seed.ts";
import { runSeed, type SeedOptions, type SeedResult } from "./run-seed.ts";

const LANES = { model: runSeed, sqlite: runSqliteSeed } as const satisfies Record<
  string,
  (options: SeedOptions) => SeedResult
>;

export type Lane = keyof typeof LANES;

export function isLane(name: string): name is Lane {
  return Object.hasOwn(LANES, name);
}

export function runInLane(lane: Lane, options: SeedOptions): SeedResult {
  return LANES[lane](options);
}
