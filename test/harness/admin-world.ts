/** A coordinator over simulated data servers, with the methods of its admins over the wire. */
import { create } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { ConfigEdit, ConfigFile } from "../../src/coordination/administer.ts";
import type { ClusterConfig } from "../../src/coordination/cluster-config.ts";
import { Coordinator } from "../../src/coordination/coordinator.ts";
import { OperationList } from "../../src/coordination/operation-list.ts";
import { Operations } from "../../src/coordination/operations.ts";
import { OxiaAdmin } from "../../src/gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../../src/gen/varia/admin/v1/admin_pb.ts";
import { GetLoadResponseSchema } from "../../src/gen/varia/internal/v1/node_pb.ts";
import { systemClock } from "../../src/ops/clock.ts";
import { systemRandom } from "../../src/ops/random.ts";
import { adminMethods } from "../../src/rpc/admin-api.ts";
import { clusterMethods } from "../../src/rpc/cluster-api.ts";
import { LoadWatch } from "../../src/rpc/load-watch.ts";
import { operationMethods } from "../../src/rpc/operations-api.ts";
import { MemoryMetadata, openMemoryMetadata } from "../../src/storage/metadata/memory.ts";
import { configOf, namespaceOf, SERVERS } from "./coordinator-world.ts";
import { FakeDataServers } from "./fake-data-servers.ts";
import { listenForTest } from "./rpc-server.ts";

export interface AdminWorld {
  readonly file: FakeFile;
  readonly dataServers: FakeDataServers;
  /** Undefined: it is not ready yet. */
  coordinator: Coordinator | undefined;
  readonly admin: Client<typeof OxiaAdmin>;
  readonly varia: Client<typeof VariaAdmin>;
  /** Resolves once all is well. */
  healthy(): Promise<void>;
  stop(): Promise<void>;
}

export async function startAdminWorld(): Promise<AdminWorld> {
  const file = new FakeFile();
  const dataServers = new FakeDataServers(systemClock, SERVERS);
  const silent = () => {};
  const logger = { debug: silent, info: silent, warn: silent, error: silent };
  const store = openMemoryMetadata(new MemoryMetadata());
  const started = await Coordinator.open(
    { store, dataServers, clock: systemClock, random: systemRandom, logger },
    file.config,
  );
  const running = started.run();
  const nowMs = () => systemClock.now();
  const operations = new Operations({ list: new OperationList(nowMs), file, clock: systemClock, logger });
  operations.adopt(started);
  const loads = new LoadWatch({ ask: async () => counters, servers: () => ["a:1", "b:1"], clock: systemClock });
  await loads.look();
  const ports = { file, coordinator: () => world.coordinator, operations, loads, nowMs };
  const listener = await listenForTest([...adminMethods(ports), ...clusterMethods(ports), ...operationMethods(ports)]);
  const transport = createGrpcTransport({ baseUrl: `http://${listener.address}` });
  const varia = createClient(VariaAdmin, transport);
  const world: AdminWorld = {
    ...{ file, dataServers, coordinator: started, admin: createClient(OxiaAdmin, transport), varia },
    healthy: () => healthy(varia),
    async stop() {
      await listener.close({ graceMs: 0 });
      started.stop();
      await running;
    },
  };
  return world;
}

/** The code and the words with which a call is refused. */
export async function refused(call: Promise<unknown>): Promise<[string, string]> {
  try {
    await call;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return [Code[code]!, rawMessage];
  }
  throw new Error("it was not refused");
}

async function healthy(varia: Client<typeof VariaAdmin>): Promise<void> {
  for (const sinceMs = performance.now(); performance.now() - sinceMs < 10_000; ) {
    if ((await varia.getClusterStatus({})).healthy) return;
    await Bun.sleep(10);
  }
  throw new Error("not healthy in 10 s");
}

/** What every server says that it bears. */
const counters = create(GetLoadResponseSchema, {
  ...{ version: "1.2.3", startedAtMs: 5n, residentBytes: 1_000n, diskFreeBytes: 70n, diskTotalBytes: 100n },
  shards: [{ shard: 0n, term: 0n, writes: 5n, reads: 6n, records: 7n, commitOffset: 3n, stateBytes: 8_192n }],
});

/** The document as nothing but a configuration. */
class FakeFile implements ConfigFile {
  config: ClusterConfig = configOf(SERVERS.slice(0, 3), [namespaceOf("default", 2, 3)]);
  edits: ConfigEdit[] = [];
  /** What the next edit comes to, in place of success. */
  fails: Error | undefined;

  edit(decide: (config: ClusterConfig) => ConfigEdit): ClusterConfig {
    const edit = decide(this.config);
    if (this.fails !== undefined) throw this.fails;
    this.edits.push(edit);
    this.config = edited(this.config, edit);
    return this.config;
  }
}

function edited(config: ClusterConfig, edit: ConfigEdit): ClusterConfig {
  const { namespaces, servers } = config;
  switch (edit.kind) {
    case "add-namespace": {
      const added = { ...namespaceOf(edit.name, edit.initialShardCount, edit.replicationFactor) };
      return { ...config, namespaces: [...namespaces, added] };
    }
    case "set-namespace": {
      const set = (namespace: (typeof namespaces)[number]) =>
        namespace.name !== edit.name
          ? namespace
          : {
              ...namespace,
              replicationFactor: edit.replicationFactor ?? namespace.replicationFactor,
              notificationsEnabled: edit.notificationsEnabled ?? namespace.notificationsEnabled,
            };
      return { ...config, namespaces: namespaces.map(set) };
    }
    case "remove-namespace":
      return { ...config, namespaces: namespaces.filter(({ name }) => name !== edit.name) };
    case "add-server":
      return { ...config, servers: [...servers, { ...edit, labels: edit.labels ?? new Map() }] };
    case "set-server": {
      const set = (server: (typeof servers)[number]) =>
        server.name !== edit.name
          ? server
          : { ...server, public: edit.public ?? server.public, internal: edit.internal ?? server.internal };
      return { ...config, servers: servers.map(set) };
    }
    case "remove-server":
      return { ...config, servers: servers.filter(({ name }) => name !== edit.name) };
  }
}
