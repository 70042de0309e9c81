/** Data servers and a coordinator in this process, on free ports of this machine, each a server as its command runs it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CoordinatorServer } from "../../src/cli/coordinator-server.ts";
import { COORDINATOR_SETTINGS } from "../../src/cli/coordinator-settings.ts";
import { StorageServer } from "../../src/cli/storage-server.ts";
import { STORAGE_SETTINGS } from "../../src/cli/storage-settings.ts";
import { systemClock } from "../../src/ops/clock.ts";
import { givenSettings, resolveSettings } from "../../src/ops/settings.ts";
import type { Logger } from "../../src/ports.ts";

export interface LocalServer {
  readonly name: string;
  readonly public: string;
  readonly internal: string;
  /** Undefined while it is stopped. */
  server: StorageServer | undefined;
}

const nothing = () => {};
const SILENT: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

export class LocalCluster {
  readonly directory = mkdtempSync(join(tmpdir(), "varia-cluster-"));
  readonly configFile = join(this.directory, "cluster.yaml");
  readonly servers: LocalServer[] = [];
  readonly faults: Error[] = [];
  coordinator!: CoordinatorServer;

  /** `configured` of the servers `s1`, `s2`, … are in the configuration. */
  static async start(options: {
    readonly servers: number;
    readonly configured?: number;
    readonly namespaces: string;
  }): Promise<LocalCluster> {
    const { servers, configured = servers, namespaces } = options;
    const cluster = new LocalCluster();
    const ports = await freePorts(servers * 2);
    for (let index = 0; index < servers; index++) {
      const [one, two] = [ports[index * 2]!, ports[index * 2 + 1]!];
      const name = `s${index + 1}`;
      cluster.servers.push({ name, public: `127.0.0.1:${one}`, internal: `127.0.0.1:${two}`, server: undefined });
    }
    const lines = cluster.servers
      .slice(0, configured)
      .map(
        ({ name, public: address, internal }) => `  - {name: ${name}, public: "${address}", internal: "${internal}"}`,
      );
    writeFileSync(cluster.configFile, `# ours\nservers:\n${lines.join("\n")}\n${namespaces}`);
    for (const server of cluster.servers) await cluster.startServer(server);
    await cluster.startCoordinator();
    return cluster;
  }

  async startServer(server: LocalServer): Promise<void> {
    const flags = {
      publicAddr: server.public,
      internalAddr: server.internal,
      metricsAddr: "127.0.0.1:0",
      dataDir: join(this.directory, server.name, "db"),
      walDir: join(this.directory, server.name, "wal"),
    };
    const resolved = resolveSettings(STORAGE_SETTINGS, { flags, environment: {}, file: undefined });
    const given = givenSettings(STORAGE_SETTINGS, resolved);
    server.server = await StorageServer.start({ settings: resolved.values, given, ...this.#options() });
  }

  async stopServer(server: LocalServer): Promise<void> {
    await server.server?.stop();
    server.server = undefined;
  }

  async startCoordinator(): Promise<void> {
    const flags = {
      publicAddr: "127.0.0.1:0",
      internalAddr: "127.0.0.1:0",
      metricsAddr: "127.0.0.1:0",
      cconfig: this.configFile,
      metadataDir: join(this.directory, "coordinator"),
    };
    const { values: settings } = resolveSettings(COORDINATOR_SETTINGS, { flags, environment: {}, file: undefined });
    this.coordinator = await CoordinatorServer.start({ settings, ...this.#options() });
  }

  get adminAddress(): string {
    return `127.0.0.1:${this.coordinator.adminPort}`;
  }

  async stop(): Promise<void> {
    await this.coordinator.stop();
    for (const server of this.servers) await this.stopServer(server);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #options() {
    const onFault = (error: Error) => void this.faults.push(error);
    return { version: "test", clock: systemClock, logger: { ...SILENT, level: "info" as const }, onFault };
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
