/** `varia coordinator`: settings, start, signals. */
import type { Command } from "commander";
import { systemClock } from "../ops/clock.ts";
import { openLogger } from "../ops/logger.ts";
import { CoordinatorServer, openConfiguration } from "./coordinator-server.ts";
import { COORDINATOR_SETTINGS, type CoordinatorSettings } from "./coordinator-settings.ts";
import { EXIT } from "./exit.ts";
import { addSettings, hostPort, readSettings, SETTINGS_HELP, untilSignal } from "./run-server.ts";
import { openStoresOrStandBy } from "./standby.ts";
import { addUnsupportedFlags, refuseUnsupported, UNSUPPORTED_COORDINATOR } from "./unsupported.ts";
import { VERSION } from "./version.ts";

const EXAMPLES = `${SETTINGS_HELP}
The cluster's configuration names the data servers and namespaces:

  servers:
    - {name: s1, public: "h1:6648", internal: "h1:6649"}
  namespaces:
    - {name: default, initialShardCount: 4, replicationFactor: 1}

A second coordinator on the same metadata stands by: it forwards what it is
asked to the one that works, and takes over when that one ends.

Examples:
  varia coordinator --cconfig cluster.yaml
  varia coordinator --cconfig cluster.yaml --metadata-dir /srv/coordinator`;

export function addCoordinatorCommand(program: Command): void {
  const command = program
    .command("coordinator")
    .description("Run a coordinator: it finds failures and elects leaders.")
    .addHelpText("after", EXAMPLES);
  addCoordinatorFlags(command);
  command.action(async (flags: Record<string, unknown>) => serve(flags));
}

/** All flags that it is started with. */
export function addCoordinatorFlags(command: Command): void {
  addSettings(command, COORDINATOR_SETTINGS);
  addUnsupportedFlags(command, UNSUPPORTED_COORDINATOR);
}

async function serve(flags: Record<string, unknown>): Promise<void> {
  const { settings, given } = readSettings(COORDINATOR_SETTINGS, flags, (file) =>
    refuseUnsupported(UNSUPPORTED_COORDINATOR, { flags, environment: process.env, file }),
  );
  const logger = openLogger({ level: settings.logLevel, json: settings.logJson });
  const asked = new AbortController();
  const signal = untilSignal().then(() => asked.abort());
  const at = { settings, clock: systemClock, logger };
  openConfiguration(settings, logger); // what is wrong with it is told now, and not when it is to take over
  const stores = await openStoresOrStandBy(at, asked.signal, (standby) =>
    console.log(`${addresses(settings, standby)}\nstands by: another coordinator works`),
  );
  if (stores === undefined) return;
  const server = await CoordinatorServer.start({
    ...at,
    given,
    version: VERSION,
    stores,
    onFault: (error) => {
      logger.error({ component: "coordinator", err: error }, "this coordinator cannot go on: the process ends");
      process.exit(EXIT.failure);
    },
  });
  logger.info({ component: "rpc", port: server.adminPort }, "Started Grpc server");
  logger.info({ component: "http", port: server.httpPort }, "Serving Prometheus metrics");
  console.log(addresses(settings, server));
  await signal;
  logger.info({ component: "coordinator" }, "shutting down");
  await server.stop();
  logger.info({ component: "coordinator" }, "stopped");
}

type Ports = Pick<CoordinatorServer, "adminPort" | "internalPort" | "httpPort">;

function addresses({ publicAddr, internalAddr, metricsAddr }: CoordinatorSettings, ports: Ports): string {
  return [
    `varia coordinator ${VERSION}`,
    `admin    ${hostPort(publicAddr.host, ports.adminPort)}`,
    `internal ${hostPort(internalAddr.host, ports.internalPort)}`,
    `http     http://${hostPort(metricsAddr.host, ports.httpPort)}`,
  ].join("\n");
}
