/**
 * Damage at rest: the server loses its power, and what it finds at its next start is not what it had synced. Each kind
 * is one that the rules promise to notice, so the one gap that they name is left alone: the last transactions before a
 * crash, which the watermark does not have yet, cannot be told from a write that was never synced (safety.md §7). So it
 * is with two files of one disk that are damaged before anybody has looked: the end of both may be what was dropped.
 */
import { type FaultContext, serverOf } from "./faults.ts";
import type { DiskDamage } from "./server-storage.ts";

export function damageDisk(context: FaultContext, damage: DiskDamage): void {
  const { cluster, random, durationMs } = context;
  const machine = serverOf(context);
  const isUnseen = machine.node.life === undefined && cluster.budget.wasDamaged(machine.internal);
  if (isUnseen && damage !== "lost") return;
  machine.end("power", Math.min(durationMs, 10_000));
  if (!cluster.budget.allows(machine.internal)) return;
  if (machine.storage.damage(damage, random)) cluster.budget.spend(machine.internal, damage === "lost");
}
