/** The processes of a mixed cluster, by their kind. */
import type { ClusterConfig } from "../../../src/coordination/cluster-config.ts";
import { Coordinator } from "../../../src/coordination/coordinator.ts";
import { StoreLost } from "../../../src/coordination/status-store.ts";
import { Refusal } from "../../../src/model/refusal.ts";
import { DataServer } from "../../../src/replication/data-server.ts";
import { decodeWrite } from "../../../src/wire/requests.ts";
import type { SimDisk } from "../disk.ts";
import { diskDocuments } from "../disk-documents.ts";
import { DiskKeyValues } from "../disk-key-values.ts";
import { openMemoryLog } from "../memory-log.ts";
import { openSimMetadata } from "../metadata-store.ts";
import type { Network } from "../network.ts";
import type { Life } from "../node.ts";
import { simDataServers, simFollowers } from "../peer-calls.ts";
import { peerService } from "../peer-service.ts";
import { randomPort, type SimRandom } from "../random.ts";
import { traceLogger } from "../trace-logger.ts";
import { ReferenceCoordinator, type ReferenceMetadata } from "./coordinator.ts";
import { ReferenceDataServer } from "./data-server.ts";
import { NAMESPACE, OPTIONS, SHARD, withRegisters } from "./registers.ts";

/** What the programs of one cluster share. */
export interface ProgramParts {
  readonly network: Network;
  /** Of the data servers. */
  readonly addresses: readonly string[];
  readonly random: SimRandom;
  /** The reference coordinator's document. */
  readonly reference: ReferenceMetadata;
  /** The reference coordinator that runs now. */
  coordinator: ReferenceCoordinator | undefined;
}

export interface ServerParts {
  readonly address: string;
  readonly life: Life;
  readonly disk: SimDisk;
}

/** Where our coordinator's store is: on a machine that never fails. */
export const STORE_ADDRESS = "store:1";
const INSTANCE_ID = "mixed";
/** Longer than any run: a snapshot is never needed. */
const NEVER_TRIMMED_MS = 1_000_000_000;

export const SERVERS = {
  async reference({ network }: ProgramParts, { address, life, disk }: ServerParts): Promise<void> {
    const channel = network.channel(life);
    const ports = { clock: life.clock, followers: simFollowers(channel), disk: disk.mount(life) };
    const server = await ReferenceDataServer.open(ports);
    const peers = peerService(server, (error) => life.node.scheduler.fail(error));
    const shard = {
      write: (request: Uint8Array) => server.write(SHARD, request),
      read: (key: Uint8Array) => server.read(SHARD, key),
    };
    channel.listen(address, withRegisters(peers, shard));
  },

  async varia({ network, random }: ProgramParts, { address, life, disk }: ServerParts): Promise<void> {
    const channel = network.channel(life);
    const own = random.split(life.name);
    const mounted = disk.mount(life);
    const log = await openMemoryLog({ life, disk: mounted, random: own.split("log"), retentionMs: NEVER_TRIMMED_MS });
    const server = await DataServer.open(
      {
        log,
        keyValues: new DiskKeyValues({ life, disk: mounted, released: (shard, upTo) => log.release(shard, upTo) }),
        followers: simFollowers(channel),
        documents: diskDocuments(mounted),
        clock: life.clock,
        random: randomPort(own.split("chance")),
        logger: traceLogger(life.node),
      },
      { self: address },
    );
    const leading = () => {
      const leader = server.replicas.replica(SHARD)?.serving;
      if (leader === undefined) throw new Refusal("NODE_IS_NOT_LEADER", "this server does not lead the shard");
      return leader;
    };
    const peers = peerService(server, (error) => life.node.scheduler.fail(error));
    const shard = {
      write: async (request: Uint8Array) => leading().write(decodeWrite(request), request),
      async read(key: Uint8Array) {
        const leader = leading();
        await leader.confirmRead();
        return leader.readable().get(key)?.slice();
      },
    };
    channel.listen(address, withRegisters(peers, shard));
  },
};

export const COORDINATORS = {
  async reference(parts: ProgramParts, life: Life): Promise<void> {
    const servers = simDataServers(parts.network.channel(life));
    const random = randomPort(parts.random.split(`coordinator ${life.number}`));
    const ports = { clock: life.clock, random, servers, metadata: parts.reference };
    const coordinator = new ReferenceCoordinator(ports, {
      namespace: NAMESPACE,
      shard: SHARD,
      instanceId: INSTANCE_ID,
      options: OPTIONS,
    });
    parts.coordinator = coordinator;
    await coordinator.run();
  },

  async varia(parts: ProgramParts, life: Life): Promise<void> {
    const channel = parts.network.channel(life);
    const ports = {
      store: openSimMetadata(channel, STORE_ADDRESS),
      dataServers: simDataServers(channel),
      clock: life.clock,
      random: randomPort(parts.random.split(`coordinator ${life.number}`)),
      logger: traceLogger(life.node),
    };
    try {
      await (await Coordinator.open(ports, configOf(parts))).run();
    } catch (error) {
      if (!(error instanceof StoreLost) && !(error instanceof Refusal)) throw error;
    }
    life.node.end("killed");
  },
};

function configOf({ addresses }: ProgramParts): ClusterConfig {
  const servers = addresses.map((internal) => ({ name: undefined, public: `public.${internal}`, internal }));
  const namespace = { name: NAMESPACE, shards: 1, replicationFactor: addresses.length, ...OPTIONS };
  return { namespaces: [namespace], servers, allowExtraAuthorities: [] };
}
