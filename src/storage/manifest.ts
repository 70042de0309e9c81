/**
 * What stands in `varia.json` of each of a node's two directories. Both say the same but for their kind, so that one that a
 * disk has damaged is written anew from the other. A checksum tells damage from what another build has written, and from a
 * directory of somebody else.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { utf8 } from "../lib/bytes.ts";
import { DirectoryRefused } from "./directory-refused.ts";
import { replaceFile, syncDirectory } from "./files.ts";

/** The format that this build writes. It reads no other one: 1 knew neither the terms of ids nor where terms end. */
export const DATA_FORMAT = 2;

export const MANIFEST = "varia.json";

/** What was fixed when the directories were created. */
export type FixedSettings =
  | { readonly mode: "standalone"; readonly shards: number; readonly keySorting: string }
  /** A data server of a cluster: its coordinator says what it holds. */
  | { readonly mode: "storage" };

export type Manifest = FixedSettings & {
  readonly format: number;
  readonly kind: "data" | "log";
  readonly instance: string;
};

/** It is there, and not as it was written. */
export interface Damaged {
  readonly damaged: string;
  readonly kind: Manifest["kind"];
}

/** Where there is nothing else in a directory, nothing was ever stored in it. */
export function isOwnFile(name: string): boolean {
  return name.startsWith("varia.lock") || name.startsWith(MANIFEST);
}

/** Undefined for an empty directory. Throws DirectoryRefused for one that is not of this kind, or that this build cannot read. */
export function readManifest(directory: string, kind: Manifest["kind"]): Manifest | Damaged | undefined {
  const path = join(directory, MANIFEST);
  if (!existsSync(path)) {
    const others = readdirSync(directory).filter((name) => !isOwnFile(name));
    if (others.length === 0) return undefined;
    throw new DirectoryRefused(
      isOxia(directory)
        ? `${directory} was written by Oxia: its files cannot be opened, import its data through a client`
        : `${directory} is not empty and holds no ${MANIFEST}: it is not a Varia directory`,
    );
  }
  const manifest = manifestOf(readFileSync(path));
  if (manifest === undefined) return { damaged: path, kind };
  if (manifest.format > DATA_FORMAT) {
    throw new DirectoryRefused(
      `${directory} has format ${manifest.format}, newer than ${DATA_FORMAT}: use the newer Varia that wrote it`,
    );
  }
  if (manifest.format < DATA_FORMAT) {
    throw new DirectoryRefused(
      `${directory} has format ${manifest.format}, older than ${DATA_FORMAT}: this Varia cannot read it, move the data through a client`,
    );
  }
  if (manifest.kind !== kind)
    throw new DirectoryRefused(`${directory} is a ${manifest.kind} directory, not a ${kind} directory`);
  return manifest;
}

/** Oxia keeps `<namespace>/shard-<id>/` in both, with .txnx files in the log and Pebble's in the database. */
function isOxia(directory: string): boolean {
  return readdirSync(directory, { recursive: true, encoding: "utf8" }).some(
    (name) =>
      /\.(txnx|idxx)$/.test(name) || /(^|\/)shard-\d+(\/|$)/.test(name) || name.endsWith("oxia-key-encoding-format"),
  );
}

const FIELDS: ReadonlySet<string> = new Set(["format", "kind", "instance", "mode", "shards", "keySorting"]);

/** Undefined: it is damaged. Builds before the checksum wrote none. */
function manifestOf(bytes: Uint8Array): Manifest | undefined {
  let found: Manifest & { readonly checksum?: unknown };
  try {
    found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as typeof found;
  } catch {
    return undefined;
  }
  if (typeof found?.format !== "number") return undefined;
  const { checksum, ...manifest } = found;
  if (checksum !== undefined && checksum !== checksumOf(manifest)) return undefined;
  // what a later build says beside its format is not for this one to judge
  return manifest.format > DATA_FORMAT || isOurs(manifest as Manifest) ? (manifest as Manifest) : undefined;
}

function isOurs(manifest: Manifest): boolean {
  return (
    typeof manifest.instance === "string" &&
    ["standalone", "storage"].includes(manifest.mode) &&
    ["data", "log"].includes(manifest.kind) &&
    Object.keys(manifest).every((field) => FIELDS.has(field))
  );
}

function checksumOf(manifest: object): string {
  return Bun.hash.crc32(JSON.stringify(manifest)).toString(16).padStart(8, "0");
}

/** Both as they were written: what one has lost, the other has. Throws DirectoryRefused when that cannot be. */
export function withoutDamage({
  data,
  log,
}: {
  readonly data: Manifest | Damaged | undefined;
  readonly log: Manifest | Damaged | undefined;
}): { data: Manifest | undefined; log: Manifest | undefined; damage?: { readonly words: string } } {
  if (isDamaged(data)) {
    const other = intact(log, data);
    return { data: { ...other, kind: "data" }, log: other, damage: { words: wordsOf(data) } };
  }
  if (!isDamaged(log)) return { data, log };
  const other = intact(data, log);
  return { data: other, log: { ...other, kind: "log" }, damage: { words: wordsOf(log) } };
}

function isDamaged(found: Manifest | Damaged | undefined): found is Damaged {
  return found !== undefined && "damaged" in found;
}

function intact(other: Manifest | Damaged | undefined, { damaged, kind }: Damaged): Manifest {
  if (other !== undefined && !isDamaged(other)) return other;
  const its = kind === "data" ? "log" : "data";
  throw new DirectoryRefused(
    `${damaged} is damaged, and the ${its} directory does not say what stood there: start with empty directories, or with a copy of that file`,
  );
}

function wordsOf({ damaged }: Damaged): string {
  return `${damaged} was damaged: it is written anew as the other directory has it`;
}

/** Synced, and the directory with it. */
export function writeManifest(directory: string, manifest: Manifest): void {
  const text = JSON.stringify({ ...manifest, checksum: checksumOf(manifest) }, undefined, 2);
  replaceFile(join(directory, MANIFEST), utf8(`${text}\n`));
  syncDirectory(directory);
}
