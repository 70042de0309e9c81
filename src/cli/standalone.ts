/** `varia standalone`: settings, start, signals, and what is printed for a newcomer. */
import type { Command } from "commander";
import { systemClock } from "../ops/clock.ts";
import { openLogger } from "../ops/logger.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import {
  addSettings,
  hostPort,
  ownCommand,
  reachable,
  readSettings,
  SETTINGS_HELP,
  untilSignal,
} from "./run-server.ts";
import { NAMESPACE } from "./standalone-options.ts";
import { StandaloneServer } from "./standalone-server.ts";
import { STANDALONE_SETTINGS, type StandaloneSettings } from "./standalone-settings.ts";
import { addUnsupportedFlags, refuseUnsupported, UNSUPPORTED_STANDALONE } from "./unsupported.ts";
import { VERSION } from "./version.ts";

const HELP =
  SETTINGS_HELP +
  examples(
    "varia standalone",
    "varia standalone -s 4 -p 127.0.0.1:6648 --data-dir /srv/db --wal-dir /srv/wal",
    "varia standalone --accept-loss default/2",
  );

export function addStandaloneCommand(program: Command): void {
  const command = program
    .command("standalone")
    .description("Run one server with all shards: no coordinator, no replication.")
    .addHelpText("after", HELP);
  addStandaloneFlags(command);
  command.action(async (flags: Record<string, unknown>) => serve(flags));
}

/** All flags that it is started with. */
export function addStandaloneFlags(command: Command): void {
  command.option(
    "--accept-loss <namespace/shard>",
    "serve a damaged shard with what can still be read of it; repeatable",
    (shard: string, others: string[]) => [...others, shard],
    [],
  );
  addSettings(command, STANDALONE_SETTINGS);
  addUnsupportedFlags(command, UNSUPPORTED_STANDALONE);
}

async function serve(flags: Record<string, unknown>): Promise<void> {
  const { settings, given } = readSettings(STANDALONE_SETTINGS, flags, (file) =>
    refuseUnsupported(UNSUPPORTED_STANDALONE, { flags, environment: process.env, file }),
  );
  const logger = openLogger({ level: settings.logLevel, json: settings.logJson });
  const signal = untilSignal();
  const server = await StandaloneServer.start({
    settings,
    given,
    version: VERSION,
    acceptLoss: acceptedShards(flags, settings),
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

/** Those of --accept-loss. Throws an ExitError for what is no shard here. */
export function acceptedShards(flags: Record<string, unknown>, settings: StandaloneSettings): Set<number> {
  return new Set(
    (flags.acceptLoss as readonly string[]).map((text) => {
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
  const address = hostPort(reachable(settings.publicAddr), server.publicPort);
  const flags = address === "localhost:6648" ? "" : ` -a ${address}`;
  return [
    `varia standalone ${VERSION}: ${settings.shards} shard${settings.shards === 1 ? "" : "s"}, data in ${settings.dataDir} and ${settings.walDir}`,
    `public ${hostPort(settings.publicAddr.host, server.publicPort)}`,
    `http   http://${hostPort(reachable(settings.metricsAddr), server.httpPort)}`,
    "",
    "Try it:",
    `  ${ownCommand()} client${flags} put greeting hello`,
    `  ${ownCommand()} client${flags} get greeting`,
  ].join("\n");
}
