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
import type { Documents } from "../ports.ts";
import { replaceFile } from "./files.ts";

export interface FileDocumentsOptions {
  readonly path: string;
  /** Told when the file is there and cannot be trusted. */
  readonly onDamage: (what: string) => void;
  /** Told once of an error of the device: no promise of this port resolves any more. */
  readonly onFault: (error: Error) => void;
}

export class FileDocuments implements Documents {
  readonly #options: FileDocumentsOptions;
  readonly #texts: Map<string, string>;
  #waiting: (() => void)[] = [];
  #writes = false;

  constructor(options: FileDocumentsOptions) {
    this.#options = options;
    this.#texts = read(options);
  }

  async all(): Promise<ReadonlyMap<string, string>> {
    return new Map(this.#texts);
  }

  put(name: string, value: string | undefined): Promise<void> {
    if (value === undefined) this.#texts.delete(name);
    else this.#texts.set(name, value);
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#writes) return;
      this.#writes = true;
      setImmediate(() => this.#write());
    });
  }

  #write(): void {
    this.#writes = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      replaceFile(this.#options.path, encode(this.#texts));
    } catch (error) {
      this.#options.onFault(error as Error);
      return;
    }
    for (const resolve of waiting) resolve();
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
