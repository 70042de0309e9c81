/**
 * Settings of a server: one table says of each its flag, its place in the YAML file, its default and how it is read;
 * the environment variable follows from the flag (`--wal-dir` is VARIA_WAL_DIR). Precedence: flag, environment, file,
 * default. Every resolved value knows where it came from.
 *
 * Source: semantics.md §10 and §11 (Oxia's flags and file fields, so that scripts and charts move over unchanged).
 */
import { numberPattern } from "../lib/number-pattern.ts";
import { parseBytes, parseDurationMs } from "../lib/units.ts";

export type Origin = "flag" | "environment" | "file" | "default";

export interface Setting<T> {
  /** As commander wants it: `-p, --public-addr <host:port>`. */
  readonly flags: string;
  readonly description: string;
  /** Where it stands in the file: `server.public.bindAddress`. */
  readonly path: string;
  readonly default: T;
  readonly parse: Kind<T>;
  /** As it is shown in help; default: the default itself. */
  readonly shown?: string;
}

/** Reads a flag's, a variable's or a file's text. Throws SettingError when it cannot be. */
export interface Kind<T> {
  (text: string): T;
  /** JSON Schema of the scalars in a file whose texts are read, null aside. */
  readonly schema: Schema;
}

export type Schema = Readonly<Record<string, unknown>>;

export type SettingsTable = Readonly<Record<string, Setting<unknown>>>;
export type Settings<Table extends SettingsTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Setting<infer T> ? T : never;
};
export interface Resolved<Table extends SettingsTable> {
  readonly values: Settings<Table>;
  readonly origins: { readonly [Name in keyof Table]: Origin };
  /** As they were given; undefined: by default. */
  readonly texts: { readonly [Name in keyof Table]: string | undefined };
}

/** A setting with its value, for people. */
export interface GivenSetting {
  /** The long flag without dashes. */
  readonly name: string;
  readonly description: string;
  readonly value: string;
  readonly origin: Origin;
  /** What gave it: the flag, the variable, the place in the file; empty: the default. */
  readonly source: string;
  readonly byDefault: string;
}

/** All settings of a table as they were resolved, in its order. */
export function givenSettings<Table extends SettingsTable>(
  table: Table,
  { origins, texts }: Resolved<Table>,
): GivenSetting[] {
  return Object.entries(table).map(([name, setting]) => {
    const byDefault = setting.shown ?? String(setting.default);
    const origin = origins[name]!;
    return {
      ...{ name: flagName(setting), description: setting.description, origin, byDefault },
      value: texts[name] ?? byDefault,
      source: sourceOf(setting, origin),
    };
  });
}

function sourceOf(setting: Setting<unknown>, origin: Origin): string {
  switch (origin) {
    case "flag":
      return `--${flagName(setting)}`;
    case "environment":
      return environmentName(setting);
    case "file":
      return setting.path;
    case "default":
      return "";
  }
}

/** A setting that cannot be used: says which one, where it was given, and what is wrong. */
export class SettingError extends Error {
  override readonly name = "SettingError";
  /** The path in the file, where it was given there. */
  readonly path: string | undefined;

  constructor(message: string, { path, ...options }: ErrorOptions & { readonly path?: string } = {}) {
    super(message, options);
    this.path = path;
  }
}

/** The long flag without dashes: `public-addr`. */
export function flagName(setting: Setting<unknown>): string {
  const match = /--([a-z-]+)/.exec(setting.flags);
  if (match === null) throw new SettingError(`setting without a long flag: ${setting.flags}`);
  return match[1]!;
}

export function environmentName(setting: Setting<unknown>): string {
  return `VARIA_${flagName(setting).toUpperCase().replaceAll("-", "_")}`;
}

/** Resolves every setting of the table. `flags` holds the text of the flags that were given, by table name. */
export function resolveSettings<Table extends SettingsTable>(
  table: Table,
  sources: {
    readonly flags: Readonly<Record<string, string | undefined>>;
    readonly environment: Readonly<Record<string, string | undefined>>;
    readonly file: unknown;
  },
): Resolved<Table> {
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  const texts: Record<string, string | undefined> = {};
  for (const [name, setting] of Object.entries(table)) {
    const candidates: [Origin, string, string | undefined][] = [
      ["flag", `--${flagName(setting)}`, sources.flags[name]],
      ["environment", environmentName(setting), sources.environment[environmentName(setting)]],
      ["file", setting.path, scalarAt(sources.file, setting.path)],
    ];
    const given = candidates.find(([, , text]) => text !== undefined);
    origins[name] = given?.[0] ?? "default";
    texts[name] = given?.[2];
    values[name] = given === undefined ? setting.default : parseGiven(setting, given[0], given[1], given[2]!);
  }
  return { values, origins, texts } as Resolved<Table>;
}

function parseGiven(setting: Setting<unknown>, origin: Origin, where: string, text: string): unknown {
  try {
    return setting.parse(text);
  } catch (cause) {
    const place = origin === "file" ? { path: setting.path } : {};
    throw new SettingError(`${where}: ${(cause as Error).message}`, { cause, ...place });
  }
}

/**
 * What stands in a parsed YAML document at a path of names with dots between them; undefined where nothing does. Throws
 * SettingError where a value or a list stands in the way.
 */
export function atPath(document: unknown, path: string): unknown {
  let node = document;
  const above: string[] = [];
  for (const part of path.split(".")) {
    if (node === null || node === undefined) return undefined;
    if (typeof node !== "object" || Array.isArray(node)) {
      const path = above.join(".");
      throw new SettingError(`${path || "the document"}: expected fields`, { path });
    }
    node = Object.hasOwn(node, part) ? (node as Record<string, unknown>)[part] : undefined;
    above.push(part);
  }
  return node;
}

/** The text of a scalar in a parsed YAML document; a mapping or list where a scalar belongs is an error. */
function scalarAt(document: unknown, path: string): string | undefined {
  const node = atPath(document, path);
  if (node === undefined || node === null) return undefined;
  if (typeof node === "object") throw new SettingError(`${path}: expected one value`, { path });
  return String(node);
}

// --- kinds of values ------------------------------------------------------------------------------------------

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** What `read` makes of a text; `schema` says which scalars have such a text. */
export function kind<T>(schema: Schema, read: (text: string) => T): Kind<T> {
  return Object.assign((text: string) => read(text), { schema });
}

const PORT_MAX = 65_535;
const ADDRESS = {
  type: "string",
  pattern: `^(\\[[0-9A-Fa-f:.%]+\\]|[^:\\[\\]]*):${numberPattern(0, PORT_MAX)}$`,
};

export const address = kind(ADDRESS, (text): Address => {
  const match = /^(\[[0-9A-Fa-f:.%]+\]|[^:[\]]*):(\d+)$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > PORT_MAX) throw new SettingError(`"${text}" is not host:port`);
  const host = match[1]!.replace(/^\[|\]$/g, "");
  return { host: host === "" ? "0.0.0.0" : host, port };
});

/** Source of what matches one part of a duration or more: `1m30s`. Not anchored. */
export const DURATION_PATTERN = "([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+";
const DURATION = { anyOf: [{ type: "string", pattern: `^(0|${DURATION_PATTERN})$` }, { const: 0 }] };

export const durationMs = kind(DURATION, (text) => {
  const value = parseDurationMs(text);
  if (value === undefined) throw new SettingError(`"${text}" is not a duration such as 1h, 90s or 500ms`);
  return value;
});

const SIZE_PATTERN = "^\\s*[0-9]+([.][0-9]+)?\\s*([bB]|[kKmMgG]([iI]?[bB])?)?\\s*$";

/** A size, which `check` may refuse. The schema has the bounds, both inclusive, of plain numbers alone. */
export function bytes(min: number, max: number, check: (value: number, text: string) => void): Kind<number> {
  const schema = {
    anyOf: [
      { type: "string", pattern: SIZE_PATTERN },
      { type: "number", minimum: min, exclusiveMaximum: max + 1 }, // fractions of a byte are dropped
    ],
  };
  return kind(schema, (text) => {
    const value = parseBytes(text);
    if (value === undefined) throw new SettingError(`"${text}" is not a size such as 512MiB or 64m`);
    check(value, text);
    return value;
  });
}

const BOOLEAN = {
  anyOf: [
    { type: "boolean" },
    { enum: [0, 1] },
    { type: "string", pattern: inAnyCase("true", "1", "yes", "on", "t", "false", "0", "no", "off", "f") },
  ],
};

export const boolean = kind(BOOLEAN, (text) => {
  if (/^(true|1|yes|on|t)$/i.test(text)) return true;
  if (/^(false|0|no|off|f)$/i.test(text)) return false;
  throw new SettingError(`"${text}" is neither true nor false`);
});

/** A whole number from `min` to `max`, both inclusive. */
export function integer(min: 0 | 1, max: number): Kind<number> {
  const schema = {
    anyOf: [
      { type: "integer", minimum: min, maximum: max },
      { type: "string", pattern: `^${numberPattern(min, max)}$` },
    ],
  };
  return kind(schema, (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new SettingError(`"${text}" is not a whole number from ${min} to ${max}`);
    }
    return value;
  });
}

export function oneOf<const T extends string>(...choices: readonly T[]): Kind<T> {
  return kind({ anyOf: [{ enum: choices }, { type: "string", pattern: inAnyCase(...choices) }] }, (text) => {
    const choice = choices.find((candidate) => candidate === text.toLowerCase());
    if (choice === undefined) throw new SettingError(`"${text}" is not one of ${choices.join(", ")}`);
    return choice;
  });
}

/** A pattern of these words, whose letters may be capitals. */
function inAnyCase(...words: readonly string[]): string {
  const letters = words.map((word) => word.replace(/[a-z]/g, (letter) => `[${letter.toUpperCase()}${letter}]`));
  return `^(${letters.join("|")})$`;
}

export const path = kind({ type: ["string", "number", "boolean"], minLength: 1 }, (text) => {
  if (text === "") throw new SettingError("the path is empty");
  return text;
});
