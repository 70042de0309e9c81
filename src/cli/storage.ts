/** `varia storage`: settings, start, signals. */
import type { Command } from "commander";
import { systemClock } from "../ops/clock.ts";
import { openLogger } from "../ops/logger.ts";
import { examples } from "./examples.ts";
import { EXIT } from "./exit.ts";
import { addSettings, hostPort, readSettings, SETTINGS_HELP, untilSignal } from "./run-server.ts";
import { StorageServer } from "./storage-server.ts";
import { STORAGE_SETTINGS } from "./storage-settings.ts";
import { addUnsupportedFlags, refuseUnsupported, UNSUPPORTED_STORAGE } from "./unsupported.ts";
import { VERSION } from "./version.ts";

const HELP =
  SETTINGS_HELP +
  examples("varia storage", "varia storage -p h1:6648 -i h1:6649 --data-dir /srv/db --wal-dir /srv/wal");

export function addStorageCommand(program: Command): void {
  const command = program
    .command("storage")
    .alias("server")
    .description("Run a data server of a cluster: it holds what a coordinator gives it.")
    .addHelpText("after", HELP);
  addStorageFlags(command);
  command.action(async (flags: Record<string, unknown>) => serve(flags));
}

/** All flags that it is started with. */
export function addStorageFlags(command: Command): void {
  addSettings(command, STORAGE_SETTINGS);
  addUnsupportedFlags(command, UNSUPPORTED_STORAGE);
}

async function serve(flags: Record<string, unknown>): Promise<void> {
  const { settings, given } = readSettings(STORAGE_SETTINGS, flags, (file) =>
    refuseUnsupported(UNSUPPORTED_STORAGE, { flags, environment: process.env, file }),
  );
  const logger = openLogger({ level: settings.logLevel, json: settings.logJson });
  const signal = untilSignal();
  const server = await StorageServer.start({
    settings,
    given,
    version: VERSION,
    clock: systemClock,
    logger,
    onFault: (error) => {
      const text = "a device failed: this process ends, restart it when the device works";
      logger.error({ component: "storage", err: error }, text);
      process.exit(EXIT.failure);
    },
  });
  logger.info({ component: "rpc", port: server.publicPort }, "Started Grpc server");
  logger.info({ component: "http", port: server.httpPort }, "Serving Prometheus metrics");
  const { publicAddr, internalAddr, metricsAddr } = settings;
  console.log(
    [
      `varia storage ${VERSION}: data in ${settings.dataDir} and ${settings.walDir}`,
      `public   ${hostPort(publicAddr.host, server.publicPort)}`,
      `internal ${hostPort(internalAddr.host, server.internalPort)}`,
      `http     http://${hostPort(metricsAddr.host, server.httpPort)}`,
    ].join("\n"),
  );
  await signal;
  logger.info({ component: "storage" }, "shutting down");
  await server.stop();
  logger.info({ component: "storage" }, "stopped");
}
