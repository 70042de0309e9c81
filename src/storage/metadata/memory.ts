/**
 * A metadata store in memory: `varia coordinator --metadata memory`, as in the reference, and the simulator's. What
 * it holds outlives the store that was opened on it, not the process.
 */
import type { MetadataChanges, MetadataState, MetadataStore, MetadataVersion, SwapAnswer } from "../../ports.ts";
import { NO_METADATA_VERSION } from "../../ports.ts";
import { DirectoryRefused } from "../directory-refused.ts";
import { Entries, Liveness } from "./entries.ts";

/** What its files are to another store. */
export class MemoryMetadata {
  readonly entries = new Entries();
  version: MetadataVersion = NO_METADATA_VERSION;
  held = false;
}

class MemoryMetadataStore implements MetadataStore {
  readonly #memory: MemoryMetadata;
  readonly #liveness = new Liveness();

  constructor(memory: MemoryMetadata) {
    this.#memory = memory;
  }

  async get(): Promise<MetadataState> {
    this.#liveness.check();
    return { version: this.#memory.version, entries: this.#memory.entries.copy() };
  }

  async compareAndSwap(expected: MetadataVersion, changes: MetadataChanges): Promise<SwapAnswer> {
    this.#liveness.check();
    const { version, entries } = this.#memory;
    if (expected !== version) return { outcome: "conflict", version };
    entries.check(changes);
    entries.apply(changes);
    this.#memory.version = version + 1;
    return { outcome: "stored", version: version + 1 };
  }

  async close(): Promise<void> {
    if (this.#liveness.ended) return;
    this.#liveness.end("the metadata store is closed");
    this.#memory.held = false;
  }
}

/** Throws DirectoryRefused while another store is open on it. */
export function openMemoryMetadata(memory: MemoryMetadata): MetadataStore {
  if (memory.held) throw new DirectoryRefused("the metadata in memory is in use");
  memory.held = true;
  return new MemoryMetadataStore(memory);
}
