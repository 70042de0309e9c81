/** The processes of a mixed cluster, by their kind. */
import { Refusal } from "../../../src/model/refusal.ts";
import { DataServer } from "../../../src/replication/data-server.ts";
import { decodeWrite } from "../../../src/wire/requests.ts";
import type { SimDisk } from "../disk.ts";
import { diskDocuments } from "../disk-documents.ts";
import { DiskKeyValues } from "../disk-key-values.ts";
import { openMemoryLog } from "../memory-log.ts";
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
}

export interface ServerParts {
  readonly address: string;
  readonly life: Life;
  readonly disk: SimDisk;
}

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
    await coordinator.run();
  },

  async varia(): Promise<void> {
    throw new Refusal("UNIMPLEMENTED", "not yet");
  },
};
