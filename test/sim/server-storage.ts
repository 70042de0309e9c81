/**
 * What a data server's machine stores: its disk, with all that can befall it, and the adapters of the process that runs
 * on it. One kind is the simulator's own (model-storage.ts), another has real files (test/sqlite-lane).
 */
import type { Documents, KeyValues, Log } from "../../src/ports.ts";
import type { DiskRates } from "./disk.ts";
import type { Life, SimNode } from "./node.ts";
import type { ClusterPlan } from "./plan.ts";
import type { SimRandom } from "./random.ts";

/** What damage at rest takes, or takes a bit of; a misdirected write is missing in its place and destroys another. */
export type DiskDamage = "lost" | "log" | "state" | "watermark" | "promises" | "file" | "misdirected";

export interface Adapters {
  readonly log: Log;
  readonly keyValues: KeyValues;
  readonly documents: Documents;
}

export interface ServerStorage {
  rates: DiskRates;
  /** Bytes of all files. */
  readonly usedBytes: number;
  /** No more than this fits from now on, whatever there is already; without an argument there is space again. */
  limit(capacityBytes?: number): void;
  /** The n-th operation from now fails, from 1 on, and ends the process; without an argument, none does. */
  failAfter(operations?: number): void;
  /** The power is lost at the n-th operation from now, in the middle of what it belongs to. Not every storage can do so. */
  losePowerAt?(operations: number): void;
  /** Takes a copy of all that is durable. The returned function sets the disk back to it, while no process runs. */
  backUp(): () => void;
  /** Damages what is there, while no process runs. False when there was nothing to damage. */
  damage(damage: DiskDamage, random: SimRandom): boolean;
  /** Opens everything for a process. Rejects with DiskFull or RESOURCE_EXHAUSTED without space for it. */
  open(life: Life, random: SimRandom): Promise<Adapters>;
}

export interface StorageOptions {
  readonly node: SimNode;
  readonly random: SimRandom;
  readonly plan: ClusterPlan;
  /** Ends the run with an error. */
  readonly fail: (error: unknown) => void;
}

export type NewStorage = (options: StorageOptions) => ServerStorage;
