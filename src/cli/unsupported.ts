/**
 * Oxia's settings that Varia knows and does not have: a server refuses to start with one, in words, rather than run
 * without what was asked for (a port without the TLS that somebody relies on).
 *
 * Source: semantics.md §10, §11.
 */
import type { Command } from "commander";
import { Option } from "commander";
import { atPath, SettingError } from "../ops/settings.ts";

export interface Unsupported {
  /** With its value, as commander wants it; undefined: it is in the file alone. */
  readonly flags?: string;
  /** Where it stands in the file; undefined: it is a flag alone. */
  readonly path?: string;
  /** What it is about, for the message. */
  readonly what: string;
}

const TLS_FLAGS = [
  "cert-file <file>",
  "key-file <file>",
  "min-version <n>",
  "max-version <n>",
  "trusted-ca-file <file>",
  "insecure-skip-verify [bool]",
];

function tls(prefix: string, extra: string): Unsupported[] {
  return [...TLS_FLAGS, extra].map((flag) => ({ flags: `--${prefix}-${flag}`, what: "TLS" }));
}

const AUTH: readonly Unsupported[] = [
  { flags: "--auth-provider-name <name>", what: "authentication of clients" },
  { flags: "--auth-provider-params <json>", what: "authentication of clients" },
];

export const UNSUPPORTED_STORAGE: readonly Unsupported[] = [
  ...AUTH,
  ...tls("tls", "client-auth [bool]"),
  ...tls("internal-tls", "client-auth [bool]"),
  ...tls("peer-tls", "server-name <name>"),
  { path: "server.public.tls", what: "TLS" },
  { path: "server.internal.tls", what: "TLS" },
  { path: "replication.tls", what: "TLS" },
  { path: "observability.metric.tls", what: "TLS" },
  { path: "server.public.auth", what: "authentication of clients" },
];

export const UNSUPPORTED_STANDALONE: readonly Unsupported[] = [
  ...AUTH,
  ...tls("tls", "client-auth [bool]"),
  { path: "server.public.tls", what: "TLS" },
  { path: "observability.metric.tls", what: "TLS" },
  { path: "server.public.auth", what: "authentication of clients" },
];

export const UNSUPPORTED_COORDINATOR: readonly Unsupported[] = [
  ...tls("tls", "client-auth [bool]"),
  ...tls("peer-tls", "server-name <name>"),
  { flags: "--k8s-namespace <name>", path: "metadata.kubernetes", what: "a Kubernetes ConfigMap as metadata store" },
  { flags: "--k8s-configmap-name <name>", what: "a Kubernetes ConfigMap as metadata store" },
  { flags: "--raft-address <host:port>", path: "metadata.raft", what: "a Raft group as metadata store" },
  { flags: "--raft-bootstrap-nodes <list>", what: "a Raft group as metadata store" },
  { flags: "--raft-data-dir <dir>", what: "a Raft group as metadata store" },
  { path: "server.public.tls", what: "TLS" },
  { path: "server.internal.tls", what: "TLS" },
  { path: "controller.tls", what: "TLS" },
  { path: "observability.metric.tls", what: "TLS" },
  { path: "server.public.auth", what: "authentication of clients" },
];

/** Makes the flags known to a command, hidden from its help. */
export function addUnsupportedFlags(command: Command, list: readonly Unsupported[]): void {
  for (const { flags } of list) if (flags !== undefined) command.addOption(new Option(flags).hideHelp());
}

/** Throws SettingError at the first one that is given, by flag, by environment or in the file. Switched off counts as not given. */
export function refuseUnsupported(
  list: readonly Unsupported[],
  sources: {
    readonly flags: Readonly<Record<string, unknown>>;
    readonly environment: Readonly<Record<string, string | undefined>>;
    readonly file: unknown;
  },
): void {
  for (const { flags, path, what } of list) {
    if (flags !== undefined) {
      const option = new Option(flags);
      if (sources.flags[option.attributeName()] !== undefined) throw unsupported(option.long!, what);
      const variable = `VARIA_${option.long!.slice(2).toUpperCase().replaceAll("-", "_")}`;
      if (sources.environment[variable] !== undefined) throw unsupported(variable, what);
    }
    if (path !== undefined && isOn(atPath(sources.file, path))) throw unsupported(path, what, { path });
  }
}

function isOn(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === "") return false;
  if (typeof value !== "object") return true;
  const { enabled } = value as { readonly enabled?: unknown };
  return enabled !== false && Object.keys(value).length > 0;
}

function unsupported(where: string, what: string, place: { readonly path?: string } = {}): SettingError {
  return new SettingError(`${where}: Varia does not support ${what} yet; leave it out to go on without`, place);
}
