/**
 * What the client commands print: Oxia's forms by default, or a table, JSON or YAML. Lists are written as they come, in
 * any form: a range may be larger than memory.
 *
 * Keys and values are bytes. As JSON and YAML they are text where they are UTF-8, else base64 under another name
 * (`key_base64`, `value_base64`), so that nothing is lost.
 */
import { stringify } from "yaml";
import type { Version } from "../client/records.ts";
import { utf8 } from "../lib/bytes.ts";

export type OutputForm = "oxia" | "table" | "json" | "yaml" | "name";
export const OUTPUT_FORMS = ["table", "json", "yaml"] as const;
/** With names alone, a line each, for what has names: the first field of a row is its name. */
export const OUTPUT_FORMS_OF_NAMED = [...OUTPUT_FORMS, "name"] as const;

export interface RecordOutput {
  readonly key: Uint8Array;
  /** Undefined where the command shows none. */
  readonly value: Uint8Array | undefined;
  readonly version: Version;
}

/** Where text and bytes go; resolves once more may be written. */
export type Write = (data: string | Uint8Array) => Promise<void>;

type Row = Readonly<Record<string, unknown>>;

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Rows whose widths decide a table's columns: later ones may stick out. */
const TABLE_ROWS_MEASURED = 1000;

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** A field of bytes: text under its name, or base64 under another. */
export function bytesField(name: string, bytes: Uint8Array): Row {
  const text = textOf(bytes);
  return text === undefined ? { [`${name}_base64`]: Buffer.from(bytes).toString("base64") } : { [name]: text };
}

function timestamp(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString();
}

/** The fields of a version in Oxia's names and order. */
function versionFields(version: Version): Row {
  return {
    version_id: version.versionId,
    created_timestamp: timestamp(version.createdTimestamp),
    modified_timestamp: timestamp(version.modifiedTimestamp),
    modifications_count: version.modificationsCount,
    ephemeral: version.sessionId !== undefined,
    session_id: version.sessionId ?? 0,
    client_identity: version.clientIdentity ?? "",
  };
}

/** The object that Oxia prints for a put, and for a get with its version. */
export function versionObject(key: Uint8Array, version: Version): Row {
  return { ...bytesField("key", key), ...versionFields(version) };
}

export function recordObject({ key, value, version }: RecordOutput): Row {
  return {
    ...bytesField("key", key),
    ...(value === undefined ? {} : bytesField("value", value)),
    ...versionFields(version),
  };
}

export function keyObject(key: Uint8Array): Row {
  return bytesField("key", key);
}

/** One line of JSON; 64-bit integers are written in full. */
export function json(value: unknown): string {
  return JSON.stringify(value, (_name, field) =>
    typeof field === "bigint" ? (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(String(field)) : field,
  );
}

/** Prints one object in a form that is not Oxia's own. */
export async function printObject(form: Exclude<OutputForm, "oxia">, object: Row, write: Write): Promise<void> {
  if (form === "name") await write(nameLine(object));
  else if (form === "json") await write(`${json(object)}\n`);
  else if (form === "yaml") await write(stringify(object));
  else await printTable(onePage([object]), write);
}

/** Prints many objects in a form that is not Oxia's own: a JSON array, a YAML sequence, a table. */
export async function printObjects(
  form: Exclude<OutputForm, "oxia">,
  pages: AsyncIterable<readonly Row[]>,
  write: Write,
): Promise<void> {
  if (form === "table") return printTable(pages, write);
  if (form === "name") {
    for await (const page of pages) await write(page.map(nameLine).join(""));
    return;
  }
  let first = true;
  for await (const page of pages) {
    if (form === "yaml") {
      await write(page.length === 0 ? "" : stringify(page));
      first = first && page.length === 0;
      continue;
    }
    let lines = "";
    for (const row of page) {
      lines += `${first ? "[\n" : ",\n"}${json(row)}`;
      first = false;
    }
    await write(lines);
  }
  if (form === "json") await write(first ? "[]\n" : "\n]\n");
  else if (first) await write("[]\n");
}

function nameLine(row: Row): string {
  return `${cell(Object.values(row)[0])}\n`;
}

/** All rows at once. */
export async function* onePage(rows: readonly Row[]): AsyncGenerator<readonly Row[]> {
  yield rows;
}

const HIDDEN_IN_TABLES: ReadonlySet<string> = new Set(["ephemeral", "session_id", "client_identity"]);

async function printTable(pages: AsyncIterable<readonly Row[]>, write: Write): Promise<void> {
  let layout: { readonly columns: readonly string[]; readonly widths: readonly number[] } | undefined;
  for await (const page of pages) {
    const rows = page.map(tableRow);
    if (rows.length === 0) continue;
    if (layout === undefined) {
      layout = layOut(rows.slice(0, TABLE_ROWS_MEASURED));
      const names = layout.columns.map((column) => column.toUpperCase());
      await write(tableLine(names, layout.widths));
    }
    const { columns, widths } = layout;
    const lines = rows.map((row) =>
      tableLine(
        columns.map((column) => cell(row[column])),
        widths,
      ),
    );
    await write(lines.join(""));
  }
}

/** Keys and values under one name, whatever their bytes. */
function tableRow(row: Row): Row {
  const shown: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(row)) {
    if (HIDDEN_IN_TABLES.has(name)) continue;
    if (name.endsWith("_base64")) shown[name.slice(0, -"_base64".length)] = `base64:${value}`;
    else shown[name] = value;
  }
  return shown;
}

function layOut(rows: readonly Row[]): { columns: string[]; widths: number[] } {
  const columns = Object.keys(rows[0]!);
  const widths = columns.map((column) =>
    Math.max(column.length, ...rows.map((row) => Bun.stringWidth(cell(row[column])))),
  );
  return { columns, widths };
}

function tableLine(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((text, i) => text + " ".repeat(Math.max(0, widths[i]! - Bun.stringWidth(text))));
  return `${padded.join("  ").trimEnd()}\n`;
}

/** Line ends and other control characters would break the table, or the terminal. */
function cell(value: unknown): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return String(value ?? "").replace(/[\u0000-\u001f\u007f-\u009f]/g, (control) => {
    return `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}

/** Writes to standard output, waiting while it is slow; a reader that has gone away ends the program quietly. */
export function standardOutput(): Write {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    process.exit(error.code === "EPIPE" ? 0 : 1);
  });
  return (data) =>
    new Promise((resolve) => {
      const bytes = typeof data === "string" ? utf8(data) : data;
      if (bytes.length === 0 || process.stdout.write(bytes)) resolve();
      else process.stdout.once("drain", resolve);
    });
}
