/** A data server's storage on a simulated disk. */
import { SimDisk } from "./disk.ts";
import { diskDocuments } from "./disk-documents.ts";
import type { DiskFile } from "./disk-file.ts";
import { DiskKeyValues } from "./disk-key-values.ts";
import { openMemoryLog } from "./memory-log.ts";
import { PROMISES, WATERMARK } from "./memory-log-files.ts";
import type { Life } from "./node.ts";
import type { Knobs } from "./plan.ts";
import type { SimRandom } from "./random.ts";
import type { Adapters, DiskDamage, ServerStorage, StorageOptions } from "./server-storage.ts";

export class ModelStorage implements ServerStorage {
  readonly disk: SimDisk;
  readonly #knobs: Knobs;

  constructor({ node, random, plan }: StorageOptions) {
    this.disk = new SimDisk(node, random, plan.disk);
    this.#knobs = plan.knobs;
  }

  get rates() {
    return this.disk.rates;
  }

  set rates(rates) {
    this.disk.rates = rates;
  }

  get usedBytes(): number {
    return this.disk.usedBytes;
  }

  limit(capacityBytes?: number): void {
    this.disk.limit(capacityBytes);
  }

  failAfter(operations?: number): void {
    this.disk.failAfter(operations);
  }

  backUp(): () => void {
    const copy = this.disk.copy();
    return () => this.disk.restore(copy);
  }

  damage(damage: DiskDamage, random: SimRandom): boolean {
    const { disk } = this;
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
      case "misdirected":
        return misdirect(disk, random);
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

  async open(life: Life, random: SimRandom): Promise<Adapters> {
    const { segmentEntriesMax, logRetentionMs: retentionMs, ballastBytes, flushCommits } = this.#knobs;
    const disk = this.disk.mount(life);
    const opening = { life, disk, random, segmentEntriesMax, ballastBytes, retentionMs };
    const log = await openMemoryLog(opening);
    const released = (shard: number, upTo: number) => log.release(shard, upTo);
    return {
      log,
      keyValues: new DiskKeyValues({ life, disk, released, flushCommits }),
      documents: diskDocuments(disk),
    };
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

/**
 * The last record of a file is not where it should be, but in the place of an earlier one. There is a good record
 * between the two: with none, both would pass for the end that a crash has torn.
 */
function misdirect(disk: SimDisk, random: SimRandom): boolean {
  const files = disk.names().flatMap((name) => {
    const earlier = disk.file(name)!.records.slice(0, -1);
    const places = lastGood({ records: earlier });
    return /^(kv|log)\//.test(name) && places > 0 ? [{ name, last: earlier.length, places }] : [];
  });
  if (files.length === 0) return false;
  const { name, last, places } = random.pick(files);
  disk.flipBitAt(name, last);
  disk.flipBitAt(name, random.int(0, places));
  return true;
}
