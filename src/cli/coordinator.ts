/** `varia coordinator`: settings, start, signals. */
import type { Command } from "commander";
import { systemClock } from "../ops/clock.ts";
import { openLogger } from "../ops/logger.ts";
import { CoordinatorServer } from "./coordinator-server.ts";
import { COORDINATOR_SETTINGS } from "./coordinator-settings.ts";
import { EXIT } from "./exit.ts";
import { addSettings, hostPort, readSettings, SETTINGS_HELP, untilSignal } from "./run-server.ts";
import { addUnsupportedFlags, refuseUnsupported, UNSUPPORTED_COORDINATOR } from "./unsupported.ts";
import { VERSION } from "./version.ts";

const EXAMPLES = `${SETTINGS_HELP}
The cluster's configuration names the data servers and namespaces:

  servers:
    - {name: s1, public: "h1:6648", internal: "h1:6649"}
  namespaces:
    - {name: default, initialShardCount: 4, replicationFactor: 1}

Examples:
  varia coordinator --cconfig cluster.yaml
  varia coordinator --cconfig cluster.yaml --metadata-dir /srv/coordinator`;

export function addCoordinatorCommand(program: Command): void {
  const command = program
    .command("coordinator")
    .description("Run a coordinator: it finds failures and elects leaders.")
    .addHelpText("after", EXAMPLES);
  addSettings(command, COORDINATOR_SETTINGS);
  addUnsupportedFlags(command, UNSUPPORTED_COORDINATOR);
  command.action(async (flags: Record<string, unknown>) => serve(flags));
}

async function serve(flags: Record<string, unknown>): Promise<void> {
  const { settings, given } = readSettings(COORDINATOR_SETTINGS, flags, (file) =>
    refuseUnsupported(UNSUPPORTED_COORDINATOR, { flags, environment: process.env, file }),
  );
  const logger = openLogger({ level: settings.logLevel, json: settings.logJson });
  const signal = untilSignal();
  const server = await CoordinatorServer.start({
    settings,
    given,
    version: VERSION,
    clock: systemClock,
    logger,
    onFault: (error) => {
      logger.error({ component: "coordinator", err: error }, "this coordinator cannot go on: the process ends");
      process.exit(EXIT.failure);
    },
  });
  logger.info({ component: "rpc", port: server.adminPort }, "Started Grpc server");
  logger.info({ component: "http", port: server.httpPort }, "Serving Prometheus metrics");
  const { publicAddr, internalAddr, metricsAddr } = settings;
  console.log(
    [
      `varia coordinator ${VERSION}`,
      `admin    ${hostPort(publicAddr.host, server.adminPort)}`,
      `internal ${hostPort(internalAddr.host, server.internalPort)}`,
      `http     http://${hostPort(metricsAddr.host, server.httpPort)}`,
    ].join("\n"),
  );
  await signal;
  logger.info({ component: "coordinator" }, "shutting down");
  await server.stop();
  logger.info({ component: "coordinator" }, "stopped");
}
