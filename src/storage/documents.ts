/**
 * The Documents port in one small file: a line with the CRC-32C of the rest, then all texts as one JSON object. It is
 * written anew for each change, beside the old one, synced and renamed (files.ts); changes that come while a write runs
 * go into the next one together.
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
  readonly clock: Pick<Clock, "soon">;
  /** Told when the file is there and cannot be trusted. */
  readonly onDamage: (what: string) => void;
  /** Told once of an error of the device: no promise of this port resolves any more. */
  readonly onFault: (error: Error) => void;
}

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

  constructor(options: FileDocumentsOptions) {
    this.#options = options;
    this.#texts = read(options);
  }

  async all(): Promise<ReadonlyMap<string, string>> {
    return this.#texts;
  }

  put(name: string, text: string | undefined): Promise<void> {
    if (this.#changes.length === 0) this.#options.clock.soon(() => this.#write());
    return new Promise((resolve, reject) => {
      this.#changes.push({ name, text, resolve, reject });
    });
  }

  #write(): void {
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
