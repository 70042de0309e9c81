/**
 * Damage at rest: the server loses its power, and what it finds at its next start is not what it had synced. Each kind
 * is one that the rules promise to notice, so the one gap that they name is left alone: the last transactions before a
 * crash, which the watermark does not have yet, cannot be told from a write that was never synced (safety.md §7). So it
 * is with two files of one disk that are damaged before anybody has looked: the end of both may be what was dropped.
 */
import type { DataServerMachine } from "./cluster.ts";
import type { SimDisk } from "./disk.ts";
import type { DiskFile } from "./disk-file.ts";
import { type FaultContext, serverOf } from "./faults.ts";
import { PROMISES, WATERMARK } from "./memory-log-files.ts";
import type { SimRandom } from "./random.ts";

export type DiskDamage = "lost" | "log" | "state" | "watermark" | "promises" | "file";

export function damageDisk(context: FaultContext, damage: DiskDamage): void {
  const { cluster, random, durationMs } = context;
  const machine = serverOf(context);
  const isUnseen = machine.node.life === undefined && cluster.budget.wasDamaged(machine.internal);
  if (isUnseen && damage !== "lost") return;
  machine.end("power", Math.min(durationMs, 10_000));
  if (!cluster.budget.allows(machine.internal)) return;
  if (applyDamage(machine, random, damage)) cluster.budget.spend(machine.internal, damage === "lost");
}

/** Whether there was anything to damage. */
function applyDamage({ disk }: DataServerMachine, random: SimRandom, damage: DiskDamage): boolean {
  switch (damage) {
    case "lost":
      disk.wipe();
      return true;
    case "log":
      return flipLogRow(disk, random);
    case "state":
      return disk.flipBit((name) => name.startsWith("kv/")) !== undefined;
    case "watermark":
      return disk.flipBit((name) => name === WATERMARK) !== undefined;
    case "promises":
      return disk.flipBit((name) => name === PROMISES) !== undefined;
    case "file": {
      const names = disk.names().filter((name) => name === WATERMARK || name === PROMISES || name.startsWith("kv/"));
      if (names.length === 0) return false;
      disk.lose(random.pick(names));
      return true;
    }
  }
}

/** A row that others follow in its segment, or one of a segment that others follow. */
function flipLogRow(disk: SimDisk, random: SimRandom): boolean {
  const segments = disk.names().filter((name) => name.startsWith("log/segment-"));
  const newest = Math.max(...segments.map(numberOf));
  const rows = segments.flatMap((name) => {
    const { records } = disk.file(name)!;
    const end = numberOf(name) === newest ? lastGood({ records }) : records.length;
    return Array.from({ length: Math.max(end, 0) }, (_, nth) => ({ name, nth }));
  });
  if (rows.length === 0) return false;
  const { name, nth } = random.pick(rows);
  disk.flipBitAt(name, nth);
  return true;
}

function numberOf(segment: string): number {
  return Number(segment.slice("log/segment-".length));
}

function lastGood({ records }: Pick<DiskFile, "records">): number {
  for (let nth = records.length - 1; nth >= 0; nth--) if (!records[nth]!.bad) return nth;
  return 0;
}
