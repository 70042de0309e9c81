/**
 * The text of Oxia's status file, both ways.
 *
 *     {"varia":{"version":"17","checksum":"3698670120"},          what we write: one JSON object, of which the first line
 *     "namespaces":{"default":{…}},"instanceId":"…"}              has the version and a CRC-32C over version and the rest
 *
 * Oxia reads it as YAML, of which JSON is a part, and drops what it does not know: `varia` among it. It writes YAML
 * with the same names. So a file that begins otherwise is Oxia's, or was edited by hand: it has no version, and its
 * shards no replica ids. A file that begins like ours and does not agree with its checksum is damaged; who has edited
 * one on purpose removes the first line's `"varia":{…},`.
 *
 * Source: semantics.md §9.8; Oxia's status codec (YAML out, YAML or JSON in, unknown fields discarded).
 */
import { parse } from "yaml";
import { text, utf8 } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import { type Json, joinStatus, type StatusEntries, splitStatus } from "../../model/status-entries.ts";
import type { MetadataVersion } from "../../ports.ts";
import { metadataDamage } from "./entries.ts";

/** Within the first characters, any of these: a flipped bit does not make our file look like Oxia's. */
const OURS = /"varia"|"version"|"checksum"/;
const OURS_CHARS = 64;
const FIRST_LINE = /^\{"varia":\{"version":"(\d{1,16})","checksum":"(\d{1,10})"\}(,?)\n/;

export interface StatusFile {
  /** Undefined when another program wrote the file. */
  readonly version: MetadataVersion | undefined;
  readonly entries: ReadonlyMap<string, string>;
}

/** Throws StatusInvalid for entries that are no status document. */
export function encodeStatusFile(version: MetadataVersion, entries: StatusEntries): Uint8Array {
  const rest = JSON.stringify(joinStatus(entries)).slice(1);
  const checksum = checksumOf(String(version), rest);
  const comma = rest === "}" ? "" : ",";
  return utf8(`{"varia":{"version":"${version}","checksum":"${checksum}"}${comma}\n${rest}\n`);
}

/** Reads what `path` holds; an empty file holds nothing. Throws a DATA_LOSS refusal when it is damaged. */
export function decodeStatusFile(path: string, bytes: Uint8Array): StatusFile {
  const whole = text(bytes);
  if (whole === "") return { version: undefined, entries: new Map() };
  if (!OURS.test(whole.slice(0, OURS_CHARS))) return { version: undefined, entries: entriesOf(path, whole, parseYaml) };
  const match = FIRST_LINE.exec(whole);
  if (match === null) throw metadataDamage(path, "line 1", "is not what Varia writes");
  const [line, version, checksum] = match as unknown as [string, string, string];
  const rest = whole.slice(line.length).trimEnd();
  if (checksumOf(version, rest) !== Number(checksum)) throw metadataDamage(path, "line 1", "the checksum differs");
  return { version: Number(version), entries: entriesOf(path, `{${rest}`, JSON.parse) };
}

function entriesOf(path: string, source: string, parseText: (source: string) => Json): Map<string, string> {
  try {
    const document = parseText(source);
    if (document === null) throw new Error("it is null");
    const entries = splitStatus(document);
    return Object.keys(document).length === 0 ? new Map() : entries;
  } catch (error) {
    throw metadataDamage(path, "the document", (error as Error).message, error);
  }
}

/** Whole numbers beyond 2^53 become text, as Oxia's JSON has them: rounded, they would be other numbers. */
function parseYaml(source: string): Json {
  return JSON.parse(
    JSON.stringify(parse(source, { intAsBigInt: true, schema: "core" }), (_key, value: unknown) => {
      if (typeof value !== "bigint") return value;
      return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
    }),
  ) as Json;
}

function checksumOf(version: string, rest: string): number {
  return crc32c(utf8(`${version}\n${rest}`));
}
