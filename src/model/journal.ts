/**
 * What a coordinator keeps beside the cluster's status: texts by number, in rooms of their own. Nothing in the cluster
 * rests on them: they are for people, and the last of them may be missing after a power cut.
 */
export interface JournalRow {
  /** Unique in its room; a row that is put again takes the place of the one before. */
  readonly id: number;
  readonly text: string;
}

export interface JournalChanges {
  readonly put: readonly JournalRow[];
  readonly drop: readonly number[];
  /** It is to outlive a power cut from when it is answered. */
  readonly durable?: boolean;
}

export interface JournalRoom {
  /** All rows, by rising id; those that are damaged are left out. */
  read(): readonly JournalRow[];
  /** Stores all of it, or throws with nothing changed. */
  write(changes: JournalChanges): void;
}

/** A journal that forgets. */
export const NO_JOURNAL: JournalRoom = { read: () => [], write: () => {} };
