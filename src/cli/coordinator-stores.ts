/**
 * What a coordinator keeps, each held by one process: the journal, then the metadata store. Who has the journal is the
 * one that works, also while it opens the store again.
 */
import { dirname, join } from "node:path";
import { type JournalRoom, NO_JOURNAL } from "../model/journal.ts";
import type { MetadataStore } from "../ports.ts";
import { DirectoryRefused } from "../storage/directory-refused.ts";
import { openFileMetadata } from "../storage/metadata/file-directory.ts";
import { JournalFile } from "../storage/metadata/journal.ts";
import { MemoryMetadata, openMemoryMetadata } from "../storage/metadata/memory.ts";
import { openSqliteMetadata } from "../storage/metadata/sqlite.ts";
import { explainError } from "../storage/sqlite.ts";
import type { CoordinatorFiles } from "./coordinator-settings.ts";

const JOURNAL = "journal.sqlite";

export interface CoordinatorStores {
  readonly journal: Journal;
  readonly store: MetadataStore;
  /** Opens the store again, once it is closed. */
  readonly reopen: () => MetadataStore;
}

export interface Journal {
  readonly path: string;
  /** In words; undefined: none. */
  readonly damage: string | undefined;
  room(name: string): JournalRoom;
  close(): void;
}

/** Throws DirectoryInUse while another coordinator works, with nothing held. */
export function openStores(files: CoordinatorFiles): CoordinatorStores {
  const reopen = storeOf(files);
  const journal = openJournal(files);
  try {
    return { journal, store: reopen(), reopen };
  } catch (error) {
    journal.close();
    throw error;
  }
}

/** Where all of it is; undefined: in memory. */
export function storesDirectory({ store }: CoordinatorFiles): string | undefined {
  if (store.kind === "memory") return undefined;
  return store.kind === "sqlite" ? store.directory : dirname(store.statusPath);
}

function openJournal(files: CoordinatorFiles): Journal {
  const directory = storesDirectory(files);
  return directory === undefined ? forgetful("", undefined) : journalAt(join(directory, JOURNAL));
}

/** One that cannot be opened keeps nobody from work: what would be in it ends with this process. */
function journalAt(path: string): Journal {
  try {
    return JournalFile.open(path);
  } catch (error) {
    if (error instanceof DirectoryRefused) throw error;
    return forgetful(path, `it cannot be opened, and nothing is kept in it: ${explainError(error)}`);
  }
}

function forgetful(path: string, damage: string | undefined): Journal {
  return { path, damage, room: () => NO_JOURNAL, close: () => {} };
}

function storeOf({ store }: CoordinatorFiles): () => MetadataStore {
  switch (store.kind) {
    case "sqlite":
      return () => openSqliteMetadata(join(store.directory, "metadata.sqlite"));
    case "file":
      return () => openFileMetadata(store.statusPath);
    case "memory": {
      const memory = new MemoryMetadata();
      return () => openMemoryMetadata(memory);
    }
  }
}
