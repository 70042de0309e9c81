/** What the commands that run a server have in common: settings from flags, environment and file; signals; words. */
import { readFileSync } from "node:fs";
import { basename, relative } from "node:path";
import type { Command } from "commander";
import {
  type Address,
  type GivenSetting,
  givenSettings,
  resolveSettings,
  type Setting,
  SettingError,
  type Settings,
  type SettingsTable,
} from "../ops/settings.ts";
import { EXIT } from "./exit.ts";
import { YamlText } from "./yaml-text.ts";

/** For the help of a server's command. */
export const SETTINGS_HELP = `
Every flag has an environment variable (--wal-dir is VARIA_WAL_DIR) and a place
in the file given with --sconfig; a flag beats the environment, which beats the
file.
`;

/** Flags of a settings table, and of the file that may hold them. */
export function addSettings(command: Command, table: SettingsTable): void {
  command.option("--sconfig <file>", "YAML file with settings (VARIA_SCONFIG)");
  for (const setting of Object.values(table)) command.option(setting.flags, describe(setting));
}

function describe(setting: Setting<unknown>): string {
  return `${setting.description} (default: ${(setting.shown ?? String(setting.default)) || "none"})`;
}

/** Settings, and where they come from. */
export interface ReadSettings<Table extends SettingsTable> {
  readonly settings: Settings<Table>;
  readonly given: readonly GivenSetting[];
}

/** Throws SettingError for what cannot be used. `check` is shown the file first. */
export function readSettings<Table extends SettingsTable>(
  table: Table,
  flags: Record<string, unknown>,
  check: (file: unknown) => void = () => {},
): ReadSettings<Table> {
  const texts: Record<string, string | undefined> = {};
  for (const [name, value] of Object.entries(flags)) texts[name] = value === undefined ? undefined : String(value);
  const path = texts.sconfig ?? process.env.VARIA_SCONFIG;
  const file = path === undefined ? undefined : openFile(path);
  try {
    check(file?.value);
    const resolved = resolveSettings(table, { flags: texts, environment: process.env, file: file?.value });
    return { settings: resolved.values, given: givenSettings(table, resolved) };
  } catch (cause) {
    if (!(cause instanceof SettingError) || cause.path === undefined) throw cause;
    throw new SettingError(`${path}: ${file?.placeOf(cause.path) ?? ""}${cause.message}`, { cause });
  }
}

function openFile(path: string): YamlText {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new SettingError(`--sconfig: ${(cause as Error).message}`, { cause }); // it names the file
  }
  try {
    return new YamlText(text, { merge: true });
  } catch (cause) {
    throw new SettingError(`${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => {
        if (asked) process.exit(signal === "SIGINT" ? EXIT.interrupted : 143);
        asked = true;
        resolve();
      });
    }
  });
}

/** `host:port`, an IPv6 address in brackets. */
export function hostPort(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** An address that reaches this machine where the server listens on all of its own. */
export function reachable({ host }: Pick<Address, "host">): string {
  return host === "0.0.0.0" || host === "::" ? "localhost" : host;
}

/** How this executable is called from where it was started: by its name when the path finds it. */
export function ownCommand(): string {
  const { execPath } = process;
  if (basename(execPath) !== "varia" || Bun.which("varia") === execPath) return "varia";
  const path = relative(process.cwd(), execPath);
  return path.startsWith("..") ? execPath : `./${path}`;
}
