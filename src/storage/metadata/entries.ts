/** What the metadata stores share: their entries in memory, the bound on them, and how a store ends. */
import { METADATA_BYTES_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type { MetadataChanges } from "../../ports.ts";

/** Entries, changed in place: a change costs as much as it names. */
export class Entries {
  readonly #texts: Map<string, string>;
  #bytes = 0;

  constructor(texts: ReadonlyMap<string, string> = new Map()) {
    this.#texts = new Map(texts);
    for (const [key, text] of texts) this.#bytes += bytesOf(key, text);
  }

  get(key: string): string | undefined {
    return this.#texts.get(key);
  }

  /** A copy, for whoever reads the store. */
  copy(): Map<string, string> {
    return new Map(this.#texts);
  }

  /** Refuses changes that would take more than METADATA_BYTES_MAX: RESOURCE_EXHAUSTED. */
  check(changes: MetadataChanges): void {
    const bytes = this.#bytesAfter(changes);
    if (bytes <= METADATA_BYTES_MAX) return;
    const why = `the cluster's status would take ${bytes} bytes, the limit is ${METADATA_BYTES_MAX}`;
    throw new Refusal("RESOURCE_EXHAUSTED", why);
  }

  apply(changes: MetadataChanges): void {
    this.#bytes = this.#bytesAfter(changes);
    for (const [key, text] of changes) {
      if (text === undefined) this.#texts.delete(key);
      else this.#texts.set(key, text);
    }
  }

  #bytesAfter(changes: MetadataChanges): number {
    let bytes = this.#bytes;
    for (const [key, text] of changes) {
      bytes += bytesOf(key, text) - bytesOf(key, this.#texts.get(key));
    }
    return bytes;
  }
}

function bytesOf(key: string, text: string | undefined): number {
  return text === undefined ? 0 : Buffer.byteLength(key) + Buffer.byteLength(text);
}

/** Whether a store still answers: after a fault, an unknown outcome or `close` it refuses everything. */
export class Liveness {
  #ended: { readonly why: string; readonly cause: unknown } | undefined;

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  check(): void {
    if (this.#ended === undefined) return;
    const { why, cause } = this.#ended;
    throw new Refusal("RESOURCE_UNAVAILABLE", why, { cause });
  }

  end(why: string, cause?: unknown): void {
    this.#ended ??= { why, cause };
  }
}

/** The store's files are not what was written: what the cluster's status is cannot be told. */
export function metadataDamage(file: string, where: string, what: string, cause?: unknown): Refusal {
  return new Refusal("DATA_LOSS", `the cluster's status is damaged: ${file}: ${where}: ${what}`, { cause });
}
