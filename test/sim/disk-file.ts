/** One file of a simulated disk. Records are plain data that nobody changes once they are written. */

export interface Stored {
  readonly record: unknown;
  readonly bytes: number;
  /** Torn, or a bit of it is flipped. */
  bad: boolean;
  /** Its sync has failed: the page cache has it and calls it clean, the disk does not. */
  cacheOnly: boolean;
}

export interface DiskFile {
  readonly records: Stored[];
  /** The first so many records are durable, but for those that are `cacheOnly`. */
  synced: number;
}

export function emptyFile(): DiskFile {
  return { records: [], synced: 0 };
}

/**
 * The file as it is after the power went. `survives` says how many of the records that were not synced are kept, and
 * whether the next one is there in part. Where the page cache vouched for a record, there is a hole.
 */
export function losePower(file: DiskFile, survives: (unsynced: number) => { kept: number; torn: boolean }): DiskFile {
  const { kept, torn } = survives(file.records.length - file.synced);
  const length = file.synced + kept;
  const records = file.records.slice(0, length + (torn ? 1 : 0)).map(
    (one, nth): Stored => ({
      record: one.record,
      bytes: one.bytes,
      bad: one.bad || one.cacheOnly || nth >= length,
      cacheOnly: false,
    }),
  );
  // a hole at the end is no hole
  while (!torn && records.length > 0 && file.records[records.length - 1]!.cacheOnly) records.pop();
  return { records, synced: records.length };
}
