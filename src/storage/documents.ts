/**
 * The Documents port in one small file: a line with the CRC-32C of the rest, then all texts as one JSON object. It is
 * written anew, beside the old one, synced and renamed (files.ts), for all changes that have come since the last time
 * together; a twentieth of the time at most goes into that, however large the file is.
 *
 * A file whose CRC is not that of its content, or that cannot be read as what it is, holds nothing: whoever told these
 * texts tells them again (ports.ts). The caller is told of it once.
 */
import { existsSync, readFileSync } from "node:fs";
import { type Bytes, text, utf8 } from "../lib/bytes.ts";
import { crc32c } from "../lib/crc32c.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, Documents } from "../ports.ts";
import { replaceFile } from "./files.ts";

export interface FileDocumentsOptions {
  readonly path: string;
  readonly clock: Pick<Clock, "soon" | "after" | "monotonicMs">;
  /** Told when the file is there and cannot be trusted. */
  readonly onDamage: (what: string) => void;
  /** Told once of an error of the device: no promise of this port resolves any more. */
  readonly onFault: (error: Error) => void;
}

/** Of the time that a write has taken: until the next one. */
const PAUSE_FACTOR = 19;

interface Change {
  readonly name: string;
  readonly text: string | undefined;
  readonly resolve: () => void;
  readonly reject: (error: Refusal) => void;
}

export class FileDocuments implements Documents {
  readonly #options: FileDocumentsOptions;
  #texts: ReadonlyMap<string, string>;
  #changes: Change[] = [];
  #nextMs = 0;

  constructor(options: FileDocumentsOptions) {
    this.#options = options;
    this.#texts = read(options);
  }

  async all(): Promise<ReadonlyMap<string, string>> {
    return this.#texts;
  }

  put(name: string, text: string | undefined): Promise<void> {
    if (this.#changes.length === 0) this.#writeSoon();
    return new Promise((resolve, reject) => {
      this.#changes.push({ name, text, resolve, reject });
    });
  }

  #writeSoon(): void {
    const { clock } = this.#options;
    const waitMs = this.#nextMs - clock.monotonicMs();
    if (waitMs <= 0) clock.soon(() => this.#write());
    else clock.after(waitMs, () => this.#write());
  }

  #write(): void {
    const { clock } = this.#options;
    const startedMs = clock.monotonicMs();
    this.#writeAll();
    const endedMs = clock.monotonicMs();
    this.#nextMs = endedMs + PAUSE_FACTOR * (endedMs - startedMs);
  }

  #writeAll(): void {
    const changes = this.#changes;
    this.#changes = [];
    const texts = new Map(this.#texts);
    for (const { name, text } of changes) {
      if (text === undefined) texts.delete(name);
      else texts.set(name, text);
    }
    try {
      replaceFile(this.#options.path, encode(texts));
    } catch (cause) {
      this.#failed(changes, cause as Error);
      return;
    }
    this.#texts = texts;
    for (const { resolve } of changes) resolve();
  }

  #failed(changes: readonly Change[], cause: Error): void {
    if ((cause as { code?: string }).code !== "ENOSPC") {
      this.#options.onFault(cause);
      return;
    }
    const message = `no space left for ${this.#options.path}: nothing was changed`;
    for (const { reject } of changes) reject(new Refusal("RESOURCE_EXHAUSTED", message, { cause }));
  }
}

function encode(texts: ReadonlyMap<string, string>): Bytes {
  const json = JSON.stringify(Object.fromEntries(texts), undefined, 1);
  return utf8(`${crcOf(json)}\n${json}\n`);
}

function read({ path, onDamage }: FileDocumentsOptions): Map<string, string> {
  if (!existsSync(path)) return new Map();
  const content = text(readFileSync(path));
  const end = content.indexOf("\n");
  const json = content.slice(end + 1, -1);
  if (end < 0 || content.at(-1) !== "\n" || content.slice(0, end) !== crcOf(json)) {
    onDamage(`${path}: its checksum is not that of its content`);
    return new Map();
  }
  return new Map(Object.entries(JSON.parse(json) as Record<string, string>));
}

function crcOf(json: string): string {
  const bytes = utf8(json);
  return crc32c(bytes, 0, bytes.length).toString(16).padStart(8, "0");
}
