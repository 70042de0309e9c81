/** `varia standalone`: settings, start, signals, and what is printed for a newcomer. */
import { readFileSync } from "node:fs";
import { basename, relative } from "node:path";
import type { Command } from "commander";
import { systemClock } from "../ops/clock.ts";
import { openLogger } from "../ops/logger.ts";
import { resolveSettings, type Setting, SettingError } from "../ops/settings.ts";
import { EXIT, ExitError } from "./exit.ts";
import { NAMESPACE } from "./standalone-options.ts";
import { StandaloneServer } from "./standalone-server.ts";
import { STANDALONE_SETTINGS, type StandaloneSettings } from "./standalone-settings.ts";
import { VERSION } from "./version.ts";

const EXAMPLES = `
Every flag has an environment variable (--wal-dir is VARIA_WAL_DIR) and a place
in the file given with --sconfig; a flag beats the environment, which beats the
file.

Examples:
  varia standalone
  varia standalone -s 4 -p 127.0.0.1:6648 --data-dir /srv/db --wal-dir /srv/wal
  varia standalone --accept-loss default/2`;

export function addStandaloneCommand(program: Command): void {
  const command = program
    .command("standalone")
    .description("Run one server with all shards: no coordinator, no replication.")
    .addHelpText("after", EXAMPLES)
    .option("--sconfig <file>", "YAML file with settings (VARIA_SCONFIG)")
    .option(
      "--accept-loss <namespace/shard>",
      "serve a damaged shard with what can still be read of it; repeatable",
      (shard: string, others: string[]) => [...others, shard],
      [],
    );
  for (const setting of Object.values(STANDALONE_SETTINGS)) command.option(setting.flags, describe(setting));
  command.action(async (flags: Record<string, unknown>) => serve(flags));
}

function describe(setting: Setting<unknown>): string {
  return `${setting.description} (default: ${setting.shown ?? String(setting.default)})`;
}

async function serve(flags: Record<string, unknown>): Promise<void> {
  const settings = resolve(flags);
  const logger = openLogger({ level: settings.logLevel, json: settings.logJson });
  const signal = untilSignal();
  const server = await StandaloneServer.start({
    settings,
    version: VERSION,
    acceptLoss: acceptedShards(flags.acceptLoss as string[], settings),
    clock: systemClock,
    logger,
    onFault: (error) => {
      logger.error(
        { component: "storage", err: error },
        "a device failed: this process ends, restart it when the device works",
      );
      process.exit(EXIT.failure);
    },
  });
  logger.info({ component: "rpc", port: server.publicPort }, "Started Grpc server");
  logger.info({ component: "http", port: server.httpPort }, "Serving Prometheus metrics");
  console.log(banner(server, settings));
  await signal;
  logger.info({ component: "standalone" }, "shutting down");
  await server.stop();
  logger.info({ component: "standalone" }, "stopped");
}

function resolve(flags: Record<string, unknown>): StandaloneSettings {
  const texts: Record<string, string | undefined> = {};
  for (const [name, value] of Object.entries(flags)) {
    texts[name] = value === undefined ? undefined : String(value);
  }
  const file = texts.sconfig ?? process.env.VARIA_SCONFIG;
  const document = file === undefined ? undefined : parseFile(file);
  return resolveSettings(STANDALONE_SETTINGS, { flags: texts, environment: process.env, file: document }).values;
}

function parseFile(path: string): unknown {
  try {
    return Bun.YAML.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new SettingError(`--sconfig: ${path}: ${(cause as Error).message}`, { cause });
  }
}

function acceptedShards(given: readonly string[], settings: StandaloneSettings): Set<number> {
  return new Set(
    given.map((text) => {
      const shard = new RegExp(`^${NAMESPACE}/(\\d+)$`).exec(text)?.[1];
      if (shard === undefined || Number(shard) >= settings.shards) {
        throw new ExitError(
          EXIT.usage,
          `--accept-loss: "${text}" names no shard here: ${NAMESPACE}/0 to ${NAMESPACE}/${settings.shards - 1} are`,
        );
      }
      return Number(shard);
    }),
  );
}

function banner(server: StandaloneServer, settings: StandaloneSettings): string {
  const at = (host: string, port: number) => `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const reachable = (host: string) => (host === "0.0.0.0" || host === "::" ? "localhost" : host);
  const address = at(reachable(settings.publicAddr.host), server.publicPort);
  const flags = address === "localhost:6648" ? "" : ` -a ${address}`;
  return [
    `varia standalone ${VERSION}: ${settings.shards} shard${settings.shards === 1 ? "" : "s"}, data in ${settings.dataDir} and ${settings.walDir}`,
    `public ${at(settings.publicAddr.host, server.publicPort)}`,
    `http   http://${at(reachable(settings.metricsAddr.host), server.httpPort)}`,
    "",
    "Try it:",
    `  ${command()} client${flags} put greeting hello`,
    `  ${command()} client${flags} get greeting`,
  ].join("\n");
}

/** How this executable is called from where it was started: by its name when the path finds it. */
function command(): string {
  const { execPath } = process;
  if (basename(execPath) !== "varia" || Bun.which("varia") === execPath) return "varia";
  const path = relative(process.cwd(), execPath);
  return path.startsWith("..") ? execPath : `./${path}`;
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
function untilSignal(): Promise<void> {
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
